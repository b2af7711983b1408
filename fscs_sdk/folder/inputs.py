"""Which photos a run is about, and where the results of each go in the output tree."""

import glob
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from fscs_sdk.files import PHOTO_ENDINGS

#: The most bytes of a file name, and what the formats may add to a photo's.
LONGEST_NAME, LONGEST_ENDING = 255, 64


@dataclass(frozen=True)
class Photo:
    """One input.

    Attributes:
        path: where it is read.
        place: its place in the output tree, relative, with ``/``; no two photos of a run have the same, also where
            upper and lower case are not told apart.
    """

    path: Path
    place: str


@dataclass(frozen=True)
class Inputs:
    """All photos of a run in the order of their places, and how many links and other files were passed over."""

    photos: tuple[Photo, ...]
    links: int
    others: int


@dataclass(frozen=True)
class _Found:
    """A photo before its place is decided: ``wanted`` is the place it would like, ``origin`` tells it from others."""

    path: Path
    wanted: str
    origin: str


def find_inputs(sources: Sequence[str | os.PathLike[str]], *, out: Path, follow_links: bool = False) -> Inputs:
    """List the photos of files, folders, patterns and lists.

    A folder is walked with its sub-folders and mirrored: alone into the output folder itself, one of several into a
    folder of its name. Of a pattern such as ``photos/*/*.jpg`` the part before the first wildcard is what is mirrored.
    ``@list.txt`` names one input a line. Hidden files, files without a photo's ending, the output folder and folders
    of earlier results are passed over.

    Args:
        out: the output folder; it need not exist.
        follow_links: also take what symbolic links inside the folders point to.

    Raises:
        ValueError: an input is not there, matches nothing, or is the output folder itself.
        OSError: a folder or list cannot be read.
    """
    walk = _Walk(out, follow_links)
    texts = [text for source in sources for text in _lines_or_itself(os.fspath(source))]
    folders = [text for text in texts if os.path.isdir(text)]
    found: dict[str, _Found] = {}
    for text in texts:
        for photo in _expand(text, walk, alone=len(texts) == 1, twins=_basenames(folders)):
            found.setdefault(os.path.abspath(photo.path), photo)
    photos = sorted(_places(list(found.values())), key=lambda photo: photo.place)
    return Inputs(tuple(photos), walk.links, walk.others)


def shard(photos: Iterable[Photo], index: int, count: int) -> tuple[Photo, ...]:
    """The photos of shard ``index`` (from 1) of ``count``, by a hash of their places: a partition."""
    return tuple(photo for photo in photos if _hash(photo.place, 16) % count == index - 1)


def _lines_or_itself(text: str) -> list[str]:
    if not text.startswith("@") or os.path.lexists(text):
        return [text]
    try:
        lines = Path(text[1:]).read_bytes().splitlines()
    except OSError as error:
        raise ValueError(f"the list '{text[1:]}' cannot be read ({error.strerror}); check the path") from None
    names = [os.fsdecode(line) for line in lines if line.strip()]
    if not names:
        raise ValueError(f"the list '{text[1:]}' names no photo; give one path in each line")
    return names


def _basenames(folders: Iterable[str]) -> Counter[str]:
    return Counter(Path(os.path.abspath(folder)).name.casefold() for folder in folders)


def _expand(text: str, walk: "_Walk", *, alone: bool, twins: Counter[str]) -> Iterator[_Found]:
    path = Path(text)
    if path.is_dir():
        name = Path(os.path.abspath(path)).name
        top = "" if alone else f"{name}~{_digest(text)}/" if twins[name.casefold()] > 1 else f"{name}/"
        for file in walk.files(path):
            relative = file.relative_to(path).as_posix()
            yield _Found(file, f"{top}{relative}", f"{text}\0{relative}")
    elif os.path.lexists(path):
        listed = PurePosixPath(path.as_posix())
        inside = not alone and not listed.is_absolute() and ".." not in listed.parts
        yield _Found(path, listed.as_posix() if inside and len(listed.parts) > 1 else path.name, text)
    elif glob.has_magic(text):
        yield from _matches(text, walk)
    else:
        # One of many may have vanished since it was listed: it is answered, as a failure, like any other.
        if alone:
            raise ValueError(f"there is no file, folder or match for '{text}'; check the path")
        yield _Found(path, path.name or "unnamed", text)


