"""Which photos a run is about: files, folders, patterns and lists -> photos, with their paths below a common folder."""

import fnmatch
import glob
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path, PurePath

from fscs_sdk.folder.journal import is_journal
from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.spelling import counted
from fscs_sdk.video import VIDEO_ENDINGS

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)


class InputsError(ValueError):
    """The inputs cannot be used as they are given; nothing was done. The message names them and the cure."""


@dataclass(frozen=True)
class Photo:
    """One input.

    Attributes:
        path: relative to the folder that holds all inputs, with ``/``: what the journal calls it. No two photos of a
            run have the same.
        source: where it is read.
        problem: why it is known already that it cannot be read, or None.
    """

    path: str
    source: str
    problem: str | None = None


@dataclass(frozen=True)
class Inputs:
    """All photos of a run, in the order of their paths, and how much inside the folders was left out.

    Attributes:
        photos: the photos.
        links: symbolic links that were not followed.
        hidden: photos and folders whose name begins with a dot.
        others: files without a photo's or video's ending.
        results: folders with the results of an earlier run.
        supports: files and folders that hold supports, not photos to be answered.
        folders: the folders that were searched: absolute paths, links resolved.
    """

    photos: tuple[Photo, ...]
    links: int = 0
    hidden: int = 0
    others: int = 0
    results: int = 0
    supports: int = 0
    folders: tuple[str, ...] = ()

    def searched(self, source: str) -> bool:
        """Whether a photo, an absolute path, would be among these if it were there and not left out."""
        return any(source.startswith(os.path.join(folder, "")) for folder in self.folders)


def find_inputs(
    inputs: Sequence[str | os.PathLike[str]],
    *,
    out: str | os.PathLike[str],
    root: str | os.PathLike[str] | None = None,
    follow_links: bool = False,
    leave_out: Iterable[str | os.PathLike[str]] = (),
) -> Inputs:
    """List the photos of files, folders, patterns and lists.

    - A folder is searched with all that is below it, for files with a photo's or video's ending. What is hidden, the
      output folder, folders of earlier results and what ``leave_out`` names are left out, and links, unless
      ``follow_links`` is set; no folder is read twice.
    - A file is taken as it is, whatever its ending. One that is not there is a photo with a ``problem``.
    - A pattern (``*``, ``?``, ``[...]``, and ``**`` for any folders) stands for what a shell would make of it; one that
      matches nothing is taken for a file's name.
    - ``@list.txt`` names one input a line, or separated by NUL bytes, without patterns; ``-`` and ``@-`` are such a
      list on standard input.

    What is named is followed where it is a link, like in ``grep -r``.

    Args:
        out: the output folder, which need not exist.
        root: the folder that the photos' paths are relative to; by default the deepest one that holds all inputs.
        leave_out: files and folders inside the inputs that hold no photos to answer, such as the supports; what is
            named as an input is not left out.

    Raises:
        InputsError: nothing is given, nothing is there, a list cannot be read, an input lies in the output folder or
            outside ``root``, or is a web address.
    """
    texts = [os.fsdecode(given) for given in inputs]
    walk = _Walk(os.path.realpath(out), follow_links, {os.path.realpath(path) for path in leave_out})
    for text in texts:
        for named in _expand(text):
            walk.name(named)
    if not walk.named:
        raise InputsError("no photos are given; name files, folders, patterns or lists")
    walk.finish()
    base = _absolute(os.fspath(root)) if root is not None else _common(walk.named)
    photos = [Photo(_relative(place, base), source, problem) for place, (source, problem) in walk.found.items()]
    inputs_found = Inputs(
        tuple(sorted(photos, key=lambda photo: photo.path)), folders=tuple(walk.folders), **walk.left_out
    )
    if not any(photo.problem is None for photo in photos):
        raise InputsError(_nothing(texts, inputs_found))
    return inputs_found


def _nothing(texts: Sequence[str], found: Inputs) -> str:
    """Why there is no photo that could be read."""
    if found.photos:
        more = f", nor can {counted(len(found.photos) - 1, 'other')} be read" if len(found.photos) > 1 else ""
        return f"{found.photos[0].problem}{more}; check the path"
    counts = {
        "links": found.links,
        "hidden ones": found.hidden,
        "other files": found.others,
        "of supports": found.supports,
    }
    there = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return (
        f"there are no photos in {', '.join(map(repr, texts[:3]))}{f' (but {there})' if there else ''}; check the path"
    )


def _expand(text: str) -> Iterator[str]:
    """The files and folders that an argument names."""
    if not text:
        raise InputsError("an input is empty; give the path of a file or folder")
    if os.path.lexists(text):
        yield text
    elif text == "-" or text.startswith("@"):
        yield from read_list(text.removeprefix("@"))
    else:
        matches = list(_matches(PurePath(text))) if glob.has_magic(text) else []
        yield from matches or [text]


def read_list(path: str) -> list[str]:
    """The entries of a list file, ``-`` for standard input: one a line, or separated by NUL bytes where it has any.

    Raises:
        InputsError: it cannot be read, or is empty.
    """
    try:
        content = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise InputsError(f"the list {path!r} cannot be read ({reason.lower()}); check the path") from None
    return parse_list(content, path)


