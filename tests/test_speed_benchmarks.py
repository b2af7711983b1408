"""The naive loop is the paper's network, and the shipped path gives its answers; no test here looks at a clock."""

import json
from pathlib import Path

import pytest
import torch

import authors_program
from benchmarks import answer as one_answer
from benchmarks import callers, folder
from benchmarks.measure import Model, measure
from benchmarks.naive import learner
from benchmarks.roofline import operations
from benchmarks.workloads import Sides, Workload, counted_passes, synthetic_network
from fscs_sdk import FewShotSegmenter
from fscs_sdk.checkpoints.authors import learner_from_authors
from fscs_sdk.demo import PHOTOS, SUPPORTS


@pytest.fixture(scope="module")
def sides() -> Sides:
    workload = Workload("test", 2, 2, fixed=True, what="")
    return Sides(synthetic_network("efficientnet_lite0", 272), workload, device="cpu")


@pytest.mark.parametrize("name", authors_program.PAIRS)
def test_the_naive_learner_equals_the_authors_program(name: str) -> None:
    state = learner_from_authors(authors_program.learner_state())
    correlations, mask, expected = authors_program.pair(name)
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


def test_the_command_tells_of_every_workload_what_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from click.testing import CliRunner

    from benchmarks import __main__ as command

    asked: list[tuple[str, tuple[str, ...], int]] = []

    def measured(workload: Workload, model: object, dtypes: tuple[str, ...], *, repeats: int) -> dict[str, object]:
        asked.append((workload.name, dtypes, repeats))
        return {dtype: {"speedup": 2.0} for dtype in dtypes}

    tiny = {"W2": Workload("W2", 2, 1, fixed=True, what="tiny"), "W4": Workload("W4", 6, 1, fixed=True, what="tiny")}
    monkeypatch.setattr(command, "WORKLOADS", tiny)
    monkeypatch.setattr(command, "measure", measured)
    monkeypatch.setattr(command, "peak_memory", lambda *_: 1)
    monkeypatch.setattr(command, "first_answer", lambda: 1.5)
    for name in ("stages", "agreement"):
        monkeypatch.setattr(command, name, lambda *_, **__: {"any": 1.0})
    for name in ("shipped_rates", "stream_rates"):
        monkeypatch.setattr(command, name, lambda *_: {"asnet-mini": 3.0, "asnet-base": 1.0})
    monkeypatch.setattr(command, "machine", lambda _: {"processor": "any"})
    arguments = ["--quick", "--json", "--backbone", "efficientnet_lite0", "--side", "272", "--device", "cpu"]
    done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert asked == [("W2", ("float32", "auto"), 2), ("W4", ("float32", "auto"), 1)]
    found = json.loads(done.stdout)
    assert found["W4"]["auto"] == {"speedup": 2.0, "peak_bytes": 1, "naive_peak_bytes": 1}
    assert found["first_answer_s"] == 1.5
    assert found["streamed"]["auto"]["queries_per_s"] == {"asnet-mini": 3.0, "asnet-base": 1.0}


def test_a_workload_is_measured_against_the_naive_loops_own_answer() -> None:
    model = Model("efficientnet_lite0", 272, "cpu")
    found = measure(Workload("W", 2, 1, fixed=True, what="tiny"), model, ["float32"], repeats=1)["float32"]
    assert found["largest_map_difference"] < 1e-4
    assert found["same_presence"]
    assert (found["backbone_photos"], found["naive_backbone_photos"]) == (1, 3)
    assert found["gigaflop"] > 4  # the backbone's photo and two pairs of the head
    assert found["share_of_roofline"] * found["milliseconds"] == pytest.approx(
        found["gigaflop"] / found["roofline_gigaflop_per_s"] * 1000
    )


def test_the_command_draws_the_curves(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from click.testing import CliRunner
    from PIL import Image

    from benchmarks import __main__ as command
    from benchmarks import cost as curves

    pytest.importorskip("matplotlib")
    monkeypatch.setattr(command, "WORKLOADS", {})
    for name, values in (("WAYS", (1, 2)), ("SHOTS", (1,)), ("INPUT_SIDES", (272,))):
        monkeypatch.setattr(curves, name, values)
    monkeypatch.setattr(curves, "_cost", lambda *given: float(given[3] * given[4]))
    model = ["--backbone", "efficientnet_lite0", "--side", "272", "--device", "cpu", "--dtype", "float32"]
    arguments = ["--quick", "--json", "--curves", str(tmp_path / "cost.png"), *model]
    done = CliRunner().invoke(command.main, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    found = json.loads(done.stdout)
    assert list(found.values()) == [{"1": 1.0, "2": 2.0}, {"1": 1.0}, {"272": 1.0}]
    with Image.open(tmp_path / "cost.png") as drawn:
        assert drawn.format == "PNG"
        assert drawn.width > drawn.height


def test_callers_are_measured_in_every_way_and_answer_what_they_are_asked() -> None:
    before = torch.get_num_threads()
    report = callers.measure(2, 1, threads=2, clients=(1, 2))
    torch.set_num_threads(before)
    assert list(report) == ["1 workers", "2 workers", "2 processes", "1 clients", "2 clients"]
    for name, figures in report.items():
        assert list(figures) == ["answers_per_s", "p95_s" if "clients" in name else "cpu_s_per_answer"]
        assert all(value > 0 for value in figures.values())


def test_callers_beside_busy_loops_are_compared_with_what_is_fair() -> None:
    before = torch.get_num_threads()
    report = callers.measure_beside(1, 1, threads=before, loops=1)
    assert report["loops"] == 1
    assert min(report["alone_answers_per_s"], report["beside_answers_per_s"], report["share_of_fair"]) > 0


def test_the_parts_of_an_answer_are_told_and_none_is_longer_than_the_whole() -> None:
    before = torch.get_num_threads()
    parts = one_answer.parts("float32", 1)
    assert torch.get_num_threads() == before
    squeezed = [figures["least_ms"] for name, figures in parts.items() if name.startswith("squeeze")]
    assert len(squeezed) == 10
    assert min(squeezed) > 0
    assert sum(squeezed) < parts["head"]["least_ms"]


def test_the_shipped_path_agrees_with_the_plain_one_on_a_photo() -> None:
    found = one_answer.agreement([PHOTOS / "cat_query.jpg"], "float32")
    assert found["photos"] == found["same_presences"] == 1
    assert found["same_mask_pixels"] > 0.999
    assert 0 < found["largest_map_difference"] < 1e-3


def test_a_folders_run_is_compared_with_the_stream(tmp_path: Path) -> None:
    model = FewShotSegmenter.from_pretrained(device="cpu")
    supports, photos = model.encode(SUPPORTS), tmp_path / "photos"
    photos.mkdir()
    files = folder.fill(photos, [PHOTOS / "cat_query.jpg"], 0.05)
    found = folder.compare(model, supports, photos, files, 1)
    assert {"mask", "csv"} <= set(found["formats"])
    assert all(found[name]["answers_per_s"] > 0 for name in ("stream", "mask, overlay", "all formats"))


def test_a_soak_answers_every_copy_and_looks_at_memory(tmp_path: Path) -> None:
    model = FewShotSegmenter.from_pretrained(device="cpu")
    photos = tmp_path / "photos"
    photos.mkdir()
    found = folder.soak(model, model.encode(SUPPORTS), photos, [PHOTOS / "cat_query.jpg"], 4)
    assert (found["answered"], found["failed"], len(found["megabytes"])) == (4, 0, 4)
