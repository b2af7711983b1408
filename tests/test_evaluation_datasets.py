"""Every layout, in miniature."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from conftest import SHARED, photo
from fscs_sdk.evaluation.benchmark import Settings, held_out_by, pairs_of
from fscs_sdk.evaluation.datasets import BENCHMARKS
from fscs_sdk.evaluation.datasets.coco20i import Coco20i
from fscs_sdk.evaluation.datasets.domains import Domains
from fscs_sdk.evaluation.datasets.fss import FSS1000
from fscs_sdk.evaluation.datasets.labels import UNKNOWN, classes_in, read_labels
from fscs_sdk.evaluation.datasets.lists import SplitLists
from fscs_sdk.evaluation.datasets.masked_folder import LabelFolder, read_class_names
from fscs_sdk.evaluation.datasets.pascal5i import Pascal5i
from fscs_sdk.evaluation.datasets.voc_animals import open_voc_animals
from fscs_sdk.evaluation.episodes import is_held_out, read_split

HEIGHT, WIDTH = 12, 16
#: pycocotools' own use of NumPy.
coco_warning = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def save_photo(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(photo(seed, HEIGHT, WIDTH)).save(path)


def save_labels(path: Path, *numbers: int, bits: int = 8) -> NDArray[np.uint16]:
    """A label map with a row of each class."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint16)
    for row, number in enumerate(numbers):
        labels[row] = number
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(labels.astype(np.uint8) if bits == 8 else labels).save(path)
    return labels


def write_lists(folder: Path, **lists: str) -> Path:
    """``val_fold0="a 1"`` becomes val/fold0.txt."""
    for name, text in lists.items():
        path = folder / f"{name.replace('_', '/')}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


# ------------------------------------------------------------------------------------------------- label maps


@settings(deadline=None, max_examples=40)
@given(
    values=st.lists(st.integers(0, UNKNOWN), min_size=1, max_size=12),
    form=st.sampled_from(["8 bit", "palette", "16 bit"]),
)
def test_labels_round_trip(tmp_path_factory: pytest.TempPathFactory, values: list[int], form: str) -> None:
    path = tmp_path_factory.mktemp("labels") / "mask.png"
    array = np.array([values], np.uint16)
    if form == "16 bit":
        Image.fromarray(array).save(path)
        assert read_labels(path).tolist() == [values]
        return
    eight = (array % 256).astype(np.uint8)
    image = Image.fromarray(eight)
    if form == "palette":
        image = image.convert("P")
        image.putpalette([channel for index in range(256) for channel in (255 - index, 7, index)])
        image.putdata(eight.ravel().tolist())
    image.save(path)
    read = read_labels(path)
    assert read.dtype == np.uint16
    assert read.tolist() == [[UNKNOWN if value == 255 else value for value in eight.ravel().tolist()]]
    assert classes_in(read) == tuple(sorted({int(value) for value in eight.ravel()} - {0, 255}))


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_mask_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).save(buffer, "PNG")
    content = bytearray(buffer.getvalue())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("labels") / "mask.png"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    message = ""
    try:
        labels = read_labels(path)
    except ValueError as error:
        message = str(error)
    assert "mask.png" in message if message else labels.ndim == 2


def test_what_is_no_label_map_is_refused(tmp_path: Path) -> None:
    save_photo(tmp_path / "photo.png")
    with pytest.raises(ValueError, match=r"photo\.png' is an image of mode RGB"):
        read_labels(tmp_path / "photo.png")
    with pytest.raises(FileNotFoundError, match=r"there is no mask '.*none\.png'"):
        read_labels(tmp_path / "none.png")


# ------------------------------------------------------------------------------------------------- any folder


def make_folder(data: Path) -> None:
    (data / "masks").mkdir(parents=True)
    (data / "classes.json").write_text('{"3": "cat", "5": "chair"}')
    save_photo(data / "images" / "b.jpg")
    save_photo(data / "images" / "in" / "a.PNG")
    save_labels(data / "masks" / "b.png", 5, 3, 255)
    save_labels(data / "masks" / "in" / "a.png", 5)


