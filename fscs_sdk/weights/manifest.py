"""What ``weights_manifest.json`` says: models, backbones, their files, and where each file comes from.

Every name, path and address is checked when its entry is read; ``weights_manifest.schema.json`` says the same in JSON
Schema, and a test holds the two together.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

#: The installed package; package sources are relative to it.
PACKAGE_FOLDER = Path(__file__).parent.parent
#: Where the manifest is: inside an installed package, or at the root of a checkout.
MANIFEST_PLACES = (PACKAGE_FOLDER / "weights_manifest.json", PACKAGE_FOLDER.parent / "weights_manifest.json")

Role: TypeAlias = Literal["head", "backbone"]
HEAD_FILE = "head.safetensors"
BACKBONE_FILE = "backbone.safetensors"
FILE_NAMES: dict[Role, str] = {"head": HEAD_FILE, "backbone": BACKBONE_FILE}

# What a name, path and address may be. A part of a path begins and ends with a letter, digit or underscore, so that
# no path is absolute, climbs, hides, names a drive or a stream, or is another file on another system.
PART = r"[A-Za-z0-9_](?:[A-Za-z0-9_.+-]*[A-Za-z0-9_])?"
PATH = rf"{PART}(?:/{PART})*"
REPOSITORY = rf"{PART}/{PART}"
REVISION = r"[0-9a-f]{40}"
SHA256 = r"[0-9a-f]{64}"
#: HTTPS with a host and a path; plain HTTP only to this machine.
URL = (
    r"(?:https://[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|http://(?:127\.0\.0\.1|localhost))(?::[0-9]{1,5})?"
    rf"/{PATH}(?:\?[A-Za-z0-9_.=&%+-]*)?"
)
TORCHVISION_WEIGHTS = r"[A-Za-z0-9_]+_Weights\.[A-Z0-9_]+"


def check_name(what: str, value: object, pattern: str, cure: str) -> None:
    """Make sure that a text is what its pattern says.

    Raises:
        ValueError: it is not.
    """
    if not isinstance(value, str) or not re.fullmatch(pattern, value):
        raise ValueError(f"{value!r} cannot be a {what}; {cure}")


def _check(what: str, value: object, pattern: str) -> None:
    check_name(f"{what} of the weights manifest", value, pattern, "reinstall fscs-sdk")


@dataclass(frozen=True)
class PackageSource:
    """A file inside the installed package; ``path`` is relative to it, with ``/``."""

    path: str

    def __post_init__(self) -> None:
        _check("path", self.path, PATH)


@dataclass(frozen=True)
class HubSource:
    """A file of a Hugging Face Hub repository, at a commit (40 hexadecimal digits) where it is pinned."""

    repo: str
    file: str
    revision: str | None = None

    def __post_init__(self) -> None:
        _check("repository", self.repo, REPOSITORY)
        _check("path", self.file, PATH)
        if self.revision is not None:
            _check("revision", self.revision, REVISION)


@dataclass(frozen=True)
class UrlSource:
    """A file at an address: HTTPS, or HTTP on this machine."""

    url: str

    def __post_init__(self) -> None:
        _check("URL", self.url, URL)

    @property
    def file(self) -> str:
        """The file's name: the last part of the address's path."""
        return self.url.partition("?")[0].rpartition("/")[2]


@dataclass(frozen=True)
class TorchvisionSource:
    """A member of one of torchvision's weight enumerations, such as ``ResNet50_Weights.IMAGENET1K_V1``."""

    weights: str

    def __post_init__(self) -> None:
        _check("torchvision weights name", self.weights, TORCHVISION_WEIGHTS)


Source: TypeAlias = PackageSource | HubSource | UrlSource | TorchvisionSource
_SOURCES: dict[str, Callable[..., Source]] = {
    "package": PackageSource,
    "hub": HubSource,
    "url": UrlSource,
    "torchvision": TorchvisionSource,
}


