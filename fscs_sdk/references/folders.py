"""A folder of labelled photos -> shots: ``supports/<class>/<photo>.jpg``, with its mask beside it."""

import json
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from fscs_sdk.formats.mask_png import NAMES_KEY
from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.references.annotations import AnnotatedPhoto, ReferenceWarning, make_shot
from fscs_sdk.references.labelme_json import labelme_shot
from fscs_sdk.references.shapes import LabelMapArea
from fscs_sdk.spelling import find_name, name_key
from fscs_sdk.supports import Shot

#: What people and programs write before or after a photo's name to call a mask.
MARKS = (
    *("mask", "masks", "seg", "segmentation", "gt", "groundtruth", "label", "labels", "annotation", "matte", "alpha"),
    *("binary", "fg", "foreground"),
)
#: Of these, what calls a file a mask also where no photo is there.
CERTAIN_MARKS = ("mask", "masks")
#: A number after a mark or a name, as in ``rex_mask_2.png``.
NUMBER = re.compile(r"(?<=\D)[_\-. ]?\d{1,3}$")
#: What stands between that and the name.
JOINTS = ("_", "-", ".", " ")
#: Endings of pictures that keep every pixel's value: beside a photo of the same name one of these is its mask.
EXACT_ENDINGS = (".png", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".pgm", ".pbm", ".ppm", ".pnm")
#: Endings of masks that are no pictures: an array, or a file of LabelMe.
OTHER_MASKS = (".npy", ".json")
#: What systems leave in folders.
SYSTEM_FILES = ("thumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir")
#: Folders that are parts of a data set, and no classes.
PARTS = ("images", "masks", "labels", "jpegimages", "segmentationclass", "annotations")


def read_support_folder(folder: str | os.PathLike[str]) -> dict[str, list[Shot]]:
    """List the classes of a folder and their shots, both in the order of their names. No photo is opened.

    Every folder in it is a class, called like the folder. In a class's folder the mask of ``rex.jpg`` is

    - ``rex_mask.png``, ``rex-mask.png``, ``rex.jpg.mask.png``, ``mask_rex.png``: the photo's name, with or without its
      ending, and one of the words mask, seg, gt, label (:data:`MARKS`) before or after it; a picture in any format, or
      a NumPy array (``.npy``); of several classes in a ``.mask.png`` that was written here, the class's pixels;
    - ``rex.png``, or ``rex`` with another ending of pictures without loss, where the photo has one of those with loss;
      beside ``rex.tif`` only ``rex.png``;
    - ``rex.json`` or ``rex.labelme.json``, a file of LabelMe: its shapes that are called like the class.

    Every other photo is one, without a mask a class tag. Upper and lower case are one, and all ways to write an accent.
    Hidden files are left out, and others that are no photos with a warning.

    Raises:
        ValueError: there is no class, or a class has no photo; a mask has no photo, or more than one; a photo has two
            masks, or lies in no class's folder; a class's folder holds folders; two folders are one class; a name is
            not text. The message names the file and the cure.
        OSError: a folder cannot be read.

    Warns:
        ReferenceWarning: files were left out; it names them.
    """
    top = Path(folder)
    if not top.is_dir():
        raise ValueError(f"'{top}' is not a folder; give one that holds a folder of photos for each class")
    files = _files(top)
    stray = [path for path in files if path.suffix.lower() in PHOTO_ENDINGS]
    if stray:
        raise ValueError(f"'{stray[0]}' belongs to no class; move it into a folder with the name of its class")
    classes: dict[str, Path] = {}
    for path in _folders(top):
        owner = _owner_of_masks(path)
        if owner is not None:
            raise ValueError(f"'{path}' holds the masks of '{owner}'; put them there, beside the photos")
        twin = find_name(path.name, classes)
        if twin is not None:
            raise ValueError(f"'{classes[twin]}' and '{path}' are one class; put their photos into one folder")
        classes[_class_name(path)] = path
    if not classes:
        raise ValueError(f"'{top}' holds no classes; make a folder of photos for each, such as '{top / 'dog'}'")
    if len(classes) > 1 and all(name_key(name) in PARTS for name in classes):
        raise ValueError(
            f"'{top}' holds {' and '.join(map(repr, classes))}, which look like a data set without a list of its "
            "classes; add classes.txt with a class's name in each line, or make a folder for each class"
        )
    found = {name: _shots(name, path) for name, path in classes.items()}
    _tell(top, files)
    return found


