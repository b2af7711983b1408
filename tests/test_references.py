"""Supports as annotation tools write them: every reader, its shapes, EXIF, and broken files."""

import io
import json
import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from fscs_sdk import Shot
from fscs_sdk.formats import WRITERS
from fscs_sdk.images import ImageError, read_image, read_mask
from fscs_sdk.prediction import Prediction
from fscs_sdk.references import ReferenceWarning, read_supports
from fscs_sdk.references.folders import MARKS
from fscs_sdk.references.label_studio import unpack_brush
from fscs_sdk.references.shapes import polygon, run_lengths
from fscs_sdk.references.shots import read_shot

WRITTEN = Path(__file__).parent / "data_sets"
HEIGHT, WIDTH = 48, 64


def photo(path, size=(WIDTH, HEIGHT), orientation=1, color=(90, 120, 60)):
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size, color).save(path, exif=exif)
    return path


def area_of(shot, name="cat"):
    """The pixels of a shot as the model gets them."""
    return read_shot(shot, name, label="shot")[1]


def drawn(shot):
    """The pixels of a shot's mask."""
    return read_mask(shot.mask, size=read_image(shot.image).shape[:2])


def rectangle(left, top, right, bottom, height=HEIGHT, width=WIDTH):
    area = np.zeros((height, width), np.bool_)
    area[top:bottom, left:right] = True
    return area


def iou(one, other):
    return (one & other).sum() / (one | other).sum()


def wider(area):
    return cv2.dilate(area.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(np.bool_)


def single(supports, name="cat"):
    (shot,) = supports[name]
    return shot


# ---------------------------------------------------------------------------------------------------------- polygons


def test_a_polygon_is_filled_by_the_centres_of_pixels():
    canvas = np.zeros((10, 12), np.bool_)
    polygon([2, 1, 7, 1, 7, 6, 2, 6]).draw(canvas)
    assert np.array_equal(canvas, rectangle(2, 1, 7, 6, 10, 12))
    polygon([[-5, -5], [40, -5], [40, 40], [-5, 40]]).draw(canvas)
    assert canvas.all()


def test_rings_inside_rings_are_holes():
    canvas = np.zeros((10, 12), np.bool_)
    polygon([1, 1, 11, 1, 11, 9, 1, 9], [3, 3, 8, 3, 8, 6, 3, 6]).draw(canvas)
    assert np.array_equal(canvas, rectangle(1, 1, 11, 9, 10, 12) & ~rectangle(3, 3, 8, 6, 10, 12))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.floats(-5, 45), st.floats(-5, 35)), min_size=3, max_size=9))
def test_a_polygon_is_what_its_own_definition_says(points):
    canvas = np.zeros((30, 40), np.bool_)
    shape = polygon(points)
    shape.draw(canvas)
    rows, columns = np.mgrid[:30, :40] + 0.5
    inside = np.zeros((30, 40), np.bool_)
    for (x, y), (x_next, y_next) in zip(points, [*points[1:], points[0]], strict=True):
        between = (y <= rows) != (y_next <= rows)
        with np.errstate(all="ignore"):
            crossing = x + (rows - y) * ((x_next - x) / np.float64(y_next - y))
        inside ^= between & (crossing <= columns)
    assert (inside != canvas).sum() <= 1  # a centre on an edge, up to rounding


@settings(max_examples=40, deadline=None)
@given(arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12))))
def test_run_lengths_are_those_of_pycocotools(area):
    height, width = area.shape
    packed = coco_mask.encode(np.asfortranarray(area.astype(np.uint8)))
    canvas = np.zeros(area.shape, np.bool_)
    run_lengths(packed["counts"].decode(), (0, 0, width, height), by_columns=True).draw(canvas)
    assert np.array_equal(canvas, area)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(max_size=12), st.text(st.characters(min_codepoint=48, max_codepoint=111), max_size=12)))
def test_damaged_run_lengths_are_refused(text):
    try:
        shape = run_lengths(text, (0, 0, 5, 4), by_columns=True)
    except ValueError:
        return
    shape.draw(np.zeros((4, 5), np.bool_))


# ------------------------------------------------------------------------------------------- files of the tools' own


def test_labelme_files_are_read_as_labelme_draws_them():
    with pytest.warns(ReferenceWarning, match="the linestrip 'wire' in"):
        supports = read_supports(WRITTEN / "labelme")
    assert list(supports) == ["cat", "dog", "ball", "box"]
    for name in ("cat", "dog", "ball"):
        for shot, stem, size in zip(supports[name], ("plain", "Été 1"), ((48, 64), (64, 48)), strict=True):
            expected = np.asarray(Image.open(WRITTEN / "labelme_drawn" / f"{stem}.{name}.png")).astype(np.bool_)
            assert drawn(shot).shape == expected.shape == size
            if name == "dog":
                assert np.array_equal(drawn(shot), expected)
            else:  # LabelMe also fills the pixels that an outline touches: they differ by a pixel at most
                assert not (drawn(shot) & ~wider(expected)).any()
                assert not (expected & ~wider(drawn(shot))).any()
    assert supports["box"][0].box == [(5.0, 7.0, 30.0, 40.0)]


