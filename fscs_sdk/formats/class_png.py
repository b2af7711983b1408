"""One black and white PNG for each class."""

import unicodedata

import numpy as np

from fscs_sdk.formats.compression import png
from fscs_sdk.prediction import Prediction

#: The most bytes of a class name that go into a file name.
NAME_BYTES = 40


def encode(prediction: Prediction, *, photo: str) -> dict[str, bytes]:
    """``.<n>-<class>.png`` for every class, present or not: 8-bit grey, 255 where ``mask`` is n, else 0.

    The number n, the class's value in ``mask``, keeps the names apart however alike the classes are called, also on
    file systems that do not tell upper from lower case; there is no dot in it that could be taken for another ending.
    """
    files = {}
    for number, name in enumerate(prediction.names, start=1):
        area = (prediction.mask == number).view(np.uint8)
        area *= 255
        files[f".{number}-{file_name(name)}.png"] = png(area)
    return files


def file_name(name: str) -> str:
    """A class name as part of a file name: letters and digits of any script, ``-`` and ``_``; at most 40 bytes."""
    plain = unicodedata.normalize("NFC", name)
    safe = "".join(character if character.isalnum() or character in "-_" else "_" for character in plain)
    return safe.encode()[:NAME_BYTES].decode(errors="ignore")
