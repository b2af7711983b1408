"""Batches made on the device: where views are cut, what pairs they make, and runs that learn from them."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from fscs_sdk.images import close_up
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.data import UNKNOWN, Catalogue
from fscs_sdk.training.resident import (
    ResidentCatalogue,
    ResidentPhotos,
    _Dice,
    close_ups,
    colour,
    cut,
    join_mosaics,
    random_boxes,
)
from fscs_sdk.training.trainer import Trainer
from training_stub import CHEAP, SPEC, tiny_backbone, write_sources

CPU = torch.device("cpu")
LITTLE = dataclasses.replace(CHEAP, resident_side=64, side=64, groups=2, photos_per_class=3, several_share=0.5)
WHOLE = torch.tensor([[0.0, 0.0, 1.0, 1.0]])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def resident(data: Path) -> ResidentCatalogue:
    return ResidentCatalogue(Catalogue(data, LITTLE), CPU)


def dice(seed: int = 0) -> _Dice:
    return _Dice(torch.Generator().manual_seed(seed), CPU)


def square(mask: Tensor) -> ResidentPhotos:
    """A photo whose red is its row, green its column."""
    side = len(mask)
    line = torch.arange(side, dtype=torch.uint8)
    image = torch.stack([line[:, None].expand(side, side), line.expand(side, side), torch.zeros(side, side)])
    table = torch.arange(256, dtype=torch.int32)[None]
    return ResidentPhotos(image[None].to(torch.uint8), mask[None], table, torch.tensor([[side, side]]).float())


def test_photos_are_held_with_what_their_masks_mean(resident: ResidentCatalogue) -> None:
    photos, catalogue = resident.photos, resident.catalogue
    assert photos.images.shape == (14, 3, 64, 64)
    first = catalogue.photos["voc"][0]
    labels = photos.labels(torch.tensor([0]))[0]
    assert set(labels.unique().tolist()) == {
        0,
        UNKNOWN,
        *(catalogue.class_index[name] for name in first.classes.values()),
    }
    assert photos.shapes[0].tolist() == [90, 110]


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 90), st.integers(20, 90), st.data())
def test_a_close_up_is_the_one_of_inference(height: int, width: int, data: st.DataObject) -> None:
    mask = np.zeros((height, width), np.bool_)
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    bottom, right = data.draw(st.integers(top + 1, height)), data.draw(st.integers(left + 1, width))
    assume(5 * (bottom - top) != 2 * height and 5 * (right - left) != 2 * width)  # there float32 decides
    mask[top:bottom, left:right] = True
    rows = np.broadcast_to(np.arange(height, dtype=np.uint8)[:, None, None], (height, width, 3)).copy()
    rows[:, :, 1] = np.arange(width, dtype=np.uint8)
    kept, _ = close_up(rows, mask, 0.4)
    box, small = close_ups(torch.from_numpy(mask)[None], torch.tensor([[height, width]]).float(), 0.4, None)
    assert bool(small) == (bottom - top < 0.4 * height and right - left < 0.4 * width)
    if small:
        found = box[0] * torch.tensor([height, width, height, width])
        expected = [kept[0, 0, 0], kept[0, 0, 1], kept[-1, -1, 0] + 1.0, kept[-1, -1, 1] + 1.0]
        np.testing.assert_allclose(found, expected, atol=1.0)  # its middle is a whole pixel there


def test_a_cut_shows_what_is_in_the_box() -> None:
    mask = torch.zeros(32, 32, dtype=torch.uint8)
    mask[8:16, 16:32] = 7
    photos, index = square(mask), torch.tensor([0])
    image, labels = cut(photos, index, WHOLE, 32)
    assert torch.equal(labels[0], mask.int())
    np.testing.assert_allclose(image[0, :, 3:-3, 3:-3], photos.images[0, :, 3:-3, 3:-3], atol=1e-3)
    image, labels = cut(photos, index, torch.tensor([[0.25, 0.5, 0.5, 1.0]]), 16, flip=torch.tensor([True]))
    assert bool((labels == 7).all())
    assert image[0, 1, 0, 0] > 30
    assert 15.5 < image[0, 1, 0, -1] < 16.5
    assert image[0, 0, 0, 0] < 8.5


def test_boxes_keep_a_good_part_of_the_object() -> None:
    wanted = torch.zeros(200, 40, 40, dtype=torch.bool)
    wanted[:, 4:14, 20:36] = True
    boxes = random_boxes(wanted, 0.1, dice())
    assert 0.2 < (boxes == WHOLE).all(dim=1).float().mean() < 0.7
    for (top, left, bottom, right), mask in zip((boxes * 40).round().int().tolist(), wanted, strict=True):
        inside = mask[top:bottom, left:right]
        assert inside.sum() >= 0.35 * mask.sum()
        assert inside.float().mean() >= 0.08


def test_mosaics_show_their_parts_in_their_quarters() -> None:
    values = torch.arange(4.0)
    images, labels = values[:, None, None, None].expand(4, 3, 16, 16), values[:, None, None].expand(4, 16, 16).int()
    joined, joined_labels = join_mosaics(images, labels, torch.tensor([[2, 0, 1, 3]]), dice())
    corners = joined_labels[0, ::15, ::15]
    assert corners.tolist() == [[2, 0], [1, 3]]
    assert torch.equal(joined[0, 1].round().int(), joined_labels[0])


def test_colours_change_and_stay_colours() -> None:
    images = torch.rand(60, 3, 8, 8) * 255
    coloured = colour(images, dice())
    assert coloured.dtype == torch.uint8
    grey = (coloured.float() - coloured.float().mean(dim=1, keepdim=True)).abs().amax(dim=(1, 2, 3)) < 2
    assert 0 < int(grey.sum()) < 20
    assert not torch.allclose(coloured.float(), images, atol=5)


def test_pairs_are_of_one_class_and_half_of_them_absent(resident: ResidentCatalogue) -> None:
    shots, absent, pairs = set(), 0, 0
    for step in range(20):
        batch = resident.batch(step)
        shots.add(batch.supports.shape[1])
        assert len(batch.queries) == 2 * (4 // batch.supports.shape[1])
        shown = batch.labels[batch.supports] == batch.classes[:, None, None, None]
        assert bool(shown.flatten(2).any(dim=2).all())
        assert not bool((batch.supports == batch.queries[:, None]).any())
        assert torch.equal(
            batch.present, (batch.labels[batch.queries] == batch.classes[:, None, None]).flatten(1).any(1)
        )
        absent, pairs = absent + int((~batch.present).sum()), pairs + len(batch.queries)
    assert shots == {1, 2}
    assert 0.25 < absent / pairs < 0.6


def test_a_step_has_its_own_pairs(resident: ResidentCatalogue) -> None:
    first, again, other = resident.batch(3), resident.batch(3), resident.batch(4)
    assert all(torch.equal(getattr(first, name), getattr(again, name)) for name in ("photos", "labels", "queries"))
    assert first.photos.shape != other.photos.shape or not torch.equal(first.photos, other.photos)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "fs-s"}, "need task 'fs-cs'"),
        ({"swap": True}, "need swap False"),
        ({"resident_side": 0}, "set resident_side too"),
        ({"photos_per_class": 2}, "at least two"),
    ],
)
def test_settings_that_batches_on_the_device_do_not_know(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        dataclasses.replace(LITTLE, **changes)


def run(resident: ResidentCatalogue, folder: Path, config: TrainConfig, **options: Any) -> Trainer:
    catalogue = ResidentCatalogue.__new__(ResidentCatalogue)
    catalogue.__dict__.update(resident.__dict__, config=config)
    trainer = Trainer(config, tiny_backbone(), catalogue, folder, adapter=Adapter(SPEC.channels), **options)
    trainer.run()
    return trainer


def test_the_adapter_learns_with_the_head_and_is_saved(resident: ResidentCatalogue, tmp_path: Path) -> None:
    trained = dataclasses.replace(LITTLE, adapter_rate=0.5, steps=2)
    trainer = run(resident, tmp_path / "trained", trained)
    stored = load_file(tmp_path / "trained" / "head.safetensors")
    start = Adapter(SPEC.channels).state_dict()
    assert all(not torch.equal(stored[f"adapter.{name}"], tensor) for name, tensor in start.items() if "weight" in name)
    longer = run(resident, tmp_path / "trained", dataclasses.replace(trained, steps=3))
    assert (trainer.step, longer.step) == (2, 3)
    run(resident, tmp_path / "frozen", dataclasses.replace(trained, adapter_rate=0.0))
    frozen = load_file(tmp_path / "frozen" / "head.safetensors")
    assert all(torch.equal(frozen[f"adapter.{name}"], tensor) for name, tensor in start.items())


def test_parts_of_a_batch_make_the_gradients_of_the_whole(resident: ResidentCatalogue, tmp_path: Path) -> None:
    found = []
    for at_once in (1, 8):
        config = dataclasses.replace(LITTLE, adapter_rate=1.0, pairs_at_once=at_once, clip=1e9, steps=1)
        trainer = run(resident, tmp_path / str(at_once), config)
        assert trainer.adapter is not None
        found.append([parameter.grad for parameter in (*trainer.head.parameters(), *trainer.adapter.parameters())])
    for parts, whole in zip(*found, strict=True):
        torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)


def test_a_run_ends_with_its_time(resident: ResidentCatalogue, tmp_path: Path) -> None:
    trainer = run(resident, tmp_path, dataclasses.replace(LITTLE, minutes=0.02, steps=10**6))
    assert 0 < trainer.step < 10**6
    rates = [float(row["learning_rate"]) for row in trainer.log.rows()]
    assert rates[-1] < 0.5 * max(rates)
    assert run(resident, tmp_path, dataclasses.replace(LITTLE, minutes=0.02, steps=10**6)).step == trainer.step


@pytest.mark.parametrize("several_share", [0.0, 1.0])
def test_the_log_counts_all_pairs(resident: ResidentCatalogue, tmp_path: Path, several_share: float) -> None:
    trainer = run(resident, tmp_path, dataclasses.replace(LITTLE, steps=2, log_every=2, several_share=several_share))
    (row,) = trainer.log.rows()
    shots = 2 if several_share else 1
    made = float(row["pairs_per_second"]) * float(row["seconds"])
    assert made == pytest.approx(2 * LITTLE.groups * (LITTLE.pairs // shots), rel=0.05)