def test_label_studio_s_export_is_read_with_brush_polygon_ellipse_rectangle_and_choice():
    with pytest.warns(ReferenceWarning, match="'nose' on '3/1a2b3c4d-rex 1.jpg'"):
        supports = read_supports(WRITTEN / "label_studio" / "export.json")
    expected = np.asarray(Image.open(WRITTEN / "label_studio_dog.png")).astype(np.bool_)
    assert np.array_equal(drawn(single(supports, "dog")), expected)
    assert single(supports, "box").box == [(16.0, 12.0, 48.0, 36.0)]
    assert single(supports, "outdoors").is_tag
    assert abs(drawn(single(supports, "cat")).sum() - 32 * 24 / 2) < 20
    assert abs(drawn(single(supports, "ball")).sum() - np.pi * 8 * 12) < 12
    assert single(supports, "cat").image == WRITTEN / "label_studio" / "rex 1.jpg"


def test_label_studio_s_minimal_export(tmp_path):
    photo(tmp_path / "photos" / "a.jpg")
    region = {"points": [[0, 0], [50, 0], [50, 100], [0, 100]], "polygonlabels": ["cat"], "original_width": WIDTH}
    task = {"image": "/data/local-files/?d=photos/a.jpg", "id": 1, "label": [region | {"original_height": HEIGHT}]}
    (tmp_path / "min.json").write_text(json.dumps([task]))
    assert np.array_equal(drawn(single(read_supports(tmp_path))), rectangle(0, 0, 32, 48))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=24))
def test_a_damaged_brush_is_refused(data):
    try:
        values = unpack_brush(b"\0\0\0\x20" + data, 32)
    except ValueError:
        return
    assert values.shape == (32,)


# -------------------------------------------------------------------------------------------------------------- COCO


def coco(tmp_path, annotations, *, size=(HEIGHT, WIDTH), name="instances_train.json", photos=("a.jpg",)):
    content = {
        "images": [
            {"id": 7 + n, "file_name": each, "height": size[0], "width": size[1]} for n, each in enumerate(photos)
        ],
        "categories": [{"id": 3, "name": "cat"}, {"id": 9, "name": "dog"}],
        "annotations": [
            {"id": n, "image_id": 7, "category_id": 3, "iscrowd": 0} | each for n, each in enumerate(annotations)
        ],
    }
    path = tmp_path / "annotations" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))
    return path


RING = [10, 10, 30, 10, 30, 30, 10, 30]


def test_coco_parts_run_lengths_and_boxes(tmp_path):
    photo(tmp_path / "train2017" / "a.jpg")
    plain = [2 * HEIGHT, 5, WIDTH * HEIGHT - 2 * HEIGHT - 5]
    holed = rectangle(40, 5, 60, 40) & ~rectangle(45, 10, 50, 20)
    packed = coco_mask.encode(np.asfortranarray(holed.astype(np.uint8)))["counts"].decode()
    path = coco(
        tmp_path,
        [
            {"segmentation": [RING, [0, 40, 5, 40, 5, 45, 0, 45]]},
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": plain}, "iscrowd": 1},
            {"segmentation": {"size": [HEIGHT, WIDTH], "counts": packed}},
            {"segmentation": [], "bbox": [1, 2, 30, 40], "category_id": 9},
        ],
    )
    expected = rectangle(10, 10, 30, 30) | rectangle(0, 40, 5, 45) | rectangle(2, 0, 3, 5) | holed
    for source in (path, tmp_path):
        supports = read_supports(source)
        assert np.array_equal(drawn(single(supports)), expected)
        assert single(supports, "dog").box == [(1.0, 2.0, 31.0, 42.0)]


def test_coco_polygons_are_about_those_of_pycocotools(tmp_path):
    photo(tmp_path / "a.jpg")
    ring = [5.5, 3.2, 50.1, 9.9, 44.0, 40.3, 20.2, 30.0, 8.8, 44.4]
    (theirs,) = coco_mask.frPyObjects([ring], HEIGHT, WIDTH)
    ours = drawn(single(read_supports(coco(tmp_path, [{"segmentation": [ring]}]))))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of pycocotools against NumPy 2
        assert iou(ours, coco_mask.decode(theirs).astype(np.bool_)) > 0.97