def parse_list(content: bytes, name: str) -> list[str]:
    """The entries of a list's content; see :func:`read_list`."""
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputsError(f"the list {name!r} is in UTF-16; save it in UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    lines = content.split(b"\0") if b"\0" in content else [line.removesuffix(b"\r") for line in content.split(b"\n")]
    entries = [os.fsdecode(line) for line in lines if line]
    if not entries:
        raise InputsError(f"the list {name!r} names no photo; put one path into each line")
    return entries


def _matches(pattern: PurePath) -> Iterator[str]:
    return _descend(pattern.anchor, pattern.parts[1 if pattern.anchor else 0 :])


def _descend(folder: str, parts: Sequence[str]) -> Iterator[str]:
    """What a pattern's parts match below a folder, as in a shell: hidden names only where a dot is written, and ``**``
    does not go through links, so that circles of links end.
    """
    if not parts:
        if folder:
            yield folder
        return
    part, rest = parts[0], parts[1:]
    if not glob.has_magic(part):
        if os.path.lexists(os.path.join(folder, part)):
            yield from _descend(os.path.join(folder, part), rest)
        return
    if part == "**":
        yield from _descend(folder, rest)
    for name in _names(folder):
        path = os.path.join(folder, name)
        if part == "**":
            if not name.startswith(".") and os.path.isdir(path) and not os.path.islink(path):
                yield from _descend(path, parts)
        elif fnmatch.fnmatch(name, part) and (part.startswith(".") or not name.startswith(".")):
            yield from _descend(path, rest)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder or "."))
    except (
        OSError
    ):  # a file where the pattern wants a folder, or a folder that may not be read: no match, as in a shell
        return []


class _Walk:
    """Collects photos by their absolute paths. Links inside folders wait until all folders have been read, so that a
    folder is found by its own name, not by a link to it, in whatever order the inputs are given.
    """

    def __init__(self, out: str, follow_links: bool, leave_out: Set[str]) -> None:
        self.out, self.follow_links, self.leave_out = out, follow_links, leave_out
        self.named: dict[str, str] = {}
        self.found: dict[str, tuple[str, str | None]] = {}
        self.folders: list[str] = []
        self.left_out = {"links": 0, "hidden": 0, "others": 0, "results": 0, "supports": 0}
        self._read: set[tuple[int, int]] = set()
        self._linked: list[tuple[str, str]] = []

    def name(self, text: str) -> None:
        """Take a file or folder that is named."""
        if _ADDRESS.match(text) and not os.path.lexists(text):
            raise InputsError(f"the input {text!r} is a web address, not a file; download it first")
        if self._in_output(text):
            raise InputsError(f"the input {text!r} lies in the output folder; choose another output folder")
        self.named.setdefault(_absolute(text), text)

    def finish(self) -> None:
        """Read all that was named, then what is linked from it."""
        for place, text in sorted(self.named.items()):
            if os.path.isdir(text):
                self.folders.append(os.path.realpath(text))
                self._folder(text, place, named=True)
            else:
                self.found.setdefault(place, (text, None if os.path.lexists(text) else f"{text!r} does not exist"))
        while self._linked:
            waiting, self._linked = sorted(self._linked), []
            for place, source in waiting:
                self._folder(source, place, named=False)

    def _folder(self, source: str, place: str, *, named: bool) -> None:
        folders = [(source, place)]
        while folders:
            source, place = folders.pop()
            try:
                status = os.stat(source)
                if (status.st_dev, status.st_ino) in self._read or (not named and self._in_output(source)):
                    continue
                self._read.add((status.st_dev, status.st_ino))
                with os.scandir(source) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except OSError as error:
                self.found.setdefault(place, (source, f"the folder {source!r} cannot be read: {error.strerror}"))
                continue
            if not named and any(is_journal(entry.path) for entry in entries):
                self.left_out["results"] += 1
                continue
            named = False
            folders += self._entries(entries, place, os.path.realpath(source))

    def _entries(self, entries: "list[os.DirEntry[str]]", place: str, real: str) -> list[tuple[str, str]]:
        """Take the photos of a folder; its folders, in reverse order, are the result."""
        folders = []
        for entry in entries:
            folder, link = _is_folder(entry), entry.is_symlink()
            target = os.path.realpath(entry.path) if link else os.path.join(real, entry.name)
            if not folder and os.path.splitext(entry.name)[1].lower() not in PHOTO_ENDINGS | VIDEO_ENDINGS:
                self.left_out["others"] += 1
            elif entry.name.startswith("."):
                self.left_out["hidden"] += 1
            elif link and not (self.follow_links and not self._in_output(entry.path)):
                self.left_out["links"] += 1
            elif target in self.leave_out:
                self.left_out["supports"] += 1
            elif folder and link:
                self._linked.append((os.path.join(place, entry.name), entry.path))
            elif folder:
                folders.append((entry.path, os.path.join(place, entry.name)))
            else:
                self.found.setdefault(os.path.join(place, entry.name), (entry.path, None))
        return folders[::-1]

    def _in_output(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self.out or real.startswith(os.path.join(self.out, ""))


def _is_folder(entry: "os.DirEntry[str]") -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads in circles, say: reading it as a photo will tell
        return False


def _absolute(text: str) -> str:
    """An absolute path without ``..``, and with the links in it as they were written, as far as ``..`` allows."""
    if ".." not in PurePath(text).parts:
        return os.path.abspath(text)
    if os.path.isdir(text) and not os.path.islink(text):
        return os.path.realpath(text)
    return os.path.join(os.path.realpath(os.path.dirname(text)), os.path.basename(text))


def _common(named: Mapping[str, str]) -> str:
    """The deepest folder that holds all that is named."""
    try:
        return os.path.commonpath([p if os.path.isdir(text) else os.path.dirname(p) for p, text in named.items()])
    except ValueError:  # on Windows only
        raise InputsError("the inputs lie on different drives; run them one by one, into different folders") from None


def _relative(place: str, base: str) -> str:
    try:
        relative = Path(place).relative_to(base).as_posix()
    except ValueError:
        raise InputsError(f"the input {place!r} lies outside the root {base!r}; name a folder that holds it") from None
    return relative if relative != "." else os.path.basename(base)
