"""Where a model's files are: the manifest's models, a folder, a file, or a Hub repository -> checked paths.

A model is a head (``head.safetensors``, whose metadata names its method, backbone and input side) and a backbone
(``backbone.safetensors``). A backbone that is part of the package need not be beside the head.
"""

import json
import os
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

PACKAGE_FOLDER = Path(__file__).parent
HEAD_FILE = "head.safetensors"
BACKBONE_FILE = "backbone.safetensors"


@dataclass(frozen=True)
class WeightFile:
    """One file of a manifest entry: its role, path inside the package, SHA-256 (hexadecimal) and size in bytes."""

    role: Literal["head", "backbone"]
    path: str
    sha256: str
    bytes: int


@dataclass(frozen=True)
class ModelFiles:
    """Paths of a head and of the backbone beside it; the backbone's file need not be there."""

    head: Path
    backbone: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "ModelFiles":
        return cls(folder / HEAD_FILE, folder / BACKBONE_FILE)


def manifest() -> dict[str, Any]:
    """The weights manifest: model name -> entry, as in ``weights_manifest.json``."""
    candidates = (PACKAGE_FOLDER / "weights_manifest.json", PACKAGE_FOLDER.parent / "weights_manifest.json")
    path = next((path for path in candidates if path.is_file()), None)
    if path is None:
        raise FileNotFoundError("weights_manifest.json is missing from the package; reinstall fscs-sdk")
    models: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["models"]
    return models


def list_models() -> list[str]:
    """Names that ``FewShotSegmenter.from_pretrained`` knows without a path."""
    return sorted(manifest())


def locate(
    name: str | os.PathLike[str],
    *,
    revision: str | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
) -> ModelFiles:
    """Find a model's files, and check those of the manifest; arguments as in ``FewShotSegmenter.from_pretrained``.

    Raises:
        ValueError: no such model, or a file is not the one that the manifest describes.
        OSError: a file of the package is missing, or a download failed.
    """
    if isinstance(name, str) and name in manifest():
        return _manifest_files(name)
    path = Path(name)
    if os.fspath(name) and path.is_dir():
        return ModelFiles.in_folder(path)
    if path.suffix == ".safetensors":
        return ModelFiles(path, path.with_name(BACKBONE_FILE))
    if isinstance(name, str) and name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelFiles.in_folder(_download(name, revision, cache_dir, token, local_files_only))
    raise ValueError(
        f"there is no model {os.fspath(name)!r}: give one of {', '.join(list_models())}, a folder with {HEAD_FILE}, "
        "a .safetensors file, or org/repo on the Hugging Face Hub"
    )


def packaged_backbone(backbone: str) -> Path | None:
    """The checked file of a backbone that is part of the package."""
    for name, entry in manifest().items():
        if entry["backbone"] == backbone and any(file["role"] == "backbone" for file in entry["files"]):
            return _manifest_files(name).backbone
    return None


def _manifest_files(name: str) -> ModelFiles:
    """Paths of an embedded model's head and backbone, after checking that they are what the manifest says."""
    files = {entry["role"]: WeightFile(**entry) for entry in manifest()[name]["files"]}
    for file in files.values():
        path = PACKAGE_FOLDER / file.path
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' of model {name} is missing; reinstall fscs-sdk")
        found = sha256(path.read_bytes()).hexdigest()
        if found != file.sha256:
            raise ValueError(
                f"'{path}' of model {name} is damaged (SHA-256 {found[:12]}, expected {file.sha256[:12]}); "
                "reinstall fscs-sdk"
            )
    return ModelFiles(PACKAGE_FOLDER / files["head"].path, PACKAGE_FOLDER / files["backbone"].path)


def _download(
    repo: str, revision: str | None, cache_dir: str | os.PathLike[str] | None, token: str | None, local_only: bool
) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                repo,
                revision=revision,
                cache_dir=None if cache_dir is None else Path(cache_dir),
                token=token,
                local_files_only=local_only,
                allow_patterns=[HEAD_FILE, BACKBONE_FILE],
            )
        )
    except ValueError:
        raise  # not a repository's name: the client says so in a sentence
    except Exception as error:  # the network libraries under the client raise errors of their own
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise OSError(f"cannot get model '{repo}' from the Hugging Face Hub: {reason}") from error
