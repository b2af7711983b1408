"""Options that several commands share, and what they mean."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fscs_sdk.model.ifsl import ProtocolName
    from fscs_sdk.segmenter import FewShotSegmenter
    from fscs_sdk.supports import Shot, SupportSet

#: As :data:`fscs_sdk.model.ifsl.PROTOCOLS`, which would load PyTorch for the help.
PROTOCOLS = ("paper", "authors")
Command = TypeVar("Command", bound=Callable[..., Any])


model_option = click.option(
    "--model", default="asnet-mini", show_default=True, help="Model name, folder, .safetensors or org/repo."
)


def model_options(command: Command) -> Command:
    """``--model``, ``--device`` and ``--dtype``."""
    options = (
        click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps."),
        model_option,
    )
    for option in options:
        command = option(command)
    return command


protocol_option = click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    help="Decide as in the paper, or as the authors' program does.  [default: what the model was trained for]",
)
edges_option = click.option("--edges", is_flag=True, help="Let masks follow the photo's edges; the paper's do not.")
threshold_option = click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[CLASS=]NUMBER",
    help="Score from 0 to 1 that makes a class present, for all or for one; may be repeated.  [default: the model's]",
)


def _parse_classes(context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name.strip() for value in values for name in value.split(",") if name.strip())


def reference_options(command: Command) -> Command:
    """``--classes`` and ``--shots``: what to take of a folder of supports or of a data set."""
    options = (
        click.option(
            "--shots", type=click.IntRange(min=1), metavar="N", help="At most N photos of a class, varied ones."
        ),
        click.option(
            "--classes",
            multiple=True,
            callback=_parse_classes,
            help="Only these classes of SUPPORTS, with commas between them or one by one.",
        ),
    )
    for option in options:
        command = option(command)
    return command


negatives_option = click.option(
    "--negatives",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="A folder of photos that show none of the classes; thresholds are set by them too.",
)
no_calibrate_option = click.option(
    "--no-calibrate",
    is_flag=True,
    help="Ask every class with the model's own threshold, as in the paper, and not with one from its own photos.",
)
max_pixels_option = click.option(
    "--max-pixels",
    default=100_000_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Larger photos and masks are refused.",
)


@contextlib.contextmanager
def misuse(kinds: tuple[type[Exception], ...] = (ValueError,)) -> Iterator[None]:
    """Errors of these kinds in here are the caller's: one sentence and exit code 2; with ``--debug`` the traceback."""
    try:
        yield
    except kinds as error:
        if click.get_current_context().find_root().params.get("debug"):
            raise
        raise click.UsageError(one_line(str(error))) from error


def load_segmenter(
    model: str, device: str, dtype: str, protocol: "ProtocolName | None" = None, *, edges: bool = False
) -> "FewShotSegmenter":
    """The model of ``--model``, ``--device``, ``--dtype``, ``--protocol`` and ``--edges``.

    Raises:
        click.UsageError: there is none.
        OSError: it cannot be read or downloaded.
    """
    from fscs_sdk.segmenter import FewShotSegmenter

    with misuse():
        return FewShotSegmenter.from_pretrained(model, device=device, dtype=dtype, protocol=protocol, edges=edges)


def load_supports(
    segmenter: "FewShotSegmenter",
    source: Path,
    thresholds: tuple[str, ...],
    classes: tuple[str, ...] = (),
    shots: int | None = None,
    negatives: Path | None = None,
    calibrate: bool = True,
    *,
    max_pixels: int,
) -> "SupportSet":
    """Supports from a folder or a data set, encoded now, or from a file that ``fscs encode`` made; what is odd is told.

    Those that are encoded now are calibrated, where a class has two photos or negatives are given.

    Args:
        classes: those to take; all if none is named.
        shots: the most photos of a class.
        negatives: a folder of photos that show none of the classes.
        max_pixels: larger photos and masks are refused.

    Raises:
        click.UsageError: they or a threshold cannot be used.
    """
    from fscs_sdk.references import ANNOTATION_ENDINGS, read_supports
    from fscs_sdk.supports import SupportSet

    with misuse((ValueError, FileNotFoundError)), warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        if source.is_dir() or not source.exists() or source.suffix.lower() in ANNOTATION_ENDINGS:
            given = read_supports(source, classes=classes or None, shots=shots)
            supports = _encode(segmenter, given, negatives, calibrate=calibrate, max_pixels=max_pixels)
        elif classes or shots:
            raise ValueError(f"'{source}' is encoded already; --classes and --shots choose from a folder or a data set")
        elif negatives is not None or not calibrate:
            raise ValueError(f"'{source}' is encoded already; --negatives and --no-calibrate belong to 'fscs encode'")
        else:
            supports = SupportSet.load(source)
            segmenter.check(supports)
        supports = _with_thresholds(supports, thresholds)
    for message in dict.fromkeys(str(warning.message) for warning in noted):
        click.echo(f"fscs: warning: {one_line(message)}", err=True)
    return supports


