"""A run: what is to do, the answers, and the journal that says what became of each photo."""

import os
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from fscs_sdk.folder.inputs import Inputs, InputsError, find_inputs
from fscs_sdk.folder.journal import (
    OpenJournal,
    Record,
    journal_name,
    read_journal,
    shard_journals,
    write_journal,
)
from fscs_sdk.folder.output import FATAL, OutputFolder, check_output
from fscs_sdk.folder.pipeline import answers
from fscs_sdk.folder.plan import Plan, Segmenter, Work, make_plan
from fscs_sdk.folder.videos import video_answers
from fscs_sdk.formats import WRITERS, Format
from fscs_sdk.images import DEFAULT_MAX_PIXELS
from fscs_sdk.locks import locked_folder
from fscs_sdk.prediction import sentence

if TYPE_CHECKING:
    from fscs_sdk.supports import SupportSet

DEFAULT_FORMATS = ("mask", "overlay")
DEFAULT_FPS = 2.0


@dataclass(frozen=True)
class Summary:
    """What a run did.

    Attributes:
        answered: photos that it answered.
        done_before: photos whose answers of an earlier run are still right.
        renewed: photos of this run that another model, settings or supports had answered before.
        failed: the records of those that could not be answered.
        present: class name -> number of these photos in which it is.
        earlier: photos of earlier runs, not asked about now, that the files of the whole run hold too.
        gone: photos of earlier runs that are no longer there; the files of the whole run leave them out.
        outdated: photos of earlier runs that another model, settings or supports answered; likewise.
        problems: what is wrong beside the photos: sentences.
        out: the output folder.
        journal: the journal in it.
        collected: the files of the whole run that were written.
        inputs: all photos, of all shards, and what was left out.
        seconds: that the run took.
    """

    answered: int
    done_before: int
    renewed: int
    failed: tuple[Record, ...]
    present: Mapping[str, int]
    earlier: int
    gone: int
    outdated: int
    problems: tuple[str, ...]
    out: Path
    journal: Path
    collected: tuple[Path, ...]
    inputs: Inputs
    seconds: float

    @property
    def well(self) -> bool:
        """Whether nothing is missing."""
        return not self.failed and not self.problems


