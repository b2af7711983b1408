"""An exception as one sentence with a cure."""

import errno

#: What helps against errors of the operating system, by their number.
CURES = {
    errno.ENOSPC: "free some space, or choose a folder on another disk",
    errno.EDQUOT: "free some space, or choose a folder on another disk",
    errno.EACCES: "check the permissions, or choose another folder",
    errno.EPERM: "check the permissions, or choose another folder",
    errno.EROFS: "choose a folder that can be written to",
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "give a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def explain(error: Exception) -> str:
    """One sentence, without a line break: our own errors as they are, the system's and unexpected ones with a cure."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return "there is not enough memory; use smaller photos, fewer classes or a smaller batch"
    if isinstance(error, OSError) and error.errno is not None and error.strerror:
        where = f"cannot use '{error.filename}': " if error.filename is not None else ""
        what = error.strerror[:1].lower() + error.strerror[1:]
        return f"{where}{what}; {CURES.get(error.errno, 'run again with --debug to see where')}"
    if isinstance(error, (ValueError, OSError, ImportError)) and text:
        return text
    kind = type(error).__name__
    return f"unexpected {kind}{': ' if text else ''}{text}; run again as 'fscs --debug ...' and report what it shows"
