"""Masks between page and server: the lengths of runs, background first, row by row, as little-endian uint32."""

import numpy as np
from numpy.typing import NDArray


def encode_runs(mask: NDArray[np.bool_]) -> bytes:
    """bool (H, W) -> the lengths of its runs, which alternate and begin with background (0 where the first is set)."""
    flat = np.concatenate(([False], mask.ravel(), [not mask.ravel()[-1]]))
    ends = np.flatnonzero(flat[1:] != flat[:-1])
    return np.diff(ends, prepend=0).astype("<u4").tobytes()


def decode_runs(data: bytes, size: tuple[int, int]) -> NDArray[np.bool_]:
    """The mask, bool (H, W), that :func:`encode_runs` wrote.

    Args:
        size: (height, width) of the mask.

    Raises:
        ValueError: the runs are not those of a mask of this size.
    """
    height, width = size
    if len(data) % 4:
        raise ValueError("the mask was cut short on its way; send it again")
    runs = np.frombuffer(data, dtype="<u4").astype(np.int64)
    if int(runs.sum()) != height * width:
        raise ValueError(f"the mask has {int(runs.sum())} pixels and its photo {height * width}; open the photo again")
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(height, width)
