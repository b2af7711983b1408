"""Safetensors files of weights: written whole or not at all, read strictly. Nothing else is ever read."""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from fscs_sdk.atomic import write_atomically, writing


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        OSError: it cannot be written.
    """
    data = save({name: tensor.contiguous() for name, tensor in tensors.items()}, metadata)
    with writing(path):
        write_atomically(path, data)


def read_tensors(path: Path, *, rename: Callable[[str], str | None] = str) -> dict[str, Tensor]:
    """The tensors of a file as float32, by what ``rename`` makes of their names; what it gives no name is not read."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no weights file '{path}'; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            names = {stored: rename(stored) for stored in file.keys()}  # noqa: SIM118 (not a dict)
            return {name: file.get_tensor(stored).float() for stored, name in names.items() if name is not None}
    except SafetensorError as error:
        raise ValueError(f"'{path}' is not a safetensors file or is damaged ({error}); get it again") from None


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """A module's tensors by name, without the counters of its batch normalisations."""
    return {name: t for name, t in module.state_dict().items() if not name.endswith("num_batches_tracked")}


def load_state(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Give a module these very tensors. Strictly: every weight must be there, in its shape, and nothing else.

    The module may have been built on the ``meta`` device, without values. Batch counters, which nothing reads, are 0.
    """
    check_fit(tensors, weights_of(module), f"'{path}' does not fit its network")
    check_finite(tensors, path)
    counters = {name: torch.tensor(0, device="cpu") for name in module.state_dict().keys() - tensors.keys()}
    module.load_state_dict(tensors | counters, assign=True)


def check_fit(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> None:
    """Do tensors have exactly the wanted names and shapes?

    Raises:
        ValueError: they do not; the message is ``what``, how many do not, and one of their names.
    """
    wrong = sorted(set(wanted) ^ set(found)) or sorted(n for n in wanted if wanted[n].shape != found[n].shape)
    if wrong:
        raise ValueError(f"{what}: {len(wrong)} tensors are missing, unknown or of another shape, such as {wrong[0]!r}")


def check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Make sure that the tensors of a file hold numbers only.

    Raises:
        ValueError: one of them does not; the message names it.
    """
    broken = [name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise ValueError(f"'{path}' is damaged: {broken[0]!r} holds values that are not finite; get it again")