def _matches(pattern: str, walk: "_Walk") -> Iterator[_Found]:
    parts = Path(pattern).parts
    fixed = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    top = Path(*parts[:fixed])
    matches = sorted(glob.glob(pattern, recursive=True))
    if not matches:
        raise ValueError(f"nothing matches '{pattern}'; check the pattern")
    for match in matches:
        files = walk.files(Path(match)) if os.path.isdir(match) else walk.photos([Path(match)])
        for file in files:
            relative = file.relative_to(top).as_posix()
            yield _Found(file, relative, f"{pattern}\0{relative}")


class _Walk:
    """Goes through folders and counts what it passes over."""

    def __init__(self, out: Path, follow_links: bool) -> None:
        self.out, self.follow_links = Path(os.path.realpath(out)), follow_links
        self.links = self.others = 0

    def files(self, top: Path) -> Iterator[Path]:
        """The photos below a folder, in order.

        Raises:
            ValueError: the folder is the output folder. OSError: it cannot be read.
        """
        if Path(os.path.realpath(top)) == self.out:
            raise ValueError(f"'{top}' is both an input and the output folder; choose another output folder")
        seen: set[str] = set()
        for folder, subfolders, names in os.walk(top, followlinks=self.follow_links, onerror=_raise):
            real = os.path.realpath(folder)
            if real in seen or self._is_output(Path(real), names, top=folder == os.fspath(top)):
                subfolders.clear()
                continue
            seen.add(real)
            linked = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]
            if not self.follow_links:
                self.links += len(linked)
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            yield from self.photos(Path(folder, name) for name in sorted(names))

    def photos(self, files: Iterable[Path]) -> Iterator[Path]:
        for file in files:
            if file.name.startswith(".") or file.suffix.lower() not in PHOTO_ENDINGS:
                self.others += 1
            elif file.is_symlink() and not self.follow_links:
                self.links += 1
            else:
                yield file

    def _is_output(self, real: Path, names: Sequence[str], *, top: bool) -> bool:
        """Whether a folder is this run's output, or an earlier run's: those hold a journal."""
        return real == self.out or (not top and any(is_journal_name(name) for name in names))


def is_journal_name(name: str) -> bool:
    """``journal.jsonl`` or the journal of a shard, ``journal.1-of-4.jsonl``."""
    return name == "journal.jsonl" or (name.startswith("journal.") and name.endswith(".jsonl") and "-of-" in name)


def _raise(error: OSError) -> None:
    raise error


def _places(found: Sequence[_Found]) -> Iterator[Photo]:
    """Decide the places: the wanted one, with a mark where two would clash or a file name would be too long."""
    safe = [_safe(photo) for photo in found]
    clashes = Counter(_folded(place) for place in safe)
    taken = {place for place, count in clashes.items() if count == 1}
    for photo, wanted in sorted(zip(found, safe, strict=True), key=lambda pair: pair[0].origin):
        place, origin = wanted, photo.origin
        if clashes[_folded(wanted)] > 1:
            while place == wanted or _folded(place) in taken:
                parent, slash, name = wanted.rpartition("/")
                place = f"{parent}{slash}{_marked(name, origin)}"
                origin += "\0"
            taken.add(_folded(place))
        yield Photo(photo.path, place)


def _safe(photo: _Found) -> str:
    """A relative place whose parts fit a file system, and whose ending cannot be taken for one that a format adds."""
    parts = [part for part in PurePosixPath(photo.wanted).parts if part not in ("/", "..", ".")]
    parts = [_marked(part, part) if len(_bytes(part)) > LONGEST_NAME - LONGEST_ENDING else part for part in parts]
    name = parts.pop() if parts else "unnamed"
    if PurePosixPath(name).suffix.lower() not in PHOTO_ENDINGS:
        name = _marked(name, photo.origin)
    return "/".join([*parts, name])


def _marked(name: str, origin: str) -> str:
    """``name~<hash of origin>.ending``, at most 191 bytes."""
    stem, ending = os.path.splitext(name)
    ending = ending if ending.lower() in PHOTO_ENDINGS else ""
    stem = name[: len(name) - len(ending)]
    mark = f"~{_digest(origin)}{ending}"
    room = LONGEST_NAME - LONGEST_ENDING - len(_bytes(mark))
    return _bytes(stem)[:room].decode("utf-8", "ignore") + mark


def _folded(place: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", place).casefold())


def _bytes(text: str) -> bytes:
    """A name's bytes, or more; also of names that are no text."""
    return text.encode("utf-8", "surrogatepass")


def _digest(text: str) -> str:
    return sha256(_bytes(text)).hexdigest()[:8]


def _hash(text: str, digits: int) -> int:
    return int(sha256(_bytes(text)).hexdigest()[:digits], 16)