def predict_folder(
    model: Segmenter,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    supports: "str | os.PathLike[str] | Mapping[str, object] | SupportSet",
    out: str | os.PathLike[str],
    *,
    formats: str | Sequence[str] = DEFAULT_FORMATS,
    workers: int | None = None,
    shard: tuple[int, int] | str | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
    root: str | os.PathLike[str] | None = None,
    leave_out: Sequence[str | os.PathLike[str]] = (),
    max_pixels: int = DEFAULT_MAX_PIXELS,
    fps: float = DEFAULT_FPS,
    answering: Callable[[Work, Plan, OutputFolder], Generator[Record, None, None]] | None = None,
    progress: Callable[[int, int, Record | None], None] | None = None,
) -> Summary:
    """Answer every photo of files, folders, patterns and lists into files below ``out``.

    The tree of the inputs is mirrored: ``photos/a/b.jpg`` of the input ``photos`` gives ``out/a/b.jpg.mask.png``, and
    no two photos share a file. Every file appears whole or not at all, and none outside ``out``. The journal,
    ``out/journal.jsonl``, has one line for each photo (:class:`Record`); a photo that cannot be read or answered is a
    line with its error, and the run goes on. Called again, it answers only what is new, changed, failed before, or
    whose model, supports, threshold or formats changed. Stopped at any moment, also by ``kill -9``, the next call goes
    on to the same result, on whatever machine and device. Photos go through ``model.stream``, and files are
    written behind it, in threads; beside them the memory needed grows by the photos' lines in the journal.

    Videos are answered after the photos, at ``fps`` frames a second: see :mod:`fscs_sdk.folder.videos` for the files
    that they give instead of those of ``formats``. Each has one line in the journal, and is gone on with in its middle.

    A result belongs to a photo: to the place of its file and to its content. Other photos of the same names are refused
    before anything is written. The files of a whole run (a table, a data set) hold the photos of this run and of
    earlier ones with the same model and supports; a photo that is no longer there leaves them, its own files stay.

    Args:
        model: a :class:`~fscs_sdk.FewShotSegmenter`.
        inputs: see :func:`fscs_sdk.folder.inputs.find_inputs`.
        supports: as for ``model.predict``, encoded once; or the path of a saved set, or of a folder or data set as
            :func:`fscs_sdk.references.read_supports` takes it, which is left out of the inputs then.
        out: the output folder; it must not be or hold an input.
        formats: names from :data:`fscs_sdk.formats.WRITERS`, or one.
        workers: threads that write; by default 2 to 4, by the number of processors.
        shard: (i, n) or "i/n", i from 1: only the i-th of n parts, by a hash of the photos' paths, with a journal of
            its own; :func:`~fscs_sdk.folder.merge_journals` joins them.
        overwrite: answer again what is done, and replace results of other photos of the same names.
        follow_links: also follow symbolic links inside the inputs.
        root: the folder that the photos' paths are relative to; by default the deepest that holds all inputs.
        leave_out: files and folders inside the inputs that hold no photos to answer, such as the supports' folder.
        max_pixels: larger photos fail, from their header, before they are decoded.
        fps: frames of a video that are answered, for each second of it.
        answering: what answers the photos, if not this process; :class:`fscs_sdk.integrations.ray_folder.RayAnswers`.
        progress: called with the number of photos done, the number to do, and the record of the last one; first with
            (0, number, None).

    Raises:
        InputsError: no photos, or an output folder that cannot be one or holds results of other photos of the same
            names; nothing was written.
        ValueError: an unknown format, an option out of its range, or supports that cannot be used; nothing was written.
        MissingPackageError: a format's package is not installed; an ImportError.
        OSError: the disk is full or gone, or another run is writing to ``out``. What was answered stays.
    """
    begun = time.monotonic()
    shard = _checked_options(workers, shard, fps)
    leave_out = [*leave_out, supports] if isinstance(supports, (str, os.PathLike)) else leave_out
    work = Work(model, supports, formats, workers, max_pixels, fps)
    check_output(out)
    found = find_inputs(_listed(inputs), out=out, root=root, follow_links=follow_links, leave_out=leave_out)
    make_plan(work, found, Path(os.path.realpath(out)), shard=shard, overwrite=overwrite)  # refused before it is made
    output = OutputFolder(out)
    report = progress or (lambda done, total, record: None)
    with locked_folder(output.path, part=shard and f"{shard[0]}-of-{shard[1]}"):
        if shard is None:
            output.sweep()
        plan = make_plan(work, found, output.path, shard=shard, overwrite=overwrite)
        new: dict[str, Record] = {}
        with OpenJournal(output.path / journal_name(shard)) as journal:
            journal.append(*(Record(photo.path, "pending") for photo in plan.todo))
            report(0, len(plan.todo), None)
            with closing((answering or answer_here)(work, plan, output)) as records_made:
                for record in records_made:
                    journal.append(record)
                    new[record.path] = record
                    report(len(new), len(plan.todo), record)
        records = {**plan.kept, **plan.done, **new}
        write_journal(journal.path, records.values())  # which is closed now: Windows replaces no file that is open
        collected: tuple[Path, ...] = ()
        problems: tuple[str, ...] = ()
        if shard is None:
            collected, problems = collect(output, work.formats, records, work.names, plan.run, before=plan.recorded)
            _absorb(output.path, records)
    failed = tuple(record for record in new.values() if record.status == "failed")
    mine = [*plan.done.values(), *new.values()]
    same = Counter(record.run == plan.run for record in plan.kept.values() if record.status == "ok")
    return Summary(
        answered=len(new) - len(failed),
        done_before=len(plan.done),
        renewed=plan.renewed,
        failed=tuple(sorted(failed, key=lambda record: record.path)),
        present={name: sum(record.presence.get(name, False) for record in mine) for name in work.names},
        earlier=same[True],
        gone=sum(record.status == "gone" for record in plan.kept.values()),
        outdated=same[False],
        problems=problems,
        out=output.path,
        journal=journal.path,
        collected=collected,
        inputs=found,
        seconds=time.monotonic() - begun,
    )


