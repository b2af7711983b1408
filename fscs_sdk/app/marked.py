"""Masks that are there already: a file of LabelMe, COCO, CVAT, VOC or Label Studio -> shots of the workspace."""

import os
import shutil
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path, PurePath

from fscs_sdk.app.workspace import MOST_PIXELS, Workspace
from fscs_sdk.references import ANNOTATION_ENDINGS, read_supports
from fscs_sdk.references.shots import read_shot


@dataclass(frozen=True)
class Taken:
    """What became of an annotation file: shots made, and sentences about what was left out."""

    shots: int
    left_out: tuple[str, ...]


def take_annotations(workspace: Workspace, name: str, data: bytes) -> Taken:
    """Make shots of what a file marks in the photos of the workspace; photos inside the file come along.

    Args:
        name: of the file; its ending says what is in it.

    Raises:
        ValueError: it cannot be read, or marks none of the photos.
        OSError: the workspace cannot be written.
    """
    ending = PurePath(name).suffix.lower()
    if ending not in ANNOTATION_ENDINGS:
        raise ValueError(f"'{name}' is no annotation file; take {', '.join(ANNOTATION_ENDINGS)}")
    queries = {photo.name: photo for photo in workspace.queries()}
    with tempfile.TemporaryDirectory(prefix="marked-", dir=workspace.root / ".views") as folder:
        for photo in queries.values():
            _lay(photo.path, Path(folder, photo.name))
        file = Path(folder, f"annotations{ending}")
        file.write_bytes(data)
        with warnings.catch_warnings(record=True) as noted:
            warnings.simplefilter("always")
            try:
                supports = read_supports(file)
            except ValueError as error:
                raise ValueError(str(error).replace(str(file), name).replace(folder, "the workspace")) from None
        made = 0
        for label, shots in supports.items():
            for number, shot in enumerate(shots, start=1):
                inside = isinstance(shot.image, (str, os.PathLike))
                called = Path(str(shot.image)).name if inside else f"{PurePath(name).stem}.jpg"
                if inside and (
                    called not in queries or Path(str(shot.image)).resolve() != Path(folder, called).resolve()
                ):
                    raise ValueError(f"'{name}' marks a photo that is not in the workspace: {called!r}; add it first")
                _, mask = read_shot(shot, label, label=f"shot {number} of {label!r}", max_pixels=MOST_PIXELS)
                photo = queries[called] if inside else workspace.add(called, bytes(shot.image))  # type: ignore[arg-type]
                workspace.set_shot(photo, label, mask)
                made += 1
    told = dict.fromkeys(str(warning.message).replace(folder, "the workspace") for warning in noted)
    return Taken(made, tuple(told))


def _lay(photo: Path, target: Path) -> None:
    """The same file under another name, without copying it where the file system can."""
    try:
        os.link(photo, target)
    except OSError:
        shutil.copyfile(photo, target)
