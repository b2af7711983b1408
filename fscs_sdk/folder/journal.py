"""The journal of an output folder, JSON Lines: one line for each photo, what became of it and what that depends on.

While a run goes on its lines are appended, first one with the status ``pending`` for each photo that it will answer,
then one for each answer; the last line of a photo counts. When the run is through, the journal is replaced by one with
a single line for each photo. So a killed run's journal says what was done and what was not, and at worst its last line
is cut short, which readers drop.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from fscs_sdk.atomic import write_atomically

#: The journal of a whole run.
RUN_JOURNAL = "journal.jsonl"
_SHARD = re.compile(r"journal\.([1-9][0-9]{0,8})-of-([1-9][0-9]{0,8})\.jsonl")


@dataclass(frozen=True)
class Record:
    """One line of a journal.

    Attributes:
        path: the photo, relative to the folder that holds all inputs, with ``/``; the key of the journal.
        status: ``ok``; ``failed``, then ``error`` says why; ``gone``, if it is no longer among the photos, but its
            results still lie there; or ``pending``, while a run goes on or after it was killed.
        error: one sentence, or None.
        presence: of each class by name, in the supports' order; empty if it failed.
        scores: likewise.
        files: format -> the files written, relative to the output folder, with ``/``; empty if it failed.
        seconds: that were spent on the photo: decoding, model and writing.
        source: where the photo was read: an absolute path, the links of its folders resolved.
        digest: of the photo's bytes; empty where they could not be read, or changed meanwhile.
        size: the photo's bytes; None where it was not there.
        modified: its time of modification in nanoseconds; None likewise.
        changed: the time of its last change of any kind; None likewise, 0 on a system without.
        run: key of the run: the model, its settings and what the supports were made from.
        stale: files of an earlier answer that still lie in the output folder, because this one failed.
    """

    path: str
    status: Literal["ok", "failed", "gone", "pending"]
    error: str | None = None
    presence: Mapping[str, bool] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    seconds: float = 0.0
    source: str = ""
    digest: str = ""
    size: int | None = None
    modified: int | None = None
    changed: int | None = None
    run: str = ""
    stale: tuple[str, ...] = ()

    def line(self) -> bytes:
        """The record as one line of ASCII; bytes of a name that are no text survive as lone surrogates."""
        if self.status == "pending":
            return json.dumps({"path": self.path, "status": self.status}).encode("ascii") + b"\n"
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        if not self.stale:
            del values["stale"]
        return json.dumps(values).encode("ascii") + b"\n"

    def all_files(self) -> tuple[str, ...]:
        """Everything of this photo that lies in the output folder."""
        return (*(file for files in self.files.values() for file in files), *self.stale)


def parse_line(line: bytes) -> Record | None:
    """A record, or None for a line that is cut short, damaged or of something else."""
    try:
        values = json.loads(line)
        return _checked(values)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _checked(values: Any) -> Record:
    """A record of parsed JSON. Keys of later versions are passed over.

    Raises:
        ValueError, TypeError, KeyError, AttributeError: it is none.
    """
    if not isinstance(values, dict) or values["status"] not in ("ok", "failed", "gone", "pending"):
        raise ValueError("not a record")
    record = Record(**{item.name: values[item.name] for item in fields(Record) if item.name in values})
    texts = (record.path, record.source, record.digest, record.run, "" if record.error is None else record.error)
    stamp = (n for n in (record.size, record.modified, record.changed) if n is not None)
    numbers = (*record.scores.values(), record.seconds, *stamp)
    files = {str(name): _paths(paths) for name, paths in dict(record.files).items()}
    good = (
        all(isinstance(text, str) for text in texts)
        and all(isinstance(number, (int, float)) and not isinstance(number, bool) for number in numbers)
        and all(isinstance(present, bool) for present in record.presence.values())
        and record.path != ""
    )
    if not good:
        raise ValueError("not a record")
    return replace(record, files=files, stale=_paths(record.stale))


def _paths(values: Any) -> tuple[str, ...]:
    """Paths that stay inside the folder that they are relative to: some are deleted in the course of a run."""
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, str) for value in values):
        raise TypeError("a list of paths is needed")
    for value in values:
        foreign = "\0" in value or (sys.platform == "win32" and ("\\" in value or ":" in value))
        if foreign or not {"", ".", ".."}.isdisjoint(value.split("/")):
            raise ValueError("not a path inside a folder")
    return tuple(values)


@dataclass(frozen=True)
class Contents:
    """What a journal says: the last answer for each photo, and the photos whose answer was pending after that."""

    records: dict[str, Record]
    pending: frozenset[str]

    @property
    def settled(self) -> dict[str, Record]:
        """The records that count."""
        return {path: record for path, record in self.records.items() if path not in self.pending}


def parse_journal(content: bytes) -> Contents:
    """The contents of a journal, whatever its bytes; lines that are none are dropped."""
    records: dict[str, Record] = {}
    pending: set[str] = set()
    for line in content.split(b"\n"):
        record = parse_line(line) if line else None
        if record is None:
            continue
        if record.status == "pending":
            pending.add(record.path)
        else:
            pending.discard(record.path)
            records[record.path] = record
    return Contents(records, frozenset(pending))


def read_journal(path: str | os.PathLike[str]) -> Contents:
    """Read a journal; one that is not there is empty.

    Raises:
        OSError: it is there and cannot be read.
    """
    try:
        return parse_journal(Path(path).read_bytes())
    except FileNotFoundError:
        return Contents({}, frozenset())


def write_journal(path: Path, records: Iterable[Record]) -> None:
    """Write one line for each record, in the order of their paths, whole or not at all; not if nothing changes."""
    content = b"".join(record.line() for record in sorted(records, key=lambda record: record.path))
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.read_bytes() == content:
            return
    write_atomically(path, content)


def journal_name(shard: tuple[int, int] | None) -> str:
    """The journal's file name, of a whole run or of a shard (i, n)."""
    return RUN_JOURNAL if shard is None else f"journal.{shard[0]}-of-{shard[1]}.jsonl"


