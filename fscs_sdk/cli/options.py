"""Options that several commands share, and what they mean."""

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fscs_sdk.model.ifsl import Protocol
    from fscs_sdk.segmenter import FewShotSegmenter
    from fscs_sdk.supports import SupportSet

#: As :data:`fscs_sdk.model.ifsl.PROTOCOLS`, which would load PyTorch for the help.
PROTOCOLS = ("paper", "authors")
Command = TypeVar("Command", bound=Callable[..., Any])


def model_options(command: Command) -> Command:
    """``--model``, ``--device`` and ``--dtype``."""
    options = (
        click.option("--dtype", default="auto", show_default=True, help="auto, float32, bfloat16 or float16."),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps."),
        click.option(
            "--model", default="asnet-mini", show_default=True, help="Model name, folder, .safetensors or org/repo."
        ),
    )
    for option in options:
        command = option(command)
    return command


protocol_option = click.option(
    "--protocol",
    type=click.Choice(PROTOCOLS),
    help="Decide as in the paper, or as the authors' program does.  [default: what the model was trained for]",
)
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


@contextlib.contextmanager
def misuse(kinds: tuple[type[Exception], ...] = (ValueError,)) -> Iterator[None]:
    """Errors of these kinds in here are the caller's: one sentence and exit code 2; with ``--debug`` the traceback."""
    try:
        yield
    except kinds as error:
        if click.get_current_context().find_root().params.get("debug"):
            raise
        raise click.UsageError(one_line(str(error))) from error


def load_segmenter(model: str, device: str, dtype: str, protocol: "Protocol | None" = None) -> "FewShotSegmenter":
    """The model of ``--model``, ``--device``, ``--dtype`` and ``--protocol``.

    Raises:
        click.UsageError: there is none.
        OSError: it cannot be read or downloaded.
    """
    from fscs_sdk.segmenter import FewShotSegmenter

    with misuse():
        return FewShotSegmenter.from_pretrained(model, device=device, dtype=dtype, protocol=protocol)


def load_supports(
    segmenter: "FewShotSegmenter",
    source: Path,
    thresholds: tuple[str, ...],
    classes: tuple[str, ...] = (),
    shots: int | None = None,
) -> "SupportSet":
    """Supports from a folder or a data set, encoded now, or from a file that ``fscs encode`` made; what is odd is told.

    Args:
        classes: those to take; all if none is named.
        shots: the most photos of a class.

    Raises:
        click.UsageError: they or a threshold cannot be used.
    """
    from fscs_sdk.references import ANNOTATION_ENDINGS, read_supports
    from fscs_sdk.supports import SupportSet

    with misuse((ValueError, FileNotFoundError)), warnings.catch_warnings(record=True) as noted:
        warnings.simplefilter("always")
        if source.is_dir() or not source.exists() or source.suffix.lower() in ANNOTATION_ENDINGS:
            supports = segmenter.encode(read_supports(source, classes=classes or None, shots=shots))
        elif classes or shots:
            raise ValueError(f"'{source}' is encoded already; --classes and --shots choose from a folder or a data set")
        else:
            supports = SupportSet.load(source)
            segmenter.check(supports)
        supports = _with_thresholds(supports, thresholds)
    for message in dict.fromkeys(str(warning.message) for warning in noted):
        click.echo(f"fscs: warning: {one_line(message)}", err=True)
    return supports


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


def list_argument(path: str) -> str:
    """How the option ``--list FILE`` names a list among the inputs."""
    return "@-" if path == "-" else f"@{os.path.abspath(path)}"
