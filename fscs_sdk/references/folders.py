"""A folder of labelled photos -> shots: ``supports/<class>/<photo>.jpg``, with its mask beside it."""

import os
from collections.abc import Sequence
from pathlib import Path

from fscs_sdk.folder.inputs import PHOTO_ENDINGS
from fscs_sdk.supports import Shot

MASK_MARK = "_mask"


def read_support_folder(folder: str | os.PathLike[str]) -> dict[str, list[Shot]]:
    """List the classes of a folder and their shots, both in the order of their names. No photo is opened.

    Every folder in it is a class, called like the folder. In a class's folder:

    - ``rex_mask.png`` is the mask of the photo ``rex``, whatever that one's ending (``rex.jpg``, ``rex.png``);
    - ``rex.png`` is the mask of ``rex.jpg``, or of a ``rex`` with any other ending than ``.png``;
    - every other photo, so also a ``rex.png`` that no other ``rex`` stands beside, is a photo; without a mask it is a
      class tag.

    Upper and lower case are one. Hidden files and files that are no photos are left out.

    Raises:
        ValueError: there is no class, or a class has no photo; a mask has no photo, or more than one; a photo has two
            masks, or lies in no class's folder; a class's folder holds folders; a name is not text. The message names
            the file and the cure.
        OSError: a folder cannot be read.
    """
    top = Path(folder)
    if not top.is_dir():
        raise ValueError(f"'{top}' is not a folder; give one that holds a folder of photos for each class")
    stray = _pictures(top)
    if stray:
        raise ValueError(f"'{stray[0]}' belongs to no class; move it into a folder with the name of its class")
    classes = _folders(top)
    if not classes:
        raise ValueError(f"'{top}' holds no classes; make a folder of photos for each, such as '{top / 'dog'}'")
    return {_class_name(path): _shots(path) for path in classes}


def _shots(folder: Path) -> list[Shot]:
    inner = _folders(folder)
    if inner:
        raise ValueError(
            f"the class '{folder}' holds the folder '{inner[0].name}'; put its photos into '{folder}' itself"
        )
    pictures = _pictures(folder)
    photos = [path for path in pictures if not _is_mask(path, pictures)]
    masks: dict[Path, Path] = {}
    for path in pictures:
        if path not in photos:
            photo = _photo_of(path, photos)
            if photo in masks:
                raise ValueError(f"'{photo}' has two masks, '{masks[photo].name}' and '{path.name}'; remove one")
            masks[photo] = path
    if not photos:
        raise ValueError(f"the class '{folder}' has no photo; put at least one into it, or remove the folder")
    _refuse_other_masks(photos)
    return [Shot(photo, masks.get(photo)) for photo in photos]


def _is_mask(path: Path, pictures: Sequence[Path]) -> bool:
    if not _is_png(path):
        return False
    return _key(path).endswith(MASK_MARK) or any(_key(other) == _key(path) and not _is_png(other) for other in pictures)


def _photo_of(mask: Path, photos: Sequence[Path]) -> Path:
    """The one photo that a mask is for."""
    name = _key(mask).removesuffix(MASK_MARK)
    claims = [photo for photo in photos if _key(photo) == name]
    if not claims:
        raise ValueError(
            f"the mask '{mask}' has no photo; put '{name}.jpg' beside it, or rename it if it is a photo itself"
        )
    if len(claims) > 1:
        raise ValueError(
            f"'{mask}' could be the mask of '{claims[0].name}' and of '{claims[1].name}'; rename one of the photos"
        )
    return claims[0]


def _refuse_other_masks(photos: Sequence[Path]) -> None:
    """``rex_mask.jpg`` beside ``rex.jpg`` was meant as a mask: as a photo of the class it would spoil the answers."""
    for photo in photos:
        name = _key(photo)
        owner = name.removesuffix(MASK_MARK)
        if name != owner and any(_key(other) == owner for other in photos):
            raise ValueError(f"'{photo}' looks like a mask, and masks are PNG; save it as PNG, or rename it")


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in PHOTO_ENDINGS]
    return sorted(path for path in found if not path.name.startswith(".") and not path.is_dir())


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_name(path: Path) -> str:
    try:
        path.name.encode()
    except UnicodeEncodeError:
        raise ValueError(f"the class {path.name!r} has a name that is not in UTF-8; rename the folder") from None
    return path.name


def _is_png(path: Path) -> bool:
    return path.suffix.lower() == ".png"


def _key(path: Path) -> str:
    return path.stem.casefold()
