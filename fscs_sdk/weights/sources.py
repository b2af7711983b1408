"""One file of the manifest -> a checked path: what is here first, then its sources in order."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

from fscs_sdk.weights.download import url_file, url_place
from fscs_sdk.weights.hub import HubOptions, announced_sha256, cached_hub_file, hub_file, stamp_place
from fscs_sdk.weights.manifest import PACKAGE_FOLDER, HubSource, PackageSource, Source, UrlSource, WeightFile
from fscs_sdk.weights.verification import OtherVersionError, check_file

logger = logging.getLogger(__name__)


def fetch(
    file: WeightFile,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
) -> Path:
    """Find or download a file, and make sure that its bytes are the published ones.

    A copy that is here, in the package or in a cache, is taken without a look at the network. Otherwise the sources
    are tried in order; one that has another file, or none, is passed over if there is a next one. A copy in the cache
    that went bad is set aside, and the next call downloads it anew.

    Args:
        file: what to get. Its torchvision sources are passed over: ``fscs_sdk.weights.imagenet`` reads those.
        cache_dir, token, local_files_only: as in ``huggingface_hub``.
        revision: of Hub repositories, in place of the pinned one; the bytes must be the published ones all the same.

    Raises:
        ValueError: what was found are not the published bytes.
        OSError: it is not here and cannot be downloaded.
    """
    options = hub_options(cache_dir=cache_dir, token=token, local_files_only=local_files_only, revision=revision)
    failures: dict[Source, ValueError | OSError] = {}
    for is_here in (True, False):
        for source in file.sources:
            if source in failures:
                continue
            try:
                path = _find(source, options) if is_here else _download(source, file, options)
                if path is not None:
                    check_copy(path, source, file.sha256)
                    for failure in failures.values():
                        logger.warning("passed over a source: %s", failure)
                    return path
            except (ValueError, OSError) as error:
                if is_here and isinstance(error, OtherVersionError):
                    continue  # the cache may be older than the repository
                failures[source] = error
    raise _combined(file, list(failures.values()))


def hub_options(
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    token: str | None = None,
    local_files_only: bool = False,
    revision: str | None = None,
) -> HubOptions:
    """The options of a call, as this package hands them on."""
    folder = None if cache_dir is None else Path(cache_dir).expanduser()
    return HubOptions(cache_dir=folder, revision=revision, token=token, local_files_only=local_files_only)


def copies(file: WeightFile, options: HubOptions) -> Iterator[tuple[Source, Path]]:
    """The copies of a file that are here, unchecked: in the package and in the caches."""
    for source in file.sources:
        path = PACKAGE_FOLDER / source.path if isinstance(source, PackageSource) else _find(source, options)
        if path is not None and path.is_file():
            yield source, path


def check_copy(path: Path, source: Source, expected: str | None, *, stamped: bool = True) -> None:
    """Check a copy of a file.

    Args:
        path, source: the copy, and where it came from.
        expected: the manifest's SHA-256; None takes what the Hub announced, where anything tells what that was.
        stamped: trust the stamp of an earlier check; False hashes in any case.

    Raises:
        ValueError: it is not the published file.
        OSError: it cannot be read.
    """
    mend, stamp, announced = "reinstall fscs-sdk", None, None
    if isinstance(source, HubSource):
        announced = announced_sha256(path, source.file)
        expected = expected or announced
        mend = f"try again to get it anew from {source.repo}"
        stamp = stamp_place(path, source.file, expected) if expected else None
    elif isinstance(source, UrlSource):
        mend = f"try again to get it anew from {source.url}"
        stamp = path.with_name(f"{path.name}.{expected}.json")
    if expected:  # files of the package are a few megabytes, hashed in milliseconds: they need no stamp
        packaged = isinstance(source, PackageSource)
        stamp = stamp if stamped else None
        check_file(path, expected, mend=mend, announced=announced, stamp=stamp, shared=packaged)


def _find(source: Source, options: HubOptions) -> Path | None:
    """A copy that is here, or None. What the package should hold is an error if it does not."""
    if isinstance(source, PackageSource):
        path = PACKAGE_FOLDER / source.path
        if not path.is_file():
            raise FileNotFoundError(f"'{path}' is missing from the package; reinstall fscs-sdk")
        return path
    if isinstance(source, HubSource):
        return cached_hub_file(source, options)
    if isinstance(source, UrlSource):
        path = url_place(source, options)
        return path if path.is_file() else None
    return None


def _download(source: Source, file: WeightFile, options: HubOptions) -> Path | None:
    if isinstance(source, HubSource):
        return hub_file(source, options)
    if isinstance(source, UrlSource) and file.sha256 is not None and file.bytes is not None:
        return url_file(source, file.sha256, file.bytes, options)
    return None


def _combined(file: WeightFile, failures: list[ValueError | OSError]) -> ValueError | OSError:
    """One error for all sources: wrong bytes weigh more than bytes that could not be had."""
    if len(failures) == 1:
        return failures[0]
    if not failures:
        return OSError(f"the manifest names no place from which this {file.role} can be got; update fscs-sdk")
    wrong = any(isinstance(failure, ValueError) for failure in failures)
    return (ValueError if wrong else OSError)("; and ".join(str(failure) for failure in failures))
