"""The journals of shards -> one journal, and what is missing."""

import os
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from fscs_sdk.folder.inputs import InputsError
from fscs_sdk.folder.journal import (
    JOURNAL,
    OpenJournal,
    Record,
    read_journal,
    shard_journals,
    write_journal,
)
from fscs_sdk.folder.output import OutputFolder
from fscs_sdk.folder.run import collect
from fscs_sdk.formats import WRITERS
from fscs_sdk.locks import locked_folder


@dataclass(frozen=True)
class Merged:
    """What became of a merge.

    Attributes:
        records: lines of the joined journal.
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
    if not folder.is_dir() or not (shard_journals(folder) or (folder / JOURNAL).is_file()):
        raise InputsError(
            f"there is no journal in '{os.fspath(out)}'; give the --out of the runs that are to be merged"
        )
    output = OutputFolder(folder)
    with ExitStack() as held:
        held.enter_context(locked_folder(folder, shared=False))
        joined = held.enter_context(OpenJournal(folder / JOURNAL))
        output.sweep()
        shards = shard_journals(folder)
        contents = {shard: read_journal(path) for shard, path in shards.items()}
        records = dict(joined.contents.records)
        for shard in contents.values():
            records.update((path, record) for path, record in shard.records.items() if _is_better(record, records))
        pending = {path for part in (joined.contents, *contents.values()) for path in part.pending}
        settled = {path for part in contents.values() for path in part.settled}
        missing = pending - settled - set(joined.contents.settled)
        lines = Counter(path for part in contents.values() for path in part.settled)
        write_journal(joined.path, [*records.values(), *(Record(path, "pending") for path in missing)])
        collected, problems = _collect(output, records)
        merged = Merged(
            records=len(records.keys() - missing),
            failed=tuple(records[path] for path in sorted(records) if records[path].status == "failed"),
            missing_shards=_missing_shards(shards),
            missing=tuple(sorted(missing)),
            double=tuple(sorted(path for path, count in lines.items() if count > 1)),
            problems=problems,
            collected=collected,
            journal=joined.path,
        )
        if merged.complete:
            for path in shards.values():
                path.unlink(missing_ok=True)
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
        problems = (f"{others} photos were answered with another model, settings or supports; run their shards again",)
    mine = [record for record in answered if record.run == run]
    used = {name for record in mine for name in record.files}
    formats = [format for format in WRITERS.values() if format.name in used]
    collected, more = collect(output, formats, mine, tuple(mine[0].presence), run)
    return collected, (*problems, *more)