def test_of_coco_s_own_files_the_objects_to_train_with_are_read(tmp_path):
    photo(tmp_path / "a.jpg")
    coco(tmp_path, [{"segmentation": [RING]}])
    coco(tmp_path, [{"segmentation": [RING], "category_id": 9}], name="instances_val.json")
    (tmp_path / "annotations" / "captions_train.json").write_text("{}")
    assert list(read_supports(tmp_path)) == ["cat"]
    coco(tmp_path, [{"segmentation": [RING]}], name="instances_train_2.json")
    with pytest.raises(ValueError, match=r"several data sets \('instances_train.json', 'instances_train_2.json'\)"):
        read_supports(tmp_path)


# --------------------------------------------------------------------------------------------------------------- EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
def test_coordinates_are_of_the_upright_photo_or_as_the_size_says_of_the_stored(tmp_path, orientation):
    image = photo(tmp_path / "a.jpg", orientation=orientation)
    height, width = read_image(image).shape[:2]
    upright = read_supports(coco(tmp_path, [{"segmentation": [RING]}], size=(height, width)))
    assert np.array_equal(drawn(single(upright)), rectangle(10, 10, 30, 30, height, width))
    if orientation >= 5:
        stored = read_supports(coco(tmp_path, [{"segmentation": [RING]}, {"bbox": [1, 2, 3, 4], "category_id": 9}]))
        turned = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        turned[10:30, 10:30] = 255
        buffer = io.BytesIO()
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.fromarray(turned).save(buffer, "PNG", exif=exif)
        assert np.array_equal(drawn(single(stored)), read_image(buffer.getvalue())[:, :, 0] > 0)
        (box,) = single(stored, "dog").box
        assert sorted((box[2] - box[0], box[3] - box[1])) == [3, 4]


def test_a_photo_of_another_size_is_refused(tmp_path):
    photo(tmp_path / "a.jpg", size=(32, 24))
    with pytest.raises(ValueError, match=r"a.jpg' is 32 x 24 and was annotated at 64 x 48 \(width x height\)"):
        read_supports(coco(tmp_path, [{"segmentation": [RING]}]))


# --------------------------------------------------------------------------------------------------------------- YOLO


def yolo(tmp_path, lines, described="train: images\nnames: [cat, dog]\n"):
    photo(tmp_path / "images" / "a.jpg")
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "labels" / "a.txt").write_text(lines)
    (tmp_path / "data.yaml").write_text(described)
    return tmp_path


@pytest.mark.parametrize(
    "described",
    [
        "train: images\nnames: [cat, dog]\n",
        "path: .\ntrain: ../images\nval: nowhere\nnames:\n  0: cat\n  1: dog\n",
        "path: /data/elsewhere\ntrain: list.txt\nval: [images]\nnames: {0: cat, 1: dog}\n",
    ],
)
def test_yolo_polygons_and_boxes(tmp_path, described):
    lines = "0 0.25 0.25 0.74 0.25 0.74 0.74 0.25 0.74\n\n1 0.5 0.5 0.5 0.25\n1 0.5 0.5 0.5 0.25 0.9\n"
    folder = yolo(tmp_path, lines, described)
    (tmp_path / "list.txt").write_text("./images/a.jpg\n")
    for source in (folder, folder / "data.yaml"):
        supports = read_supports(source)
        assert np.array_equal(drawn(single(supports)), rectangle(16, 12, 48, 36))
        assert single(supports, "dog").box == [(16.0, 18.0, 48.0, 30.0)] * 2


def test_yolo_with_a_list_of_names_and_labels_beside_the_photos(tmp_path):
    photo(tmp_path / "obj_train_data" / "a.jpg")
    (tmp_path / "obj_train_data" / "a.txt").write_text("1 0.5 0.5 0.5 0.5")
    (tmp_path / "obj.names").write_text("cat\ndog\n")
    assert single(read_supports(tmp_path), "dog").box == [(16.0, 12.0, 48.0, 36.0)]
    assert list(read_supports(tmp_path / "obj.names")) == ["dog"]


@pytest.mark.parametrize(
    ("lines", "described", "said"),
    [
        ("0 0.1 0.2\n", None, "line 1 of '.*a.txt' is not a label of YOLO as it should be .it has 2 numbers"),
        ("\n5 0.1 0.1 0.1 0.1\n", None, "line 2 of '.*a.txt' is of class 5, and there are 2"),
        ("0 x 0.2 0.3 0.4\n", None, "line 1 of '.*a.txt' is not a label of YOLO"),
        ("0 10 20 30 40\n", None, "coordinates are not shares from 0 to 1"),
        ("0 nan 0.2 0.3 0.4\n", None, "not a finite number"),
        ("", None, "marks no object that can be used"),
        ("0 0.5 0.5 0.5 0.5", "names: [cat]\nkpt_shape: [17, 3]\n", "a data set of poses"),
        ("0 0.5 0.5 0.5 0.5", "names: 5\n", "is not a YOLO data set"),
        ("0 0.5 0.5 0.5 0.5", "names: [cat\n", "is not YAML"),
    ],
)
def test_broken_yolo_is_one_sentence(tmp_path, lines, described, said):
    yolo(tmp_path, lines, described or "train: images\nnames: [cat, dog]\n")
    with pytest.raises(ValueError, match=said) as caught:
        read_supports(tmp_path / "data.yaml")
    assert "\n" not in str(caught.value)