def plan_folder(
    model: Segmenter,
    inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    supports: "str | os.PathLike[str] | Mapping[str, object] | SupportSet",
    out: str | os.PathLike[str],
    *,
    formats: str | Sequence[str] = DEFAULT_FORMATS,
    shard: tuple[int, int] | str | None = None,
    overwrite: bool = False,
    follow_links: bool = False,
    root: str | os.PathLike[str] | None = None,
    leave_out: Sequence[str | os.PathLike[str]] = (),
    fps: float = DEFAULT_FPS,
) -> Plan:
    """What :func:`predict_folder` would do with the same arguments. Nothing is written, no photo is opened.

    Raises:
        InputsError, ValueError, MissingPackageError, OSError: as :func:`predict_folder`.
    """
    shard = _checked_options(None, shard, fps)
    leave_out = [*leave_out, supports] if isinstance(supports, (str, os.PathLike)) else leave_out
    work = Work(model, supports, formats, None, DEFAULT_MAX_PIXELS, fps)
    check_output(out)
    found = find_inputs(_listed(inputs), out=out, root=root, follow_links=follow_links, leave_out=leave_out)
    return make_plan(work, found, Path(os.path.realpath(out)), shard=shard, overwrite=overwrite)


def parse_shard(text: str) -> tuple[int, int]:
    """ "2/8" -> (2, 8).

    Raises:
        ValueError: it is none.
    """
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and len(count) < 10 and 1 <= int(index) <= int(count)):
        raise ValueError(f"{text!r} is no shard; write I/N with 1 <= I <= N, such as 2/8")
    return int(index), int(count)


def _listed(inputs: object) -> list[str | os.PathLike[str]]:
    paths = [inputs] if isinstance(inputs, (str, os.PathLike)) else inputs
    if not isinstance(paths, Iterable) or isinstance(paths, (bytes, Mapping)):
        raise InputsError(f"the inputs must be paths of files and folders, not {type(inputs).__name__}")
    listed = list(paths)
    for path in listed:
        if not isinstance(path, (str, os.PathLike)):
            raise InputsError(f"an input must be the path of a file or folder, not {type(path).__name__}")
    return listed


def _checked_options(workers: int | None, shard: tuple[int, int] | str | None, fps: float) -> tuple[int, int] | None:
    if not 0 < fps <= 1000:
        raise ValueError(f"fps is {fps}; it must be above 0 and at most 1000 frames a second")
    if workers is not None and workers < 1:
        raise ValueError(f"workers is {workers}; it must be at least 1")
    if isinstance(shard, str):
        return parse_shard(shard)
    if shard is not None and not 1 <= shard[0] <= shard[1]:
        raise ValueError(f"there is no shard {shard[0]}/{shard[1]}; i/n needs 1 <= i <= n, such as 2/8")
    return shard


def answer_here(work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
    """Answer a plan's photos and videos in this process: the records as their files are complete.

    Raises:
        OSError: the output folder is full or gone.
    """
    yield from answers(work, plan, output)
    yield from video_answers(work, plan, output)


def _absorb(out: Path, records: Mapping[str, Record]) -> None:
    """Remove the journals of shards that say nothing which the journal does not say now."""
    for path in shard_journals(out).values():
        contents = read_journal(path)
        if contents.pending | set(contents.records) <= set(records):
            path.unlink(missing_ok=True)


def collect(
    output: OutputFolder,
    formats: Sequence[Format],
    records: Mapping[str, Record],
    names: Sequence[str],
    run: str,
    *,
    before: Mapping[str, Record],
) -> tuple[tuple[Path, ...], tuple[str, ...]]:
    """Put the files of the whole run together: their paths, and what went wrong with others, as sentences.

    Beside those of these formats also the ones that an earlier run left: what is gone or answered anew leaves them.

    Args:
        records: those of this ``run`` are taken.
        before: what the journals said of all photos before.

    Raises:
        OSError: the output folder is full or gone.
    """
    answered = [record for _, record in sorted(records.items()) if record.status == "ok" and record.run == run]
    written: list[Path] = []
    problems = []
    for format in WRITERS.values():
        had = [path for path, record in before.items() if record.files.get(format.name)]
        if format.whole_run is None or not (format in formats or had):
            continue
        files = {r.path: output.path / r.files[format.name][0] for r in answered if r.files.get(format.name)}
        try:
            output.refuse_links(format.whole_run.partition("/")[0])
            written += format.collect(files, output.path, names=names, gone=had)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in FATAL:
                raise
            problems.append(f"{format.whole_run} was not written: {sentence(error)}")
    return tuple(written), tuple(problems)
