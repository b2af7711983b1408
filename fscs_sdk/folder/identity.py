"""Which photo is it? Results belong to a file by its place and its content, not by its name."""

import os
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from fscs_sdk.folder.journal import Record


def resolved(path: str) -> str:
    """The absolute path of a photo, the links of its folders resolved; its own name may be a link's."""
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(os.path.realpath(folder), name)


def stamp(path: str) -> tuple[int, int, int]:
    """Bytes, and the times of modification and of any change in nanoseconds; the latter 0 where there is none.

    Raises:
        OSError: the file is not there.
    """
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns if os.name == "posix" else 0


def digest_file(path: str) -> str:
    """What tells a file's content from all others: 32 hexadecimal digits.

    Raises:
        OSError: it cannot be read.
    """
    total = sha256()
    with open(path, "rb") as file:
        while data := file.read(2**20):
            total.update(data)
    return total.hexdigest()[:32]


@dataclass(frozen=True)
class PhotoFile:
    """A photo's file now, beside what journals say of it; it is read only where its place and times do not tell."""

    path: str

    @cached_property
    def source(self) -> str:
        return resolved(self.path)

    @cached_property
    def stamp(self) -> tuple[int, int, int] | None:
        try:
            return stamp(self.path)
        except OSError:
            return None

    @cached_property
    def digest(self) -> str:
        """Empty where the file cannot be read, or is none: a pipe would have us wait for ever."""
        try:
            return digest_file(self.path) if os.path.isfile(self.path) else ""
        except OSError:
            return ""

    @property
    def state(self) -> dict[str, Any]:
        """What a record keeps of it beside the content's digest."""
        size, modified, changed = self.stamp or (None, None, None)
        return {"source": self.source, "size": size, "modified": modified, "changed": changed}

    def has_content_of(self, record: Record) -> bool:
        """Whether a record is of the same content, wherever that lay.

        The system sets the time of change itself, so a file of the same times at the same place is the same one.
        """
        known = (record.size, record.modified, record.changed)
        if record.source == self.source and record.changed and known == self.stamp:
            return True
        return bool(record.digest) and record.size == (self.stamp or (None,))[0] and record.digest == self.digest

    def is_another_than(self, record: Record) -> bool:
        """Whether a record of the same name is of another photo, one elsewhere, or once there with other content."""
        if record.source == self.source:
            return False
        if os.path.lexists(record.source):
            return not (os.path.exists(self.path) and os.path.samefile(record.source, self.path))
        return bool(record.all_files()) and not self.has_content_of(record)
