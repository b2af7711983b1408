"""What a run has to do, and what is done already."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from fscs_sdk.folder.inputs import Inputs, Photo
from fscs_sdk.folder.journal import JOURNAL, Contents, Record, journal_name, read_journal, shard_journals
from fscs_sdk.folder.output import OutputFolder
from fscs_sdk.folder.places import in_shard, places
from fscs_sdk.formats import Format, select

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from fscs_sdk.prediction import Prediction
    from fscs_sdk.supports import SupportSet

#: Part of every fingerprint: raise it when the same photo, model and supports would give another answer.
ANSWER_VERSION = 1


class Segmenter(Protocol):
    """What a run needs of a :class:`~fscs_sdk.FewShotSegmenter`."""

    @property
    def identity(self) -> str: ...

    @property
    def protocol(self) -> str: ...

    @property
    def dtype(self) -> object: ...

    def encode(self, supports: Mapping[str, object]) -> "SupportSet": ...

    def check(self, supports: "SupportSet") -> None: ...

    def predict_batch(
        self, images: "Sequence[NDArray[np.uint8]]", supports: "SupportSet"
    ) -> "Iterable[Prediction]": ...


class Work:
    """The arguments of a run, made ready."""

    def __init__(
        self,
        model: Segmenter,
        supports: "Mapping[str, object] | SupportSet",
        formats: Sequence[str],
        batch_size: int,
        workers: int | None,
        max_pixels: int,
    ) -> None:
        self.formats: list[Format] = select(formats)
        if not self.formats:
            raise ValueError("no format is chosen; name at least one, such as mask")
        self.model = model
        self.supports = model.encode(supports) if isinstance(supports, Mapping) else supports
        model.check(self.supports)
        self.names = self.supports.names
        self.batch_size = batch_size
        self.workers = workers or min(4, max(2, os.cpu_count() or 2))
        self.max_pixels = max_pixels

    def fingerprint(self) -> str:
        """Changes when an answer could. The device is left out: it moves an answer by rounding alone."""
        model = self.model
        settings = [ANSWER_VERSION, model.identity.rpartition("@")[2], model.protocol, str(model.dtype), self.names]
        digest = sha256(json.dumps(settings).encode())
        supports = self.supports
        maps = (map for level in supports.features for map in level)
        found = supports.calibration
        numbers = () if found is None else (found.offsets, found.cuts, found.slopes)
        for tensor in (*maps, supports.masks, supports.tagged, supports.class_index, supports.thresholds, *numbers):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


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
        kept: path -> record, of photos that this run was not asked about and whose results are there.
        run: fingerprint of the model, its settings and the supports.
    """

    inputs: Inputs
    photos: tuple[Photo, ...]
    places: Mapping[str, str]
    done: Mapping[str, Record]
    todo: tuple[Photo, ...]
    earlier: "Mapping[str, Earlier]"
    kept: Mapping[str, Record]
    run: str


def make_plan(work: Work, found: Inputs, out: Path, *, shard: tuple[int, int] | None, overwrite: bool) -> Plan:
    place = places(photo.path for photo in found.photos)
    photos = tuple(photo for photo in found.photos if shard is None or in_shard(photo.path, shard))
    own = out / journal_name(shard)
    others = [path for path in (out / JOURNAL, *shard_journals(out).values()) if path != own]
    journals = [read_journal(path) for path in (own, *others)]
    run = work.fingerprint()
    wanted = {format.name for format in work.formats}
    output = OutputFolder(out) if out.is_dir() else None
    done: dict[str, Record] = {}
    earlier: dict[str, Earlier] = {}
    for photo in photos:
        right = [
            record for record in _settled(journals, photo.path) if output and _is_right(record, photo, run, output)
        ]
        right = [record for record in right if _fits(record, place[photo.path])]
        complete = [record for record in right if wanted <= set(record.files)]
        if complete and not overwrite:
            done[photo.path] = complete[0]
        else:
            all_files = (
                journal.records[photo.path].all_files() for journal in journals if photo.path in journal.records
            )
            more = {name: files for record in right for name, files in record.files.items() if name not in wanted}
            earlier[photo.path] = Earlier(more, frozenset(chain.from_iterable(all_files)))
    todo = tuple(photo for photo in photos if photo.path not in done)
    mine = {photo.path for photo in photos}
    kept = {
        path: record
        for journal in (journals[:1] if shard else reversed(journals))
        for path, record in journal.settled.items()
        if record.status == "ok" and path not in mine
    }
    return Plan(found, photos, place, done, todo, earlier, kept, run)


def _settled(journals: Sequence[Contents], path: str) -> list[Record]:
    return [journal.records[path] for journal in journals if path in journal.records and path not in journal.pending]


def _is_right(record: Record, photo: Photo, run: str, output: OutputFolder) -> bool:
    """Whether a record's answer is what a new one would be, and its files are there."""
    if record.status != "ok" or record.run != run or photo.problem is not None:
        return False
    try:
        status = os.stat(photo.source)
    except OSError:
        return False
    unchanged = (status.st_size, status.st_mtime_ns) == (record.size, record.modified)
    return unchanged and all(output.has(file) for files in record.files.values() for file in files)


def _fits(record: Record, place: str) -> bool:
    """Whether a record's files are called what they would be called now."""
    return all(file.startswith(f"{place}.") for files in record.files.values() for file in files)
