"""The journals of shards -> one journal, and what is missing."""

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fscs_sdk.folder.inputs import InputsError
from fscs_sdk.folder.journal import (
    RUN_JOURNAL,
    Record,
    read_journal,
    shard_journals,
    write_journal,
)
from fscs_sdk.folder.output import OutputFolder
from fscs_sdk.folder.plan import is_gone
from fscs_sdk.folder.run import collect
from fscs_sdk.locks import locked_folder
from fscs_sdk.spelling import counted


@dataclass(frozen=True)
class Merged:
    """What became of a merge.

    Attributes:
        records: lines of the joined journal, but for photos that are gone.
        failed: those of photos that could not be answered.
        missing_shards: shards (i, n) without a journal.
        missing: paths of photos that a shard was to answer and has not.
        double: paths of photos that more than one shard answered, as they do after runs with different n.
        problems: whatever else is wrong: sentences.
        collected: files of the whole run that were written.
        journal: the joined journal.
    """

    records: int
    failed: tuple[Record, ...]
    missing_shards: tuple[tuple[int, int], ...]
    missing: tuple[str, ...]
    double: tuple[str, ...]
    problems: tuple[str, ...]
    collected: tuple[Path, ...]
    journal: Path

    @property
    def complete(self) -> bool:
        """Whether every photo has a line; it may say that the photo failed."""
        return not self.missing_shards and not self.missing

    @property
    def well(self) -> bool:
        """Whether nothing is wrong."""
        return self.complete and not (self.failed or self.double or self.problems)


def merge_journals(out: str | os.PathLike[str]) -> Merged:
    """Join the journals of all shards in an output folder into ``journal.jsonl``, and write the files of the whole run.

    Lines that ``journal.jsonl`` has of other photos are kept. The shards' journals are removed if nothing is missing;
    otherwise they stay, so that the shards can be run on and merged again. Without any the joined journal is reported.

    Raises:
        InputsError: there is no journal in ``out``.
        OSError: a run is writing to ``out``, or it cannot be written.
    """
    folder = Path(os.path.realpath(out))
    path = folder / RUN_JOURNAL
    if not folder.is_dir() or not (shard_journals(folder) or path.is_file()):
        raise InputsError(
            f"there is no journal in '{os.fspath(out)}'; give the --out of the runs that are to be merged"
        )
    output = OutputFolder(folder)
    with locked_folder(folder):
        output.sweep()
        joined = read_journal(path)
        shards = shard_journals(folder)
        contents = {shard: read_journal(journal) for shard, journal in shards.items()}
        records = dict(joined.records)
        for shard in contents.values():
            records.update((name, record) for name, record in shard.records.items() if _is_better(record, records))
        pending = {name for part in (joined, *contents.values()) for name in part.pending}
        settled = {name for part in contents.values() for name in part.settled}
        missing = pending - settled - set(joined.settled)
        records = {
            name: replace(record, status="gone") if record.status == "ok" and is_gone(record) else record
            for name, record in records.items()
        }
        lines = Counter(name for part in contents.values() for name in part.settled)
        write_journal(path, [*records.values(), *(Record(name, "pending") for name in missing)])
        collected, problems = _collect(output, records)
        merged = Merged(
            records=len([name for name, record in records.items() if record.status != "gone" and name not in missing]),
            failed=tuple(records[name] for name in sorted(records) if records[name].status == "failed"),
            missing_shards=_missing_shards(shards),
            missing=tuple(sorted(missing)),
            double=tuple(sorted(name for name, count in lines.items() if count > 1)),
            problems=problems,
            collected=collected,
            journal=path,
        )
        if merged.complete:
            for journal in shards.values():
                journal.unlink(missing_ok=True)
    return merged


def _is_better(record: Record, others: Mapping[str, Record]) -> bool:
    """A later shard's line counts, unless it failed and the other did not."""
    other = others.get(record.path)
    return other is None or record.status == "ok" or other.status != "ok"


def _missing_shards(shards: Mapping[tuple[int, int], Path]) -> tuple[tuple[int, int], ...]:
    """What the finest split lacks, unless another is complete."""
    lacking = {
        count: tuple((index, count) for index in range(1, count + 1) if (index, count) not in shards)
        for count in sorted({count for _, count in shards})
    }
    return () if () in lacking.values() else lacking[max(lacking)] if lacking else ()


def _collect(output: OutputFolder, records: Mapping[str, Record]) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    answered = [record for record in records.values() if record.status == "ok"]
    runs = Counter(record.run for record in answered)
    if not runs:
        return (), ()
    problems: tuple[str, ...] = ()
    run, _ = runs.most_common(1)[0]
    if len(runs) > 1:
        others = len(answered) - runs[run]
        which = counted(others, "photo was", "photos were")
        problems = (f"{which} answered with another model, settings or supports; run their shards again",)
    names = next(tuple(record.presence) for record in answered if record.run == run)
    collected, more = collect(output, (), records, names, run, before=records)
    return collected, (*problems, *more)
