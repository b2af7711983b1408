"""Cost against N, K and input side, as a PNG: ``python -m benchmarks --curves FILE``."""

import statistics
from pathlib import Path

from benchmarks.measure import Model
from benchmarks.roofline import seconds
from benchmarks.workloads import Sides, Workload, synthetic_network
from fscs_sdk.model.network import FewShotNetwork

WAYS = (1, 2, 5, 10, 20)
SHOTS = (1, 2, 5)
INPUT_SIDES = (288, 400, 512)


def curves(model: Model, dtype: str, *, repeats: int) -> dict[str, dict[int, float]]:
    """Median seconds a query with encoded supports: over N (K = 1), over K (N = 1), over the input side (N = K = 1)."""
    network = synthetic_network(model.backbone, model.side)
    others = {side: synthetic_network(model.backbone, side) for side in INPUT_SIDES}
    return {
        "ways N (K = 1)": {ways: _cost(network, model.device, dtype, ways, 1, repeats) for ways in WAYS},
        "shots K (N = 1)": {shots: _cost(network, model.device, dtype, 1, shots, repeats) for shots in SHOTS},
        "input side in pixels (N = K = 1)": {
            side: _cost(other, model.device, dtype, 1, 1, repeats) for side, other in others.items()
        },
    }


def _cost(network: FewShotNetwork, device: str, dtype: str, ways: int, shots: int, repeats: int) -> float:
    workload = Workload("curve", ways, shots, fixed=True, what="")
    sides = Sides(network, workload, device=device)
    answer = sides.shipped(dtype)
    answer(0)
    return statistics.median(seconds(lambda: answer(1), sides.device) for _ in range(repeats))


def draw(found: dict[str, dict[int, float]], title: str, path: Path) -> None:
    """One panel for each curve."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, len(found), figsize=(4 * len(found), 3.2), sharey=True, layout="constrained")
    for panel, (name, costs) in zip(panels, found.items(), strict=True):
        panel.plot(list(costs), [1000 * cost for cost in costs.values()], marker="o")
        panel.set_xlabel(name)
        panel.set_xticks(list(costs))
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("milliseconds a query")
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    plt.close(figure)
