"""Finds the photos that an annotation file names, which rarely lie where it says."""

import functools
import os
from pathlib import Path, PurePosixPath

from fscs_sdk.images.endings import PHOTO_ENDINGS
from fscs_sdk.references.label_text import AnnotationError
from fscs_sdk.spelling import name_key


class Album:
    """The photos of a folder and all below it, by name. It is searched once, when a photo is not where it was said."""

    def __init__(self, folder: Path, *, beside: Path | None = None) -> None:
        """``beside``: a folder in which paths are tried first, such as that of the file that names the photos."""
        self.folder = folder
        self.beside = beside or folder

    def find(self, name: str) -> Path | None:
        """The photo that is called so.

        That is the file at this path from either folder, else the one below whose path agrees with it from the end for
        longest, upper and lower case and forms of accents being one. None if there is none of that name.

        Raises:
            AnnotationError: several files agree equally long.
        """
        plain = name.replace("\\", "/")
        if not plain or "\0" in plain:
            return None
        try:
            for exact in (self.beside / plain, self.folder / plain):
                if exact.is_file():
                    return exact
        except OSError:  # a name that this system cannot have
            return None
        parts = [name_key(part) for part in PurePosixPath(plain).parts]
        return self._best(self._by_name.get(parts[-1], []), parts, name) if parts else None

    def find_stem(self, stem: str) -> Path | None:
        """The photo of this path without its ending; as :meth:`find`."""
        parts = [name_key(part) for part in PurePosixPath(stem.replace("\\", "/")).parts]
        return self._best(self._by_stem.get(parts[-1], []), parts, stem) if parts else None

    def _best(self, found: list[Path], parts: list[str], name: str) -> Path | None:
        if len(found) < 2:
            return found[0] if found else None

        def agreement(path: Path) -> int:
            own = [name_key(part) for part in path.relative_to(self.folder).parent.parts]
            pairs = zip(reversed(own), reversed(parts[:-1]), strict=False)
            return next(
                (length for length, (one, other) in enumerate(pairs) if one != other), min(len(own), len(parts) - 1)
            )

        ranked = sorted(found, key=agreement, reverse=True)
        if agreement(ranked[0]) == agreement(ranked[1]):
            raise AnnotationError(
                f"{name!r} could be '{ranked[0]}' or '{ranked[1]}'; remove one, or give the folder of one"
            )
        return ranked[0]

    @functools.cached_property
    def photos(self) -> list[Path]:
        """All photos, in the order of their paths; what is hidden is left out."""
        found = []
        for folder, folders, files in os.walk(self.folder):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            found += [
                Path(folder, name)
                for name in sorted(files)
                if not name.startswith(".") and os.path.splitext(name)[1].lower() in PHOTO_ENDINGS
            ]
        return found

    @functools.cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.photos:
            found.setdefault(name_key(path.name), []).append(path)
        return found

    @functools.cached_property
    def _by_stem(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self.photos:
            found.setdefault(name_key(path.stem), []).append(path)
        return found
