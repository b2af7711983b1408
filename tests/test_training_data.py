"""Training data: what is read, how it is augmented, and which pairs are drawn."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fscs_sdk import training
from fscs_sdk.training.augmentation import blind_crop_box, crop_box
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.corpus import LabelledPhoto, canonical, read_source
from fscs_sdk.training.data import UNKNOWN, Catalogue, Pair
from training_stub import SMALL, add_tagged, by_name, write_photo, write_sources

#: Samples whose size does not matter.
LITTLE = dataclasses.replace(SMALL, side=32, photos_per_class=3, pairs=16)
VOC = (("voc", 1.0),)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def tagged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_sources(tmp_path_factory.mktemp("tagged"))
    add_tagged(root)
    return root


def configured(**changes: object) -> TrainConfig:
    return dataclasses.replace(LITTLE, **changes)  # type: ignore[arg-type]


def drawn(root: Path, config: TrainConfig, *, steps: int = 30) -> list[Pair]:
    catalogue = Catalogue(root, config)
    return [pair for step in range(steps) for pair in catalogue.batch(step).pairs]


def test_sources_keep_validation_photos_out_and_draw_large_objects_only(data: Path) -> None:
    photos = read_source(data, "voc", excluded=(), held_out=0)
    assert {photo.image.stem for photo in photos} == {"cat0", "cat1", "cat2", "cat3", "dog0", "dog1"}
    cat = by_name(photos, "cat0")
    assert cat.classes == {8: "cat", 12: "dog"}
    assert cat.large == {"cat"}


@pytest.mark.parametrize(("smallest", "large"), [(0.0, {"cat", "dog"}), (0.01, {"cat"}), (0.2, set())])
def test_the_smallest_object_is_a_setting(data: Path, smallest: float, large: set[str]) -> None:
    """The cats cover 1,600 of 9,900 pixels, the small dogs beside them 9."""
    photos = read_source(data, "voc", excluded=(), held_out=0, smallest=smallest)
    found = [photo.large for photo in photos if photo.image.stem == "cat0"]
    assert found == ([large] if large else [])


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


def test_photos_without_masks_have_their_tags(tagged: Path) -> None:
    photos = read_source(tagged, "voc", excluded=(), held_out=0)
    mouse = by_name(photos, "mouse1")
    assert mouse.mask is None
    assert mouse.large == {"mouse", "dog"}
    assert by_name(photos, "cat0").large == {"cat"}, "the tags of a photo with a mask were read"
    assert "mouse1" not in {p.image.stem for p in read_source(tagged, "voc", excluded=("dog",), held_out=0)}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("tags.json", "{", "is not JSON"),
        ("tags.json", '["cat"]', "must be a JSON object"),
        ("tags.json", '{"mouse": "mouse"}', "a list of class names for 'mouse'"),
        ("tags.json", '{"mouse": [1]}', "a list of class names"),
        ("classes.json", '{"cat": 8}', "must name the values of masks"),
        ("classes.json", '{"8": "cat"}', "holds the value 12"),
    ],
)
def test_a_broken_description_is_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    write_sources(tmp_path)
    (tmp_path / "voc" / name).write_text(content)
    with pytest.raises(ValueError, match=words) as error:
        read_source(tmp_path, "voc", excluded=(), held_out=0)
    assert name in str(error.value)


def test_a_source_with_too_few_classes_is_named(data: Path) -> None:
    with pytest.raises(ValueError, match=r"parts' has photos of 2 classes to draw, and a batch is of 3"):
        Catalogue(data, configured(classes=3, sources=(("parts", 1.0),)))


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 10_000))
def test_batches_are_deterministic_and_their_pairs_make_sense(data: Path, step: int) -> None:
    catalogue = Catalogue(data, LITTLE)
    batch, again = catalogue.batch(step), catalogue.batch(step)
    assert len(batch.pairs) == LITTLE.pairs
    assert batch.pairs == again.pairs
    for sample, same in zip(batch.samples, again.samples, strict=True):
        assert (sample.image == same.image).all()
        assert sample.labels.min() >= UNKNOWN
    for pair in batch.pairs:
        assert pair.query not in pair.supports
        for support in pair.supports:
            assert (batch.samples[support].labels == pair.label).any(), "a support does not show its class"


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 10_000))
def test_tags_say_what_labels_show(data: Path, step: int) -> None:
    for sample in Catalogue(data, configured(mosaics=0)).batch(step).samples:
        assert sample.tags == set(np.unique(sample.labels).tolist()) - {0, UNKNOWN}


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), top=st.integers(0, 50), side=st.integers(1, 40))
def test_crops_keep_the_object(seed: int, top: int, side: int) -> None:
    wanted = np.zeros((90, 120), np.bool_)
    wanted[top : top + side, top : top + side] = True
    left, upper, right, lower = crop_box(wanted, np.random.default_rng(seed), smallest=0.01)
    assert 0 <= left < right <= 120
    assert 0 <= upper < lower <= 90
    assert wanted[upper:lower, left:right].sum() >= 0.4 * wanted.sum()


@given(seed=st.integers(0, 10_000), width=st.integers(1, 300), height=st.integers(1, 300))
def test_blind_crops_keep_most_of_a_photo(seed: int, width: int, height: int) -> None:
    left, upper, right, lower = blind_crop_box((width, height), np.random.default_rng(seed))
    assert 0 <= left < right <= width
    assert 0 <= upper < lower <= height
    assert (right - left + 1) * (lower - upper + 1) >= 0.55 * width * height


def test_without_augmentation_a_photo_enters_as_in_inference(data: Path) -> None:
    config = configured(geometric=False, photometric=False, photos_per_class=2)
    catalogue = Catalogue(data, config)
    photo = by_name(catalogue.photos["voc"], "cat0")
    with Image.open(photo.image) as image:
        expected = np.asarray(image.convert("RGB").resize((32, 32), Image.Resampling.BILINEAR))
    for rng in (None, np.random.default_rng(0)):
        assert (catalogue.view(photo, rng).image == expected).all()


@pytest.mark.parametrize(("geometric", "photometric"), [(True, False), (False, True)])
def test_each_augmentation_can_be_had_alone(data: Path, geometric: bool, photometric: bool) -> None:
    catalogue = Catalogue(data, configured(geometric=geometric, photometric=photometric, photos_per_class=2))
    photo = by_name(catalogue.photos["voc"], "cat0")
    plain = catalogue.view(photo, None)
    views = [catalogue.view(photo, np.random.default_rng(seed)) for seed in range(5)]
    assert any((view.labels != plain.labels).any() for view in views) == geometric
    assert any((view.image != plain.image).any() for view in views)


def test_without_crops_no_photo_is_paired_with_itself(data: Path) -> None:
    """The two dogs are too few for batches of three photos of a class."""
    config = configured(geometric=False, photometric=False, mosaics=0, classes=1, photos_per_class=3, swap=True)
    catalogue = Catalogue(data, config)
    for step in range(20):
        images = {sample.image.tobytes() for sample in catalogue.batch(step).samples}
        assert len(images) == 3


def test_in_fs_s_every_query_shows_the_class(data: Path) -> None:
    catalogue = Catalogue(data, configured(task="fs-s", negative_share=1.0))
    for step in range(20):
        batch = catalogue.batch(step)
        assert all(pair.label in batch.samples[pair.query].tags for pair in batch.pairs)


def test_the_negative_share_is_kept_with_and_without_swap(data: Path) -> None:
    """Of photos with one class each, so that a query drawn for another class is a negative."""
    for swap in (False, True):
        config = configured(swap=swap, negative_share=0.4, mosaics=0, sources=(("parts", 1.0),))
        catalogue = Catalogue(data, config)
        batches = [catalogue.batch(step) for step in range(60)]
        negative = [pair.label not in b.samples[pair.query].tags for b in batches for pair in b.pairs]
        assert np.mean(negative) == pytest.approx(0.4, abs=0.06)


def test_swap_uses_positive_pairs_in_both_directions(data: Path) -> None:
    config = configured(swap=True, negative_share=0.0, mosaics=0, shots=2, withheld_share=0.0)
    for step in range(10):
        pairs = Catalogue(data, config).batch(step).pairs
        for pair, back in zip(pairs[::2], pairs[1::2], strict=True):
            assert (pair.query, pair.supports[0]) == (back.supports[0], back.query)
            assert pair.supports[1:] == back.supports[1:]
            assert pair.label == back.label


@settings(max_examples=20, deadline=None)
@given(step=st.integers(0, 1000), shots=st.integers(2, 3), swap=st.booleans())
def test_shots_are_different_photos_of_one_class(data: Path, step: int, shots: int, swap: bool) -> None:
    config = configured(shots=shots, photos_per_class=4, swap=swap, sources=(("parts", 1.0),))
    batch = Catalogue(data, config).batch(step)
    for pair in batch.pairs:
        assert len({pair.query, *pair.supports}) == shots + 1
        assert all(batch.samples[support].tags == {pair.label} for support in pair.supports)


def test_weak_labels_never_open_a_mask(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = Catalogue(data, configured(labels="weak"))
    opened = LabelledPhoto.open

    def without_mask(photo: LabelledPhoto) -> object:
        assert photo.mask is None
        return opened(photo)

    monkeypatch.setattr(LabelledPhoto, "open", without_mask)
    for step in range(10):
        batch = catalogue.batch(step)
        assert not any(pair.strong or pair.masked for pair in batch.pairs)
        assert not any(sample.has_mask for sample in batch.samples)
        assert all((sample.labels == UNKNOWN).all() for sample in batch.samples)
        assert all(pair.label in batch.samples[support].tags for pair in batch.pairs for support in pair.supports)


def test_withheld_masks_leave_a_pair_strong(data: Path) -> None:
    kinds = Counter((pair.strong, pair.masked) for pair in drawn(data, configured(withheld_share=0.3)))
    assert set(kinds) == {(True, True), (True, False)}
    assert kinds[True, False] / kinds.total() == pytest.approx(0.3, abs=0.06)


def test_mixed_labels_are_weak_in_their_share(data: Path) -> None:
    config = configured(labels="mixed", weak_share=0.3, withheld_share=0.0)
    kinds = Counter((pair.strong, pair.masked) for pair in drawn(data, config))
    assert set(kinds) == {(True, True), (False, False)}
    assert kinds[False, False] / kinds.total() == pytest.approx(0.3, abs=0.06)


def test_photos_with_tags_only_make_weak_pairs(tagged: Path) -> None:
    catalogue = Catalogue(tagged, configured(labels="mixed", weak_share=0.0, withheld_share=0.0, sources=VOC))
    mouse = catalogue.class_index["mouse"]
    seen = 0
    for step in range(20):
        batch = catalogue.batch(step)
        for pair in batch.pairs:
            masks = [batch.samples[index].has_mask for index in (pair.query, *pair.supports)]
            assert pair.strong == pair.masked == all(masks)
            seen += pair.label == mouse
    assert seen > 0
    strong = Catalogue(tagged, configured(labels="strong", sources=VOC))
    assert "mouse" not in strong.class_index


@pytest.mark.parametrize(
    ("recipe", "shots", "strong"),
    [("paper", 1, {True}), ("paper-weak", 1, {False}), ("paper-mixed", 1, {True, False}), ("paper-5-shot", 5, {True})],
)
def test_the_papers_rows_draw_pairs_of_their_kind(tmp_path: Path, recipe: str, shots: int, strong: set[bool]) -> None:
    rng = np.random.default_rng(0)
    for label in ("bolt", "nut", "gear"):
        for number in range(6):
            write_photo(tmp_path / "parts", f"{label}/{label}{number}", {1: (10, 30)}, rng)
    settings = TrainConfig.load(Path(training.__file__).parent / "recipes" / f"{recipe}.json")
    pairs = drawn(tmp_path, dataclasses.replace(settings, sources=(("parts", 1.0),), side=32), steps=4)
    assert {len(pair.supports) for pair in pairs} == {shots}
    assert {pair.strong for pair in pairs} == {pair.masked for pair in pairs} == strong


def test_tags_may_be_of_any_photo_in_a_sub_folder(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for key in ("a/one", "a/two", "b/one"):
        (folder / "images" / key).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / "images" / f"{key}.jpg")
    (folder / "tags.json").write_text(json.dumps({"a/one": ["A"], "a/two": ["A", "b"], "b/one": []}))
    photos = read_source(tmp_path, "mine", excluded=(), held_out=0)
    assert [(photo.image.parent.name, photo.large) for photo in photos] == [("a", {"a"}), ("a", {"a", "b"})]


def test_a_name_may_hold_dots(tmp_path: Path) -> None:
    """``img.001.png`` marks ``img.001.jpg``, not ``img.jpg``."""
    (tmp_path / "mine" / "images").mkdir(parents=True)
    (tmp_path / "mine" / "masks").mkdir()
    for key in ("img", "img.001", "v1.2.final"):
        Image.new("RGB", (8, 8)).save(tmp_path / "mine" / "images" / f"{key}.jpg")
        Image.new("L", (8, 8), 1).save(tmp_path / "mine" / "masks" / f"{key}.png")
    photos = read_source(tmp_path, "mine", excluded=(), held_out=0)
    assert [(p.image.name, p.mask.name) for p in photos if p.mask] == [
        (f"{key}.jpg", f"{key}.png") for key in ("img.001", "img", "v1.2.final")
    ]
