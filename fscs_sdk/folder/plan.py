"""What a run has to do, and what is done already."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from fscs_sdk.folder.identity import PhotoFile
from fscs_sdk.folder.inputs import Inputs, InputsError, Photo
from fscs_sdk.folder.journal import RUN_JOURNAL, Record, journal_name, read_journal, shard_journals
from fscs_sdk.folder.output import OutputFolder
from fscs_sdk.folder.places import in_shard, places
from fscs_sdk.formats import Format, select
from fscs_sdk.video import VIDEO_ENDINGS

if TYPE_CHECKING:
    from fscs_sdk.prediction import Failure, Prediction
    from fscs_sdk.supports import SupportSet

#: Part of every run's key: raise it when the same photo, model and supports would give another answer.
ANSWER_VERSION = 1


class Segmenter(Protocol):
    """What a run needs of a :class:`~fscs_sdk.FewShotSegmenter`."""

    @property
    def identity(self) -> str: ...

    @property
    def protocol(self) -> str: ...

    @property
    def edges(self) -> bool: ...

    def encode(self, supports: Mapping[str, object]) -> "SupportSet": ...

    def check(self, supports: "SupportSet") -> None: ...

    def stream(
        self, queries: Iterable[Any], supports: "SupportSet", *, max_pixels: int, on_error: Literal["skip"]
    ) -> "Iterable[Prediction | Failure]": ...


class Work:
    """The arguments of a run, made ready."""

    def __init__(
        self,
        model: Segmenter,
        supports: "str | os.PathLike[str] | Mapping[str, object] | SupportSet",
        formats: str | Sequence[str],
        workers: int | None,
        max_pixels: int,
        fps: float,
    ) -> None:
        self.formats: list[Format] = select([formats] if isinstance(formats, str) else formats)
        if not self.formats:
            raise ValueError("no format is chosen; name at least one, such as mask")
        self.model = model
        self.supports = _encoded(model, supports)
        model.check(self.supports)
        self.names = self.supports.names
        self.writes_maps = any(format.maps for format in self.formats)
        self.workers = workers or min(4, max(2, os.cpu_count() or 2))
        self.max_pixels = max_pixels
        self.fps = fps
        self.video_format = f"video, {fps:g} a second"

    def wanted(self, photo: Photo) -> set[str]:
        """What a complete answer has, by the names in the journal."""
        return {self.video_format} if is_video(photo.path) else {format.name for format in self.formats}

    def run_key(self) -> str:
        """Changes when an answer could by more than rounding: device and dtype, batches and threads are left out.

        Of supports it takes what they were made from, not their features, which every machine rounds in its own way;
        files of earlier versions do not say that.
        """
        supports, model = self.supports, self.model
        settings = [ANSWER_VERSION, model.identity.rpartition("@")[2], model.protocol]
        settings += [model.edges, self.names, supports.source]
        key = sha256(json.dumps(settings).encode())
        if not supports.source:
            maps = (map for level in supports.features for map in level)
            found = supports.calibration
            numbers = () if found is None else (found.offsets, found.cuts, found.slopes, found.pooled)
            for tensor in (*maps, supports.masks, supports.tagged, supports.class_index, supports.thresholds, *numbers):
                key.update(tensor.contiguous().numpy().tobytes())
        return key.hexdigest()[:16]


def _encoded(model: Segmenter, supports: "str | os.PathLike[str] | Mapping[str, object] | SupportSet") -> "SupportSet":
    if isinstance(supports, (str, os.PathLike)):
        from fscs_sdk.references import ANNOTATION_ENDINGS, read_supports
        from fscs_sdk.supports import SupportSet

        path = Path(supports)
        if path.is_file() and path.suffix.lower() not in ANNOTATION_ENDINGS:
            return SupportSet.load(path)
        supports = read_supports(path)
    return model.encode(supports) if isinstance(supports, Mapping) else supports


def is_video(path: str) -> bool:
    """Whether a file is taken for a video: by its ending."""
    return os.path.splitext(path)[1].lower() in VIDEO_ENDINGS


@dataclass(frozen=True)
class Earlier:
    """What lies in the output folder of earlier answers to a photo: ``more`` is right and of formats that this run does
    not write, ``files`` is all there is.
    """

    more: Mapping[str, tuple[str, ...]]
    files: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes:
        inputs: all photos, of all shards, and what was left out.
        photos: the photos of this run or shard.
        places: photo's path -> what its results' names begin with, relative to the output folder.
        done: path -> record, of the photos that need no answer.
        todo: the others.
        earlier: path -> what is left of earlier answers to them.
        kept: path -> record, of photos of earlier runs that this one was not asked about and whose results are there;
            those that are no longer where they were have the status ``gone``.
        recorded: path -> record, what the journals said of all photos before.
        renewed: how many of ``todo`` another model, settings or supports answered before.
        run: key of the run: the model, its settings and what the supports were made from.
    """

    inputs: Inputs
    photos: tuple[Photo, ...]
    places: Mapping[str, str]
    done: Mapping[str, Record]
    todo: tuple[Photo, ...]
    earlier: "Mapping[str, Earlier]"
    kept: Mapping[str, Record]
    recorded: Mapping[str, Record]
    renewed: int
    run: str


