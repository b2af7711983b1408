"""Label maps: images whose values are class ids."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

#: Where nobody knows the class: 255 in files of 8 bits (VOC's border), 65535 in files of 16.
UNKNOWN = 65535
#: One channel, or indices into a palette; ``I`` is how older Pillow opens 16 bits.
_MODES = ("1", "L", "P", "I", "I;16", "I;16B", "I;16L")


def read_labels(path: Path) -> NDArray[np.uint16]:
    """Class ids (H, W) of a single-channel or palette image of 8 or 16 bits; unknown pixels become ``UNKNOWN``.

    Raises:
        ValueError: the file is damaged, or no label map.
        OSError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            mode, values = image.mode, np.asarray(image)
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no mask '{path}'; check the folder and the list that names it") from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # the disk, not the content
            raise
        # Pillow raises nearly anything on bad content.
        raise ValueError(f"the mask '{path}' is damaged or no image ({error}); save or copy it again") from error
    if mode not in _MODES or (mode == "I" and (values.min() < 0 or values.max() > UNKNOWN)):
        raise ValueError(
            f"the mask '{path}' is an image of mode {mode}, not one channel of class ids of 8 or 16 bits; save it as a "
            "PNG whose values are the class ids"
        )
    labels = values.astype(np.uint16)
    if mode in ("L", "P"):
        labels[labels == 255] = UNKNOWN
    return labels


def classes_in(labels: NDArray[np.uint16]) -> tuple[int, ...]:
    """The classes of a label map, ascending."""
    counts = np.bincount(labels.ravel())
    return tuple(int(number) for number in np.flatnonzero(counts) if number not in (0, UNKNOWN))
