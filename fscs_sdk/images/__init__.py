"""Photos and masks in: anything a caller may hold -> one RGB array, or one binary mask.

Every door of the SDK decodes here, so that a path, its bytes, an open file, a PIL image and an array of the same photo
give exactly the same pixels. Nothing is downloaded, nothing the caller passed is changed, and no result shares memory
with it.

A file may be PNG, JPEG (also MPO), WebP, TIFF, GIF, BMP, PPM/PGM, JPEG 2000 or AVIF, and HEIC where pillow-heif is
installed (extra ``heic``). Colour profiles are not applied.
"""

from fscs_sdk.images.decoding import DEFAULT_MAX_PIXELS, MIN_SIDE, ImageSource, MaskSource
from fscs_sdk.images.errors import ImageError, ImageWarning
from fscs_sdk.images.geometry import close_up, cut_tiles, fullest_tile, resize_image, resize_mask
from fscs_sdk.images.masks import read_mask
from fscs_sdk.images.photos import read_image
from fscs_sdk.images.previews import read_thumbnail, stored_size

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "MIN_SIDE",
    "ImageError",
    "ImageSource",
    "ImageWarning",
    "MaskSource",
    "close_up",
    "cut_tiles",
    "fullest_tile",
    "read_image",
    "read_mask",
    "read_thumbnail",
    "resize_image",
    "resize_mask",
    "stored_size",
]
