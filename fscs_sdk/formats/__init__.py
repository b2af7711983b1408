"""Predictions as files: :data:`WRITERS` has every format by name; a module for each is loaded when it is used.

A format writes the files of one photo, ``WRITERS["coco"].write(prediction, stem)``: the stem is the path of the photo's
place in the output tree, with the photo's own ending (``out/a/b.jpg`` -> ``out/a/b.jpg.coco.json``), so that photos
which differ in their ending only share no file. What a format adds to the stem never exceeds
:data:`LONGEST_ENDING` bytes.

Some formats also have one file (or folder) for a whole run. It is put together afterwards, from the photos' own files
and nothing else, so that a resumed or merged run gives the same result:
``WRITERS["coco"].collect({"a/b.jpg": Path("out/a/b.jpg.coco.json")}, out, names=("dog", "cat"))``. Formats without one
have ``whole_run`` None, and their ``collect`` returns no files.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from fscs_sdk.formats.drawing import PALETTE as PALETTE
    from fscs_sdk.formats.drawing import class_colors as class_colors
    from fscs_sdk.formats.drawing import overlay as overlay
    from fscs_sdk.prediction import Prediction

__all__ = [
    "LONGEST_ENDING",
    "PALETTE",
    "WRITERS",
    "Format",
    "MissingPackageError",
    "class_colors",
    "overlay",
    "require",
    "save",
    "select",
]

#: The most bytes that a format appends to a photo's file name.
LONGEST_ENDING = 64


def yolo_label(photo: str) -> str:
    """A photo's label file in a whole run's YOLO data set, where Ultralytics looks for it.

    Raises:
        ValueError: the photo's name is not a path inside a folder.
    """
    place = PurePosixPath(photo)
    if place.is_absolute() or ".." in place.parts or not place.name:
        raise ValueError(f"the photo {photo!r} is not a path inside a folder; YOLO labels need one")
    return f"yolo/labels/{place.with_suffix('.txt')}"


class MissingPackageError(ImportError):
    """Something needs an optional package that is not installed; the message says how to install it."""


class _Module(Protocol):
    """What a format's module has: ``encode``, and ``collect`` where the format has files of a whole run."""

    def encode(self, prediction: "Prediction", *, photo: str) -> dict[str, bytes]:
        """Ending -> contents of the file that is named by it."""

    def collect(self, files: Mapping[str, Path], *, names: Sequence[str]) -> dict[str, bytes]:
        """Path inside the output folder -> contents."""


@dataclass(frozen=True)
class Format:
    """One kind of result file.

    Attributes:
        name: what ``--formats`` and ``Prediction.save(format=...)`` call it.
        contents: one line that says what is in it.
        ending: what is added to the photo's name; None where the endings depend on the classes.
        whole_run: the file of a whole run inside the output folder, or None.
        package: the optional package that it needs, or None.
        maps: whether it holds the maps, which take memory.
        part_of: where a whole run has a file for each photo, the one of a photo inside the output folder.
    """

    name: str
    contents: str
    ending: str | None
    whole_run: str | None = None
    package: str | None = None
    maps: bool = False
    part_of: Callable[[str], str] | None = None

    def encode(self, prediction: "Prediction", *, photo: str) -> dict[str, bytes]:
        """The contents of the photo's files, by ending.

        Args:
            photo: the photo's name, for the formats that say which photo they describe.

        Raises:
            MissingPackageError: the format's optional package is not installed.
            ValueError: the format cannot hold this prediction exactly; the message says why.
        """
        self.require()
        return self._module().encode(prediction, photo=photo)

    def write(self, prediction: "Prediction", stem: Path) -> list[Path]:
        """Write the photo's files, each whole or not at all, beside each other as ``<stem><ending>``.

        Args:
            stem: the photo's place in the output tree, with the photo's own ending, such as ``out/a/b.jpg``.

        Returns:
            The paths written; always the same for the same stem and class names, whatever the answer.

        Raises:
            MissingPackageError, ValueError: as :meth:`encode`.
            OSError: a file cannot be written.
        """
        from fscs_sdk.atomic import write_atomically

        paths = []
        for ending, data in self.encode(prediction, photo=stem.name).items():
            paths.append(stem.with_name(stem.name + ending))
            write_atomically(paths[-1], data)
        return paths

    def collect(
        self, files: Mapping[str, Path], folder: Path, *, names: Sequence[str], gone: Iterable[str] = ()
    ) -> list[Path]:
        """Put a run's files together from the files of its photos; nothing else is needed, nothing is predicted again.

        Args:
            files: the photo's path as the result shall name it (relative, with ``/``) -> what :meth:`write` wrote for
                it. Their order is the order of the result.
            folder: the output folder; see ``whole_run`` for what is written there.
            names: the run's class names, in the supports' order.
            gone: photos of which earlier results may hold a part that is to leave, unless they are in ``files``.

        Returns:
            The paths written; none for a format without a ``whole_run``.

        Raises:
            ValueError: a file is damaged, or was written for other classes; or two photos cannot be told apart in this
                format. The message names them.
            OSError: a file is missing or cannot be written.
        """
        from fscs_sdk.atomic import write_atomically

        if self.whole_run is None:
            return []
        paths = []
        for name, data in self._module().collect(files, names=names).items():
            paths.append(folder / name)
            paths[-1].parent.mkdir(parents=True, exist_ok=True)
            write_atomically(paths[-1], data)
        if self.part_of is not None:
            kept = {str(path).casefold() for path in paths}  # there are file systems that do not tell them apart
            for photo in gone:
                path = folder / self.part_of(photo)
                if str(path).casefold() not in kept:
                    path.unlink(missing_ok=True)
        return paths

    def require(self) -> None:
        """Raise MissingPackageError unless the format's optional package is there."""
        if self.package is not None:
            require(self.package, f"the format {self.name}")

    def _module(self) -> _Module:
        return cast(_Module, import_module(f"fscs_sdk.formats.{_MODULES[self.name]}"))