def _shots(name: str, folder: Path) -> list[Shot]:
    inner = _folders(folder)
    if inner:
        raise ValueError(
            f"the class '{folder}' holds the folder '{inner[0].name}'; put its photos into '{folder}' itself"
        )
    files = _files(folder)
    pictures = [path for path in files if path.suffix.lower() in PHOTO_ENDINGS]
    results = [path for path in pictures if _is_result(path, pictures)]
    photos = [path for path in pictures if path not in results and not _is_mask(path, pictures)]
    masks: dict[Path, Path] = {}
    left_out = []
    for path in files:
        if path in photos:
            continue
        if path in results or (path not in pictures and not _is_other_mask(path, photos)):
            left_out.append(path)
            continue
        photo = _photo_of(path, photos)
        if photo in masks:
            raise ValueError(f"'{photo}' has two masks, '{masks[photo].name}' and '{path.name}'; remove one")
        masks[photo] = path
    if not photos:
        raise ValueError(f"the class '{folder}' has no photo; put at least one into it, or remove the folder")
    _tell(folder, left_out)
    for photo in photos:
        owner = _may_be_mask_of(photo, photos)
        if owner is not None and photo not in masks:
            warnings.warn(
                f"'{photo}' is taken for a photo; if it is the mask of '{owner.name}', call it '{owner.stem}_mask.png'",
                ReferenceWarning,
                stacklevel=3,
            )
    return [_shot(photo, masks.get(photo), name) for photo in photos]


def _tell(folder: Path, left_out: Sequence[Path]) -> None:
    if left_out:
        names = ", ".join(path.name for path in left_out)
        warnings.warn(f"in '{folder}' was left out: {names}", ReferenceWarning, stacklevel=4)


def _own_area(mask: Path, name: str) -> LabelMapArea | None:
    """The pixels of a class in a mask of several that this SDK wrote, with their names in it; None for any other."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remark on a large picture; the header will do
            image = Image.open(mask)
        with image:
            names = [str(one) for one in json.loads(image.info[NAMES_KEY])]
    except (OSError, KeyError, ValueError, TypeError, Image.DecompressionBombError):
        return None
    found = find_name(name, names)
    return LabelMapArea(mask, names.index(found) + 1, 1) if found is not None and len(names) > 1 else None


def _shot(photo: Path, mask: Path | None, name: str) -> Shot:
    own = None if mask is None or not mask.name.lower().endswith(".mask.png") else _own_area(mask, name)
    if own is not None:
        shot = make_shot(AnnotatedPhoto(photo, {name: [own]}, None), name)
        if shot is None:
            raise ValueError(f"'{mask}' has no pixel of {name!r}; mark it, or move the photo to another class")
        return shot
    if mask is None or mask.suffix.lower() not in OTHER_MASKS:
        return Shot(photo, mask)
    if mask.suffix.lower() == ".json":
        return labelme_shot(mask, name, photo)
    try:
        return Shot(photo, np.load(mask, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise ValueError(f"'{mask}' is no NumPy array ({error}); save the mask with numpy.save") from None


def _owner_of_masks(folder: Path) -> Path | None:
    """The class's folder that a folder such as ``dog_masks`` holds the masks of: all its pictures are called like
    photos there. (``face_mask`` beside ``face`` may well be a class.)
    """
    names = _without([mark + joint for joint in JOINTS for mark in MARKS], folder)
    for other in _folders(folder.parent):
        if name_key(other.name) in names:
            pictures = [path for path in _files(folder) if path.suffix.lower() in EXACT_ENDINGS]
            stems = {name_key(path.stem) for path in _files(other)}
            if pictures and all(name_key(path.stem) in stems for path in pictures):
                return other
    return None


def _is_result(path: Path, pictures: Sequence[Path]) -> bool:
    """Whether a picture was made of another and is no mask, such as ``rex.jpg.overlay.jpg``."""
    made = any(name_key(path.name).startswith(f"{name_key(other.name)}.") for other in pictures if other != path)
    return made and not _is_mask(path, pictures)


def _is_mask(path: Path, pictures: Sequence[Path]) -> bool:
    others = [other for other in pictures if other != path]
    if any(_is_owner(other, owner) for owner in _owners(path) for other in others):
        return True
    if path.suffix.lower() not in EXACT_ENDINGS:
        return False
    certain = [mark + joint for joint in JOINTS for mark in CERTAIN_MARKS]
    return bool(_without(certain, path)) or any(_is_exact_twin(path, other) for other in others)


def _may_be_mask_of(path: Path, photos: Sequence[Path]) -> Path | None:
    """The photo, kept with loss, whose name begins a picture's that is kept without: ``rex.jpg`` of ``rex-2.png``."""
    if path.suffix.lower() not in EXACT_ENDINGS:
        return None
    key = name_key(path.stem)
    for other in photos:
        begins = key.startswith(name_key(other.stem)) and not key[len(name_key(other.stem)) :][:1].isalnum()
        if begins and other != path and other.suffix.lower() not in EXACT_ENDINGS:
            return other
    return None


