"""A run's log as a picture: losses, learning rate, and where the time goes."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from fscs_sdk.atomic import write_atomically
from fscs_sdk.training.log import PHASES, Log
from fscs_sdk.training.losses import TERMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: Of the picture, in inches.
SIZE = (8.0, 9.0)


def draw_curves(log: Path, output: Path) -> None:
    """Draw the curves of a run.

    Args:
        log: the run's ``log.csv``.
        output: PNG to write.

    Raises:
        ValueError: the log has no row yet.
        OSError: it is not there, or the picture cannot be written.
        ModuleNotFoundError: matplotlib is not installed.
    """
    if not log.is_file():
        raise FileNotFoundError(f"there is no '{log}'; give the folder of a training run")
    rows = Log(log).rows()
    if not rows:
        raise ValueError(f"'{log}' has no row yet; wait for the run's first one")
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise ModuleNotFoundError("curves need matplotlib: pip install 'fscs-sdk[training]'") from None
    columns = {name: [float(row[name] or "nan") for row in rows] for name in rows[0]}
    figure = Figure(figsize=SIZE, layout="constrained")
    losses, rate, time = figure.subplots(3, sharex=True)
    _draw_losses(losses, columns)
    rate.plot(columns["step"], columns["learning_rate"])
    rate.set_ylabel("learning rate")
    _draw_time(time, columns)
    time.set_xlabel("step")
    content = BytesIO()
    figure.savefig(content, format=output.suffix.removeprefix(".") or "png")
    write_atomically(output, content.getvalue())


def _draw_losses(axes: "Axes", columns: dict[str, list[float]]) -> None:
    axes.plot(columns["step"], columns["loss"], color="black", label="loss")
    for term in TERMS:
        if any(value > 0 for value in columns.get(term, ())):
            axes.plot(columns["step"], columns[term], label=term)
    axes.set_ylabel("loss, and its weighted terms")
    axes.set_ylim(bottom=0)
    axes.legend()


def _draw_time(axes: "Axes", columns: dict[str, list[float]]) -> None:
    """Shares of the time by phase, and pairs per second."""
    if "seconds" in columns:
        spent = [_percent(columns[f"{phase}_seconds"], columns["seconds"]) for phase in PHASES]
        axes.stackplot(columns["step"], *spent, labels=PHASES, alpha=0.4)
        axes.set_ylabel("% of the time")
        axes.set_ylim(0, 100)
        axes.legend(loc="lower left")
    speed = axes.twinx()
    speed.plot(columns["step"], columns["pairs_per_second"], color="black")
    speed.set_ylabel("pairs per second")
    speed.set_ylim(bottom=0)


def _percent(parts: list[float], wholes: list[float]) -> list[float]:
    return [100 * part / whole for part, whole in zip(parts, wholes, strict=True)]