# --------------------------------------------------------------------------------------------------------------- CVAT


def cvat(tmp_path, inside, width=WIDTH, height=HEIGHT):
    photo(tmp_path / "images" / "a.jpg")
    labels = "<labels><label><name>dog</name></label><label><name>cat</name></label></labels>"
    (tmp_path / "annotations.xml").write_text(
        f'<?xml version="1.0" encoding="utf-8"?><annotations><version>1.1</version><meta><job>{labels}</job></meta>'
        f'<image id="0" name="a.jpg" width="{width}" height="{height}">{inside}</image>'
        '<image id="1" name="gone.jpg" width="5" height="5"></image></annotations>'
    )
    return tmp_path


def test_cvat_polygons_masks_boxes_ellipses_and_tags(tmp_path):
    cvat(
        tmp_path,
        '<polygon label="cat" source="manual" occluded="0" points="10.00,10.00;30.00,10.00;30.00,30.00;10.00,30.00" '
        'z_order="0"></polygon>'
        '<mask label="cat" source="manual" rle="1, 2, 3, 1, 2" left="40" top="5" width="3" height="3" z_order="0"/>'
        '<box label="dog" xtl="1.0" ytl="2.0" xbr="31.0" ybr="42.0" z_order="0"/>'
        '<box label="tilted" xtl="20" ytl="10" xbr="40" ybr="30" rotation="45.0" z_order="0"/>'
        '<ellipse label="ball" cx="30" cy="20" rx="10" ry="5" z_order="0"/>'
        '<polyline label="wire" points="1,1;2,2" z_order="0"/><tag label="outdoors" source="manual"></tag>',
    )
    with pytest.warns(ReferenceWarning, match="the polyline 'wire' in 'a.jpg' has no area"):
        supports = read_supports(tmp_path)
    assert list(supports) == ["dog", "cat", "tilted", "ball", "outdoors"]
    small = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]], np.bool_)
    expected = rectangle(10, 10, 30, 30)
    expected[5:8, 40:43] = small
    assert np.array_equal(drawn(single(supports)), expected)
    assert single(supports, "dog").box == [(1.0, 2.0, 31.0, 42.0)]
    assert single(supports, "outdoors").is_tag
    tilted = drawn(single(supports, "tilted"))
    assert tilted[20, 17]
    assert not tilted[11, 21]
    assert abs(tilted.sum() - 400) < 25
    assert abs(drawn(single(supports, "ball")).sum() - np.pi * 50) < 8


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        ('<polygon label="cat" points="1,1;2,2"/>', "it has 2 points, and an area has at least three"),
        ('<polygon label="cat" points="1,1;2;3,3"/>', "the polygon 'cat' in 'a.jpg' of '.*' is not CVAT"),
        (
            '<mask label="cat" rle="1, 2" left="0" top="0" width="3" height="3"/>',
            "run lengths sum up to 3, not to 3 x 3",
        ),
        ('<mask label="cat" left="0" top="0" width="3" height="3"/>', "'rle' is missing"),
        ('<box label="cat" xtl="5" ytl="5" xbr="5" ybr="9"/>', "its edges enclose nothing"),
        ('<blob label="cat"/>', "a shape of an unknown kind"),
        ("<polygon", "is not whole XML"),
    ],
)
def test_broken_cvat_is_one_sentence(tmp_path, inside, said):
    with pytest.raises(ValueError, match=said) as caught:
        read_supports(cvat(tmp_path, inside) / "annotations.xml")
    assert "\n" not in str(caught.value)


def test_cvat_for_videos_is_named(tmp_path):
    (tmp_path / "annotations.xml").write_text("<annotations><track id='0' label='cat'/></annotations>")
    with pytest.raises(ValueError, match="format for videos; export it as 'CVAT for images'"):
        read_supports(tmp_path)


# ---------------------------------------------------------------------------------------------------------------- VOC


