"""Names that people give -> names that every file system takes. No name from outside becomes a path as it is."""

import re
import unicodedata
from collections.abc import Collection
from pathlib import PurePosixPath, PureWindowsPath

from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.references.folders import MARKS

#: The most bytes of a photo's or class's name: file systems take 255, and results add endings.
NAME_BYTES = 120
#: File names that Windows keeps for devices, whatever their ending.
DEVICES = frozenset({"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))})
FORBIDDEN = '<>:"/\\|?*'


def class_name(text: str) -> str:
    """The class's name as it was meant: NFC, without spaces around it. It is also the name of the class's folder.

    Raises:
        ValueError: no folder can be called so.
    """
    name = unicodedata.normalize("NFC", " ".join(text.split()))
    if not name:
        raise ValueError("the class has no name; type one, such as cat")
    wrong = sorted({character for character in name if character in FORBIDDEN or not character.isprintable()})
    if wrong:
        raise ValueError(f"a class name is also a folder's and cannot hold {' '.join(wrong)!r}; leave that out")
    if name.startswith(".") or name.endswith(".") or name.split(".")[0].casefold() in DEVICES:
        raise ValueError(f"no folder can be called {name!r}; choose another class name")
    if len(name.encode()) > NAME_BYTES:
        raise ValueError(f"the class name has {len(name.encode())} bytes and {NAME_BYTES} are allowed; shorten it")
    return name


def photo_name(text: str, taken: Collection[str]) -> str:
    """A file name for a photo: what every file system takes, a photo's ending, and a stem that no other one has.

    Supports pair a photo with its mask by the stem, so no two photos share one, and none reads like a mask's.

    Args:
        text: what the sender calls the file; only what follows the last slash counts.
        taken: names that are there.
    """
    last = PureWindowsPath(PurePosixPath(text).name).name
    plain = "".join(c if c.isprintable() and c not in FORBIDDEN else "_" for c in unicodedata.normalize("NFC", last))
    stem, _, ending = plain.rpartition(".")
    if f".{ending.lower()}" not in PHOTO_ENDINGS:
        stem, ending = plain, "jpg"  # decoders look at the content
    stem = stem.strip("._ ").encode()[:NAME_BYTES].decode(errors="ignore") or "photo"
    stem = re.sub(rf"^(?=({'|'.join(MARKS)})[-_. ])", "photo-", stem, flags=re.IGNORECASE)
    stem = re.sub(rf"(?<![^-_. ])({'|'.join(MARKS)})$", r"\g<0>-photo", stem, flags=re.IGNORECASE)
    if stem.casefold() in DEVICES:
        stem = f"photo-{stem}"
    stems = {name.rpartition(".")[0].casefold() for name in taken}
    free, number = stem, 2
    while free.casefold() in stems:
        free, number = f"{stem}-{number}", number + 1
    return f"{free}.{ending.lower()}"
