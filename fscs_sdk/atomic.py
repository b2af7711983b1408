"""Files that are whole or not there, whatever interrupts the writing."""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

#: How the temporary files begin that :func:`write_atomically` leaves behind where the process is killed in it.
TEMPORARY_PREFIX = ".fscs-"
#: How they end.
TEMPORARY_SUFFIX = ".tmp"


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that at every moment, and after a crash, the path holds the old contents or the new ones.

    The bytes go to a temporary file in the same folder and from there to the disk, and then the file takes the name.
    A link of that name is replaced, not followed. The file may be read by whom the process's umask lets.

    Args:
        path: a file in a folder that is there.
        data: all of its contents.

    Raises:
        OSError: the file cannot be written, and the temporary one is gone again; ``errno`` says why, ``filename`` is
            the path.
    """
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}")
    try:
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
    except OSError as error:
        # The temporary's name says nothing to anyone. With an errno it is of the subclass that belongs to that.
        raise OSError(error.errno, error.strerror, str(path)) from None


@contextlib.contextmanager
def writing(path: Path, what: str = "") -> Iterator[None]:
    """What the disk refuses in here is told in a sentence, by an error of the same class.

    Args:
        path: the file that is written.
        what: it is, such as ``the page``.

    Raises:
        OSError: a file cannot be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a sentence already
            raise
        called = f"{what} '{path}'" if what else f"'{path}'"
        if path.parent.is_dir():
            reason = f"{os.strerror(error.errno)}; check the folder and its space"
        else:
            reason = f"there is no folder '{path.parent}'; make it first"
        raise type(error)(f"cannot write {called}: {reason}") from None
