"""How fast this machine multiplies and copies, measured in the run that is judged by it; and how much work there is."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch.utils.flop_counter import FlopCounterMode

#: Rows of the square product and bytes of the copy: large enough that no cache holds them.
PRODUCT_SIDE = 2048
COPY_BYTES = 256 * 2**20


def product_rate(dtype: torch.dtype, device: torch.device, *, repeats: int = 5) -> float:
    """Operations a second of a large product, 2 for a multiplication and addition; the best of some.

    Whichever is faster, a matrix product or the same as a convolution: they are different libraries on most processors,
    and which of the two knows the machine better differs.
    """
    left = torch.randn(PRODUCT_SIDE, PRODUCT_SIDE, device=device).to(dtype)
    right = torch.randn(PRODUCT_SIDE, PRODUCT_SIDE, device=device).to(dtype)
    photo = right.t().reshape(1, -1, PRODUCT_SIDE, 1).contiguous(memory_format=torch.channels_last)
    kernels = left[:, :, None, None]
    fastest = min(
        _best(lambda: left @ right, device, repeats), _best(lambda: F.conv2d(photo, kernels), device, repeats)
    )
    return 2 * PRODUCT_SIDE**3 / fastest


def copy_rate(device: torch.device, *, repeats: int = 5) -> float:
    """Bytes a second of a large copy, read and written; the best of some."""
    source = torch.zeros(COPY_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * COPY_BYTES / _best(lambda: target.copy_(source), device, repeats)


def operations(work: Callable[[], object]) -> int:
    """Operations of the convolutions and matrix products in ``work``, 2 for a multiplication and addition."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    total: int = counter.get_total_flops()
    return total


def synchronize(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def seconds(work: Callable[[], object], device: torch.device) -> float:
    """How long ``work`` takes until the device is done with it."""
    synchronize(device)
    start = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - start


def _best(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    work()
    return min(seconds(work, device) for _ in range(repeats))
