"""The workspace: everything that the page knows, as files that other commands read too.

::

    supports/<class>/rex.jpg, rex_mask.png    the shots; without a mask a class tag ('fscs predict --supports')
    negatives/street.jpg                      photos with none of the classes
    queries/*.jpg                             every photo that is asked
    answers/<photo>.mask.png, .maps.png, .json    what was found in it
    drafts/<photo>-<class>.runs               masks that are being drawn
    supports.safetensors                      the shots encoded, as they were last asked with
    settings.json                             thresholds, calibration, what was confirmed
    .token, .views/                           the page's key, and scaled photos, which may be deleted

The disk is the only truth: nothing here is kept in memory but hashes of files that did not change. Every file appears
whole or not at all.
"""

import hashlib
import json
import os
import secrets
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fscs_sdk.app.names import class_name, photo_name
from fscs_sdk.app.runlengths import decode_runs
from fscs_sdk.atomic import write_atomically
from fscs_sdk.images import read_image, read_mask
from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.references.folders import read_support_folder
from fscs_sdk.supports import Shot

#: Photos that a workspace takes, bytes of one, and its pixels.
MOST_PHOTOS, MOST_BYTES, MOST_PIXELS = 2_000, 100_000_000, 100_000_000
FOLDERS = ("supports", "negatives", "queries", "answers", "drafts", ".views")


class UnknownPhotoError(LookupError):
    """There is no photo with this identifier; the message says what to do."""


@dataclass(frozen=True)
class Photo:
    """A photo of the workspace.

    Attributes:
        id: what requests call it: a hash of its place, never a path.
        path: the file.
        place: the folder that it lies in: ``queries``, ``negatives``, ``supports`` or ``folder``, the one
            outside to pick from.
        class_name: of a shot.
        shot: what the model gets of a shot.
    """

    id: str
    path: Path
    place: str
    class_name: str | None = None
    shot: Shot | None = None

    @property
    def name(self) -> str:
        """The file's name, which is the same in every place that the photo was copied to."""
        return self.path.name

    @property
    def is_tag(self) -> bool:
        """Whether it is a shot without a mask."""
        return self.shot is not None and self.shot.is_tag

    @property
    def mask_path(self) -> Path:
        """The picture that is a shot's mask.

        Raises:
            ValueError: its mask is in a file of another program.
        """
        if self.shot is not None and isinstance(self.shot.mask, (str, os.PathLike)):
            return Path(self.shot.mask)
        raise ValueError(f"the mask of '{self.path}' is in another program's file; remove that, then mark it here")


@dataclass(frozen=True)
class Settings:
    """What the user chose, beside photos and masks.

    Attributes:
        thresholds: by class, where the model's own was changed.
        calibrate: whether thresholds and offsets are learnt from the shots.
        edges: whether maps follow the photo's edges.
        confirmed: query's name -> the presences that the user called right.
    """

    thresholds: Mapping[str, float] = field(default_factory=dict)
    calibrate: bool = True
    edges: bool = True
    confirmed: Mapping[str, Mapping[str, bool]] = field(default_factory=dict)


