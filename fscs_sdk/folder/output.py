"""The output folder: nothing is written or removed outside it, not even through a link that lies in it."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from fscs_sdk.atomic import TEMPORARY_PREFIX, TEMPORARY_SUFFIX
from fscs_sdk.folder.inputs import InputsError

_TEMPORARY = re.compile(re.escape(TEMPORARY_PREFIX) + "[0-9a-f]+" + re.escape(TEMPORARY_SUFFIX))


def check_output(path: str | os.PathLike[str]) -> None:
    """Refuse an output folder that is a file.

    Raises:
        InputsError: it is.
    """
    if os.path.lexists(path) and not os.path.isdir(path):
        raise InputsError(f"the output folder '{os.fspath(path)}' is a file; choose a folder")


class OutputFolder:
    """A folder that is there, and that the results stay in.

    Attributes:
        path: the folder itself, where it was given as a link.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Make the folder, if need be.

        Raises:
            InputsError: it is a file.
            OSError: it cannot be made.
        """
        check_output(path)
        os.makedirs(path, exist_ok=True)
        self.path = Path(os.path.realpath(path))

    def stem(self, place: str) -> Path:
        """The full path of a place, in a folder that is there afterwards.

        Raises:
            OSError: the folder cannot be made, or a link or file stands in its way.
        """
        *folders, name = place.split("/")
        folder = self.path
        for part in folders:
            folder = folder / part
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder)
            self._check(folder)
        return folder / name

    def has(self, file: str) -> bool:
        """Whether a result is there: a file, reached through folders."""
        path = self.path
        for part in file.split("/"):
            if path.is_symlink():
                return False
            path = path / part
        with contextlib.suppress(OSError, ValueError):
            return stat.S_ISREG(os.lstat(path).st_mode)
        return False

    def remove(self, files: Iterable[str]) -> None:
        """Remove results of an earlier run, where they are there."""
        for file in files:
            if self.has(file):
                with contextlib.suppress(OSError):
                    os.unlink(self.path / file)

    def refuse_links(self, top: str) -> None:
        """Make sure that no folder below a first part leads elsewhere, before a format writes there by itself.

        Raises:
            OSError: a link does.
        """
        if not os.path.lexists(self.path / top):
            return
        if os.path.isdir(self.path / top):
            self._check(self.path / top)
        for folder, subfolders, _ in os.walk(self.path / top):
            for name in subfolders:
                self._check(Path(folder, name))

    def sweep(self) -> None:
        """Remove what killed runs left half written. Only who holds the folder alone may do so."""
        for folder, _, names in os.walk(self.path):
            for name in filter(_TEMPORARY.fullmatch, names):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(folder, name))

    def _check(self, folder: Path) -> None:
        mode = os.lstat(folder).st_mode
        if stat.S_ISLNK(mode):
            raise OSError(f"'{folder}' is a link, which might lead out of the output folder; remove it")
        if not stat.S_ISDIR(mode):
            raise OSError(f"'{folder}' is a file where a folder is needed; move it away")


#: Errors of writing that the next photo would meet too.
FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE})
