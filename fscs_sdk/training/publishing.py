"""A model of the manifest -> a Hub repository: weights, description, model card and licence."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from fscs_sdk.training.model_card import model_card
from fscs_sdk.weights.hub import HubOptions, one_sentence
from fscs_sdk.weights.manifest import (
    FILE_NAMES,
    PACKAGE_FOLDER,
    PATH,
    REPOSITORY,
    HubSource,
    WeightFile,
    check_name,
    model_files,
    read_manifest,
)
from fscs_sdk.weights.sources import fetch

#: What ``config.json`` says of a model; the card and the manifest say the rest.
DESCRIBED = ("method", "backbone", "task", "supervision", "protocol", "input_side", "normalisation", "maps", "licence")


@dataclass(frozen=True)
class Publication:
    """What a repository will hold: file name -> a file here, or its content."""

    name: str
    repo: str
    files: Mapping[str, Path | bytes]

    def size(self, file: str) -> int:
        """Bytes of one of the files."""
        content = self.files[file]
        return len(content) if isinstance(content, bytes) else content.stat().st_size


def prepare(name: str, repo: str, *, cache_dir: str | os.PathLike[str] | None = None) -> Publication:
    """Collect what to publish of a model of the manifest; the network is not used.

    Args:
        name: a model whose files are here.
        repo: ``org/repo``, or ``user/repo``.

    Raises:
        ValueError: no such model, a name that no repository can have, or files that are not the manifest's.
        OSError: a file is not here.
    """
    check_name("repository", repo, REPOSITORY, "give org/repo")
    entry = read_manifest().get(name)
    if entry is None or entry.get("status") == "convert":
        raise ValueError(f"{name!r} is not a model whose weights can be published; `fscs weights list` shows all")
    if not entry["licence"]["head"].startswith("MIT"):
        raise ValueError(f"{name} is not ours to publish: its head's licence is {entry['licence']['head']}")
    weights = model_files(name)
    paths = {FILE_NAMES[file.role]: fetch(file, cache_dir=cache_dir, local_files_only=True) for file in weights}
    texts = {
        "config.json": _config(name, entry, weights),
        "README.md": model_card(name, entry, weights, repo),
        "LICENSE": _licence(),
    }
    if "notice" in entry:
        check_name("path", entry["notice"], PATH, "reinstall fscs-sdk")
        texts["NOTICE"] = (PACKAGE_FOLDER / entry["notice"]).read_text(encoding="utf-8")
    return Publication(name, repo, {**paths, **{file: text.encode() for file, text in texts.items()}})


def publish(publication: Publication, *, private: bool = False, token: str | None = None) -> list[HubSource]:
    """Write a repository, made if need be, in one commit; afterwards the Hub must announce the weights' very bytes.

    Args:
        private: of a repository that is made.
        token: of the Hub; None takes the one of ``hf auth login`` or ``HF_TOKEN``.

    Returns:
        The sources of its weights, pinned to the commit, for the manifest.

    Raises:
        ValueError: the Hub has other bytes than were sent.
        OSError: the Hub cannot be reached or written to; the sentence says why, and the cure.
    """
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.hf_api import RepoFile

    if HF_HUB_OFFLINE:
        raise OSError(f"cannot write {publication.repo}: HF_HUB_OFFLINE is set; unset it and try again")

    api = HfApi(token=token)
    weights = {file: path for file, path in publication.files.items() if isinstance(path, Path)}
    with one_sentence(f"write {publication.repo}", HubOptions()):
        api.create_repo(publication.repo, private=private or None, exist_ok=True)
        commit = api.create_commit(
            publication.repo,
            [CommitOperationAdd(file, content) for file, content in publication.files.items()],
            commit_message=f"Publish {publication.name}",
        )
        listed = api.get_paths_info(publication.repo, list(weights), revision=commit.oid)
    announced = {file.path: file.lfs.sha256 for file in listed if isinstance(file, RepoFile) and file.lfs is not None}
    for file, path in weights.items():
        if announced.get(file) != sha256(path.read_bytes()).hexdigest():
            raise ValueError(f"{publication.repo} has another {file} than was sent; publish again")
    return [HubSource(publication.repo, file, commit.oid) for file in weights]


def _config(name: str, entry: Mapping[str, Any], files: tuple[WeightFile, ...]) -> str:
    described = {"name": name} | {key: entry[key] for key in DESCRIBED if key in entry}
    described["files"] = [
        {"file": FILE_NAMES[file.role], "role": file.role, "sha256": file.sha256, "bytes": file.bytes} for file in files
    ]
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def _licence() -> str:
    """The licence of this package and of the heads that were trained for it."""
    installed = distribution("fscs-sdk")
    text = installed.read_text("licenses/LICENSE") or installed.read_text("LICENSE")
    if text is None:
        raise FileNotFoundError("the package has lost its LICENSE; reinstall fscs-sdk")
    return text
