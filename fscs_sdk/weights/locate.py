"""Where a model's files are: a name of the manifest, a folder, a file, or a Hub repository -> checked paths.

A model is a head (``head.safetensors``, whose metadata names its method, backbone and input side) and a backbone
(``backbone.safetensors``), which need not be beside it: the manifest has backbones of their own.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

from fscs_sdk.weights.download import converted_files
from fscs_sdk.weights.hub import HubOptions, hub_folder
from fscs_sdk.weights.manifest import (
    BACKBONE_FILE,
    FILE_NAMES,
    HEAD_FILE,
    PACKAGE_FOLDER,
    HubSource,
    PackageSource,
    Role,
    Source,
    WeightFile,
    backbone_entries,
    backbone_weights,
    list_models,
    model_files,
    read_manifest,
)
from fscs_sdk.weights.sources import check_copy, copies, fetch, hub_options
from fscs_sdk.weights.verification import WrongFileError, check_file

Place: TypeAlias = Literal["in the package", "cached", "to be fetched", "to be converted"]


@dataclass(frozen=True)
class ModelFiles:
    """Paths of a head and of the backbone beside it; the backbone's file need not be there."""

    head: Path
    backbone: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "ModelFiles":
        return cls(folder / HEAD_FILE, folder / BACKBONE_FILE)


@dataclass(frozen=True)
class Finding:
    """What :func:`verify` found of a file: its path (None: it is not here), and what is wrong (None: nothing)."""

    name: str
    role: str
    path: Path | None
    wrong: str | None


