"""PNG, NPZ and CSV read back by Pillow, OpenCV, NumPy and the csv module; and the table of all formats."""

import csv
import json
import unicodedata
from io import BytesIO, StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fscs_sdk.formats
from fscs_sdk.formats import LONGEST_ENDING, WRITERS, MissingPackageError, class_colors, select
from fscs_sdk.formats.class_png import encode as encode_classes
from predictions import ODD_NAMES, prediction, predictions, quick


def encoded(name, answer):
    (data,) = WRITERS[name].encode(answer, photo="b.jpg").values()
    return data


@quick
@given(predictions())
def test_the_mask_png_is_the_mask_with_the_classes_colours_and_names(answer):
    with Image.open(BytesIO(encoded("mask", answer))) as image:
        assert image.mode == "P"
        assert (np.asarray(image) == answer.mask).all()
        assert json.loads(image.text["classes"]) == list(answer.names)
        colored = np.asarray(image.convert("RGB"))
    for number, color in enumerate([(0, 0, 0), *class_colors(answer.names)]):
        assert (colored[answer.mask == number] == color).all()


@pytest.mark.parametrize(("classes", "mode"), [(255, "P"), (256, "I;16"), (700, "I;16")])
def test_more_classes_than_a_palette_has_give_a_16_bit_png(classes, mode):
    import cv2

    mask = np.arange(classes + 1).reshape(1, -1)
    answer = prediction(mask, tuple(f"class {number}" for number in range(classes)))
    data = encoded("mask", answer)
    with Image.open(BytesIO(data)) as image:
        assert image.mode == mode
        assert (np.asarray(image) == mask).all()
        assert json.loads(image.text["classes"]) == list(answer.names)
    if mode == "I;16":
        assert (cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED) == mask).all()


@quick
@given(predictions())
def test_the_class_pngs_are_black_and_white(answer):
    files = encode_classes(answer, photo="b.jpg")
    assert len(files) == len(answer.names)
    for number, data in enumerate(files.values(), start=1):
        with Image.open(BytesIO(data)) as image:
            assert image.mode == "L"
            assert (np.asarray(image) == 255 * (answer.mask == number)).all()


@quick
@given(st.lists(st.sampled_from(ODD_NAMES) | st.text(st.characters(), min_size=1), unique=True, min_size=1))
def test_class_file_names_are_safe_and_differ_on_every_file_system(names):
    answer = prediction(np.zeros((1, 1), int), tuple(names))
    endings = list(encode_classes(answer, photo="b.jpg"))
    assert len({unicodedata.normalize("NFD", ending).casefold() for ending in endings}) == len(names)
    for ending in endings:
        assert len(ending.encode()) <= LONGEST_ENDING
        body = ending.removeprefix(".").removesuffix(".png")
        assert body[0].isdigit()  # never `.mask.png`
        assert all(character.isalnum() or character in "-_" for character in body)


def test_plain_class_names_stay_readable():
    files = encode_classes(prediction([[0]], ("dog", "traffic light", "猫")), photo="b.jpg")
    assert list(files) == [".1-dog.png", ".2-traffic_light.png", ".3-猫.png"]


@quick
@given(predictions().filter(lambda answer: not any(name.endswith("\0") for name in answer.names)))
def test_numpy_reads_the_maps_back_without_pickles(answer):
    with np.load(BytesIO(encoded("npz", answer)), allow_pickle=False) as arrays:
        assert arrays["names"].tolist() == list(answer.names)
        assert arrays["scores"].tolist() == list(answer.scores.values())
        assert arrays["present"].tolist() == list(answer.present.values())
        for name in ("foreground", "background", "mask"):
            expected = getattr(answer, name)
            assert arrays[name].dtype == expected.dtype
            assert (arrays[name] == expected).all()


def test_a_name_that_numpy_would_shorten_is_refused():
    with pytest.raises(ValueError, match=r"NumPy cannot keep the class name 'dog\\x00'"):
        encoded("npz", prediction([[1]], ("dog\0",)))


def rows_of(data):
    header, *rows = csv.reader(StringIO(data.decode(), newline=""))
    assert header == ["photo", "class", "present", "score", "pixels"]
    return rows


@quick
@given(predictions())
def test_the_csv_has_the_presence_of_every_class(answer):
    rows = rows_of(encoded("csv", answer))
    assert [row[1] for row in rows] == list(answer.names)
    for number, (photo, name, present, score, pixels) in enumerate(rows, start=1):
        assert photo == "b.jpg"
        assert present == {True: "true", False: "false"}[answer.present[name]]
        assert float(score) == answer.scores[name]
        assert int(pixels) == (answer.mask == number).sum()


