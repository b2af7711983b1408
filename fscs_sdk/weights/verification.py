"""Are a file's bytes the ones that were published? SHA-256, remembered while the file does not change."""

import json
import os
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

CHUNK = 1 << 20
#: Digits of a SHA-256 that an error shows.
SHOWN = 12


class WrongFileError(ValueError):
    """A file's bytes are not the published ones."""


class OtherVersionError(WrongFileError):
    """A file is whole, and another than the manifest's."""


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits, in constant memory."""
    digest = sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def check_file(
    path: Path,
    expected: str,
    *,
    mend: str,
    announced: str | None = None,
    stamp: Path | None = None,
    shared: bool = False,
) -> None:
    """Make sure that a file is the published one; one that is damaged is renamed ``.corrupt``, never to be used.

    Args:
        expected: SHA-256, 64 hexadecimal digits.
        mend: what to do about a damaged file, for the error.
        announced: the SHA-256 that the file's server announced: a file that has it is another version, not damaged.
        stamp: where to remember size and times of a file that was right: it is not hashed again while they stay.
            Nothing is remembered where that cannot be written.
        shared: the file belongs to something that must stay as it is (the installed package): do not rename it.

    Raises:
        WrongFileError: its bytes are others; the sentence says which, what was expected, and ``mend``.
        OSError: it cannot be read.
    """
    before = _state(path)
    if stamp is not None and _read_stamp(stamp) == before:
        return
    found = file_sha256(path)
    if found == expected:
        if stamp is not None and _state(path) == before:
            _write_stamp(stamp, before)
        return
    wrong = f"is not the published file: its SHA-256 is {found[:SHOWN]}, {expected[:SHOWN]} was expected"
    if found == announced:
        raise OtherVersionError(f"'{path}' {wrong}; it is another version: ask for no other revision, update fscs-sdk")
    if shared or _state(path) != before:  # changed in the meantime: perhaps another process has put a good one there
        raise WrongFileError(f"'{path}' {wrong}; {mend}")
    raise WrongFileError(f"'{path}' {wrong}; it was set aside as '{_set_aside(path).name}'; {mend}")


def _state(path: Path) -> list[str | int]:
    """Which file, its bytes and its times (ns); the time of change is there because a copy may keep the other."""
    status = path.stat()
    return [str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _read_stamp(stamp: Path) -> object:
    with suppress(OSError, ValueError):
        return json.loads(stamp.read_text(encoding="utf-8"))
    return None


def _write_stamp(stamp: Path, state: list[str | int]) -> None:
    with suppress(OSError):  # a cache that is read-only or full is only slower
        stamp.parent.mkdir(parents=True, exist_ok=True)
        draft = stamp.with_name(f"{stamp.name}.{os.getpid()}")
        draft.write_text(json.dumps(state), encoding="utf-8")
        os.replace(draft, stamp)


def _set_aside(path: Path) -> Path:
    """Rename a file and remove the links to it that led here: the next download of it starts anew."""
    links = []
    while path.is_symlink():
        links.append(path)
        path = path.parent / os.readlink(path)
    aside = path.with_name(f"{path.name}.corrupt")
    try:
        os.replace(path, aside)
        for link in links:
            link.unlink(missing_ok=True)
    except OSError as error:
        raise WrongFileError(f"'{path}' is damaged and cannot be set aside ({error.strerror}); delete it") from error
    return aside
