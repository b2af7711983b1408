"""A shot, in whatever form it is -> the photo's pixels and the class's."""

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.images import DEFAULT_MAX_PIXELS, read_image, read_mask
from fscs_sdk.references.annotations import EmbeddedPhoto
from fscs_sdk.references.boxes import box_mask, parse_boxes
from fscs_sdk.references.labelme_json import labelme_shot
from fscs_sdk.supports import Shot


def read_shot(
    shot: Shot, name: str, *, label: str, max_pixels: int = DEFAULT_MAX_PIXELS
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The photo, uint8 (H, W, 3), and the mask, bool (H, W); None for a class tag.

    Args:
        name: the class, which a LabelMe file's shapes have to be called.
        label: what errors call the shot.
        max_pixels: as for :func:`fscs_sdk.images.read_image`.

    Raises:
        ValueError: the photo, the mask or the box cannot be used.
        OSError: a file cannot be opened.
    """
    image = read_image(shot.image, label=f"the photo of {label}", max_pixels=max_pixels)
    if shot.mask is not None and shot.box is not None:
        raise ValueError(f"{label} has a mask and a box; leave out the box")
    mask = shot.mask
    if isinstance(mask, (str, os.PathLike)) and os.fsdecode(mask).lower().endswith(".json"):
        # Its coordinates may be of the photo as stored: the file tells, if there is one.
        source = shot.image if isinstance(shot.image, (str, os.PathLike, bytes)) else image
        shot = labelme_shot(Path(mask), name, EmbeddedPhoto(Path(mask), lambda: source))
        mask = shot.mask
    if shot.box is not None:
        return image, box_mask(image, parse_boxes(shot.box, image.shape[:2], label))
    if mask is None:
        return image, None
    return image, read_mask(mask, size=image.shape[:2], label=f"the mask of {label}", max_pixels=max_pixels)