def _encode(
    segmenter: "FewShotSegmenter",
    given: "Mapping[str, list[Shot]]",
    negatives: Path | None,
    *,
    calibrate: bool,
    max_pixels: int,
) -> "SupportSet":
    """Encode, and say in a line what was calibrated, and which photos seem to be bad."""
    if negatives is not None and not calibrate:
        raise ValueError("--negatives serves to calibrate; leave out --no-calibrate")
    photos = [] if negatives is None else read_negatives(negatives)
    nothing_said = not photos and (max(map(len, given.values())) < 2 or segmenter.protocol != "paper")
    if not calibrate or nothing_said:
        return segmenter.encode(given, max_pixels=max_pixels)
    with pairs_bar() as progress:
        supports = segmenter.encode(given, max_pixels=max_pixels, calibrate=True, negatives=photos, progress=progress)
    if supports.examination is not None:
        done = [one.name for one in supports.examination.classes if one.calibrated]
        which = "every class" if len(done) == len(supports) else f"{len(done)} of {len(supports)} classes"
        click.echo(f"fscs: {which} calibrated by its own photos; --no-calibrate asks as the paper does", err=True)
        for suspect in supports.examination.suspects:
            photo = given[suspect.name][suspect.shot - 1].image
            where = f" ('{photo}')" if isinstance(photo, (str, Path)) else ""
            told = f"shot {suspect.shot} of {suspect.name!r}{where} {suspect.reason}; 'fscs examine' shows it"
            click.echo(f"fscs: warning: {one_line(told)}", err=True)
    return supports


def read_negatives(folder: Path) -> list[Path]:
    """The photos below a folder, in the order of their names.

    Raises:
        ValueError: it is no folder, or holds no photo.
    """
    from fscs_sdk.images.endings import PHOTO_ENDINGS

    if not folder.is_dir():
        raise ValueError(f"'{folder}' is not a folder; give one with photos that show none of the classes")
    found = [path for path in folder.rglob("*") if path.suffix.lower() in PHOTO_ENDINGS and path.is_file()]
    photos = sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))
    if not photos:
        raise ValueError(f"'{folder}' holds no photo; put some there that show none of the classes")
    return photos


@contextlib.contextmanager
def pairs_bar() -> Iterator[Callable[[int, int], object]]:
    """Pairs of photos that were asked, on standard error where someone looks."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pairs"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _with_thresholds(supports: "SupportSet", texts: tuple[str, ...]) -> "SupportSet":
    """The supports with ``("0.6", "dog=0.7")`` applied, what is for all classes first.

    Raises:
        ValueError: a text is no number from 0 to 1, or its class is none of the supports'.
    """
    for text in sorted(texts, key=lambda text: "=" in text):
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            raise ValueError(f"the threshold {text!r} is neither a number from 0 to 1 nor class=number") from None
        supports = supports.with_thresholds({name: value} if equals else value)
    return supports


def one_line(text: str) -> str:
    """A text as one line that every terminal takes: control characters and bytes that are no text are escaped."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii", "backslashreplace")
        for character in text
    )


def check_folder_of(file: Path) -> None:
    """Before minutes of work: there is a folder to write the file into.

    Raises:
        click.UsageError: there is none.
    """
    if not file.parent.is_dir():
        raise click.UsageError(f"'{file}' cannot be written: there is no folder '{file.parent}'; make it first")


def list_argument(path: str) -> str:
    """How the option ``--list FILE`` names a list among the inputs."""
    return "@-" if path == "-" else f"@{os.path.abspath(path)}"