def label_map(path, areas, mode="P"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for value, area in areas.items():
        pixels[area] = value
    image = Image.fromarray(pixels)
    palette = np.random.default_rng(1).integers(0, 256, 768).tolist()
    palette[:3] = [0, 0, 0]
    image.putpalette(palette)
    (image if mode == "P" else image.convert(mode)).save(path)
    return [tuple(palette[3 * value : 3 * value + 3]) for value in range(256)]


CAT, DOG = rectangle(5, 5, 20, 30), rectangle(30, 10, 50, 40)


def test_voc_itself_needs_no_list(tmp_path):
    photo(tmp_path / "JPEGImages" / "a.jpg")
    label_map(tmp_path / "SegmentationClass" / "a.png", {8: CAT, 12: DOG, 255: rectangle(0, 0, 64, 2)})
    supports = read_supports(tmp_path)
    assert list(supports) == ["cat", "dog"]
    assert np.array_equal(drawn(single(supports)), CAT)
    assert np.array_equal(drawn(single(supports, "dog")), DOG)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("class_names.txt", "__ignore__\n_background_\ncat\ndog\n"),
        ("classes.txt", "cat\ndog\n"),
        ("classes.txt", "background\ncat\ndog"),
        ("classes.json", '{"0": "background", "1": "cat", "2": "dog"}'),
        ("classes.json", '["cat", "dog"]'),
    ],
)
def test_label_maps_with_a_list_of_classes(tmp_path, name, text):
    photo(tmp_path / "images" / "a.jpg")
    photo(tmp_path / "images" / "b.jpg")
    label_map(tmp_path / "masks" / "a.png", {1: CAT, 2: DOG})
    label_map(tmp_path / "masks" / "b.png", {2: DOG}, mode="P")
    (tmp_path / name).write_text(text)
    supports = read_supports(tmp_path)
    assert np.array_equal(drawn(single(supports)), CAT)
    assert [Path(shot.image).name for shot in supports["dog"]] == ["a.jpg", "b.jpg"]


@pytest.mark.parametrize("mode", ["P", "RGB"])
def test_label_maps_of_colours(tmp_path, mode):
    photo(tmp_path / "JPEGImages" / "a.jpg")
    colours = label_map(tmp_path / "SegmentationClass" / "a.png", {1: CAT, 2: DOG}, mode)
    named = {"background": (0, 0, 0), "dog": colours[2], "cat": colours[1]}
    listing = "".join(f"{name}:{','.join(map(str, colour))}::\n" for name, colour in named.items())
    (tmp_path / "labelmap.txt").write_text(f"# label:color_rgb:parts:actions\n{listing}")
    supports = read_supports(tmp_path)
    assert list(supports) == ["dog", "cat"]
    assert np.array_equal(drawn(single(supports)), CAT)


def test_a_coloured_label_map_without_colours_is_refused(tmp_path):
    photo(tmp_path / "JPEGImages" / "a.jpg")
    label_map(tmp_path / "SegmentationClass" / "a.png", {1: CAT}, "RGB")
    with pytest.raises(ValueError, match=r"a.png' holds colours, not class numbers; add labelmap.txt"):
        read_supports(tmp_path)


def test_voc_boxes(tmp_path):
    photo(tmp_path / "JPEGImages" / "a.jpg")
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>31</xmax><ymax>42</ymax></bndbox>"
    (tmp_path / "Annotations").mkdir()
    xml = tmp_path / "Annotations" / "a.xml"
    xml.write_text(
        f"<annotation><filename>a.jpg</filename><size><width>{WIDTH}</width><height>{HEIGHT}</height></size>"
        f"<object><name>cat</name>{box}</object></annotation>"
    )
    for source in (tmp_path, xml):
        assert single(read_supports(source)).box == [(1.0, 2.0, 31.0, 42.0)]
    xml.write_text("<annotation><object><name>cat</name></object></annotation>")
    with pytest.raises(ValueError, match="an object has no bndbox/xmin"):
        read_supports(tmp_path)


# ------------------------------------------------------------------------------------------- our own files, and choice


def prediction(mask, names=("cat", "dog")):
    height, width = mask.shape
    return Prediction(
        names=names,
        scores=dict.fromkeys(names, 0.9),
        present=dict.fromkeys(names, True),
        foreground=np.zeros((len(names), height, width), np.float32),
        background=np.zeros((height, width), np.float32),
        mask=mask,
        image=np.full((height, width, 3), 90, np.uint8),
    )


label_maps = arrays(np.uint8, st.tuples(st.integers(8, 16), st.integers(8, 16)), elements=st.integers(0, 2))


@settings(max_examples=25, deadline=None)
@given(label_maps)
def test_what_the_writers_write_is_read_to_the_pixel(tmp_path_factory, mask):
    top = tmp_path_factory.mktemp("own")
    Image.new("RGB", mask.shape[::-1]).save(top / "a.png")
    for name in ("coco", "labelme", "yolo"):
        written = WRITERS[name].write(prediction(mask), top / "a.png")
        if name == "yolo":
            WRITERS[name].collect({"a.png": written[0]}, top, names=("cat", "dog"))
            (top / "yolo" / "images").mkdir()
            shutil.copy(top / "a.png", top / "yolo" / "images" / "a.png")
            source = top / "yolo"
        else:
            (source,) = written
        if not mask.any():
            with pytest.raises(ValueError, match="marks no object that can be used"):
                read_supports(source)
            continue
        supports = read_supports(source)
        for number, label in enumerate(("cat", "dog"), start=1):
            assert (label in supports) == (mask == number).any()
            if label in supports:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # a mask may be full
                    assert np.array_equal(drawn(single(supports, label)), mask == number), name


