"""Options that several commands share, and what they mean."""

import contextlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from fscs_sdk.spelling import counted

if TYPE_CHECKING:
    from fscs_sdk.model.ifsl import ProtocolName
    from fscs_sdk.model.tiles import ScaleChoice
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
edges_option = click.option(
    "--edges/--no-edges",
    default=True,
    show_default=True,
    help="Let masks follow the photo's edges.",
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
max_pixels_option = click.option(
    "--max-pixels",
    default=100_000_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="Larger photos and masks are refused.",
)


@dataclass(frozen=True)
class SupportOptions:
    """What the command line says of the supports.

    Attributes:
        classes: those to take; all if none is named.
        shots: the most photos of a class.
        thresholds: of all classes, or of one (``dog=0.7``).
        negatives: a folder of photos that show none of the classes.
        calibrate: set thresholds by the photos, where a class has two or there are negatives.
        scales: how classes are looked for, where they are calibrated.
        max_pixels: larger photos and masks are refused.
    """

    classes: tuple[str, ...]
    shots: int | None
    thresholds: tuple[str, ...]
    negatives: Path | None
    calibrate: bool
    scales: "ScaleChoice"
    max_pixels: int


scales_option = click.option(
    "--scales",
    default="auto",
    show_default=True,
    type=click.Choice(["auto", "whole", "tiles"]),
    help="Look for classes in whole photos, or in tiles of them (what is small; five times the time).",
)


def support_options(command: Command) -> Command:
    """The options of every command that asks supports; it is given them together, as ``asked``, with that of
    ``scales_option`` where it has it."""

    @wraps(command)
    def gathered(
        *args: Any,
        classes: tuple[str, ...],
        shots: int | None,
        thresholds: tuple[str, ...],
        negatives: Path | None,
        no_calibrate: bool,
        max_pixels: int,
        scales: "ScaleChoice" = "whole",
        **others: Any,
    ) -> Any:
        asked = SupportOptions(classes, shots, thresholds, negatives, not no_calibrate, scales, max_pixels)
        return command(*args, asked=asked, **others)

    options = (
        max_pixels_option,
        click.option(
            "--no-calibrate",
            is_flag=True,
            help="Ask every class with the model's own threshold, as in the paper, and not with one from its photos.",
        ),
        negatives_option,
        click.option(
            "--threshold",
            "thresholds",
            multiple=True,
            metavar="[CLASS=]NUMBER",
            help="Score from 0 to 1 that makes a class present, for all or for one; may be repeated.  "
            "[default: the model's]",
        ),
        reference_options,
    )
    for option in options:
        gathered = option(gathered)
    return cast(Command, gathered)


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
    model: str, device: str, dtype: str, protocol: "ProtocolName | None" = None, *, edges: bool = True
) -> "FewShotSegmenter":
    """The model of ``--model``, ``--device``, ``--dtype``, ``--protocol`` and ``--edges``.

    Raises:
        click.UsageError: there is none.
        OSError: it cannot be read or downloaded.
    """
    from fscs_sdk.segmenter import FewShotSegmenter

    with misuse():
        return FewShotSegmenter.from_pretrained(model, device=device, dtype=dtype, protocol=protocol, edges=edges)


def load_supports(segmenter: "FewShotSegmenter", source: Path, asked: SupportOptions) -> "SupportSet":
    """Supports from a folder or a data set, encoded now, or from a file that ``fscs encode`` made; what is odd is told.

    Raises:
        click.UsageError: they or a threshold cannot be used.
    """
    from fscs_sdk.images import ImageWarning
    from fscs_sdk.references import ANNOTATION_ENDINGS, ReferenceWarning, read_supports
    from fscs_sdk.supports import SupportSet

    with misuse((ValueError, FileNotFoundError)), warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("ignore")  # what decoders say
        for ours in (ImageWarning, ReferenceWarning):
            warnings.simplefilter("always", ours)
        if source.is_dir() or not source.exists() or source.suffix.lower() in ANNOTATION_ENDINGS:
            given = read_supports(source, classes=asked.classes or None, shots=asked.shots)
            supports = _encode(segmenter, given, asked)
        elif asked.classes or asked.shots:
            raise ValueError(f"'{source}' is encoded already; --classes and --shots choose from a folder or a data set")
        elif asked.negatives is not None or not asked.calibrate:
            raise ValueError(f"'{source}' is encoded already; --negatives and --no-calibrate belong to 'fscs encode'")
        elif asked.scales == "tiles":
            raise ValueError(f"'{source}' is encoded already; --scales tiles belongs to 'fscs encode'")
        else:
            supports = SupportSet.load(source)
            segmenter.check(supports)
        supports = _with_thresholds(supports, asked.thresholds)
    for message in dict.fromkeys(str(warning.message) for warning in noted):
        click.echo(f"fscs: warning: {one_line(message)}", err=True)
    return supports


def _encode(segmenter: "FewShotSegmenter", given: "Mapping[str, list[Shot]]", asked: SupportOptions) -> "SupportSet":
    """Encode, and say in a line what was calibrated, and which photos seem to be bad."""
    if asked.negatives is not None and not asked.calibrate:
        raise ValueError("--negatives serves to calibrate; leave out --no-calibrate")
    if asked.scales == "tiles" and not asked.calibrate:
        raise ValueError("--scales tiles is part of a calibration; leave out --no-calibrate")
    photos = [] if asked.negatives is None else read_negatives(asked.negatives)
    alone = max(map(len, given.values())) < 2 and asked.scales != "tiles"
    nothing_said = not photos and (alone or segmenter.protocol != "paper")
    if not asked.calibrate or nothing_said:
        return segmenter.encode(given, max_pixels=asked.max_pixels)
    with pairs_bar() as progress:
        supports = segmenter.encode(
            given,
            max_pixels=asked.max_pixels,
            calibrate=True,
            negatives=photos,
            scales=asked.scales,
            progress=progress,
        )
    if supports.examination is not None:
        done = [one.name for one in supports.examination.classes if one.calibrated]
        classes = counted(len(supports), "class", "classes")
        which = "every class" if len(done) == len(supports) else f"{len(done)} of {classes}"
        click.echo(f"fscs: {which} calibrated by its own photos; --no-calibrate asks as the paper does", err=True)
        if supports.in_tiles:
            where = f"{supports.scales.count('tiles')} of {classes} looked for in tiles of each photo"
            click.echo(f"fscs: {where}, which takes about five times as long; --scales whole does not", err=True)
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
