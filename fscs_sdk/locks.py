"""One run at a time, or the shards of one run together. The locks end with the process, however it ends."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path


def lock(descriptor: int, path: Path, *, shared: bool = False) -> None:
    """Lock an open file or folder until it is closed, where the system and the file system can.

    Raises:
        OSError: another process has it.
    """
    if sys.platform == "win32":
        return
    import fcntl

    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES):
            raise OSError(
                f"another run is writing to '{path if path.is_dir() else path.parent}'; wait for its end, or choose "
                "another output folder"
            ) from None


@contextlib.contextmanager
def locked_folder(folder: Path, *, shared: bool) -> Iterator[None]:
    """Hold an output folder: alone, or together with the other shards.

    Raises:
        OSError: another process has it.
    """
    if sys.platform == "win32":
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, folder, shared=shared)
        yield
    finally:
        os.close(descriptor)
