"""The mask as a PNG whose pixels are class numbers: what most training and measuring tools read."""

import json
from io import BytesIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fscs_sdk.formats.drawing import class_colors
from fscs_sdk.prediction import Prediction

#: Keyword of the PNG text chunk that holds the class names, a JSON list; pixel value n is its item n - 1.
NAMES_KEY = "classes"
#: zlib's strategy for runs: of a mask as small as the search for all that repeats, in half the time.
Z_RLE = 3
#: A PNG palette has 256 colours; the first is the background's.
PALETTE_CLASSES = 255


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.mask.png``: 0 = background, n = the n-th class, as in ``prediction.mask``.

    Up to 255 classes it is an 8-bit indexed PNG, coloured as in the overlay. Above that it is a 16-bit grey PNG without
    colours, because a palette ends at 255. The class names are in the text chunk ``classes``.
    """
    names = prediction.names
    if len(names) > PALETTE_CLASSES:
        image = Image.fromarray(prediction.mask.astype(np.uint16))
    else:
        image = Image.fromarray(prediction.mask.astype(np.uint8))
        image.putpalette([0, 0, 0, *(level for color in class_colors(names) for level in color)])
    text = PngInfo()
    text.add_text(NAMES_KEY, json.dumps(names))  # ASCII: any name survives
    buffer = BytesIO()
    image.save(buffer, "PNG", pnginfo=text, compress_type=Z_RLE)
    return {".mask.png": buffer.getvalue()}