def test_a_folder_without_lists(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = LabelFolder(tmp_path)
    assert data.names == {3: "cat", 5: "chair"}
    assert data.folds == ()
    assert not data.has_training_lists
    assert data.pairs("val", None) == [("b", 3), ("b", 5), ("in/a", 5)]
    assert data.image("in/a").shape == (HEIGHT, WIDTH, 3)
    assert set(np.unique(data.labels("b"))) == {0, 3, 5, UNKNOWN}


def test_a_folder_with_lists(tmp_path: Path) -> None:
    make_folder(tmp_path)
    write_lists(tmp_path / "splits", val_fold2="b 3\n", val_fold0="in/a__05\n", trn_fold0="b 5\n")
    data = LabelFolder(tmp_path)
    assert data.folds == (0, 2)
    assert data.has_training_lists
    assert data.pairs("val", 0) == [("in/a", 5)]
    assert data.pairs("trn", 0) == [("b", 5)]
    other = write_lists(tmp_path / "other", val_fold1="b 3\n")
    assert LabelFolder(tmp_path, other).folds == (1,)
    with pytest.raises(FileNotFoundError, match=r"has no val/fold<k>\.txt"):
        LabelFolder(tmp_path, tmp_path / "images")


def test_what_a_folder_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"has no classes\.json"):
        LabelFolder(tmp_path)
    make_folder(tmp_path)
    data = LabelFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no photo '.*none\.jpg'"):
        data.image("none")
    save_labels(tmp_path / "masks" / "c.png", 7)
    with pytest.raises(ValueError, match=r"c\.png' holds the class 7"):
        data.pairs("val", None)
    for path in (tmp_path / "masks").rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"holds no \.png with a class"):
        data.pairs("val", None)
    with pytest.raises(FileNotFoundError, match="for data without lists use 'folder'"):
        open_voc_animals(tmp_path, None)


NAMES = st.dictionaries(st.integers(-2, 70000), st.text(max_size=4), max_size=4)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@settings(deadline=None)
@given(names=NAMES)
def test_class_names_round_trip_or_are_refused(tmp_path_factory: pytest.TempPathFactory, names: dict[int, str]) -> None:
    path = tmp_path_factory.mktemp("names") / "classes.json"
    path.write_text(json.dumps(names))
    usable = all(1 <= number <= 65534 for number in names) and len(set(names.values())) == len(names) > 0
    if usable:
        assert read_class_names(path) == names
    else:
        with pytest.raises(ValueError, match=r"classes\.json' must give ids"):
            read_class_names(path)


@settings(deadline=None)
@given(content=ANY_JSON.map(json.dumps).map(str.encode) | st.binary(max_size=20))
def test_any_class_names_are_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("names") / "classes.json"
    path.write_bytes(content)
    message, names = "", {}
    try:
        names = read_class_names(path)
    except ValueError as error:
        message = str(error)
    assert bool(names) != ("classes.json" in message)


# ----------------------------------------------------------------------------------------------------- Pascal


def make_pascal(data: Path) -> None:
    for name, numbers in {"2007_1": (1, 7), "2007_2": (2, 1), "2008_3": (1,), "2008_4": (20, 255)}.items():
        save_photo(data / "JPEGImages" / f"{name}.jpg")
        save_labels(data / "SegmentationClassAug" / f"{name}.png", *numbers)
    write_lists(data / "ImageSets", Segmentation_val="2008_3\n2007_2\n")


def test_pascal_lists_are_derived(tmp_path: Path) -> None:
    make_pascal(tmp_path)
    data = Pascal5i(tmp_path)
    assert data.folds == (0, 1, 2, 3)
    assert (data.names[1], data.names[6], data.names[20]) == ("aeroplane", "bus", "tvmonitor")
    assert data.pairs("val", 0) == [("2008_3", 1), ("2007_2", 1), ("2007_2", 2)]
    assert data.pairs("val", 1) == []
    assert data.pairs("trn", 0) == [("2007_1", 1)]
    assert data.pairs("trn", 1) == [("2007_1", 7)]
    assert data.pairs("trn", 3) == [("2008_4", 20)]
    assert data.image("2007_1").shape == (HEIGHT, WIDTH, 3)
    assert classes_in(data.labels("2008_4")) == (20,)


