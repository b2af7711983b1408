"""The journal of an output folder, JSON Lines: one line for each photo, what became of it and what it depends on."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Literal

from fscs_sdk.files import write_atomically

JOURNAL = "journal.jsonl"


@dataclass(frozen=True)
class Entry:
    """One line.

    Attributes:
        path: the photo, as the run named it.
        place: its place in the output tree (see :class:`~.inputs.Photo`): the key of the journal.
        status: ``ok``, or ``failed``: then ``error`` says why and the rest is empty.
        present, scores: by class name.
        files: what was written, relative to the output folder.
        seconds: that the photo took, from decoding to the last file.
        size, modified: of the photo, in bytes and nanoseconds; 0 where it could not be read.
        run: fingerprint of the model, the supports and the settings that answered.
    """

    path: str
    place: str
    status: Literal["ok", "failed"]
    error: str | None
    present: dict[str, bool]
    scores: dict[str, float]
    files: tuple[str, ...]
    seconds: float
    size: int
    modified: int
    run: str

    def line(self) -> bytes:
        """One line of ASCII; bytes of a name that are no text survive as lone surrogates."""
        return json.dumps(asdict(self)).encode("ascii") + b"\n"


_TYPES: dict[str, type | tuple[type, ...]] = {
    "path": str, "place": str, "status": str, "error": (str, type(None)), "present": dict, "scores": dict,
    "files": list, "seconds": (int, float), "size": int, "modified": int, "run": str,
}  # fmt: skip


def parse_line(line: bytes) -> Entry | None:
    """An entry, or None for a torn or foreign line."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or set(values) != {field.name for field in fields(Entry)}:
        return None
    if not all(isinstance(values[name], kind) for name, kind in _TYPES.items()):
        return None
    if values["status"] not in ("ok", "failed") or not all(isinstance(file, str) for file in values["files"]):
        return None
    return Entry(**{**values, "files": tuple(values["files"])})


def read_journal(path: Path) -> dict[str, Entry]:
    """Place -> its last entry; torn lines, as a killed run leaves them, are passed over. No file = no entries.

    Raises:
        OSError: the file is there and cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return {}
    entries = (parse_line(line) for line in content.split(b"\n") if line)
    return {entry.place: entry for entry in entries if entry is not None}


def write_journal(path: Path, entries: Iterable[Entry]) -> None:
    """Write all entries, in the order of their places, whole or not at all."""
    ordered = sorted(entries, key=lambda entry: entry.place)
    write_atomically(path, b"".join(entry.line() for entry in ordered))


class OpenJournal:
    """Appends entries to a journal while a run goes on, a line at a time, each handed to the system at once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None

    def __enter__(self) -> "OpenJournal":
        self._file = self._path.open("ab", buffering=0)
        if self._file.tell() and not _ends_with_newline(self._path):
            self._write(b"\n")  # a killed run left half a line: keep the next one apart from it
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def append(self, entry: Entry) -> None:
        """Add a line.

        Raises:
            OSError: the disk is full; what was there is unharmed.
        """
        self._write(entry.line())

    def _write(self, data: bytes) -> None:
        if self._file is None:
            raise ValueError("the journal is not open")
        while data:
            data = data[self._file.write(data) :]


def _ends_with_newline(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