class Workspace:
    """A folder on disk and the operations on it, each of which leaves it readable. Usable from several threads."""

    def __init__(self, root: Path, *, folder: Path | None = None) -> None:
        """Make the folders that are missing, and finish what a killed process left half done.

        Args:
            root: the workspace.
            folder: another folder, to pick photos from; nothing is written there.

        Raises:
            OSError: a folder cannot be made.
        """
        self.root, self.folder = root.resolve(), folder
        for name in FOLDERS:
            (self.root / name).mkdir(parents=True, exist_ok=True)
        self._changing = threading.RLock()
        self._finish_shots()

    @property
    def encoded(self) -> Path:
        """Where the encoded supports are kept, with thresholds and calibration: 'fscs predict --supports' reads it."""
        return self.root / "supports.safetensors"

    # -------------------------------------------------------------------------------------------------- what is there

    def queries(self) -> list[Photo]:
        """Every photo that is asked, in the order of the names."""
        return self._listed("queries")

    def negatives(self) -> list[Photo]:
        """Every photo with none of the classes."""
        return self._listed("negatives")

    def shots(self) -> dict[str, list[Photo]]:
        """Class -> its shots, as 'fscs predict --supports' reads the folder.

        Raises:
            ValueError: the folder was changed by hand into something that cannot be read; the message says what.
        """
        supports = self.root / "supports"
        if not any(path.is_dir() and not path.name.startswith(".") for path in supports.iterdir()):
            return {}
        return {
            name: [self._photo(Path(str(shot.image)), "supports", name, shot) for shot in shots]
            for name, shots in read_support_folder(supports).items()
        }

    def pickable(self) -> list[Photo]:
        """The photos of the folder to pick from."""
        return [] if self.folder is None else [self._photo(path, "folder") for path in _pictures(self.folder)]

    def photo(self, identifier: str) -> Photo:
        """The photo that a request names.

        Raises:
            UnknownPhotoError: there is none.
        """
        for photo in self._all():
            if photo.id == identifier:
                return photo
        raise UnknownPhotoError("this photo is not in the workspace any more; reload the page")

    def _all(self) -> Iterator[Photo]:
        yield from self.queries()
        for shots in self.shots().values():
            yield from shots
        yield from self.negatives()
        yield from self.pickable()

    def _listed(self, place: str) -> list[Photo]:
        return [self._photo(path, place) for path in _pictures(self.root / place)]

    def _photo(self, path: Path, place: str, name: str | None = None, shot: Shot | None = None) -> Photo:
        at = path.relative_to(self.root).as_posix() if place != "folder" else f"folder/{path.name}"
        identifier = hashlib.sha256(at.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        return Photo(identifier, path, place, name, shot)

    # --------------------------------------------------------------------------------------------------------- photos

    def add(self, name: str, data: bytes) -> Photo:
        """Take a photo in, to be asked; one that is there already, with the same contents, is that one.

        Raises:
            ValueError: it cannot be decoded, or the workspace is full.
            OSError: it cannot be written.
        """
        height, width = read_image(data, label=f"'{name}'", max_pixels=MOST_PIXELS).shape[:2]
        with self._changing:
            everywhere = list(self._all())
            same = [photo for photo in everywhere if photo.place != "folder" and _holds(photo.path, data)]
            for photo in same:
                if photo.place == "queries":
                    return photo
            if len(self.queries()) >= MOST_PHOTOS:
                raise ValueError(
                    f"the workspace holds {MOST_PHOTOS} photos, which is the most; remove some, or use another "
                    "workspace, or 'fscs predict' for the whole folder"
                )
            taken = [photo.name for photo in everywhere if photo.place != "folder"]
            path = self.root / "queries" / (same[0].name if same else photo_name(name, taken))
            write_atomically(path, data)
            _SIZES[_as_written(path)] = height, width
        return self._photo(path, "queries")

    def remove(self, query: Photo) -> None:
        """Take a photo out of the queries, with its answer; shots made from it stay."""
        with self._changing:
            query.path.unlink(missing_ok=True)
            for ending in (".json", ".mask.png", ".maps.png"):
                (self.root / "answers" / f"{query.name}{ending}").unlink(missing_ok=True)

    def set_negative(self, photo: Photo, negative: bool) -> None:
        """Say that a photo shows none of the classes, or take that back."""
        path = self.root / "negatives" / photo.name
        with self._changing:
            if negative:
                write_atomically(path, photo.path.read_bytes())
            else:
                path.unlink(missing_ok=True)

    # ---------------------------------------------------------------------------------------------------------- shots

    def set_shot(self, photo: Photo, name: str, mask: NDArray[np.bool_] | None) -> None:
        """Make a photo a shot of a class, or give it another mask; without a mask it is a class tag.

        Raises:
            ValueError: no class can be called so, or the mask marks nothing.
        """
        if mask is not None and not mask.any():
            raise ValueError("nothing is marked; mark the object, or add the photo as a tag")
        name = class_name(name)
        with self._changing:
            shot = self.shot(photo, name)
            target = self.root / "supports" / self._folder_name(name) / photo.name if shot is None else shot.path
            target.parent.mkdir(exist_ok=True)
            marks = target.with_name(f"{target.stem}_mask.png")
            if shot is not None and not shot.is_tag:
                marks = shot.mask_path
            if mask is None:
                marks.unlink(missing_ok=True)
            else:  # before the photo: killed in between, _finish_shots copies that
                write_atomically(marks, _png(mask))
            if not target.exists():
                write_atomically(target, photo.path.read_bytes())
            (self.root / "negatives" / photo.name).unlink(missing_ok=True)
            self.drop_draft(photo, name)

    def remove_shot(self, photo: Photo, name: str) -> None:
        """Take a photo out of a class; the class goes with its last shot."""
        with self._changing:
            shot = self.shot(photo, class_name(name))
            if shot is None:
                return
            if not shot.is_tag:
                shot.mask_path.unlink(missing_ok=True)
            shot.path.unlink(missing_ok=True)
            if not _pictures(shot.path.parent):
                _remove_empty(shot.path.parent)

    def rename_class(self, old: str, new: str) -> None:
        """Call a class otherwise.

        Raises:
            ValueError: there is no such class, one that is called so already, or no class can be.
        """
        with self._changing:
            shots = self.shots()
            name = class_name(new)
            if old not in shots:
                raise ValueError(f"there is no class {old!r} any more; reload the page")
            if name != old and self._folder_name(name) in shots:
                raise ValueError(f"there is a class {name!r} already; choose another name")
            shots[old][0].path.parent.rename(self.root / "supports" / name)
            thresholds = dict(self.settings().thresholds)
            if old in thresholds:
                thresholds[name] = thresholds.pop(old)
                self.change_settings(thresholds=thresholds)

    def shot(self, photo: Photo, name: str) -> Photo | None:
        """The shot of a class that was made from a photo, or is it."""
        for shot in self.shots().get(self._folder_name(name), []):
            if shot.id == photo.id or shot.name == photo.name:
                return shot
        return None

    def _folder_name(self, name: str) -> str:
        """Upper and lower case are one on many file systems: a class that differs in that only is the one there."""
        for path in (self.root / "supports").iterdir():
            if path.is_dir() and path.name.casefold() == name.casefold():
                return path.name
        return name

    def _finish_shots(self) -> None:
        """A mask whose photo is missing was written when the process ended: copy the photo, or take the mask away."""
        queries = {photo.path.stem: photo for photo in [*self.negatives(), *self.queries()]}
        for folder in (self.root / "supports").iterdir():
            pictures = _pictures(folder) if folder.is_dir() else []
            for mask in pictures:
                stem = mask.stem.removesuffix("_mask")
                if stem == mask.stem or any(other.stem == stem for other in pictures):
                    continue
                if stem in queries:
                    write_atomically(folder / queries[stem].name, queries[stem].path.read_bytes())
            if folder.is_dir() and not pictures:
                _remove_empty(folder)

    def mask(self, shot: Photo) -> NDArray[np.bool_] | None:
        """bool (H, W), the mask of a shot at the size of its photo; None for a tag."""
        if shot.shot is None or shot.shot.mask is None:
            return None
        return read_mask(shot.shot.mask, size=photo_size(shot.path), max_pixels=MOST_PIXELS)

    # --------------------------------------------------------------------------------------------------------- drafts

    def draft(self, photo: Photo, name: str) -> tuple[bytes, str] | None:
        """The runs of the mask that was being drawn for a class, and their version; None if there is none."""
        try:
            data = self._draft_path(photo, name).read_bytes()
        except FileNotFoundError:
            return None
        return data, _version(data)

    def set_draft(self, photo: Photo, name: str, runs: bytes, version: str) -> str | None:
        """Keep a mask that is being drawn.

        Args:
            version: of the draft that the change was made on, empty if there was none.

        Returns:
            The new version; None if another window drew on it in the meantime, and nothing was changed.

        Raises:
            ValueError: these are not the runs of a mask of this photo.
        """
        decode_runs(runs, photo_size(photo.path))
        with self._changing:
            there = self.draft(photo, name)
            if (there[1] if there else "") != version:
                return None
            write_atomically(self._draft_path(photo, name), runs)
        return _version(runs)

    def drop_draft(self, photo: Photo, name: str) -> None:
        """Forget a mask that was being drawn."""
        self._draft_path(photo, name).unlink(missing_ok=True)

    def drafts(self) -> dict[str, list[str]]:
        """Photo's id -> the classes for which a mask of it is being drawn."""
        found: dict[str, list[str]] = {}
        for path in sorted((self.root / "drafts").glob("*.runs")):
            identifier, _, name = path.stem.partition("-")
            found.setdefault(identifier, []).append(name)
        return found

    def _draft_path(self, photo: Photo, name: str) -> Path:
        return self.root / "drafts" / f"{photo.id}-{class_name(name)}.runs"

    # ------------------------------------------------------------------------------------------------------- settings

    def settings(self) -> Settings:
        """What was chosen; what is missing or damaged is as at the start."""
        try:
            found = json.loads((self.root / "settings.json").read_text(encoding="utf-8"))
            thresholds = {str(name): float(value) for name, value in found["thresholds"].items()}
            calibrate, edges = bool(found["calibrate"]), bool(found.get("edges", False))
            return Settings(thresholds, calibrate, edges, dict(found["confirmed"]))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return Settings()

    def change_settings(
        self,
        *,
        thresholds: Mapping[str, float] | None = None,
        calibrate: bool | None = None,
        edges: bool | None = None,
        confirmed: Mapping[str, Mapping[str, bool]] | None = None,
    ) -> None:
        """Choose otherwise; what is None stays."""
        with self._changing:
            old = self.settings()
            chosen = {
                "thresholds": dict(old.thresholds if thresholds is None else thresholds),
                "calibrate": old.calibrate if calibrate is None else calibrate,
                "edges": old.edges if edges is None else edges,
                "confirmed": dict(old.confirmed if confirmed is None else confirmed),
            }
            write_atomically(self.root / "settings.json", json.dumps(chosen, indent=2).encode())

    def token(self) -> str:
        """The page's key: made once, so that a page that is open finds a server that was started again."""
        path = self.root / ".token"
        with self._changing:
            try:
                kept = path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError):
                kept = ""
            if len(kept) < 32:
                kept = secrets.token_urlsafe(32)
                path.unlink(missing_ok=True)
                with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                    file.write(kept)
        return kept

    # --------------------------------------------------------------------------------------------------- for the model

    def supports(self) -> dict[str, list[Shot]]:
        """What the model is asked with."""
        return {name: [shot.shot for shot in shots if shot.shot] for name, shots in self.shots().items()}

    def state(self) -> str:
        """A text that changes with everything that answers depend on: shots, negatives, and settings."""
        return self.support_state() + ("-edges" if self.settings().edges else "")

    def support_state(self) -> str:
        """A hash of everything that encoded supports depend on."""
        settings = self.settings()
        shots = [shot for shots in self.shots().values() for shot in shots]
        listed = [
            (photo.path.relative_to(self.root).as_posix(), _digest(photo.path).hex(), mask_version(photo.shot))
            for photo in [*shots, *self.negatives()]
        ]
        listed.append((json.dumps(dict(sorted(settings.thresholds.items()))), str(settings.calibrate), ""))
        return hashlib.sha256(json.dumps(listed).encode()).hexdigest()[:16]