def test_classes_are_chosen_by_names_as_people_see_them(tmp_path):
    for name in ("Cafe\u0301", "dog"):
        photo(tmp_path / name / "a.jpg")
    assert list(read_supports(tmp_path, classes=["CAFÉ"])) == ["Cafe\u0301"]
    assert list(read_supports(tmp_path, classes=["dog", "café", "Dog"])) == ["dog", "Cafe\u0301"]
    with pytest.raises(ValueError, match="has no labelled photo of 'bird'; it has"):
        read_supports(tmp_path, classes=["bird"])
    with pytest.raises(ValueError, match="no class is chosen"):
        read_supports(tmp_path, classes=[])
    with pytest.raises(ValueError, match="shots is 0; it must be 1 or more"):
        read_supports(tmp_path, shots=0)


def test_shots_are_chosen_for_variety_and_the_same_each_time(tmp_path):
    colors = [(250, 10, 10), (10, 250, 10), (10, 10, 250)]
    for number in range(12):
        red, green, blue = colors[number % 3]
        photo(tmp_path / "s" / "cat" / f"{number:02}.jpg", color=(red, green, blue - number // 3))
    chosen = read_supports(tmp_path / "s", shots=3)["cat"]
    assert {int(Path(shot.image).stem) % 3 for shot in chosen} == {0, 1, 2}
    assert [shot.image for shot in chosen] == [shot.image for shot in read_supports(tmp_path / "s", shots=3)["cat"]]
    assert len(read_supports(tmp_path / "s", shots=99)["cat"]) == 12


def test_of_equal_photos_as_many_are_chosen_as_are_wanted(tmp_path):
    for number in range(7):
        photo(tmp_path / "s" / "cat" / f"{number}.jpg")
    chosen = read_supports(tmp_path / "s", shots=4)["cat"]
    assert len({shot.image for shot in chosen}) == 4


def test_small_objects_are_the_last_to_be_chosen_and_only_chosen_photos_are_opened(tmp_path):
    names = [f"{number}.jpg" for number in range(6)]
    content = json.loads(coco(tmp_path, [], photos=names).read_text())
    for number in range(6):
        photo(tmp_path / names[number])
        side = 40 if number in (2, 4) else 2
        ring = [1, 1, 1 + side, 1, 1 + side, 1 + side, 1, 1 + side]
        content["annotations"].append({"id": number, "image_id": 7 + number, "category_id": 3, "segmentation": [ring]})
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(content))
    assert [Path(shot.image).stem for shot in read_supports(tmp_path, shots=2)["cat"]] == ["2", "4"]
    (tmp_path / "0.jpg").write_bytes(b"no photo")
    assert len(read_supports(tmp_path, shots=2)["cat"]) == 2
    with pytest.raises(ImageError, match=r"0\.jpg"):
        read_supports(tmp_path)


# ------------------------------------------------------------------------------------------------- what is not there


def test_photos_are_found_by_the_end_of_their_paths(tmp_path):
    for place in ("train/a.jpg", "val/a.jpg"):
        photo(tmp_path / "images" / place)
    path = coco(tmp_path, [{"segmentation": [RING]}], photos=["C:\\data\\VAL\\A.jpg"])
    assert single(read_supports(path)).image == tmp_path / "images" / "val" / "a.jpg"
    path = coco(tmp_path, [{"segmentation": [RING]}], photos=["a.jpg"])
    with pytest.raises(ValueError, match=r"'a.jpg' could be '.*' or '.*'; remove one"):
        read_supports(path)


def test_photos_that_are_not_there_are_told(tmp_path):
    path = coco(
        tmp_path, [{"segmentation": [RING]}, {"segmentation": [RING], "image_id": 8}], photos=["a.jpg", "b.jpg"]
    )
    with pytest.raises(ValueError, match=r"'.*' names 2 photos and none is there, such as 'a.jpg'"):
        read_supports(path)
    photo(tmp_path / "a.jpg")
    with pytest.warns(ReferenceWarning, match="photos that are not there were left out: b.jpg"):
        assert len(read_supports(path)["cat"]) == 1


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is not whole JSON .line 1"),
        ("[" * 100_000, "nested too deeply"),
        ("{}", "is JSON, but not of LabelMe, COCO"),
        ("[]", "is JSON, but not of LabelMe, COCO"),
        ('{"shapes": 5, "imagePath": "a.jpg"}', "is not a LabelMe file as it should be"),
        ('{"shapes": [{"label": "x", "points": [[1, 2], [3, 4]]}], "imagePath": "a.jpg"}', "has 2 points, and an area"),
        ('{"shapes": [{"points": [[1, 2]]}], "imagePath": "a.jpg"}', "'label' is missing"),
        (
            '{"shapes": [{"label": "x", "shape_type": "mask", "mask": "AAAA", "points": [[1, 2], [3, 4]]}], '
            '"imagePath": "a.jpg"}',
            "its mask is no PNG",
        ),
        ('{"images": [{}], "annotations": [], "categories": []}', "'id' is missing"),
        ('{"images": [], "annotations": [{"image_id": 1}], "categories": []}', "1 is missing"),
        ('[{"data": {"image": "x"}, "annotations": [{"result": []}]}]', "it names no photo"),
        ('[{"data": {"image": "x.jpg"}, "annotations": [{"result": 5}]}]', "'int' object is not iterable"),
    ],
)
def test_broken_json_is_one_sentence(tmp_path, content, said):
    photo(tmp_path / "a.jpg")
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(ValueError, match=said) as caught:
        read_supports(tmp_path / "x.json")
    assert "\n" not in str(caught.value)


