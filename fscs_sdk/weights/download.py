"""A file from a URL into our own folder: resumed, in one piece or not at all, by one process at a time.

pooch was measured against it and left: it begins an interrupted file anew and leaves the torn one behind, lets two
processes fetch the same file twice, and hashes what is there at every call.
"""

import os
import re
from hashlib import sha256
from pathlib import Path

from fscs_sdk.weights.hub import HubOptions, one_sentence
from fscs_sdk.weights.manifest import SHA256, UrlSource
from fscs_sdk.weights.verification import check_file


def url_place(source: UrlSource, options: HubOptions) -> Path:
    """Where a file from a URL lies once it is here: in ``cache_dir``, else in the Hub client's folder for libraries."""
    return _our_folder(options) / sha256(source.url.encode()).hexdigest()[:16] / source.file


def converted_files(name: str, options: HubOptions) -> list[Path]:
    """What was made safetensors here of a backbone's pickled files: ``<name>-*.<its own SHA-256>.safetensors``."""
    found = _our_folder(options).glob(f"*/{name}-*.safetensors")
    return sorted(path for path in found if re.fullmatch(SHA256, path.name.split(".")[-2]))


def _our_folder(options: HubOptions) -> Path:
    from huggingface_hub.constants import HF_ASSETS_CACHE

    return (options.cache_dir if options.cache_dir is not None else Path(HF_ASSETS_CACHE)) / "fscs-sdk"


def url_file(source: UrlSource, expected: str, size: int, options: HubOptions) -> Path:
    """Download a file; one that was interrupted goes on where it stopped.

    Args:
        expected: its SHA-256; no other bytes ever get the file's name.
        size: its bytes.

    Raises:
        ValueError: its bytes are others than expected; they are set aside.
        OSError: it cannot be had; the sentence says why, and the cure.
    """
    from filelock import FileLock
    from huggingface_hub.errors import LocalEntryNotFoundError

    path = url_place(source, options)
    partial = path.with_name(f"{path.name}.incomplete")
    with one_sentence(f"get '{source.url}'", options):
        if options.local_files_only:
            raise LocalEntryNotFoundError(f"'{path}' is not there")
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f"{path.name}.lock")):
            if not path.is_file():  # else another process was faster
                _complete(source.url, partial, size)
                check_file(partial, expected, mend=f"try again to get it anew from {source.url}")
                os.replace(partial, path)
    return path


def _complete(url: str, partial: Path, size: int) -> None:
    """Append what is missing of a file of ``size`` bytes."""
    from huggingface_hub.file_download import http_get

    with partial.open("ab") as file:
        if file.tell() > size:
            file.truncate(0)
            file.seek(0)
        if file.tell() != size:
            # No expected_size: a server that has a file of another size is found out by its hash, and set aside.
            http_get(url, file, resume_size=file.tell(), displayed_filename=partial.stem)
