"""Are these the weights that a head was trained on? Three numbers for each tensor, compared with a tolerance.

The numbers are the sum, the L2 norm, and the projection on a fixed pseudo-random vector: the first two change with the
values, the third with their order. They are computed in float64 and kept in float32, 12 bytes for each tensor.

The tolerance is 1e-5 of the tensor's norm (or of the number itself, where that is larger). What may differ between two
copies of the same weights lies far below it: keeping the numbers in float32 costs 6e-8, another machine's order of
summation less than 1e-11, and a tensor whose values float16 can hold comes back from it exactly. What must not pass
lies far above it: another training, another order or another scale change the numbers by about the norm itself,
rounding float32 weights to float16 by about 2e-4 of it. A single value that is wrong by 1e-5 of the norm is found.
"""

import base64
import binascii
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

#: Written before the numbers, so that a later version can count otherwise.
VERSION = "1"
TOLERANCE = 1e-5
#: Differences that no weight can have: below float32's normal numbers, which some machines flush to zero.
NOTHING = 1e-30


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """The fingerprint of some named tensors of finite values, as text: 16 characters for each tensor."""
    numbers = _numbers(tensors).astype("<f4")
    return f"{VERSION}:{base64.b64encode(numbers.tobytes()).decode()}"


def differences(recorded: str, tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of the tensors that are not those of a fingerprint, in order; none if all are.

    Args:
        recorded: what :func:`fingerprint` gave for tensors of the same names; where it has another number of tensors,
            none is taken for one of them.

    Raises:
        ValueError: that is no fingerprint.
    """
    expected = _parse(recorded)
    if len(expected) != len(tensors):
        return sorted(tensors)
    norms = expected[:, 1:2]
    allowed = TOLERANCE * np.maximum(np.abs(expected), norms) + NOTHING
    equal: NDArray[np.bool_] = np.abs(_numbers(tensors) - expected) <= allowed  # false for what is not a number
    return [name for name, numbers in zip(sorted(tensors), equal, strict=True) if not numbers.all()]


def check_fingerprint(recorded: str) -> None:
    """Make sure that a text is a fingerprint.

    Raises:
        ValueError: it is not, or one that only a later version can read.
    """
    _parse(recorded)


def _numbers(tensors: Mapping[str, Tensor]) -> NDArray[np.float64]:
    """Sum, norm and projection (T, 3) of the tensors in the order of their names."""
    directions = _directions(max((tensor.numel() for tensor in tensors.values()), default=0))
    numbers = np.empty((len(tensors), 3))
    for row, name in zip(numbers, sorted(tensors), strict=True):
        values = tensors[name].detach().cpu().double().flatten().numpy()
        row[:] = values.sum(), np.sqrt(values @ values), values @ directions[: values.size]
    return numbers


def _directions(count: int) -> NDArray[np.float64]:
    """Pseudo-random numbers in [-1, 1) (SplitMix64): whole numbers until the end, so the same on every machine."""
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1


def _parse(text: str) -> NDArray[np.float64]:
    version, colon, encoded = text.partition(":")
    if colon and version != VERSION:
        raise ValueError(f"the fingerprint is of version {version[:20]!r}, which this fscs-sdk does not know")
    if not colon:
        raise ValueError("the fingerprint is damaged")
    try:
        numbers = np.frombuffer(base64.b64decode(encoded, validate=True), dtype="<f4").reshape(-1, 3)
    except (binascii.Error, ValueError):
        raise ValueError("the fingerprint is damaged") from None
    return numbers.astype(np.float64)