@dataclass(frozen=True)
class WeightFile:
    """One file: what it is, what its bytes must be, and where to get it.

    Attributes:
        role: ``head`` or ``backbone``.
        sha256: of its bytes, 64 hexadecimal digits; None only for a backbone that is not ours and whose bytes differ
            from source to source: then the fingerprint that the head holds decides.
        bytes: its size; None only where ``sha256`` is.
        sources: where to get it, tried in this order.
    """

    role: Role
    sha256: str | None
    bytes: int | None
    sources: tuple[Source, ...]

    def __post_init__(self) -> None:
        if self.role not in FILE_NAMES or not self.sources:
            raise ValueError(f"the weights manifest has a file without role or source: {self!r}; reinstall fscs-sdk")
        if self.sha256 is not None:
            _check("SHA-256", self.sha256, SHA256)
        unknown = self.sha256 is None
        if unknown != (self.bytes is None) or (not unknown and not _is_size(self.bytes)):
            raise ValueError(f"the weights manifest has a file without SHA-256 or size: {self!r}; reinstall fscs-sdk")
        if unknown and (self.role == "head" or any(isinstance(source, UrlSource) for source in self.sources)):
            raise ValueError(f"the weights manifest has a file that nothing checks: {self!r}; reinstall fscs-sdk")


def _is_size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def read_manifest() -> dict[str, dict[str, Any]]:
    """The manifest's models: name -> entry, as in ``weights_manifest.json``.

    Raises:
        FileNotFoundError: the package has lost its manifest.
        ValueError: the manifest is damaged.
    """
    return _section("models")


def backbone_entries() -> dict[str, dict[str, Any]]:
    """The manifest's backbones: name -> entry. Errors as :func:`manifest`."""
    return _section("backbones")


def list_models() -> list[str]:
    """Names that ``FewShotSegmenter.from_pretrained`` loads without a path."""
    return sorted(name for name, entry in read_manifest().items() if entry.get("status") != "convert")


def model_files(name: str) -> tuple[WeightFile, ...]:
    """The files of a model of the manifest that is available, its head first.

    Raises:
        ValueError: its entry is damaged.
    """
    files = [parse_file(entry) for entry in read_manifest()[name].get("files", ())]
    roles = [file.role for file in files]
    if roles.count("head") != 1 or roles.count("backbone") > 1:
        raise ValueError(f"the weights manifest gives {name} no head, or several files of a role; reinstall fscs-sdk")
    return tuple(sorted(files, key=lambda file: file.role != "head"))


def backbone_weights(name: str) -> WeightFile | None:
    """The file of a backbone with all its sources, or None if the manifest does not know the backbone.

    Raises:
        ValueError: its entry is damaged.
    """
    entry = backbone_entries().get(name)
    if entry is None:
        return None
    return parse_file({key: entry.get(key) for key in ("sha256", "bytes", "sources")} | {"role": "backbone"})


def parse_file(entry: Mapping[str, Any]) -> WeightFile:
    """A file as the manifest writes it -> :class:`WeightFile`.

    Raises:
        ValueError: a field is missing, unknown or not allowed.
    """
    try:
        sources = tuple(map(_parse_source, entry["sources"]))
        return WeightFile(**(dict(entry) | {"sources": sources}))
    except (KeyError, TypeError):
        raise ValueError(f"the weights manifest has an entry that is no file: {entry!r}; reinstall fscs-sdk") from None


def _parse_source(entry: object) -> Source:
    if not isinstance(entry, Mapping):
        raise TypeError("a source is an object")
    fields = dict(entry)
    return _SOURCES[fields.pop("type")](**fields)


def _section(key: str) -> dict[str, dict[str, Any]]:
    path = next((path for path in MANIFEST_PLACES if path.is_file()), None)
    if path is None:
        raise FileNotFoundError("weights_manifest.json is missing from the package; reinstall fscs-sdk")
    try:
        section: dict[str, dict[str, Any]] = {
            name: dict(entry) for name, entry in json.loads(path.read_text(encoding="utf-8"))[key].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"'{path}' is damaged; reinstall fscs-sdk") from None
    for name in section:
        _check("name", name, PART)
    return section