def make_plan(work: Work, found: Inputs, out: Path, *, shard: tuple[int, int] | None, overwrite: bool) -> Plan:
    """Compare the photos with the journals.

    Raises:
        InputsError: the output folder holds results of other photos of the same names, and ``overwrite`` is not set.
    """
    place = places(photo.path for photo in found.photos)
    photos = tuple(photo for photo in found.photos if shard is None or in_shard(photo.path, shard))
    own = out / journal_name(shard)
    others = [path for path in (out / RUN_JOURNAL, *shard_journals(out).values()) if path != own]
    journals = [read_journal(path) for path in (own, *others)]
    recorded = {path: record for journal in reversed(journals) for path, record in journal.records.items()}
    asked = {photo.path for photo in found.photos}
    elsewhere = {record.source: record for path, record in recorded.items() if path not in asked}
    run, output = work.run_key(), OutputFolder(out) if out.is_dir() else None
    files = {photo.path: PhotoFile(photo.source) for photo in photos}
    settled = [journal.settled for journal in journals]
    done: dict[str, Record] = {}
    earlier: dict[str, Earlier] = {}
    renewed = 0
    for photo in photos:
        file = files[photo.path]
        records = [journal.records[photo.path] for journal in journals if photo.path in journal.records]
        for record in () if overwrite else records:
            if file.is_another_than(record):
                raise InputsError(
                    f"'{out}' holds results of other photos of the same names: {photo.path!r} is {record.source!r} "
                    f"there and {file.source!r} here; choose another output folder, answer both in one run, or "
                    "overwrite what is there"
                )
        right = [
            replace(journal[photo.path], status="ok", **file.state)
            for journal in settled
            if output and _is_right(journal.get(photo.path), photo, file, run, place[photo.path], output)
        ]
        wanted = work.wanted(photo)
        complete = [record for record in right if wanted <= set(record.files)]
        if complete and not overwrite:
            done[photo.path] = complete[0]
            continue
        renewed += any(record.status == "ok" and record.run != run for record in records)
        moved = [elsewhere[file.source]] if file.source in elsewhere else []
        more = {name: files for record in right for name, files in record.files.items() if name not in wanted}
        all_files = (record.all_files() for record in (*records, *moved))
        earlier[photo.path] = Earlier(more, frozenset(chain.from_iterable(all_files)))
    sources = {file.source for file in files.values()}
    kept = _kept(settled[:1] if shard else settled, set(files), sources, found, output) if output else {}
    todo = tuple(photo for photo in photos if photo.path not in done)
    return Plan(found, photos, place, done, todo, earlier, kept, recorded, renewed, run)


def _is_right(record: Record | None, photo: Photo, file: PhotoFile, run: str, place: str, output: OutputFolder) -> bool:
    """Whether a record's answer is what a new one would be, and its files are there and called what they would be."""
    if record is None or record.status not in ("ok", "gone") or record.run != run or photo.problem is not None:
        return False
    files = list(chain.from_iterable(record.files.values()))
    there = all(name.startswith(f"{place}.") and output.has(name) for name in files)
    return there and file.has_content_of(record)


def _kept(
    journals: Sequence[Mapping[str, Record]], mine: Set[str], sources: Set[str], found: Inputs, output: OutputFolder
) -> dict[str, Record]:
    """What journals say of other photos than these, if their results are there; the first journal's word counts."""
    asked = {photo.path for photo in found.photos}
    kept: dict[str, Record] = {}
    for journal in reversed(journals):
        for path, record in journal.items():
            files = chain.from_iterable(record.files.values())
            if record.status == "failed" or path in mine or record.source in sources or not all(map(output.has, files)):
                continue
            left = path not in asked and (is_gone(record) or found.searched(record.source))
            kept[path] = replace(record, status="gone" if left else "ok")
    return kept


def is_gone(record: Record) -> bool:
    """Whether a photo is no longer where it was, though the folder of its run is: not on a disk that is not there."""
    if os.path.lexists(record.source):
        return False
    folder = record.source.removesuffix(record.path.replace("/", os.sep))
    return record.status == "gone" or (folder != record.source and os.path.isdir(folder))