def test_the_tables_of_a_run_become_one(tmp_path):
    files, expected = {}, []
    for photo in ("a/one.jpg", 'b, "c"/line\nbreak.jpg', "not unicode \udcff.jpg"):
        answer = prediction([[1, 0, 2]], ODD_NAMES)
        (files[photo],) = WRITERS["csv"].write(answer, tmp_path / f"{len(files)}.jpg")
        shown = photo.replace("\udcff", "\\udcff")
        expected += [(shown, name, "true" if index < 2 else "false") for index, name in enumerate(ODD_NAMES)]
    (path,) = WRITERS["csv"].collect(files, tmp_path, names=ODD_NAMES)
    assert path == tmp_path / "presence.csv"
    assert [tuple(row[:3]) for row in rows_of(path.read_bytes())] == expected


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not a table of presence; delete it"),
        (b"\xff", "is not a table of presence; delete it"),
        (b"photo,class\n", r"is no table of presence of \['dog'\]; delete it"),
        (b"photo,class,present,score,pixels\nb.jpg,cat,true,0.9,1\n", r"is no table of presence of \['dog'\]"),
        (b"photo,class,present,score,pixels\n\n", r"is no table of presence of \['dog'\]"),
    ],
)
def test_a_damaged_table_is_named(tmp_path, data, message):
    path = tmp_path / "b.jpg.csv"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"b.jpg.csv' {message}"):
        WRITERS["csv"].collect({"b.jpg": path}, tmp_path, names=("dog",))


def test_the_overlay_file_is_the_plot():
    answer = prediction(np.eye(90, dtype=int), ("dog", "cat"))
    with Image.open(BytesIO(encoded("overlay", answer))) as image:
        assert np.abs(np.asarray(image).astype(int) - answer.plot()).mean() < 3


@pytest.mark.parametrize("size", [(1, 65501), (65501, 2)])
def test_an_overlay_too_long_for_jpeg_is_made_smaller(size):
    with Image.open(BytesIO(encoded("overlay", prediction(np.ones(size, int), ("dog",))))) as image:
        assert max(image.size) == 65500


@quick
@given(predictions().filter(lambda answer: not any(name.endswith("\0") for name in answer.names)))
def test_no_two_formats_of_a_photo_share_a_file(answer):
    endings = [ending for format in WRITERS.values() for ending in format.encode(answer, photo="b.jpg")]
    assert len(set(endings)) == len(endings) == len(WRITERS) - 1 + len(answer.names)
    assert all(len(ending.encode()) <= LONGEST_ENDING for ending in endings)
    assert {format.ending for format in WRITERS.values()} - {None} <= set(endings)


def test_a_writer_says_what_it_wrote(tmp_path):
    answer = prediction([[1, 0]], ("dog", "cat"))
    written = [path for format in WRITERS.values() for path in format.write(answer, tmp_path / "b.jpg")]
    assert sorted(written) == sorted(tmp_path.iterdir())
    assert {path.name for path in written} == {
        "b.jpg.mask.png",
        "b.jpg.overlay.jpg",
        "b.jpg.1-dog.png",
        "b.jpg.2-cat.png",
        "b.jpg.npz",
        "b.jpg.coco.json",
        "b.jpg.labelme.json",
        "b.jpg.yolo.txt",
        "b.jpg.csv",
    }


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_answer_gives_the_same_bytes(name):
    mask = np.random.default_rng(0).integers(0, 3, (40, 50))
    first, second = (prediction(mask, ("dog", "cat")) for _ in range(2))
    assert WRITERS[name].encode(first, photo="b") == WRITERS[name].encode(second, photo="b")


def test_formats_are_chosen_by_name_each_once():
    assert [format.name for format in select(["yolo", "mask", "yolo"])] == ["yolo", "mask"]
    with pytest.raises(ValueError, match="there is no format 'jpeg'; choose from mask, overlay, classes, npz, coco"):
        select(["mask", "jpeg"])


def test_a_format_whose_package_is_missing_is_refused_before_the_work(monkeypatch):
    monkeypatch.setattr(fscs_sdk.formats, "find_spec", lambda name: None)
    assert select(["mask", "yolo"])
    with pytest.raises(MissingPackageError, match=r"the format coco needs pycocotools; install it with: pip install"):
        select(["mask", "coco"])
