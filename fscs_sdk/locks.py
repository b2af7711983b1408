"""One run at a time, or the parts of one run together. The locks end with the process, however it ends."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

#: Lock files: a folder's own, which stays behind, and those of the parts of a run, which the next whole run removes.
FOLDER_LOCK = ".fscs.lock"
PART_LOCK = re.compile(r"\.fscs\.(.+)\.lock")
#: Seconds for which a part waits, as another one may be starting just now.
PATIENCE = 1.0


@contextlib.contextmanager
def locked_folder(folder: Path, *, part: str | None = None) -> Iterator[None]:
    """Hold a folder alone, or as one part of a run whose other parts may hold it too.

    Raises:
        OSError: another process has it, or a lock file cannot be written.
    """
    with contextlib.ExitStack() as held:
        with contextlib.ExitStack() as whole:
            whole.enter_context(_locked(folder, FOLDER_LOCK, 0.0 if part is None else PATIENCE))
            if part is None:
                for path in folder.iterdir():
                    if PART_LOCK.fullmatch(path.name):
                        with _locked(folder, path.name, 0.0):
                            pass  # no part is at work, and none can begin meanwhile
                        with contextlib.suppress(OSError):
                            path.unlink(missing_ok=True)
                held.enter_context(whole.pop_all())
            else:
                held.enter_context(_locked(folder, f".fscs.{part}.lock", 0.0))
        yield


@contextlib.contextmanager
def _locked(folder: Path, name: str, patience: float) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(folder / name, timeout=patience, mode=0o666)  # others who may write to the folder may lock it
    try:
        lock.acquire(poll_interval=0.02)
    except Timeout:
        raise OSError(
            f"another run is writing to '{folder}'; wait for its end, or choose another output folder"
        ) from None
    except NotImplementedError:  # a file system without locks: as well as it can be had there
        yield
        return
    try:
        yield
    finally:
        lock.release()
