"""The journals of a run's shards -> one journal, and what is missing."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fscs_sdk.folder.journal import JOURNAL, Entry, read_journal, write_journal
from fscs_sdk.folder.run import STATE_FOLDER, collect, journal_name
from fscs_sdk.formats import select

_SHARD = re.compile(r"journal\.([0-9]{1,9})-of-([0-9]{1,9})\.jsonl")


@dataclass(frozen=True)
class Merged:
    """What became of a merge.

    Attributes:
        entries: lines in the joined journal.
        failed: those of them whose photo failed.
        missing_shards: (i, n) without a journal.
        missing: places that a shard was to answer and did not.
        double: places with a line in more than one journal; the last shard's counts.
        collected: files of the whole run that were written.
    """

    entries: int
    failed: tuple[Entry, ...]
    missing_shards: tuple[tuple[int, int], ...]
    missing: tuple[str, ...]
    double: tuple[str, ...]
    collected: tuple[Path, ...]

    @property
    def complete(self) -> bool:
        return not (self.failed or self.missing_shards or self.missing)


def merge_journals(out: Path) -> Merged:
    """Join the journals of all shards in an output folder into ``journal.jsonl``; theirs stay as they are.

    Lines that ``journal.jsonl`` has of other photos are kept.

    Raises:
        ValueError: there are no shards, or shards of different splits (1/4 and 1/8) or settings.
        OSError: a journal cannot be read or written.
    """
    parts = sorted({(int(m[1]), int(m[2])) for m in map(_SHARD.fullmatch, _names(out)) if m})
    counts = sorted({count for _, count in parts})
    if len(counts) != 1:
        found = f"shards of different splits ({', '.join(f'n = {n}' for n in counts)})" if counts else "no shards"
        raise ValueError(f"there are {found} in '{out}'; run 'fscs predict --shard i/n' with one n into one folder")
    records = {part: _record(out, part) for part in parts}
    formats, names = _settings(records, out)
    journals = {part: read_journal(out / journal_name(part)) for part in parts}
    entries = read_journal(out / JOURNAL)
    for part in parts:
        entries.update(journals[part])
    expected = [place for record in records.values() for place in record["places"]]
    lines = Counter(place for journal in journals.values() for place in journal)
    write_journal(out / JOURNAL, entries.values())
    return Merged(
        entries=len(entries),
        failed=tuple(entry for entry in entries.values() if entry.status == "failed"),
        missing_shards=tuple(
            (index, counts[0]) for index in range(1, counts[0] + 1) if (index, counts[0]) not in parts
        ),
        missing=tuple(sorted(set(expected) - set(entries))),
        double=tuple(sorted(place for place, count in lines.items() if count > 1)),
        collected=collect(out, entries.values(), select(formats), names),
    )


def _names(out: Path) -> list[str]:
    if not out.is_dir():
        raise ValueError(f"there is no folder '{out}'; give the --out of the runs that are to be merged")
    return [path.name for path in out.iterdir()]


def _record(out: Path, part: tuple[int, int]) -> dict[str, Any]:
    path = out / STATE_FOLDER / f"run.{part[0]}-of-{part[1]}.json"
    try:
        record = json.loads(path.read_bytes())
        if not all(isinstance(record[key], list) for key in ("formats", "names", "places")):
            raise TypeError("lists are needed")
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        raise ValueError(f"'{path}' is missing or damaged; run shard {part[0]}/{part[1]} again") from None
    return dict(record)


def _settings(records: Mapping[tuple[int, int], Mapping[str, Any]], out: Path) -> tuple[Sequence[str], Sequence[str]]:
    """The formats and class names, which all shards must share."""
    first, *others = records.values()
    if any(other[key] != first[key] for other in others for key in ("formats", "names")):
        raise ValueError(f"the shards in '{out}' were run with different classes or formats; run them alike")
    return first["formats"], first["names"]
