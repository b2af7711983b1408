"""A folder of labelled photos -> supports: ``supports/<class>/<photo>.jpg`` with its mask beside it."""

import os
from collections.abc import Iterable
from pathlib import Path

from fscs_sdk.files import PHOTO_ENDINGS
from fscs_sdk.supports import Shot

#: Ends a mask's name, before its ending.
MASK_MARK = "_mask"


def read_support_folder(folder: str | os.PathLike[str]) -> dict[str, list[Shot]]:
    """List the classes of a folder and their shots, both in the order of their names; nothing is decoded yet.

    Every sub-folder is a class and its name the class's. A photo's mask is ``<photo>_mask.png`` beside it, or, for a
    photo that is no PNG itself, ``<photo>.png``; a photo without one is a class tag. A PNG alone is a photo.
    Hidden files and files without a photo's ending are passed over.

    Raises:
        ValueError: the folder has no class, a class has no photo, a photo lies outside the classes, a mask has no
            photo, or a photo has two masks. The message names the file.
        OSError: the folder cannot be read.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ValueError(f"there is no folder '{folder}'; give a folder with one sub-folder of photos for each class")
    stray = _pictures(folder)
    if stray:
        raise ValueError(f"'{stray[0]}' belongs to no class: put it into a sub-folder with the class's name")
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not classes:
        raise ValueError(f"'{folder}' has no classes: make a sub-folder of photos for each, such as '{folder / 'dog'}'")
    return {path.name: _shots(path) for path in classes}


def _shots(folder: Path) -> list[Shot]:
    pictures = _pictures(folder)
    photos = [path for path in pictures if not _is_mask(path, pictures)]
    masks = {photo: _masks_of(photo, pictures, photos) for photo in photos}
    used = {mask for found in masks.values() for mask in found}
    for path in pictures:
        if path not in used and path not in masks:
            raise ValueError(f"the mask '{path}' has no photo: it should stand beside one with the same name")
    for photo, found in masks.items():
        if len(found) > 1:
            raise ValueError(f"'{photo}' has two masks, '{found[0].name}' and '{found[1].name}'; keep one")
    shared = [mask for mask in used if sum(mask in found for found in masks.values()) > 1]
    if shared:
        raise ValueError(f"two photos claim the mask '{min(shared)}'; give the photos different names")
    if not photos:
        raise ValueError(f"the class '{folder}' has no photo; put at least one into it")
    return [Shot(photo, masks[photo][0] if masks[photo] else None) for photo in photos]


def _pictures(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_ENDINGS and not path.name.startswith(".") and path.is_file()
    )


def _is_mask(path: Path, pictures: Iterable[Path]) -> bool:
    """``x_mask.png``; or ``x.png`` beside a photo ``x`` with another ending."""
    if path.suffix.lower() != ".png":
        return False
    return path.stem.endswith(MASK_MARK) or any(
        other.stem == path.stem and other.suffix.lower() != ".png" for other in pictures
    )


def _masks_of(photo: Path, pictures: Iterable[Path], photos: Iterable[Path]) -> list[Path]:
    names = {photo.stem, photo.stem + MASK_MARK}
    return [path for path in pictures if path not in photos and path.stem in names]
