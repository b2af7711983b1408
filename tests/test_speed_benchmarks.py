"""The naive loop is the paper's network, and the shipped path gives its answers; no test here looks at a clock."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.naive import learner
from benchmarks.roofline import operations
from benchmarks.workloads import Sides, Workload, counted_passes, synthetic_network
from fscs_sdk.checkpoints.authors import learner_from_authors
from test_asnet import read_golden

NAMES = ("1way_box", "2way_box", "1way_tinymask", "1way_emptymask", "1way_nonemask")


@pytest.fixture(scope="module")
def sides() -> Sides:
    workload = Workload("test", 2, 2, fixed=True, what="")
    return Sides(synthetic_network("efficientnet_lite0", 272), workload, device="cpu")


@pytest.mark.parametrize("name", NAMES)
def test_the_naive_learner_equals_the_authors_program(golden: Path, name: str) -> None:
    state = learner_from_authors(load_file(golden / "asnet_r50_learner_state.safetensors"))
    correlations, mask, expected = read_golden(golden, name)
    torch.testing.assert_close(learner(state, correlations, mask), expected, rtol=0, atol=1e-5)


def test_the_shipped_path_gives_the_naive_loops_answers(sides: Sides) -> None:
    naive, shipped = sides.naive()(0), sides.shipped("float32")(0)
    assert float((torch.from_numpy(shipped.foreground) - naive.foreground).abs().max()) < 1e-4
    assert float(naive.foreground.std()) > 0


def test_the_naive_loop_passes_all_photos_for_every_query_and_the_shipped_path_one(sides: Sides) -> None:
    naive, shipped = sides.naive(), sides.shipped("float32")
    for answer, photos in ((naive, 2 * (1 + 2)), (shipped, 1)):
        with counted_passes(sides.network.backbone) as passes:
            answer(0)
        assert sum(passes) == photos


def test_operations_are_those_of_the_products() -> None:
    left, right = torch.ones(3, 5), torch.ones(5, 7)
    assert operations(lambda: left @ right) == 2 * 3 * 5 * 7


def test_the_command_prints_what_the_readme_quotes(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from benchmarks import __main__ as command

    tiny = {"W2": Workload("W2", 2, 1, fixed=True, what="tiny")}
    monkeypatch.setattr(command, "WORKLOADS", tiny)
    monkeypatch.setattr(command, "peak_memory", lambda *_: 1)
    monkeypatch.setattr(command, "first_answer", lambda: 1.0)
    monkeypatch.setattr(command, "shipped_rates", lambda *_: {"asnet-mini": 3.0, "asnet-base": 1.0})
    monkeypatch.setattr(command, "machine", lambda _: {"processor": "any"})
    arguments = ["--quick", "--json", "--backbone", "efficientnet_lite0", "--side", "272", "--device", "cpu"]
    done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout)["W2"]
    assert set(found) == {"float32", "auto"}
    assert found["float32"]["largest_map_difference"] < 1e-4
    assert found["float32"]["speedup"] > 0
    assert found["float32"]["naive_backbone_photos"] == 3


def test_the_command_draws_the_curves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner
    from PIL import Image

    from benchmarks import __main__ as command
    from benchmarks import curves

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "WORKLOADS", {})
    for name, values in (("WAYS", (1, 2)), ("SHOTS", (1,)), ("INPUT_SIDES", (272,))):
        monkeypatch.setattr(curves, name, values)
    model = ["--backbone", "efficientnet_lite0", "--side", "272", "--device", "cpu", "--dtype", "float32"]
    arguments = ["--quick", "--json", "--curves", str(tmp_path / "cost.png"), *model]
    done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert [len(costs) for costs in found.values()] == [2, 1, 1]
    assert all(cost > 0 for costs in found.values() for cost in costs.values())
    with Image.open(tmp_path / "cost.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > drawn.height