def test_other_files_are_named(tmp_path):
    (tmp_path / "x.json").write_bytes(b"\xff\x00\xff")
    with pytest.raises(ValueError, match="is not text in UTF-8"):
        read_supports(tmp_path / "x.json")
    (tmp_path / "x.zip").touch()
    with pytest.raises(ValueError, match="is no data set that can be read; give a folder"):
        read_supports(tmp_path / "x.zip")
    with pytest.raises(FileNotFoundError, match=r"there are no supports '.*nowhere'; check the path"):
        read_supports(tmp_path / "nowhere")


# -------------------------------------------------------------------------------------------------------------- boxes


def test_a_box_becomes_the_object_in_it():
    image = np.full((100, 140, 3), (30, 90, 200), np.uint8)
    image += np.random.default_rng(0).integers(0, 20, image.shape, np.uint8)
    truth = np.zeros((100, 140), np.uint8)
    cv2.circle(truth, (70, 50), 25, 1, -1)
    image[truth > 0] = (200, 60, 40)
    shot = Shot(image, box=(44, 24, 96, 76))
    assert iou(area_of(shot), truth.astype(np.bool_)) > 0.95
    assert np.array_equal(area_of(shot), area_of(Shot(image, box=np.array([[44, 24, 96, 76]]))))


@pytest.mark.parametrize(
    "box", [(0, 0, 140, 100), (50, 40, 51, 41), (-20, -20, 30, 30), [(1, 1, 9, 9), (50, 50, 90, 90)]]
)
def test_a_mask_from_a_box_stays_inside_and_is_not_empty(box):
    image = np.random.default_rng(0).integers(0, 256, (100, 140, 3)).astype(np.uint8)
    mask = area_of(Shot(image, box=box))
    inside = np.zeros_like(mask)
    for left, top, right, bottom in np.clip(np.reshape(box, (-1, 4)), 0, None):
        inside[top:bottom, left:right] = True
    assert mask.any()
    assert not (mask & ~inside).any()


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((5, 5, 5, 9), "x0 < x1 and y0 < y1"),
        ((9, 5, 5, 9), "x0 < x1 and y0 < y1"),
        ((1, 2, 3), r"must be \(x0, y0, x1, y1\) in pixels"),
        ((1, 2, 3, float("nan")), r"must be \(x0, y0, x1, y1\) in pixels"),
        ("box", r"must be \(x0, y0, x1, y1\) in pixels"),
        ([], r"must be \(x0, y0, x1, y1\) in pixels"),
        ((200, 0, 300, 50), "is outside its 140 x 100 photo"),
    ],
)
def test_a_box_that_is_none_is_refused(box, said):
    with pytest.raises(ValueError, match=said):
        area_of(Shot(np.full((100, 140, 3), 90, np.uint8), box=box))


def test_a_shot_has_a_mask_or_a_box():
    image = np.full((20, 20, 3), 90, np.uint8)
    with pytest.raises(ValueError, match="has a mask and a box; leave out the box"):
        area_of(Shot(image, np.zeros((20, 20), np.bool_), box=(1, 1, 5, 5)))
    assert area_of(Shot(image)) is None


