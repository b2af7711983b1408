"""Files from the Hugging Face Hub, by its own client: its cache, its environment variables, its progress bars."""

import errno
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from fscs_sdk.weights.manifest import BACKBONE_FILE, HEAD_FILE, SHA256, HubSource
from fscs_sdk.weights.verification import WrongFileError

#: Our folder in the folder that the Hub's client keeps for a repository: it goes when that goes.
STAMPS = ".fscs-sdk"


@dataclass(frozen=True)
class HubOptions:
    """What users of ``huggingface_hub`` know: cache folder, revision, token, and no network."""

    cache_dir: Path | None = None
    revision: str | None = None
    token: str | None = None
    local_files_only: bool = False


def cached_hub_file(source: HubSource, options: HubOptions) -> Path | None:
    """Where a file lies in the Hub's cache, or None; nothing is looked up."""
    from huggingface_hub import try_to_load_from_cache

    revision = options.revision or source.revision
    found = try_to_load_from_cache(source.repo, source.file, options.cache_dir, revision)
    return Path(found) if isinstance(found, str) else None


def hub_file(source: HubSource, options: HubOptions) -> Path:
    """Download a file into the Hub's cache. The client checks its size only.

    Raises:
        OSError: it cannot be had; the sentence says why, and the cure.
    """
    from huggingface_hub import hf_hub_download

    with one_sentence(f"get '{source.file}' of {source.repo}", options):
        path = hf_hub_download(
            source.repo,
            source.file,
            revision=options.revision or source.revision,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only,
        )
    return Path(path)


def hub_folder(repo: str, options: HubOptions) -> Path:
    """Download a repository's head and backbone into the Hub's cache; the folder with them.

    Raises:
        ValueError: that is no repository's name.
        OSError: they cannot be had; the sentence says why, and the cure.
    """
    from huggingface_hub import snapshot_download

    with one_sentence(f"get model {repo}", options):
        folder = snapshot_download(
            repo,
            revision=options.revision,
            cache_dir=options.cache_dir,
            token=options.token,
            local_files_only=options.local_files_only,
            allow_patterns=[HEAD_FILE, BACKBONE_FILE],
        )
    return Path(folder)


def announced_sha256(path: Path, file: str) -> str | None:
    """The SHA-256 that the Hub announced for ``file``, at ``path`` in the Hub's cache; None where nothing tells.

    The client stores a large file under its announced SHA-256 and links to it; where the file system has no links, the
    listing that the client keeps of a repository's files tells.
    """
    name = Path(os.readlink(path)).name if path.is_symlink() else ""
    if re.fullmatch(SHA256, name):
        return name
    repository, commit = _place(path, file)
    with suppress(OSError, ValueError, KeyError, TypeError):
        listing = json.loads((repository / "trees" / f"{commit}.json").read_text(encoding="utf-8"))
        name = listing["files"][file]["lfs_sha256"]
    return name if re.fullmatch(SHA256, name) else None


def stamp_place(path: Path, file: str, expected: str) -> Path:
    """Where to remember that ``file``, at ``path`` in the Hub's cache, was right."""
    return _place(path, file)[0] / STAMPS / f"{expected}.json"


def _place(path: Path, file: str) -> tuple[Path, str]:
    """The cache's folder of a repository, and the commit: path = repository/snapshots/commit/file."""
    snapshot = path.parents[file.count("/")]
    return snapshot.parent.parent, snapshot.name


@contextmanager
def one_sentence(what: str, options: HubOptions) -> Iterator[None]:
    """Turn whatever the Hub's client raises into an OSError of one sentence.

    Raises:
        OSError: "cannot ``what``: why; the cure".
        ValueError: wrong bytes, or a repository's name that cannot be one: these are sentences already.
    """
    from huggingface_hub.errors import HFValidationError

    try:
        yield
    except (HFValidationError, WrongFileError):
        raise
    except Exception as error:
        raise OSError(f"cannot {what}: {_reason(error, options)}") from error


def _reason(error: BaseException, options: HubOptions) -> str:
    """Why a download failed, and the cure."""
    from huggingface_hub.errors import OfflineModeIsEnabled

    causes = [error]  # what happened stands behind the client's advice to check the connection
    while (cause := causes[-1].__cause__) is not None:
        causes.append(cause)
    if any(isinstance(cause, OfflineModeIsEnabled) for cause in causes) or options.local_files_only:
        return "it is not in the cache and downloads are off; get it once without local_files_only and HF_HUB_OFFLINE"
    for cause in causes:
        status = getattr(getattr(cause, "response", None), "status_code", None)
        if isinstance(status, int):
            return _answer(status)
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if kinds & {"Timeout", "TimeoutException"}:
            return "no answer in time; check the connection and try again"
        if isinstance(cause, OSError) and cause.errno is not None:
            return _system(cause, options.cache_dir)
        if kinds & {"ConnectError", "NetworkError", "RemoteProtocolError"} and cause is causes[-1]:
            return f"the connection failed ({_first_line(cause)}); check it and try again"
    return f"{_first_line(error)}; try again"


def _answer(status: int) -> str:
    if status in (401, 403):
        return (
            f"access was refused ({status}): it is private, or the name is wrong; "
            "check the name, log in with `hf auth login`, or give a token that may read it"
        )
    if status == 404:
        return "there is no such repository, revision or file (404); check the names"
    return f"the server answered {status}; try again later"


def _system(error: OSError, cache_dir: Path | None) -> str:
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        return f"no space is left ({error.strerror}); free some, or give another cache folder (cache_dir or HF_HOME)"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        folder = f" '{cache_dir}'" if cache_dir is not None else ""
        return (
            f"the cache folder{folder} cannot be written ({error.strerror}); "
            "make it writable, or give another (cache_dir or HF_HOME)"
        )
    return f"the connection failed ({error.strerror}); check it and try again"


def _first_line(error: BaseException) -> str:
    text = re.sub(r"^\[Errno -?[0-9]+\] ", "", str(error).strip())
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__