def _is_exact_twin(path: Path, photo: Path) -> bool:
    """Whether a picture is the mask of a photo that has its name, but for the ending."""
    ending, photo_ending = path.suffix.lower(), photo.suffix.lower()
    if name_key(path.stem) == name_key(photo.name):
        return True
    if name_key(path.stem) != name_key(photo.stem) or photo_ending == ending:
        return False
    return ending == ".png" or photo_ending not in EXACT_ENDINGS


def _is_other_mask(path: Path, photos: Sequence[Path]) -> bool:
    """Whether a file that is no picture is the mask of one of the photos."""
    if path.suffix.lower() not in OTHER_MASKS:
        return False
    return any(_is_owner(photo, owner) for owner in (name_key(path.stem), *_owners(path)) for photo in photos)


def _photo_of(mask: Path, photos: Sequence[Path]) -> Path:
    """The one photo that a mask is for."""
    marked = [photo for photo in photos if any(_is_owner(photo, owner) for owner in _owners(mask))]
    claims = marked or [photo for photo in photos if _is_owner(photo, name_key(mask.stem))]
    if not claims:
        name = (_owners(mask) or [mask.stem])[0]
        raise ValueError(
            f"the mask '{mask}' has no photo; put '{name}.jpg' beside it, or rename it if it is a photo itself"
        )
    if len(claims) > 1:
        raise ValueError(
            f"'{mask}' could be the mask of '{claims[0].name}' and of '{claims[1].name}'; rename one of the photos"
        )
    return claims[0]


def _owners(path: Path) -> list[str]:
    """The names, with or without ending, of photos that a file may call itself the mask of, the likeliest first."""
    return _without([mark + joint for joint in (*JOINTS, "") for mark in MARKS], path)


def _without(marks: Sequence[str], path: Path) -> list[str]:
    """A file's name without one of these marks before it, or, turned round, after it, with or without a number."""
    key = name_key(path.stem)
    found: list[str] = []
    for mark in marks:
        after = mark[-1:] + mark[:-1] if mark[-1:] in JOINTS else mark
        found += [text.removesuffix(after) for text in (key, NUMBER.sub("", key)) if text.endswith(after)]
        found += [key.removeprefix(mark)] if key.startswith(mark) else []
    found += [key.removesuffix(".labelme")] if path.suffix.lower() == ".json" and key.endswith(".labelme") else []
    return [owner for owner in found if owner]


def _is_owner(photo: Path, name: str) -> bool:
    return name in (name_key(photo.stem), name_key(photo.name))


def _files(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if not path.name.startswith(".") and not path.is_dir())
    return sorted(path for path in found if path.name.casefold() not in SYSTEM_FILES)


def _folders(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path for path in found if path.name.casefold() not in SYSTEM_FILES)


def _class_name(path: Path) -> str:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the class {path.name!r} has a name that is not in UTF-8; rename the folder") from None
    return path.name