def photo_size(path: Path) -> tuple[int, int]:
    """(height, width) of a photo, upright; it is decoded once for it."""
    written = _as_written(path)
    if written not in _SIZES:
        height, width = read_image(path, max_pixels=MOST_PIXELS).shape[:2]
        _SIZES[written] = height, width
    return _SIZES[written]


#: (height, width) of every photo that was decoded, by its file as it was then.
_SIZES: dict[tuple[Path, int, int], tuple[int, int]] = {}


def _as_written(path: Path) -> tuple[Path, int, int]:
    stat = path.stat()
    return path, stat.st_mtime_ns, stat.st_size


def mask_version(shot: Shot | None) -> str:
    """A text that changes with a shot's mask; empty for a class tag."""
    if shot is None or shot.mask is None:
        return ""
    if isinstance(shot.mask, (str, os.PathLike)):
        return _digest(Path(shot.mask)).hex()[:16]
    data = shot.mask if isinstance(shot.mask, bytes) else np.asarray(shot.mask).tobytes()
    return hashlib.sha256(data).hexdigest()[:16]


def _holds(path: Path, data: bytes) -> bool:
    return path.stat().st_size == len(data) and _digest(path) == hashlib.sha256(data).digest()


def _digest(path: Path) -> bytes:
    return _digest_of(*_as_written(path))


@lru_cache(maxsize=8192)
def _digest_of(path: Path, modified: int, size: int) -> bytes:
    return hashlib.sha256(path.read_bytes()).digest()


def _png(mask: NDArray[np.bool_]) -> bytes:
    buffer = BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _version(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _pictures(folder: Path) -> list[Path]:
    found = [path for path in folder.iterdir() if path.suffix.lower() in PHOTO_ENDINGS and path.is_file()]
    return sorted(path for path in found if not path.name.startswith("."))


def _remove_empty(folder: Path) -> None:
    if not any(folder.iterdir()):
        folder.rmdir()
