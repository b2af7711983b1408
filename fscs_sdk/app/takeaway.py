"""What leaves the page: supports, answers, and the same question for the command line and for Python."""

import shlex
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from fscs_sdk.app.asker import Asker
from fscs_sdk.app.workspace import Workspace
from fscs_sdk.folder import predict_folder


def supports_zip(workspace: Workspace, target: Path) -> None:
    """The shots and negatives as folders, as they lie in the workspace."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name in ("supports", "negatives"):
            for path in _files(workspace.root / name):
                archive.write(path, path.relative_to(workspace.root).as_posix())


def answers_zip(asker: Asker, formats: Sequence[str], target: Path, report: Callable[[int, int], None]) -> None:
    """All queries' answers, as 'fscs predict' writes them; in the model's thread.

    Args:
        report: called with the photos done and all photos; what it raises ends the work.

    Raises:
        ValueError: there is no such format, or nothing to ask with.
        MissingPackageError: a format needs a package that is not installed.
        OSError: there is no space.
    """
    queries = asker.workspace.queries()
    if not queries:
        raise ValueError("there are no photos to ask; drop some first")
    with tempfile.TemporaryDirectory(prefix="fscs-") as folder:
        predict_folder(
            asker.model,
            asker.workspace.root / "queries",
            asker.encoded(),
            folder,
            formats=formats,
            progress=lambda done, total, record: report(done, total),
        )
        with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
            for path in _files(Path(folder)):
                archive.write(path, path.relative_to(folder).as_posix())


def command_line(workspace: Workspace, model: Mapping[str, str], formats: Iterable[str]) -> str:
    """The ``fscs predict`` line that asks the same, with the thresholds and the calibration of the encoded supports.

    Args:
        model: the options with which the model was loaded.
    """
    words = ["fscs", "predict", str(workspace.root / "queries"), "--supports", str(workspace.encoded)]
    words += ["--out", str(workspace.root / "results"), "--formats", ",".join(formats)]
    words += [] if workspace.settings().edges else ["--no-edges"]
    for option, value in model.items():
        words += [f"--{option}", value]
    if sys.platform == "win32":
        return " ".join(f'"{word}"' if not word.isalnum() else word for word in words)
    return shlex.join(words)


def python_script(workspace: Workspace, model: Mapping[str, str]) -> str:
    """The same in ten lines of Python."""
    words = [repr(model["model"])] if "model" in model else []
    words += [f"{option}={value!r}" for option, value in model.items() if option != "model"]
    words += [] if workspace.settings().edges else ["edges=False"]
    return f"""from pathlib import Path
from fscs_sdk import FewShotSegmenter, SupportSet

workspace = Path({str(workspace.root)!r})
model = FewShotSegmenter.from_pretrained({", ".join(words)})
supports = SupportSet.load(workspace / "{workspace.encoded.name}")
photos = sorted((workspace / "queries").iterdir())
for photo, prediction in zip(photos, model.stream(photos, supports)):
    print(photo.name, prediction.present)
"""


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith("."))