def shard_of(name: str) -> tuple[int, int] | None:
    """(i, n) of the name of a shard's journal; None for any other name."""
    match = _SHARD.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]))


def shard_journals(out: Path) -> dict[tuple[int, int], Path]:
    """The journals of shards in an output folder."""
    try:
        names = sorted(os.listdir(out))
    except FileNotFoundError:
        return {}
    return {shard: out / name for name in names if (shard := shard_of(name)) is not None}


def is_journal(path: str) -> bool:
    """Whether a file is a journal of ours, not something else of that name."""
    name = os.path.basename(path)
    if name != RUN_JOURNAL and shard_of(name) is None:
        return False
    try:
        with open(path, "rb") as file:
            return parse_line(file.readline(1 << 20)) is not None
    except OSError:
        return False


class OpenJournal:
    """A journal that is appended to, by the one run that holds its folder or its part of it.

    Attributes:
        contents: what it said when it was opened.
    """

    def __init__(self, path: Path) -> None:
        """Open or make it.

        Raises:
            OSError: it is a link or a folder, or the folder cannot be written.
        """
        if path.is_symlink():
            raise OSError(f"the journal '{path}' is a link, which might lead anywhere; remove it")
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(path, flags, 0o666)
        with open(self._descriptor, "rb", closefd=False) as file:
            content = file.read()
        self.contents = parse_journal(content)
        self._torn = bool(content) and not content.endswith(b"\n")

    def __enter__(self) -> "OpenJournal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def append(self, *records: Record) -> None:
        """Add lines, which are with the operating system when this returns.

        Raises:
            OSError: they cannot be written, and the journal is as before.
        """
        data = b"".join(record.line() for record in records)
        if not data:
            return
        data = b"\n" * self._torn + data  # what a killed run left of a line stays apart from the next
        end = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, end)
            raise OSError(error.errno, error.strerror, str(self.path)) from None
        self._torn = False
