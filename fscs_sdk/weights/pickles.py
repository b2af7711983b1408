"""Other people's pickled weights (``.pth``, ``.ckpt``), read by PyTorch's restricted unpickler and no other way.

Only ``fscs convert`` and the fetching of torchvision's files come here, once for a file: models are read from
safetensors.
"""

import pickle
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

import torch
from torch import Tensor

#: The first PyTorch release whose restricted unpickler has neither CVE-2025-32434 nor CVE-2026-24747.
SAFE_TORCH = (2, 10)


def unpickle(path: Path, *, allowed: Sequence[type | tuple[type, str]] = ()) -> object:
    """What a pickled file holds: tensors, plain Python values, and nothing else.

    Args:
        allowed: classes that the file may hold beside them; (class, name) makes the class stand for another of that
            full name, which is not imported.

    Raises:
        ValueError: this PyTorch is too old to read such a file safely, or the file is damaged or holds an object that
            is not allowed.
        OSError: it cannot be read.
    """
    release = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
    if release < SAFE_TORCH:
        raise ValueError(
            f"PyTorch {torch.__version__} cannot read a pickled checkpoint safely (CVE-2026-24747): "
            "pip install 'torch>=2.10' and try again"
        )
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint '{path}'; check the path")
    try:
        with torch.serialization.safe_globals(list(allowed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns of old pickle protocols; what counts is what it raises
            content: object = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"'{path}' was not read: beside weights it holds things that could run code, or it is no checkpoint "
            f"({_reason(str(error))}); get it again from its authors"
        ) from None
    except OSError:
        raise  # of the operating system: it says which file, and why
    except Exception as error:  # noqa: BLE001 (an unpickler stumbles over damage in any way it likes)
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(f"'{path}' is damaged or is no checkpoint ({reason}); get it again") from None
    return content


def is_state(content: object) -> TypeGuard[dict[str, Tensor]]:
    """Are these ordinary tensors by name, at least one, and nothing else?"""
    return (
        isinstance(content, dict)
        and bool(content)
        and all(isinstance(name, str) and _is_ordinary(value) for name, value in content.items())
    )


def _is_ordinary(value: object) -> bool:
    """Neither sparse, quantised, complex, nor without memory."""
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
        and not value.is_complex()
    )


def _reason(message: str) -> str:
    """The name of what was refused, or the last line of PyTorch's message: the others advise to load unsafely."""
    refused = re.search(r"GLOBAL (\S+)", message)
    return f"it asks for {refused[1]!r}" if refused else (message.strip().splitlines() or ["no reason given"])[-1]
