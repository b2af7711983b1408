"""Backbones that are not ours: ImageNet weights from a Hub repository in safetensors, or from torchvision.

torchvision publishes pickled files. One of them is unpickled (safely) once, when it is fetched; what is kept, and what
models are read from, is a safetensors file beside our other downloads.
"""

import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from fscs_sdk.weights.download import url_place
from fscs_sdk.weights.hub import HubOptions, one_sentence
from fscs_sdk.weights.manifest import (
    SHA256,
    HubSource,
    PackageSource,
    Source,
    TorchvisionSource,
    UrlSource,
    WeightFile,
    backbone_weights,
)
from fscs_sdk.weights.sources import check_copy, copies, fetch, hub_options
from fscs_sdk.weights.verification import SHOWN, check_file, file_sha256

if TYPE_CHECKING:
    from torch import Tensor

#: Modules of torchvision's and timm's ImageNet nets that turn features into classes.
CLASSIFIER = ("fc", "classifier", "pre_logits", "head")
#: torchvision's first DenseNet files write ``norm.1`` where the network has ``norm1``.
_OLD_DENSE_LAYER = re.compile(r"(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)")
_HASH_IN_NAME = re.compile(r".+-([0-9a-f]{8,64})\.pth")


def backbone_file(
    name: str,
    *,
    accept: Callable[[Path], None] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> Path | None:
    """A safetensors file with the weights of a backbone of the manifest, or None if the manifest has none.

    What is on this machine is tried first, then each source in order. Names in the file are torchvision's or timm's:
    :func:`feature_name` gives those of the network.

    Args:
        name: a key of ``fscs_sdk.model.backbone.BACKBONES``.
        accept: called with a file; what it refuses with a ValueError is passed over for the next source. Sources of
            the same name need not hold the same bytes.
        cache_dir, token, local_files_only: as in ``huggingface_hub``.

    Raises:
        ValueError: there are files, but none that is the published one and is accepted; the message lists them all.
        OSError: no source's file can be had; the message lists them all.
    """
    file = backbone_weights(name)
    if file is None:
        return None
    options = hub_options(cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    failures: dict[Source, ValueError | OSError] = {}
    refused = set()
    for find in (_here, _fetched):
        for source in file.sources:
            if source in refused:
                continue
            try:
                path = find(replace(file, sources=(source,)), options)
            except (ValueError, OSError) as error:
                failures.setdefault(source, error)  # what is wrong with a file that is here tells more than "offline"
                continue
            if path is None:
                continue
            try:
                if accept is not None:
                    accept(path)
                return path
            except ValueError as error:
                failures[source] = error
                refused.add(source)
    wrong = any(isinstance(failure, ValueError) for failure in failures.values())
    tried = "; ".join(f"{describe(source)}: {failure}" for source, failure in failures.items())
    raise (ValueError if wrong else OSError)(f"no source of {name} will do: {tried}")


def describe_sources(name: str) -> str:
    """Where a backbone can be got from, in words; empty if the manifest does not know it."""
    file = backbone_weights(name)
    return "" if file is None else " or ".join(map(describe, file.sources))


def describe(source: Source) -> str:
    """A source in words."""
    if isinstance(source, HubSource):
        return f"{source.repo} on the Hub"
    if isinstance(source, TorchvisionSource):
        return f"torchvision's {source.weights}"
    return source.url if isinstance(source, UrlSource) else "the package"


def feature_name(name: str) -> str | None:
    """The name in our network of a tensor of torchvision's or timm's files; None for what features do not need."""
    if name.partition(".")[0] in CLASSIFIER or name.endswith("num_batches_tracked"):
        return None
    old = _OLD_DENSE_LAYER.fullmatch(name)
    return f"{old[1]}{old[2]}" if old else name


def feature_tensors(tensors: Mapping[str, "Tensor"]) -> dict[str, "Tensor"]:
    """The tensors of a file that features need, by their names in our network."""
    named = ((feature_name(name), tensor) for name, tensor in tensors.items())
    return {name: tensor.detach() for name, tensor in named if name is not None}


def _here(file: WeightFile, options: HubOptions) -> Path | None:
    """A checked copy of the file of one source that is on this machine already."""
    (source,) = file.sources
    if isinstance(source, TorchvisionSource):
        return _torchvision_here(source, options)
    for _, path in copies(file, options):
        check_copy(path, source, file.sha256)
        return path
    return None


def _fetched(file: WeightFile, options: HubOptions) -> Path | None:
    (source,) = file.sources
    if isinstance(source, TorchvisionSource):
        return _torchvision_fetched(source, options)
    if isinstance(source, PackageSource):
        return None  # it was there at once, or is lost
    return fetch(file, cache_dir=options.cache_dir, token=options.token, local_files_only=options.local_files_only)


def _torchvision_here(source: TorchvisionSource, options: HubOptions) -> Path | None:
    """What an earlier fetch left, or what torchvision itself has downloaded for this user."""
    import torch.hub

    url = _torchvision_url(source)
    place = url_place(url, options)
    for path in _converted(place):
        check_file(path, path.name.split(".")[-2], mend="try again to get it anew", stamp=Path(f"{path}.json"))
        return path
    downloaded = Path(torch.hub.get_dir()) / "checkpoints" / url.file
    return _convert(downloaded, place, options, cure="delete it and try again") if downloaded.is_file() else None


def _torchvision_fetched(source: TorchvisionSource, options: HubOptions) -> Path:
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.file_download import http_get

    url = _torchvision_url(source)
    place = url_place(url, options)
    with one_sentence(f"get '{url.url}'", options):
        if options.local_files_only:
            raise LocalEntryNotFoundError(f"'{place}' is not there")
        place.parent.mkdir(parents=True, exist_ok=True)
        folder = TemporaryDirectory(dir=place.parent)
    with folder:
        download = Path(folder.name) / url.file
        with one_sentence(f"get '{url.url}'", options), download.open("wb") as file:
            http_get(url.url, file, displayed_filename=url.file)
        return _convert(download, place, options, cure="try again")


def _torchvision_url(source: TorchvisionSource) -> UrlSource:
    import torchvision.models

    try:
        return UrlSource(torchvision.models.get_weight(source.weights).url)
    except (KeyError, ValueError, AttributeError):
        raise ValueError(f"this torchvision has no {source.weights}; pip install --upgrade torchvision") from None


def _converted(place: Path) -> Iterator[Path]:
    """Safetensors made of a pickled file; their names hold their own SHA-256: ``stem.<sha256>.safetensors``."""
    for path in sorted(place.parent.glob(f"{place.stem}.*.safetensors")):
        if re.fullmatch(SHA256, path.name.split(".")[-2]):
            yield path


def _convert(pickled: Path, place: Path, options: HubOptions, *, cure: str) -> Path:
    """Check a file of torchvision against the hash in its name, and write its features as safetensors near ``place``.

    Raises:
        ValueError: it is not the published file, or holds more than tensors.
        OSError: it cannot be read, or the cache cannot be written.
    """
    from safetensors.torch import save_file

    from fscs_sdk.weights.pickles import is_state, unpickle

    named = _HASH_IN_NAME.fullmatch(place.name)
    found = file_sha256(pickled)
    if named is None or not found.startswith(named[1]):
        raise ValueError(f"'{pickled}' is damaged or not the published file (SHA-256 {found[:SHOWN]}); {cure}")
    state = unpickle(pickled)
    if not is_state(state):
        raise ValueError(f"'{pickled}' does not hold tensors by name; {cure}")
    with one_sentence(f"keep the weights of '{place.name}'", options):
        place.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=place.parent) as folder:
            draft = Path(folder) / "draft.safetensors"
            save_file({name: tensor.contiguous() for name, tensor in feature_tensors(state).items()}, draft)
            path = place.with_name(f"{place.stem}.{file_sha256(draft)}.safetensors")
            os.replace(draft, path)
    return path