def test_a_labelme_file_is_a_mask(tmp_path):
    image = photo(tmp_path / "a.jpg")
    own = tmp_path / "elsewhere.json"
    shape = {"label": "Cat", "points": [[10, 10], [30, 10], [30, 30], [10, 30]], "shape_type": "polygon"}
    content = {"shapes": [shape], "imagePath": "x", "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    own.write_text(json.dumps(content))
    for source in (image, read_image(image), image.read_bytes()):
        assert np.array_equal(area_of(Shot(source, str(own))), rectangle(10, 10, 30, 30))
    with pytest.raises(ValueError, match="has no area called 'dog', but 'Cat'; name its shapes like the class"):
        area_of(Shot(image, own), "dog")


def test_the_words_that_call_a_mask_are_in_the_documentation():
    text = (Path(__file__).parents[1] / "docs" / "references.md").read_text(encoding="utf-8")
    assert ", ".join(MARKS) in " ".join(text.split())


# -------------------------------------------------------------------------------------------- as exporters lay it out


def test_shapes_without_an_inside_are_left_out_and_told(tmp_path):
    photo(tmp_path / "a.jpg")
    marked = [{"segmentation": [RING, [1, 1, 5, 5]]}, {"segmentation": [], "bbox": [3, 3, 0, 9], "category_id": 9}]
    with pytest.warns(ReferenceWarning, match=r"annotation 0 of '.*': it has 2 points, .* and 1 more"):
        assert np.array_equal(drawn(single(read_supports(coco(tmp_path, marked)))), rectangle(10, 10, 30, 30))


def test_coco_without_sizes_is_of_the_upright_photo(tmp_path):
    photo(tmp_path / "a.jpg", orientation=6)
    path = coco(tmp_path, [{"segmentation": [RING]}], size=(0, 0))
    assert np.array_equal(drawn(single(read_supports(path))), rectangle(10, 10, 30, 30, WIDTH, HEIGHT))


def test_a_coco_folder_of_splits_is_read_where_it_trains(tmp_path):
    for split in ("train", "valid"):
        photo(tmp_path / split / "a.jpg")
        path = coco(tmp_path, [{"segmentation": [RING]}])
        shutil.move(path, tmp_path / split / "_annotations.coco.json")
    (tmp_path / "annotations").rmdir()
    assert single(read_supports(tmp_path)).image == tmp_path / "train" / "a.jpg"


def test_xml_and_text_beside_the_photos(tmp_path):
    photo(tmp_path / "voc" / "a.jpg")
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>31</xmax><ymax>42</ymax></bndbox>"
    xml = f"<annotation><filename>a.jpg</filename><object><name>cat</name>{box}</object></annotation>"
    (tmp_path / "voc" / "a.xml").write_text(xml)
    assert single(read_supports(tmp_path / "voc")).box == [(1.0, 2.0, 31.0, 42.0)]
    photo(tmp_path / "yolo" / "a.jpg")
    (tmp_path / "yolo" / "a.txt").write_text("0 0.5 0.5 0.5 0.5")
    (tmp_path / "yolo" / "classes.txt").write_text("cat")
    assert single(read_supports(tmp_path / "yolo")).box == [(16.0, 12.0, 48.0, 36.0)]


def test_an_export_without_its_photos_is_named(tmp_path):
    label_map(tmp_path / "SegmentationClass" / "a.png", {8: CAT})
    (tmp_path / "ImageSets").mkdir()
    with pytest.raises(ValueError, match=r"has annotations but no photos; put them into '.*JPEGImages'"):
        read_supports(tmp_path)


def test_label_studio_s_accidental_clicks_are_left_out(tmp_path):
    photo(tmp_path / "a.jpg")
    size = {"original_width": WIDTH, "original_height": HEIGHT}
    values = [
        {"x": 5, "y": 5, "width": 0, "height": 0, "rotation": 0, "rectanglelabels": ["cat"]},
        {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]},
        {"x": 0, "y": 0, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["cat"]},
    ]
    regions = [{"value": value} | size for value in values]
    regions[2]["image_rotation"] = 90
    content = [{"data": {"image": "https://host/b/a.jpg?sig=1"}, "annotations": [{"result": regions}]}]
    (tmp_path / "export.json").write_text(json.dumps(content))
    with pytest.warns(ReferenceWarning, match=r"its edges enclose nothing and 1 more"):
        assert single(read_supports(tmp_path)).box == [(0.0, 0.0, 32.0, 24.0)]


def test_of_a_mask_that_was_written_here_the_class_s_pixels_are_taken(tmp_path):
    photo(tmp_path / "s" / "dog" / "a.jpg")
    mask = (CAT + 2 * DOG.astype(np.uint8)).astype(np.uint8)
    WRITERS["mask"].write(prediction(mask), tmp_path / "s" / "dog" / "a.jpg")
    assert np.array_equal(drawn(single(read_supports(tmp_path / "s"), "dog")), DOG)
    WRITERS["mask"].write(prediction(CAT.astype(np.uint8)), tmp_path / "s" / "dog" / "a.jpg")
    with pytest.raises(ValueError, match=r"a.jpg.mask.png' has no pixel of 'dog'; mark it"):
        read_supports(tmp_path / "s")
