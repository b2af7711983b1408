"""The adapter: an affine map of every feature before its cosines, and the contrastive training of its own."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fscs_sdk import FewShotSegmenter
from fscs_sdk.checkpoints.head import HeadConfig, save_head
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.training.contrastive import PURITY, TEMPERATURE, Cells, cell_labels, contrastive_loss, train_affine
from fscs_sdk.weights import BACKBONE_FILE, PACKAGE_FOLDER


def pyramid(generator: torch.Generator) -> tuple[tuple[Tensor, ...], ...]:
    shapes = (((5, 3, 3), (4, 3, 3)), ((6, 6, 6),), ((2, 9, 9),))
    return tuple(tuple(torch.randn(2, *shape, generator=generator) for shape in level) for level in shapes)


def test_a_new_adapter_changes_nothing() -> None:
    features = pyramid(torch.Generator().manual_seed(0))
    adapter = Adapter([[feature.shape[1] for feature in level] for level in features])
    for level, adapted in zip(features, adapter(features), strict=True):
        for before, after in zip(level, adapted, strict=True):
            torch.testing.assert_close(after, before)


def test_each_map_has_its_own_affine_and_every_position_the_same() -> None:
    features = pyramid(torch.Generator().manual_seed(1))
    adapter = Adapter([[feature.shape[1] for feature in level] for level in features])
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(parameter.numel()))
        adapted = adapter(features)
    affine, position = adapter.affines[2], (slice(None), slice(None), 4, 2)
    expected = features[1][0][position] @ affine.weight[:, :, 0, 0].T + affine.bias
    torch.testing.assert_close(adapted[1][0][position], expected)


def test_contrastive_loss_is_the_mean_over_pairs_written_out() -> None:
    generator = torch.Generator().manual_seed(2)
    vectors, background = (F.normalize(torch.randn(n, 6, generator=generator), dim=1) for n in (7, 4))
    classes, photos = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([0, 0, 1, 2, 3, 4, 4])
    terms = []
    for i in range(7):
        negatives = [vectors[k] for k in range(7) if classes[k] != classes[i]] + list(background)
        against = sum(math.exp(float(vectors[i] @ other) / TEMPERATURE) for other in negatives)
        for j in range(7):
            if classes[i] == classes[j] and photos[i] != photos[j]:
                wanted = math.exp(float(vectors[i] @ vectors[j]) / TEMPERATURE)
                terms.append(-math.log(wanted / (wanted + against)))
    assert len(terms) == 6
    loss = contrastive_loss(vectors, classes, photos, background)
    assert float(loss) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_a_cell_belongs_to_what_covers_most_of_it() -> None:
    labels = torch.randint(-1, 3, (3, 24, 24), generator=torch.Generator().manual_seed(3))
    labels[:, :12, :12] = 2
    labels[0, 0:3, 0:8] = 1  # 24 of the 64 pixels of a cell of class 2
    found = cell_labels(labels, 3)
    for photo in range(3):
        for row in range(3):
            for column in range(3):
                values, counts = np.unique(
                    labels[photo, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8], return_counts=True
                )
                expected = values[counts.argmax()] if counts.max() >= PURITY * 64 else -1
                assert found[photo, row, column] == expected
    assert (found[1:, 0, 0] == 2).all()
    assert (found == -1).any()


@pytest.mark.parametrize("side", [272, 288, 300, 350, 384, 401])
@pytest.mark.parametrize("cells", [9, 10, 19, 38])
def test_cells_need_not_be_a_whole_number_of_pixels(side: int, cells: int) -> None:
    labels = torch.zeros(1, side, side, dtype=torch.int64)
    labels[:, :, side // 2 :] = 3
    found = cell_labels(labels, cells)[0]
    assert found.shape == (cells, cells)
    assert (found[:, : cells // 2] == 0).all()
    assert (found[:, -(cells // 2) :] == 3).all()


def test_training_draws_a_class_together_that_raw_cosines_take_apart() -> None:
    """Two classes differ in one weak channel; two strong channels, as a breed would, only tell apart the photos."""
    generator = torch.Generator().manual_seed(4)
    classes = torch.arange(60) % 3  # the third is background
    photos = torch.arange(60) // 3
    features = 3 * torch.randn(20, 4, generator=generator)[photos]
    features = torch.cat([features, F.one_hot(classes, 3).float()], dim=1)
    cells = Cells(
        features=features.half(),
        photo=photos,
        by_class=tuple(torch.nonzero(classes == number)[:, 0] for number in (0, 1)),
        background=torch.nonzero(classes == 2)[:, 0],
    )
    adapter = Adapter([[7]])

    def margin() -> float:
        with torch.no_grad():
            adapted = F.normalize(adapter(((features[:, :, None, None],),))[0][0][:, :, 0, 0], dim=1)
        cosines = adapted @ adapted.T
        apart = photos[:, None] != photos
        same = (classes[:, None] == classes) & (classes < 2)[:, None] & apart
        other = (classes[:, None] != classes) & (classes < 2)[:, None] & apart
        return float(cosines[same].mean() - cosines[other].mean())

    before = margin()
    train_affine(adapter.affines[0], cells, steps=1000, seed=0)
    assert before < 0.2
    assert margin() > 0.6


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, FewShotSegmenter]:
    """A saved head with an adapter, and the same network in memory."""
    whole = FewShotSegmenter.from_pretrained().network
    torch.manual_seed(5)
    adapter = Adapter(whole.backbone.spec.channels)
    with torch.no_grad():
        for affine in adapter.affines:
            affine.weight += 0.02 * torch.randn_like(affine.weight)
    network = FewShotNetwork(whole.backbone, whole.head, 288, adapter)
    folder = tmp_path_factory.mktemp("adapted")
    config = HeadConfig("asnet-touched", "efficientnet_lite0", 288, adapter=True)
    save_head(folder / "head.safetensors", whole.head, config, adapter=adapter, dtype=torch.float32)
    shutil.copy(PACKAGE_FOLDER / "assets" / "asnet-mini" / BACKBONE_FILE, folder)
    return folder, FewShotSegmenter(network, name=folder.name)


def test_an_adapter_is_saved_with_its_head(adapted: tuple[Path, FewShotSegmenter]) -> None:
    folder, expected = adapted
    loaded = FewShotSegmenter.from_pretrained(folder)
    assert loaded.identity == expected.identity
    photo, supports = PHOTOS / next(iter(QUERIES)), SUPPORTS
    np.testing.assert_array_equal(
        loaded.predict(photo, supports).foreground, expected.predict(photo, supports).foreground
    )
    assert expected.identity != FewShotSegmenter(replace(expected.network, adapter=None), name=folder.name).identity


def test_a_head_that_names_an_adapter_must_hold_it(adapted: tuple[Path, FewShotSegmenter], tmp_path: Path) -> None:
    folder, segmenter = adapted
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    save_head(
        tmp_path / "head.safetensors",
        segmenter.network.head,
        HeadConfig("asnet-touched", "efficientnet_lite0", 288, True),
    )
    with pytest.raises(ValueError, match="does not fit its network"):
        FewShotSegmenter.from_pretrained(tmp_path)