_MODULES = {
    "mask": "mask_png",
    "overlay": "drawing",
    "classes": "class_png",
    "npz": "npz",
    "coco": "coco",
    "labelme": "labelme",
    "yolo": "yolo",
    "csv": "table",
}
#: Every format by name, in the order in which help texts list them.
WRITERS: Mapping[str, Format] = MappingProxyType(
    {
        format.name: format
        for format in (
            Format("mask", "one PNG: pixel n is class n, 0 is background; palette and class names inside", ".mask.png"),
            Format("overlay", "the photo with the areas tinted, and a legend", ".overlay.jpg"),
            Format("classes", "one black and white PNG for each class", None),
            Format("npz", "NumPy archive: probability maps, mask, names, scores", ".npz", maps=True),
            Format("coco", "COCO JSON with RLE masks", ".coco.json", "annotations.coco.json", "pycocotools"),
            Format("labelme", "LabelMe JSON, the photo inside", ".labelme.json"),
            Format("yolo", "YOLO segmentation labels", ".yolo.txt", "yolo/data.yaml", part_of=yolo_label),
            Format("csv", "presence, score and pixels of each class", ".csv", "presence.csv"),
        )
    }
)


#: What other endings stand for in :func:`save`, the longest first.
_OTHER_ENDINGS = {".overlay.png": "overlay", ".png": "mask", ".txt": "yolo"}


def save(prediction: "Prediction", path: Path, *, format: str | None = None) -> list[Path]:
    """The work of ``Prediction.save``: write ``path`` in the format that is named, or that its ending names."""
    from fscs_sdk.atomic import write_atomically, writing

    (chosen,) = select([format or _format_of(path)])
    with writing(path):
        if chosen.ending is None:
            return chosen.write(prediction, path)
        if chosen.name == "overlay" and path.suffix.lower() == ".png":
            from fscs_sdk.formats.compression import png

            data = png(prediction.plot())
        else:
            (data,) = chosen.encode(prediction, photo=path.name.removesuffix(chosen.ending)).values()
        write_atomically(path, data)
    return [path]


def _format_of(path: Path) -> str:
    endings = {format.ending: format.name for format in WRITERS.values() if format.ending is not None} | _OTHER_ENDINGS
    for ending, name in endings.items():
        if path.name.lower().endswith(ending):
            return name
    raise ValueError(
        f"the ending of '{path}' does not say what to write; use {', '.join(endings)}, or format= one of "
        f"{', '.join(WRITERS)}"
    )


def select(names: Iterable[str]) -> list[Format]:
    """The formats of these names, in their order, each once, and able to run here.

    Raises:
        ValueError: there is no such format.
        MissingPackageError: an optional package is not installed.
    """
    chosen = []
    for name in dict.fromkeys(names):
        if name not in WRITERS:
            raise ValueError(f"there is no format {name!r}; choose from {', '.join(WRITERS)}")
        WRITERS[name].require()
        chosen.append(WRITERS[name])
    return chosen


def require(package: str, purpose: str, *, extra: str = "formats") -> None:
    """Raise MissingPackageError, with the command that installs it, unless a package can be imported."""
    if find_spec(package) is None:
        raise MissingPackageError(f"{purpose} needs {package}; install it with: pip install 'fscs-sdk[{extra}]'")


def __getattr__(name: str) -> Any:
    """Load the drawing only for those who draw: naming the formats costs neither NumPy nor Pillow."""
    if name not in ("PALETTE", "class_colors", "overlay"):
        raise AttributeError(f"module 'fscs_sdk.formats' has no attribute {name!r}")
    return getattr(import_module("fscs_sdk.formats.drawing"), name)