def test_pascal_lists_are_read(tmp_path: Path) -> None:
    make_pascal(tmp_path)
    lists = write_lists(tmp_path / "lists", val_fold0="2007_1__01\n")
    data = Pascal5i(tmp_path, lists)
    assert data.folds == (0,)
    assert data.pairs("val", 0) == [("2007_1", 1)]
    assert not data.has_training_lists


def test_what_pascal_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no folder JPEGImages"):
        Pascal5i(tmp_path)
    make_pascal(tmp_path)
    (tmp_path / "ImageSets" / "Segmentation" / "val.txt").unlink()
    with pytest.raises(FileNotFoundError, match="to derive the lists from"):
        Pascal5i(tmp_path)


@pytest.mark.skipif(not (SHARED / "data" / "splits").is_dir(), reason="the field's lists are not here")
def test_the_fields_lists_are_found() -> None:
    folder = SHARED / "data" / "splits" / "pascal5i"
    lists = SplitLists.find(folder)
    assert lists.folds == (0, 1, 2, 3)
    assert lists.has_training_lists
    for fold, length in enumerate((346, 451, 725, 346)):
        pairs = lists.pairs("val", fold)
        assert len(pairs) == length
        assert {number for _, number in pairs} == set(range(5 * fold + 1, 5 * fold + 6))
        assert pairs == read_split(folder / "val" / f"fold{fold}.txt")


# ------------------------------------------------------------------------------------------------------- COCO


def box(left: int, top: int, width: int, height: int) -> list[list[int]]:
    return [[left, top, left + width, top, left + width, top + height, left, top + height]]


def make_coco(data: Path) -> None:
    """Five categories with gaps in their ids: classes 1 and 5 are fold 0's."""
    categories = [{"id": number, "name": f"thing {number}"} for number in (7, 1, 3, 90, 11)]
    shapes = [  # image, category, crowd, area, segmentation
        (9, 90, 0, 20, box(2, 2, 4, 5)),  # class 5, small: on top
        (9, 1, 0, 100, box(0, 0, 10, 10)),  # class 1
        (9, 3, 1, 400, {"size": [HEIGHT, WIDTH], "counts": [0, HEIGHT * WIDTH]}),  # a crowd: everything
        (4, 1, 0, 6, box(0, 0, 3, 2)),
        (4, 1, 0, 6, box(8, 8, 3, 2)),
    ]
    annotations = [
        {"id": number, "image_id": i, "category_id": c, "iscrowd": crowd, "area": area, "segmentation": shape}
        for number, (i, c, crowd, area, shape) in enumerate(shapes, start=1)
    ]
    (data / "annotations").mkdir(parents=True)
    for half in ("val", "train"):
        images = [
            {"id": i, "file_name": f"COCO_{half}2014_{i:012d}.jpg", "height": HEIGHT, "width": WIDTH} for i in (9, 4)
        ]
        for image in images:
            save_photo(data / f"{half}2014" / str(image["file_name"]))
        content = {"images": images, "annotations": annotations, "categories": categories}
        (data / "annotations" / f"instances_{half}2014.json").write_text(json.dumps(content))