def locate_model(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> ModelFiles:
    """Find or download a model's files, and check them; arguments as in ``FewShotSegmenter.from_pretrained``.

    Files of the manifest are held against it, those of a Hub repository against what the Hub announced; a folder or
    file of the caller's own is taken as it is.

    Raises:
        ValueError: no such model, one that must be converted first, or a file is not the published one.
        OSError: a file is missing, or a download failed.
    """
    entry = read_manifest().get(name) if isinstance(name, str) else None
    options = hub_options(cache_dir=cache_dir, token=token, local_files_only=local_files_only, revision=revision)
    if entry is not None and entry.get("status") != "convert":
        return _manifest_files(str(name), options)
    path = Path(name)
    if os.fspath(name) and path.is_dir():
        return ModelFiles.in_folder(path)
    if path.suffix == ".safetensors":
        return ModelFiles(path, path.with_name(BACKBONE_FILE))
    if entry is not None:
        raise ValueError(_how_to_convert(str(name), entry))
    if _is_repository(name):
        return _repository_files(str(name), options)
    raise ValueError(
        f"there is no model {os.fspath(name)!r}: give one of {', '.join(list_models())}, a folder with {HEAD_FILE}, "
        "a .safetensors file, or org/repo on the Hugging Face Hub; `fscs weights list` shows all"
    )


def obtain(
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> list[Path]:
    """Get all files that a model needs, or a backbone of the manifest: the head first, then the backbone.

    Arguments and errors as in :func:`locate`.
    """
    backbone, paths = name, []
    if name not in backbone_entries():
        files = locate_model(
            name, revision=revision, cache_dir=cache_dir, token=token, local_files_only=local_files_only
        )
        if not files.head.is_file():
            raise FileNotFoundError(f"there is no weights file '{files.head}'; check the name")
        if files.backbone.is_file():
            return [files.head, files.backbone]
        backbone, paths = _backbone_of(files.head), [files.head]
    from fscs_sdk.weights.imagenet import backbone_file

    path = backbone_file(backbone, cache_dir=cache_dir, token=token, local_files_only=local_files_only)
    return paths if path is None else [*paths, path]


def place(name: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Place:
    """Where a model of the manifest is. Nothing is hashed or looked up."""
    if read_manifest()[name].get("status") == "convert":
        return "to be converted"
    options = hub_options(cache_dir=cache_dir)
    found = [[source for source, _ in copies(file, options)] for file in model_files(name)]
    if not all(found):
        return "to be fetched"
    return "in the package" if all(isinstance(sources[0], PackageSource) for sources in found) else "cached"


def verify(name: str, *, cache_dir: str | os.PathLike[str] | None = None) -> list[Finding]:
    """Hash every file of a model, a backbone or ``org/repo`` that is here, in the package and in the caches.

    A damaged file of a cache is set aside; the next use downloads it anew. The network is not used.

    Raises:
        ValueError: no such name, or a model that must be converted first.
        OSError: nothing of a repository is here.
    """
    options = hub_options(cache_dir=cache_dir, local_files_only=True)
    backbone = backbone_weights(name)
    if backbone is not None:
        converted = [_verify_converted(name, path) for path in converted_files(name, options)]
        found = _verify_file(name, backbone, options)
        return [finding for finding in found if finding.path or finding.wrong or not converted] + converted
    if name in list_models():
        return [finding for file in model_files(name) for finding in _verify_file(name, file, options)]
    if name in read_manifest():
        raise ValueError(_how_to_convert(name, read_manifest()[name]))
    if _is_repository(name):
        files_here = _in_repository(name, hub_folder(name, options))
        return [_verify_copy(name, role, path, source, None) for role, path, source in files_here]
    raise ValueError(f"there is no model or backbone {name!r}; `fscs weights list` shows all")


def _verify_file(name: str, file: WeightFile, options: HubOptions) -> list[Finding]:
    findings = [_verify_copy(name, file.role, path, source, file.sha256) for source, path in copies(file, options)]
    for source in file.sources:
        if isinstance(source, PackageSource) and not (PACKAGE_FOLDER / source.path).is_file():
            findings.append(Finding(name, file.role, None, f"'{source.path}' is missing; reinstall fscs-sdk"))
    return findings or [Finding(name, file.role, None, None)]


def _verify_copy(name: str, role: str, path: Path, source: Source, expected: str | None) -> Finding:
    try:
        check_copy(path, source, expected, stamped=False)
    except (ValueError, OSError) as error:
        return Finding(name, role, path, str(error))
    return Finding(name, role, path, None)


def _verify_converted(name: str, path: Path) -> Finding:
    """A file of torchvision that was made safetensors here: its name holds its SHA-256."""
    try:
        check_file(path, path.name.split(".")[-2], mend=f"get it anew with `fscs weights fetch {name}`")
    except (ValueError, OSError) as error:
        return Finding(name, "backbone", path, str(error))
    return Finding(name, "backbone", path, None)


def _manifest_files(name: str, options: HubOptions) -> ModelFiles:
    paths = {file.role: _fetch(file, options) for file in model_files(name)}
    return ModelFiles(paths["head"], paths.get("backbone", paths["head"].with_name(BACKBONE_FILE)))


def _fetch(file: WeightFile, options: HubOptions) -> Path:
    return fetch(
        file,
        cache_dir=options.cache_dir,
        token=options.token,
        local_files_only=options.local_files_only,
        revision=options.revision,
    )


def _repository_files(name: str, options: HubOptions) -> ModelFiles:
    folder = hub_folder(name, options)
    wrong = []
    for _, path, source in _in_repository(name, folder):
        try:
            check_copy(path, source, None)
        except WrongFileError as error:
            wrong.append(str(error))
    if wrong:
        raise WrongFileError("; and ".join(wrong))
    return ModelFiles.in_folder(folder)


def _in_repository(name: str, folder: Path) -> list[tuple[Role, Path, HubSource]]:
    """What a downloaded repository has of a head and a backbone."""
    files = [(role, folder / file, HubSource(name, file)) for role, file in FILE_NAMES.items()]
    return [found for found in files if found[1].is_file()]


def _is_repository(name: str | os.PathLike[str]) -> bool:
    return isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~"))


def _how_to_convert(name: str, entry: Mapping[str, Any]) -> str:
    convert = entry["convert"]
    return (
        f"{name} must be converted first: get its checkpoint ({convert['origin']}), run `{convert['command']}`, "
        "and load the folder that this writes"
    )


def _backbone_of(head: Path) -> str:
    """The backbone that a head's file names."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(head, framework="numpy") as file:
            return str(json.loads((file.metadata() or {})["fscs_head"])["backbone"])
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise ValueError(f"'{head}' is not a head of this SDK: its metadata does not describe one") from None
