"""Options that several commands share, and what they mean."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from fscs_sdk.segmenter import FewShotSegmenter
    from fscs_sdk.supports import SupportSet


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--model``, ``--device`` and ``--dtype``."""
    for option in (
        click.option(
            "--dtype",
            default="auto",
            show_default=True,
            type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
        ),
        click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda, cuda:1 or mps."),
        click.option(
            "--model", default="asnet-mini", show_default=True, help="Model name, folder, .safetensors or org/repo."
        ),
    ):
        command = option(command)
    return command


threshold_option = click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="[CLASS=]VALUE",
    help="Evidence in [0, 1] that makes a class present, for all or for one.  [default: 0.5]",
)


def parse_thresholds(values: tuple[str, ...], names: tuple[str, ...]) -> tuple[float | None, dict[str, float]]:
    """``("0.6", "dog=0.7")`` -> the value for all, and those by class name.

    Raises:
        click.UsageError: a value is no number in [0, 1], or names no class.
    """
    general: float | None = None
    named: dict[str, float] = {}
    for text in values:
        name, equals, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise click.UsageError(f"--threshold {text}: a number from 0 to 1 is needed, or class=number")
        if not equals:
            general = value
        elif name in names:
            named[name] = value
        else:
            raise click.UsageError(f"--threshold {text}: there is no class '{name}'; classes: {', '.join(names)}")
    return general, named


def read_supports(model: "FewShotSegmenter", source: Path, thresholds: tuple[str, ...]) -> "SupportSet":
    """Supports of a folder (encoded now) or of a file that ``fscs encode`` made.

    Raises:
        click.UsageError: the source or a threshold cannot be used; the sentence says why.
    """
    from fscs_sdk.support_folder import read_support_folder
    from fscs_sdk.supports import SupportSet

    try:
        if source.is_dir():
            supports = model.encode(read_support_folder(source))
        else:
            supports = SupportSet.load(source)
            model.check(supports)
    except (ValueError, OSError) as error:
        raise click.UsageError(f"--supports: {error}") from None
    general, named = parse_thresholds(thresholds, supports.names)
    if general is not None:
        supports = supports.with_thresholds(general)
    return supports.with_thresholds(named) if named else supports
