"""What is to be known of a photo without decoding it whole: its size as stored, its orientation, a thumbnail."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.images.decoding import (
    DEFAULT_MAX_PIXELS,
    ImageSource,
    check_size,
    name_of,
    open_image,
    orientation_of,
)
from fscs_sdk.images.photos import read_image

#: A JPEG is decoded at no less than so many times a thumbnail's side.
_FINER = 4


def stored_size(source: ImageSource, *, label: str | None = None) -> tuple[int, int, int]:
    """Height and width of a photo as its file or array has them, and its EXIF orientation, 1 to 8.

    From orientation 5 on the photo lies on a side: upright it is as high as it is wide here.

    Raises:
        ImageError: the file is no photo that can be read.
        OSError: it cannot be opened.
    """
    name = name_of(source, label, "photo")
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1], 1
    with open_image(source, name) as image:
        check_size(image.height, image.width, name, DEFAULT_MAX_PIXELS)
        if image.format == "PNG":
            image.load()  # its EXIF may follow the pixels
        return image.height, image.width, orientation_of(image)


def read_thumbnail(source: ImageSource, side: int, *, label: str | None = None) -> NDArray[np.uint8]:
    """A photo as uint8 (side, side, 3), upright, each pixel the mean of what it covers. A JPEG is decoded coarsely.

    Raises:
        ImageError: the file is no photo that can be read.
        OSError: it cannot be opened.
    """
    name = name_of(source, label, "photo")
    with open_image(source, name) as image:
        check_size(image.height, image.width, name, DEFAULT_MAX_PIXELS)  # of the photo, not of what is decoded
        image.draft("RGB", (_FINER * side, _FINER * side))
        photo = read_image(image, label=name)
    return np.array(Image.fromarray(photo).resize((side, side), Image.Resampling.BOX))