@coco_warning
def test_coco(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    make_coco(tmp_path)
    data = Coco20i(tmp_path)
    assert data.folds == (0, 1, 2, 3)
    assert data.has_training_lists
    assert data.names == {1: "thing 1", 2: "thing 3", 3: "thing 7", 4: "thing 11", 5: "thing 90"}
    first, second = "COCO_val2014_000000000004", "COCO_val2014_000000000009"
    assert data.pairs("val", 0) == [(first, 1), (second, 1), (second, 5)]
    assert data.pairs("val", 1) == []  # class 2 is there as a crowd only
    assert data.pairs("trn", 0)[0] == ("COCO_train2014_000000000004", 1)
    labels = data.labels(second)
    assert labels[3, 3] == 5
    assert labels[8, 8] == 1
    assert labels[11, 15] == UNKNOWN
    assert {int(n) for n in np.unique(data.labels("COCO_train2014_000000000004"))} == {0, 1}
    assert data.image(first).shape == (HEIGHT, WIDTH, 3)
    assert capsys.readouterr().out == ""


def test_coco_lists_are_read(tmp_path: Path) -> None:
    make_coco(tmp_path)
    lists = write_lists(tmp_path / "lists", val_fold0="val2014/COCO_val2014_000000000009 5\n")
    assert Coco20i(tmp_path, lists).pairs("val", 0) == [("COCO_val2014_000000000009", 5)]


def test_what_coco_lacks_is_named(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    with pytest.raises(FileNotFoundError, match="has no val2014"):
        Coco20i(tmp_path)
    make_coco(tmp_path)
    data = Coco20i(tmp_path)
    with pytest.raises(ValueError, match="'street' is no photo of COCO"):
        data.labels("street")
    with pytest.raises(ValueError, match="has no image 5"):
        data.labels("COCO_val2014_000000000005")
    for content in ("[]", "{", '{"images": [], "annotations": [], "categories": [{}]}', '{"annotations": [{"id": 1}]}'):
        (tmp_path / "annotations" / "instances_val2014.json").write_text(content)
        with pytest.raises(ValueError, match=r"instances_val2014\.json' is not COCO's"):
            Coco20i(tmp_path).pairs("val", 0)


# ---------------------------------------------------------------------------------------------------- FSS-1000


def make_fss(data: Path) -> None:
    for name in ("cup", "ab wheel", "bat"):
        for index in (1, 2, 10):
            save_photo(data / name / f"{index}.jpg", index)
            save_labels(data / name / f"{index}.png", 255)
    save_labels(data / "bat" / "3.png", 255)  # without a photo


def test_fss(tmp_path: Path) -> None:
    make_fss(tmp_path / "fss")
    data = FSS1000(tmp_path / "fss")
    assert data.names == {1: "ab wheel", 2: "bat", 3: "cup"}
    assert data.pairs("val", None)[:4] == [("ab wheel/1", 1), ("ab wheel/2", 1), ("ab wheel/10", 1), ("bat/1", 2)]
    assert len(data.pairs("val", None)) == 9
    assert classes_in(data.labels("cup/10")) == (3,)
    assert data.image("cup/10").shape == (HEIGHT, WIDTH, 3)
    (tmp_path / "test.txt").write_text("cup\n\nbat\n")
    assert FSS1000(tmp_path / "fss", tmp_path / "test.txt").names == {1: "bat", 2: "cup"}


def test_what_fss_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no folder with"):
        FSS1000(tmp_path)
    make_fss(tmp_path / "fss")
    names = tmp_path / "test.txt"
    for content, message in {b"cup\ndog\n": "names the class 'dog'", b"\n": "names no class", b"\xe9": "UTF-8"}.items():
        names.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            FSS1000(tmp_path / "fss", names)


# ------------------------------------------------------------------------------------------------ all together


def test_lists_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    make_folder(tmp_path)
    data = LabelFolder(tmp_path)
    assert pairs_of(data, None, Settings(minimum_photos=2)) == [("b", 5), ("in/a", 5)]
    with pytest.raises(ValueError, match="no trn lists"):
        pairs_of(data, None, Settings(split="held-out"))
    with pytest.raises(ValueError, match="no fold 1; it has none"):
        pairs_of(data, 1, Settings())
    write_lists(tmp_path / "splits", val_fold0="b 4\n")
    with pytest.raises(ValueError, match="class 4, which the data does not name"):
        pairs_of(LabelFolder(tmp_path), 0, Settings())


def test_held_out_photos_are_on_no_val_list(tmp_path: Path) -> None:
    make_folder(tmp_path)
    write_lists(tmp_path / "splits", val_fold0="in/a 5\n", val_fold1="c 3", trn_fold0="b 5\nin/a 5\nc 5\n")
    assert pairs_of(LabelFolder(tmp_path), 0, Settings(split="held-out", held_out=1)) == [("b", 5)]


def test_heads_tell_which_photos_they_have_not_seen(tmp_path: Path) -> None:
    heads = {name: tmp_path / f"{name}.safetensors" for name in ("four", "six", "all", "silent")}
    for name, training in (("four", '{"held_out": 4}'), ("six", '{"held_out": 6}'), ("all", '{"held_out": 0}')):
        save_file({"x": torch.zeros(1)}, heads[name], {"fscs_training": training})
    save_file({"x": torch.zeros(1)}, heads["silent"])
    assert held_out_by([heads["silent"]]) == 20
    assert held_out_by([heads["four"]]) == 4
    both = held_out_by([heads["four"], heads["six"]])
    photos = [f"photo{number}" for number in range(500)]
    unseen = {photo for photo in photos if is_held_out(photo, 4) and is_held_out(photo, 6)}
    assert {photo for photo in photos if is_held_out(photo, both)} == unseen != set()
    with pytest.raises(ValueError, match=r"all\.safetensors' was trained on every photo of its lists"):
        held_out_by([heads["four"], heads["all"]])


@coco_warning
def test_every_benchmark_opens_its_layout(tmp_path: Path) -> None:
    pytest.importorskip("pycocotools")
    makers = {"pascal-5i": make_pascal, "coco-20i": make_coco, "fss-1000": make_fss, "folder": make_folder}
    makers["voc-animals"] = make_folder
    makers["domains"] = lambda data: make_folder(data / "one")
    assert makers.keys() == BENCHMARKS.keys()
    for name, make in makers.items():
        make(tmp_path / name)
    write_lists(tmp_path / "voc-animals" / "splits", val_fold1="b 3\nin/a 5\n")
    for name, benchmark in BENCHMARKS.items():
        data = benchmark.open(tmp_path / name, None)
        fold = 1 if name == "voc-animals" else next(iter(data.folds), None)
        for photo_id, number in data.pairs("val", fold):
            assert data.image(photo_id).shape[:2] == data.labels(photo_id).shape
            assert number in data.names


# ------------------------------------------------------------------------------------------------ a folder of folders


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    """Two sets of one class and two of two; class ids are not in order, and one photo has an unknown border."""
    for folder, names in {
        "a": {"1": "x"},
        "b": {"7": "y", "3": "z"},
        "c": {"1": "x"},
        "d": {"2": "u", "9": "v"},
    }.items():
        for part in ("images", "masks"):
            (tmp_path / folder / part).mkdir(parents=True)
        (tmp_path / folder / "classes.json").write_text(json.dumps(names))
        for number in names:
            mask = np.zeros((10, 12), np.uint8)
            mask[2:5] = int(number)
            mask[9] = 255
            Image.fromarray(mask).save(tmp_path / folder / "masks" / f"p{number}.png")
            Image.fromarray(
                np.arange(360, dtype=np.uint16).reshape(10, 12, 3).astype(np.uint8) + np.uint8(number)
            ).save(tmp_path / folder / "images" / f"p{number}.png")
    (tmp_path / "notes.txt").write_text("not a set")
    (tmp_path / "empty").mkdir()
    return tmp_path


def test_domains_are_folds_and_those_of_one_class_are_one(domains: Path) -> None:
    dataset = Domains(domains)
    assert dataset.names == {1: "a/x", 2: "b/z", 3: "b/y", 4: "c/x", 5: "d/u", 6: "d/v"}
    assert dataset.folds == (0, 1, 2)
    assert [dataset.folders_of(fold) for fold in dataset.folds] == [("b",), ("d",), ("a", "c")]
    assert dataset.pairs("val", 0) == [("b/p3", 2), ("b/p7", 3)]
    assert dataset.pairs("val", 2) == [("a/p1", 1), ("c/p1", 4)]
    labels = dataset.labels("b/p7")
    assert set(np.unique(labels)) == {0, 3, UNKNOWN}
    assert (dataset.labels("c/p1")[2:5] == 4).all()
    assert dataset.image("d/p9")[0, 0, 0] == 9
    assert not dataset.has_training_lists


def test_domains_that_are_none_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no folder with images, masks and classes\.json"):
        Domains(tmp_path)
    with pytest.raises(ValueError, match="domains have no lists"):
        Domains(tmp_path, tmp_path)
