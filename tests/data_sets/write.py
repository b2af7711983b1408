"""Writes the files in this folder with the annotation tools' own code, to be run where these are installed:
labelme 6.3.1 and label-studio-sdk 2.1.2 (``python tests/data_sets/write.py``). The tests read what it wrote.
"""

import json
from pathlib import Path

import numpy as np
from label_studio_sdk.converter import brush
from labelme import LabelFile, utils
from PIL import Image

HERE = Path(__file__).parent


def photo(path: Path, width: int, height: int, orientation: int) -> None:
    """A photo of ``width`` x ``height`` as stored, and its EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    levels = np.random.default_rng(0).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(levels).resize((width, height)).save(path, quality=80, exif=exif)


def ring() -> np.ndarray:
    """A mask with a hole."""
    area = np.zeros((20, 16), bool)
    area[2:18, 1:15] = True
    area[7:12, 5:10] = False
    return area


def labelme() -> None:
    photo(HERE / "labelme" / "Été 1.JPG", 64, 48, 6)  # upright 48 x 64
    photo(HERE / "labelme" / "plain.jpg", 64, 48, 1)
    for name, embedded in (("Été 1.JPG", False), ("plain.jpg", True)):
        data = LabelFile.load_image_file(str(HERE / "labelme" / name))
        width, height = utils.img_data_to_pil(data).size
        shapes = [
            ("cat", "polygon", [[3.2, 4.5], [20.7, 6.1], [15.0, 30.9]], None),
            ("cat", "polygon", [[25.0, 30.0], [45.5, 30.0], [45.5, 44.0], [25.0, 44.0]], None),
            ("dog", "mask", [[10, 8], [25, 27]], utils.img_arr_to_b64(ring())),
            ("ball", "circle", [[20.0, 20.0], [26.0, 20.0]], None),
            ("box", "rectangle", [[5.0, 7.0], [30.0, 40.0]], None),
            ("wire", "linestrip", [[1.0, 1.0], [20.0, 20.0], [30.0, 5.0]], None),
        ]
        written = [
            {"label": label, "points": points, "group_id": None, "description": "", "shape_type": kind, "flags": {}}
            | ({"mask": mask} if mask else {"mask": None})
            for label, kind, points, mask in shapes
        ]
        stem = HERE / "labelme" / Path(name).stem
        LabelFile().save(
            filename=f"{stem}.json",
            shapes=written,
            image_path=name,
            image_height=height,
            image_width=width,
            image_data=data if embedded else None,
            flags={},
        )
        for label in ("cat", "dog", "ball", "box"):
            own = [entry for entry in LabelFile(f"{stem}.json").shapes if entry["label"] == label]
            drawn, _ = utils.shapes_to_label((height, width), own, {label: 1})
            (HERE / "labelme_drawn").mkdir(exist_ok=True)
            Image.fromarray(drawn > 0).save(HERE / "labelme_drawn" / f"{Path(name).stem}.{label}.png")
    (HERE / "labelme" / "plain.jpg").unlink()  # it is inside its file


def label_studio() -> None:
    photo(HERE / "label_studio" / "rex 1.jpg", 64, 48, 1)
    area = np.zeros((48, 64), np.uint8)
    area[8:28, 10:26] = ring() * 255
    area[40:44, 50:60] = 255
    common = {"original_width": 64, "original_height": 48, "image_rotation": 0, "from_name": "l", "to_name": "image"}
    result = [
        {
            "id": "a",
            "type": "brushlabels",
            "value": {"format": "rle", "rle": brush.mask2rle(area), "brushlabels": ["dog"]},
        },
        {
            "id": "b",
            "type": "polygonlabels",
            "value": {"points": [[50, 50], [100, 50], [75, 100]], "polygonlabels": ["cat"]},
        },
        {
            "id": "c",
            "type": "rectanglelabels",
            "value": {"x": 25, "y": 25, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": ["box"]},
        },
        {"id": "d", "type": "choices", "value": {"choices": ["outdoors"]}},
        {
            "id": "e",
            "type": "ellipselabels",
            "value": {"x": 50, "y": 50, "radiusX": 12.5, "radiusY": 25, "rotation": 0, "ellipselabels": ["ball"]},
        },
        {"id": "f", "type": "keypointlabels", "value": {"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["nose"]}},
    ]
    answers = [
        {"id": 1, "was_cancelled": True, "ground_truth": False, "result": []},
        {"id": 2, "was_cancelled": False, "ground_truth": False, "result": [common | region for region in result]},
    ]
    task = {
        "id": 1,
        "data": {"image": "/data/upload/3/1a2b3c4d-rex%201.jpg"},
        "annotations": answers,
        "predictions": [],
    }
    (HERE / "label_studio" / "export.json").write_text(json.dumps([task]))
    Image.fromarray(area > 0).save(HERE / "label_studio_dog.png")


if __name__ == "__main__":
    labelme()
    label_studio()
