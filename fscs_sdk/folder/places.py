"""Where the results of each photo go in the output tree, and which shard has it."""

import os
import re
import unicodedata
from collections.abc import Iterable
from hashlib import sha256

from fscs_sdk.formats import LONGEST_ENDING, WRITERS
from fscs_sdk.spelling import name_key

#: The most bytes of a file name on common file systems.
LONGEST_NAME = 255
#: A photo's name in the output tree leaves room for what the formats add to it.
LONGEST_STEM = LONGEST_NAME - LONGEST_ENDING
#: What Windows has in no name, and the names that it keeps for devices, whatever ending follows.
_FORBIDDEN = re.compile(r'[\x00-\x1f<>:"\\|?*]')
_DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³]) *(\..*)?", re.IGNORECASE | re.DOTALL)
#: Endings of files that a run writes; a folder of such a name could stand where a file must go.
_RESULT_ENDINGS = frozenset(
    {".png", ".jsonl", ".tmp"} | {"." + (writer.ending or "").rpartition(".")[2] for writer in WRITERS.values()}
) - {"."}
#: First parts of the paths of a whole run's files.
_RESERVED = frozenset(writer.whole_run.partition("/")[0] for writer in WRITERS.values() if writer.whole_run)


def places(paths: Iterable[str]) -> dict[str, str]:
    """Photo's path -> the path that its results' names begin with, relative to the output folder.

    It is the photo's own path, with its ending, wherever that can be. Otherwise a part is marked, ``name~<hash>.jpg``:

    - photos whose paths differ in nothing but upper and lower case or the form of their accents are all marked: there
      are file systems that do not tell them apart;
    - names that are so long that a result's would be too long are cut and marked;
    - names that could stand in the way of another result are marked;
    - names that Windows forbids are marked, and its characters replaced, on every system: results can be taken
      anywhere, and shards of different systems agree.

    The answer depends on the set of paths alone, not on their order.
    """
    marks = dict.fromkeys(paths, 0)
    while True:
        groups: dict[str, list[str]] = {}
        for path, mark in marks.items():
            groups.setdefault(name_key(_place(path, mark)), []).append(path)
        clashing = [path for group in groups.values() if len(group) > 1 for path in group]
        if not clashing:
            return {path: _place(path, mark) for path, mark in marks.items()}
        for path in clashing:
            marks[path] += 1


def in_shard(path: str, shard: tuple[int, int]) -> bool:
    """Whether a photo belongs to shard (i, n), i from 1: by a hash of its path, the same on every machine."""
    text = unicodedata.normalize("NFC", path)  # macOS gives names in another form
    digest = sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") % shard[1] == shard[0] - 1


def _place(path: str, mark: int) -> str:
    *folders, name = path.split("/")
    parts = [_folder(part, first=index == 0) for index, part in enumerate(folders)]
    if mark or (not folders and any(reserved.startswith(f"{name_key(name)}.") for reserved in _RESERVED)):
        name = _marked(name, f"{mark}/{path}")
    elif not _is_name(name) or len(os.fsencode(name)) > LONGEST_STEM:
        name = _marked(name, name)
    return "/".join([*parts, name])


def _folder(name: str, *, first: bool) -> str:
    folded = name_key(name)
    unsafe = folded.endswith(tuple(_RESULT_ENDINGS)) or (first and folded in _RESERVED)
    if unsafe or not _is_name(name) or len(os.fsencode(name)) > LONGEST_NAME:
        return f"{_cut(name, LONGEST_STEM - 17)}~{_digest(name)}"
    return name


def _is_name(part: str) -> bool:
    forbidden = _FORBIDDEN.search(part) or _DEVICE.fullmatch(part) or part.endswith((" ", "."))
    return part != "" and not forbidden


def _marked(name: str, identity: str) -> str:
    stem, ending = os.path.splitext(_FORBIDDEN.sub("_", name))
    if len(os.fsencode(ending)) > 16:
        stem, ending = stem + ending, ""
    return f"{_cut(stem, LONGEST_STEM - 17 - len(os.fsencode(ending)))}~{_digest(identity)}{ending}"


def _cut(text: str, size: int) -> str:
    """The beginning of a text, in at most so many bytes, without a part of a character."""
    safe = _FORBIDDEN.sub("_", text)
    data = os.fsencode(f"_{safe}" if _DEVICE.fullmatch(safe) else safe)
    if len(data) <= size:
        return os.fsdecode(data)
    return data[:size].decode("utf-8", "ignore")


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
