"""Where a model computes and in which type."""

import torch

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.fast.cpu import has_onednn
from fscs_sdk.model.network import FewShotNetwork

#: Why a GPU that the parent uses cannot be used, and what to do.
NOT_BY_FORK = "cannot be used in a process that was forked from one that uses it; start processes by 'spawn'"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device) -> torch.device:
    """A device that computes here; ``auto`` is CUDA, else Apple's MPS, else the CPU. A CUDA device has its index.

    Raises:
        ValueError: there is no such device, or it cannot be used on this machine.
    """
    if str(device) == "auto":
        mps = "mps" if torch.backends.mps.is_available() else "cpu"
        chosen = torch.device("cuda" if torch.cuda.is_available() else mps)
    else:
        try:
            chosen = torch.device(device)
        except (RuntimeError, TypeError):
            raise ValueError(f"device {device!r} is unknown; use auto, cpu, cuda, cuda:1 or mps") from None
        try:
            torch.zeros(1, device=chosen).item()
        except (RuntimeError, AssertionError, NotImplementedError) as error:  # what PyTorch raises differs by device
            if "forked" in str(error):
                raise ValueError(f"device {str(device)!r} {NOT_BY_FORK}") from None
            raise ValueError(f"device {str(device)!r} cannot be used on this machine; use auto or cpu") from None
    if chosen.type == "cuda" and chosen.index is None:  # what "the current one" is, differs from thread to thread
        return torch.device("cuda", torch.cuda.current_device())
    return chosen


def choose_dtype(dtype: str, network: FewShotNetwork, device: torch.device) -> torch.dtype:
    """What products are rounded to. ``auto``: for ASNet, whose answers were seen to keep, what the device multiplies
    fast; for other heads float32.

    Raises:
        ValueError: there is no such type.
    """
    if dtype != "auto" and dtype not in DTYPES:
        raise ValueError(f"dtype {dtype!r} is unknown; choose auto, {', '.join(DTYPES)}")
    if dtype != "auto":
        return DTYPES[dtype]
    if type(network.head) is not ASNet:
        return torch.float32
    if device.type == "cuda":
        return torch.float16
    fast = device.type == "cpu" and has_onednn() and multiplies_bfloat16()
    return torch.bfloat16 if fast else torch.float32


def multiplies_bfloat16() -> bool:
    """Does this processor multiply bfloat16 faster than float32: by AMX, or as AMD does by AVX512-BF16?

    Intel's AVX512-BF16 alone, seen on a Xeon whose AMX is hidden from its guests, is half as fast as its float32.
    """
    can = torch.cpu.get_capabilities()
    is_amd = bool(can.get("sse4a", False))  # which no other maker's processors have
    return bool(can.get("amx_bf16", False)) or (is_amd and bool(can.get("avx512_bf16", False)))
