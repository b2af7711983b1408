"""Training: data rules, losses, and runs that can be stopped anywhere."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file

from fscs_sdk import training
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.data import UNKNOWN, Catalogue, _crop_box, canonical, read_source
from fscs_sdk.training.losses import pair_loss
from fscs_sdk.training.trainer import Trainer, Window

SMALL = TrainConfig(
    sources=(("voc", 0.6), ("parts", 0.4)),
    side=288,
    held_out=0,
    steps=4,
    classes=2,
    photos_per_class=2,
    pairs=4,
    pairs_at_once=3,
    mosaics=1,
    whole_share=0.5,
    warmup=2,
)


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources: one with class ids, splits and a small object; one with a folder for each class."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)

    def write(folder: Path, key: str, values: dict[int, tuple[int, int]]) -> None:
        photo, mask = rng.integers(0, 255, (90, 110, 3), np.uint8), np.zeros((90, 110), np.uint8)
        for value, (top, side) in values.items():
            mask[top : top + side, top : top + side] = value
        mask[-2:] = 255
        for kind, array, suffix in (("images", photo, "jpg"), ("masks", mask, "png")):
            path = (folder / kind / key).with_suffix(f".{suffix}")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)

    for index in range(4):
        write(root / "voc", f"cat{index}", {8: (5, 40), 12: (60, 3)})
        write(root / "voc", f"dog{index}", {12: (20, 50)})
        write(root / "parts", f"axis/axis_{index}", {1: (10, 30)})
        write(root / "parts", f"bolt/bolt_{index}", {1: (30, 30)})
    (root / "voc" / "classes.json").write_text(json.dumps({"8": "cat", "12": "dog"}))
    for split, names in (("trn", ("cat0", "cat1", "cat2", "cat3", "dog0", "dog1", "dog2")), ("val", ("dog2", "dog3"))):
        folder = root / "voc" / "splits" / split
        folder.mkdir(parents=True)
        (folder / "fold1.txt").write_text("\n".join(f"{name} 8" for name in names))
    return root


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    torch.manual_seed(0)
    return Backbone("efficientnet_lite0")


def test_sources_keep_validation_photos_out_and_draw_large_objects_only(data: Path) -> None:
    photos = read_source(data, "voc", excluded=(), held_out=0)
    assert {photo.image.stem for photo in photos} == {"cat0", "cat1", "cat2", "cat3", "dog0", "dog1"}
    cat = next(photo for photo in photos if photo.image.stem == "cat0")
    assert cat.classes == {8: "cat", 12: "dog"}
    assert cat.large == {"cat"}


def test_a_photo_with_an_excluded_class_is_left_out_whole(data: Path) -> None:
    assert {p.image.stem for p in read_source(data, "voc", excluded=("cat",), held_out=0)} == {"dog0", "dog1"}


def test_held_out_photos_are_never_drawn(data: Path) -> None:
    assert read_source(data, "voc", excluded=(), held_out=1) == []


def test_a_missing_source_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="holds 'voc'"):
        read_source(tmp_path, "voc", excluded=(), held_out=0)


def test_class_names_of_different_sources_meet() -> None:
    assert canonical("caltech101/Motorbikes") == canonical("motorcycle") == canonical("motorbike")
    assert canonical("dreambooth/dog3") == canonical("dog")


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 10_000))
def test_batches_are_deterministic_and_their_pairs_make_sense(data: Path, step: int) -> None:
    catalogue = Catalogue(data, SMALL)
    batch, again = catalogue.batch(step), catalogue.batch(step)
    assert len(batch.pairs) == SMALL.pairs
    assert batch.pairs == again.pairs
    for sample, same in zip(batch.samples, again.samples, strict=True):
        assert (sample.image == same.image).all()
        assert sample.labels.min() >= UNKNOWN
    for query, support, label, _ in batch.pairs:
        assert query != support
        assert (batch.samples[support].labels == label).any(), "a support does not show its class"


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), top=st.integers(0, 50), side=st.integers(1, 40))
def test_crops_keep_the_object(seed: int, top: int, side: int) -> None:
    wanted = np.zeros((90, 120), np.bool_)
    wanted[top : top + side, top : top + side] = True
    left, upper, right, lower = _crop_box(wanted, np.random.default_rng(seed))
    assert 0 <= left < right <= 120
    assert 0 <= upper < lower <= 90
    assert wanted[upper:lower, left:right].sum() >= 0.4 * wanted.sum()


def test_loss_by_hand() -> None:
    """Undecided everywhere: cross-entropy log 2, Dice 1 - (2 * 8 * .5 + 1) / (16 * .5 + 8 + 1), presence log 2."""
    logits = torch.zeros(2, 2, 4, 4)
    target = torch.zeros(2, 4, 4)
    target[0, :2] = 1
    valid = torch.ones(2, 4, 4, dtype=torch.bool)
    loss = pair_loss(logits, target, valid, dice=1.0, presence=1.0)
    log2 = float(np.log(2))
    assert loss.tolist() == pytest.approx([2 * log2 + 1 - 9 / 17, 2 * log2])


def test_unknown_pixels_change_no_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 2, 6, 6, generator=generator)
    target = torch.zeros(1, 6, 6)
    target[:, :3] = 1
    valid = torch.ones(1, 6, 6, dtype=torch.bool)
    valid[:, :, 4:] = False
    changed = logits.clone()
    changed[:, :, :, 4:] = 50
    losses = [pair_loss(x, target, valid, dice=1.0, presence=1.0) for x in (logits, changed)]
    assert losses[0].item() == pytest.approx(losses[1].item())


def test_window_cuts_the_same_part_of_every_level() -> None:
    window = Window(cells=9, row=2, column=3, size=4)
    positions = torch.arange(36 * 36).view(36, 36)
    fine = window.cut(positions)
    assert fine.shape == (16, 16)
    assert fine[0, 0] == positions[8, 12]
    assert window.cut(torch.zeros(5, 9, 9)).shape == (5, 4, 4)


def test_stopped_and_resumed_is_the_same_as_never_stopped(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    catalogue = Catalogue(data, SMALL)
    whole = Trainer(SMALL, backbone, catalogue, tmp_path / "whole", bfloat16=False)
    whole.run()
    stopped = Trainer(SMALL, backbone, catalogue, tmp_path / "parts", bfloat16=False)
    original = catalogue.batch

    def interrupted(step: int) -> object:
        if step == 3:
            raise KeyboardInterrupt
        return original(step)

    catalogue.batch = interrupted  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        stopped.run()
    catalogue.batch = original  # type: ignore[method-assign]
    resumed = Trainer(SMALL, backbone, catalogue, tmp_path / "parts", bfloat16=False)
    assert 0 < resumed.step < SMALL.steps
    resumed.run()
    expected, found = (load_file(tmp_path / run / "head.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_pairs_at_once_changes_no_gradient(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    catalogue = Catalogue(data, SMALL)
    batch = catalogue.batch(0)
    gradients = []
    for at_once in (1, 4):
        config = dataclasses.replace(SMALL, pairs_at_once=at_once)
        trainer = Trainer(config, backbone, catalogue, tmp_path, bfloat16=False)
        for part in trainer.losses(batch):
            part.backward()  # type: ignore[no-untyped-call]
        gradients.append([p.grad for p in trainer.head.parameters()])
    for first, second in zip(*gradients, strict=True):
        assert first is not None
        assert second is not None
        assert (first - second).abs().max() <= 1e-4 * (1 + first.abs().max())


def test_a_head_learns_to_fit_one_batch(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, steps=1000, warmup=1, whole_share=1.0)
    catalogue = Catalogue(data, config)
    batch = catalogue.batch(0)
    trainer = Trainer(config, backbone, catalogue, tmp_path, bfloat16=False)
    losses = [trainer._train_on(batch) for _ in range(8)]
    assert losses[-1] < 0.8 * losses[0]


def test_a_side_whose_levels_do_not_nest_is_refused(data: Path, backbone: Backbone, tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, side=272)
    with pytest.raises(ValueError, match="272"):
        Trainer(config, backbone, Catalogue(data, config), tmp_path)


def test_settings_survive_saving(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, excluded_classes=("cat", "cow"))
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    "recipe", sorted((Path(training.__file__).parent / "recipes").glob("*.json")), ids=lambda p: p.stem
)
def test_recipes_are_valid_settings(recipe: Path) -> None:
    config = TrainConfig.load(recipe)
    assert config.steps > 0
    assert dict(config.sources)["voc"] > 0
