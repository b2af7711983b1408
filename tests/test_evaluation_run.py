"""A whole evaluation: tasks, thresholds, several models, and going on after an interruption."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

import fscs_sdk
from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, Shot
from fscs_sdk.checkpoints.head import TRAINING_KEY
from fscs_sdk.cli import main
from fscs_sdk.cli.evaluate import evaluate as command
from fscs_sdk.evaluation import benchmark
from fscs_sdk.evaluation.answers import answers
from fscs_sdk.evaluation.benchmark import Settings, describe, evaluate
from fscs_sdk.evaluation.datasets import BENCHMARKS, LabelFolder
from fscs_sdk.evaluation.episodes import EpisodeSampler
from fscs_sdk.evaluation.metrics import Interval, Metrics, Summary
from fscs_sdk.evaluation.photo_cache import EncodedPhotos
from fscs_sdk.evaluation.results import Result, header, rows, write_results
from fscs_sdk.evaluation.tally import JOURNAL, open_journal
from fscs_sdk.evaluation.training_free import TrainingFree, nearest_feature
from fscs_sdk.supports import CALIBRATION
from test_cli import make_benchmark


def run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main, ["evaluate", *arguments])
    return result.exit_code, result.output


def plain(segmenter: FewShotSegmenter, threshold: float, **options: Any) -> FewShotSegmenter:
    """The same backbone under a head without weights, which is quick."""
    network = dataclasses.replace(segmenter.network, head=TrainingFree(nearest_feature, threshold), adapter=None)
    return FewShotSegmenter(network, name="plain", device="cpu", **options)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark")
    make_benchmark(folder, photos_per_class=4)
    return folder


# --------------------------------------------------------------------------------------------------- answers


@pytest.fixture(scope="module")
def support_classes() -> dict[str, list[Shot]]:
    return {str(number): [Shot(photo(10 * number + k), box_mask()) for k in range(3)] for number in (1, 2)}


def test_thresholds_share_a_pass_and_equal_separate_ones(
    model: FewShotSegmenter, support_classes: dict[str, list[Shot]]
) -> None:
    for protocol in ("paper", "authors"):
        segmenter = plain(model, 0.6, protocol=protocol)
        query, supports = segmenter.encode_query(photo(1)), segmenter.encode(support_classes)
        scores = segmenter.infer(query, supports).scores.tolist()
        thresholds = [0.5, (scores[0] + scores[1]) / 2, 0.0, 1.0]
        found = answers(segmenter, query, supports, task="fs-cs", thresholds=thresholds)
        assert len({tuple(present.tolist()) for present, _ in found}) >= 2
        for threshold, (present, mask) in zip(thresholds, found, strict=True):
            alone = segmenter.infer(query, supports.with_thresholds(threshold))
            assert present.tolist() == alone.present.tolist()
            assert np.array_equal(mask, alone.mask.numpy())


def test_fs_s_asks_for_no_presence(model: FewShotSegmenter, support_classes: dict[str, list[Shot]]) -> None:
    segmenter = plain(model, 0.6)
    query, supports = segmenter.encode_query(photo(1)), segmenter.encode(support_classes)
    ((present, mask),) = answers(segmenter, query, supports.with_thresholds(1.0), task="fs-s")
    maps = segmenter.infer(query, supports)
    expected = torch.cat([maps.foreground, maps.background[None]]).argmax(dim=0).numpy()
    assert present.tolist() == [True, True]
    assert np.array_equal(mask, np.where(expected == 2, 0, expected + 1))


def test_fs_s_by_the_authors_is_a_vote_of_shots(
    model: FewShotSegmenter, support_classes: dict[str, list[Shot]]
) -> None:
    segmenter = plain(model, 0.6, protocol="authors")
    query = segmenter.encode_query(photo(1))
    shots = support_classes["1"]
    ((_, mask),) = answers(segmenter, query, segmenter.encode({"1": shots}), task="fs-s")
    alone = [segmenter.infer(query, segmenter.encode({"1": [shot]}, threshold=0)).mask.numpy() for shot in shots]
    votes = sum(alone)
    assert votes.max() > 0
    assert len(np.unique(votes)) > 2  # the shots do not agree
    assert np.array_equal(mask, votes / max(1, votes.max()) >= 0.5)
    with pytest.raises(ValueError, match="no rule for fs-s with 2 classes"):
        answers(segmenter, query, segmenter.encode(support_classes), task="fs-s")


def test_fs_c_names_the_class_with_the_highest_score(
    model: FewShotSegmenter, support_classes: dict[str, list[Shot]]
) -> None:
    segmenter = plain(model, 0.99)  # no class reaches 0.5
    query, supports = segmenter.encode_query(photo(1)), segmenter.encode(support_classes)
    ((present, mask),) = answers(segmenter, query, supports, task="fs-c")
    best = int(segmenter.infer(query, supports).scores.argmax())
    assert present.tolist() == [best == 0, best == 1]
    assert set(np.unique(mask)) <= {0, best + 1}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "fs-c"}, "fs-c asks which one"),
        ({"task": "fs-s", "thresholds": (0.4,)}, "fs-s has no threshold"),
        ({"thresholds": (0.4, 0.4)}, "must be different numbers"),
        ({"thresholds": (1.4,)}, "from 0 to 1"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Settings(**wrong)


def test_weak_supports_are_tags_and_size_mistakes_are_named(
    model: FewShotSegmenter, data: Path, tmp_path: Path
) -> None:
    folder = LabelFolder(data)
    episode = benchmark.Episode("8_0", 8, (9,), (("9_1", "9_2"),))
    strong, weak = EncodedPhotos(model, folder), EncodedPhotos(model, folder, weak=True)
    assert not strong.supports(episode).tagged.any()
    assert weak.supports(episode).tagged.all()
    assert bool(weak.supports(episode).masks.all())
    head = TrainingFree(nearest_feature, 0.5)
    for change, same in (
        ({"head": head, "threshold": 0.9}, True),
        ({"head": head, "adapter": None}, False),
        ({"input_side": 304}, False),
        ({"close_up": 0.9}, False),
    ):
        network = dataclasses.replace(model.network, **change)
        dtype = str(model.dtype).removeprefix("torch.")
        assert strong.serves(FewShotSegmenter(network, name="other", device="cpu", dtype=dtype)) == same

    class Wrong(LabelFolder):
        def image(self, photo: str) -> Any:
            return super().image(photo)[1:]

    with pytest.raises(ValueError, match="'8_0' has 63 rows and 80 columns and its mask 64 and 80"):
        EncodedPhotos(model, Wrong(data)).query("8_0")


def test_every_model_is_measured_at_its_own_threshold(model: FewShotSegmenter, data: Path) -> None:
    base = plain(model, 0.6)
    own = {
        name: FewShotSegmenter(dataclasses.replace(base.network, threshold=threshold), name=name, device="cpu")
        for name, threshold in (("all", 0.0), ("none", 1.0))
    }
    settings = Settings(episodes=4)
    dataset = LabelFolder(data)
    recorded = describe(own, dataset, settings, benchmark="folder", folds=[1], baselines=False)
    assert recorded["thresholds"] == {"all": [0.0], "none": [1.0]}
    results = evaluate(own, dataset, settings, folds=[1], baselines=False, recorded=recorded)
    assert [result.label for result in results] == ["all", "none"]
    assert results[0].summary.exact_ratio + results[1].summary.exact_ratio == 100  # one is right where the other is not


# -------------------------------------------------------------------------------------------- calibrated


def test_calibrated_rows_stand_beside_the_papers_and_leave_them_as_they_are(
    model: FewShotSegmenter, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, dataset = {"plain": plain(model, 0.6)}, LabelFolder(data)
    given = []
    calibrated = EncodedPhotos.calibrated

    def noted(self: EncodedPhotos, segmenter: Any, episode: Any, negatives: Any) -> Any:
        supports = calibrated(self, segmenter, episode, negatives)
        given.append((episode, negatives, supports))
        return supports

    monkeypatch.setattr(EncodedPhotos, "calibrated", noted)
    results = {}
    for settings in (Settings(shots=2, episodes=4), Settings(shots=2, episodes=4, calibrate=True, negatives=1)):
        recorded = describe(own, dataset, settings, benchmark="folder", folds=[1], baselines=False)
        assert recorded["calibrate"] == settings.calibrate
        found = evaluate(own, dataset, settings, folds=[1], baselines=False, recorded=recorded)
        results[settings.calibrate] = {result.label: result.to_dict() for result in found}
    assert list(results[False]) == ["plain"]
    assert list(results[True]) == ["plain", "plain, calibrated"]
    assert results[True]["plain"] == results[False]["plain"]
    assert len(given) == 4
    for episode, negatives, supports in given:
        assert supports.calibration is not None
        assert [one.negatives for one in supports.examination.classes] == [1]
        for negative in negatives:
            assert negative not in (episode.query, *episode.supports[0])
            assert not np.isin(dataset.labels(negative), episode.classes).any()


def test_what_an_evaluation_calibrates_is_what_encode_does(model: FewShotSegmenter, data: Path) -> None:
    segmenter, dataset = plain(model, 0.6), LabelFolder(data)
    episode = EpisodeSampler(dataset.pairs("val", 1), ways=2, shots=2).episode(3)
    found = EncodedPhotos(segmenter, dataset).calibrated(segmenter, episode, ["8_3"])
    given = {
        str(number): [Shot(dataset.image(photo), dataset.labels(photo) == number) for photo in photos]
        for number, photos in zip(episode.classes, episode.supports, strict=True)
    }
    expected = segmenter.encode(given, calibrate=True, negatives=[dataset.image("8_3")])
    assert found.examination.pairs == expected.examination.pairs
    for one, other in zip(found.examination.shots, expected.examination.shots, strict=True):
        assert (one.name, one.shot, one.claimed_by, one.shows) == (
            other.name,
            other.shot,
            other.claimed_by,
            other.shows,
        )
        assert (one.score, one.iou) == pytest.approx((other.score, other.iou), abs=1e-3)
    for name in CALIBRATION:  # photos pass the backbone in other batches, which rounds otherwise
        torch.testing.assert_close(
            getattr(found.calibration, name), getattr(expected.calibration, name), atol=1e-2, rtol=0
        )


def test_negatives_without_calibration_are_refused() -> None:
    with pytest.raises(ValueError, match="negatives serve to calibrate"):
        Settings(negatives=3)


# ----------------------------------------------------------------------------------------------- going on


def resumable(
    model: FewShotSegmenter,
    data: Path,
    out: Path | None,
    *,
    episodes: int = 5,
    advance: Callable[..., None] | None = None,
) -> list[Any]:
    segmenters = {"a": plain(model, 0.6), "b": plain(model, 0.8)}
    settings = Settings(episodes=episodes, ways=2, thresholds=(0.5, 0.7))
    dataset = LabelFolder(data)
    recorded = describe(segmenters, dataset, settings, benchmark="folder", folds=[1], baselines=False)
    results = evaluate(
        segmenters,
        dataset,
        settings,
        folds=[1],
        baselines=False,
        recorded=recorded,
        out=out,
        advance=advance or (lambda fold: None),
    )
    return [(result.cells(), result.to_dict()) for result in results]


def test_an_interrupted_evaluation_goes_on_and_ends_the_same(
    model: FewShotSegmenter, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = resumable(model, data, None)
    assert [row[0][1] for row in undisturbed] == ["a, delta 0.5", "a, delta 0.7", "b, delta 0.5", "b, delta 0.7"]
    out = tmp_path / "new" / "out"
    done = []

    def interrupt(fold: int) -> None:
        done.append(fold)
        if len(done) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        resumable(model, data, out, advance=interrupt)
    journal = out / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    assert len(lines) == 4
    journal.write_bytes(b"".join(lines) + lines[-1][:20])  # as a kill would leave it
    measured = []
    measure = benchmark._measure

    def counted(methods: Any, episode: Any, negatives: Any, settings: Any) -> Any:
        measured.append(episode)
        return measure(methods, episode, negatives, settings)

    monkeypatch.setattr(benchmark, "_measure", counted)
    assert resumable(model, data, out) == undisturbed
    assert len(measured) == 2
    assert resumable(model, data, out) == undisturbed
    assert len(measured) == 2
    assert [line[:12] for line in journal.read_bytes().splitlines()][1:] == [b'{"fold": 1, '] * 5
    with pytest.raises(ValueError, match="holds an evaluation with episodes 5, this one has 6"):
        resumable(model, data, out, episodes=6)


def test_a_journal_keeps_thresholds_and_refuses_what_is_not_its_own(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    with open_journal(tmp_path, {"ways": 1}) as journal:
        journal.add_thresholds(None, {"nearest feature": 0.625})
    with open_journal(tmp_path, {"ways": 1}) as journal:
        assert journal.thresholds == {None: {"nearest feature": 0.625}}
        with pytest.raises(OSError, match="another run is writing"), open_journal(tmp_path, {"ways": 1}):
            pass
    header_line = path.read_bytes().splitlines(keepends=True)[0]
    for line in (
        b"[]\n",
        b"{}\n",
        b'{"fold": 0, "episode": 1, "classes": [1], "counts": [{"right": [1, 0]}]}\n',
        b"\xff\n",
    ):
        path.write_bytes(header_line + line)
        with pytest.raises(ValueError, match=r"line 2 of '.*' is damaged"), open_journal(tmp_path, {"ways": 1}):
            pass
    for content, message in {
        b"": "not the journal of an evaluation",
        b"photo,score\n": "not the journal of an evaluation",
        b'{"fscs_evaluation": 2, "settings": {}}\n': "another version",
    }.items():
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message), open_journal(tmp_path, {"ways": 1}):
            pass
        assert path.read_bytes() == content


# ---------------------------------------------------------------------------------------------------- results


def result(task: Any, fold: int | None, **numbers: float) -> Result:
    summary = Summary(**{"exact_ratio": 80.0, "accuracy": 85.0, "mean_iou": 40.0, "foreground_background_iou": 60.0,
                         **numbers}, class_iou={3: 40.0}, class_accuracy={3: 85.0}, episodes=7)  # fmt: skip
    bounds = (1.0, 2.0)
    interval = Interval(bounds, bounds, bounds, bounds, {3: bounds}, {3: bounds})
    return Result(task, fold, "net", None, summary, interval, {3: "cat|dog"})


def test_every_task_shows_what_it_asks_for() -> None:
    assert header("fs-cs")[2:] == ["ER %", "accuracy %", "mIoU %", "FB-IoU %", "IoU by class"]
    assert result("fs-cs", None).cells() == [
        *("all", "net", "80.0 (1.0-2.0)", "85.0", "40.0 (1.0-2.0)", "60.0", "cat|dog 40.0")
    ]
    assert header("fs-s")[2:] == ["mIoU %", "FB-IoU %", "IoU by class"]
    assert result("fs-s", 0).cells() == ["0", "net", "40.0 (1.0-2.0)", "60.0", "cat|dog 40.0"]
    assert header("fs-c")[2:] == ["ER %", "accuracy %", "accuracy by class"]
    assert result("fs-c", 0).cells() == ["0", "net", "80.0 (1.0-2.0)", "85.0", "cat|dog 85.0"]
    assert "mean_iou" not in result("fs-c", 0).to_dict()
    assert "exact_ratio" not in result("fs-s", 0).to_dict()
    both = rows([result("fs-s", 0), result("fs-s", 1, mean_iou=20.0)])
    assert both[2] == ["mean", "net", "30.0", "60.0", ""]


def test_results_are_written_as_json_and_markdown(tmp_path: Path) -> None:
    found = [result("fs-cs", 0, mean_iou=float("nan")), result("fs-cs", 1)]
    settings = {"ways": 1, "models": {"net": "net@12"}}
    write_results(tmp_path, found, title="a title", date="today", settings=settings, machine={"cpu": {"cores": 2}})
    report = json.loads((tmp_path / "results.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert (report["date"], report["settings"], report["machine"]) == ("today", settings, {"cpu": {"cores": 2}})
    assert report["results"][0]["mean_iou"] is None
    assert report["results"][1]["interval_95"]["class_iou"] == {"cat|dog": [1.0, 2.0]}
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert lines[0] == "# a title"
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 5
    assert {line.replace("\\|", "").count("|") for line in table} == {8}
    assert "- models: net net@12" in lines


# ------------------------------------------------------------------------------------------------ the command


def test_the_command_writes_goes_on_and_refuses_another_setting(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("--benchmark", "folder", "--data", str(data), "--fold", "1", "--no-baselines", "--out", str(out))
    code, output = run(*arguments, "--episodes", "2", "--json")
    assert code == 0, output
    report = json.loads((out / "results.json").read_text())
    assert report["results"] == json.loads(output)
    assert report["settings"]["models"]["asnet-mini"].startswith("asnet-mini@")
    assert report["machine"]["versions"]["torch"]
    assert "| 1 | asnet-mini |" in (out / "results.md").read_text()
    code, again = run(*arguments, "--episodes", "2", "--json")
    assert (code, again) == (0, output)
    code, output = run(*arguments, "--episodes", "3")
    assert code == 1
    assert "holds an evaluation with episodes 2, this one has 3" in output


def test_edges_change_masks_alone_and_are_not_mixed_with_the_papers(data: Path, tmp_path: Path) -> None:
    arguments = ("--benchmark", "folder", "--data", str(data), "--no-baselines", "--episodes", "2", "--json")
    out = ("--out", str(tmp_path / "out"))
    (code, plain), (_, followed) = run(*arguments, *out), run(*arguments, "--edges")
    assert code == 0, plain
    (plainly,), (following,) = json.loads(plain), json.loads(followed)
    assert following["exact_ratio"] == plainly["exact_ratio"]
    assert following["mean_iou"] != plainly["mean_iou"]
    assert "edges" not in json.loads((tmp_path / "out" / "results.json").read_text())["settings"]
    code, refused = run(*arguments, *out, "--edges")
    assert code == 1
    assert "this one has edges True" in refused or "edges" in refused


def test_several_models_share_a_table_under_different_names(data: Path) -> None:
    copy = str(Path(fscs_sdk.__file__).parent / "assets" / "asnet-mini")
    arguments = ("--benchmark", "folder", "--data", str(data), "--no-baselines", "--episodes", "1", "--json")
    code, output = run(*arguments, "--model", "asnet-mini", "--model", copy)
    assert code == 0, output
    first, second = json.loads(output)
    assert (first.pop("method"), second.pop("method")) == ("asnet-mini", copy)
    assert first == second


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--task", "fs-c"), 2, "needs ways=2 or more"),
        (("--model", "asnet-mini", "--model", "asnet-mini"), 2, "names a model twice"),
        (("--model", "no-such-model"), 2, "no-such-model"),
        (
            ("--model", "DATA/seen.safetensors", "--split", "held-out"),
            2,
            "seen.safetensors' was trained on every photo",
        ),
        (("--threshold", "2"), 2, "--threshold"),
        (("--fold", "3"), 1, "no fold 3; it has 1"),
        (("--shots", "9", "--no-baselines"), 1, "too few for shots=9"),
        (("--edges", "--protocol", "authors"), 2, "--edges is for the protocol paper"),
        (("--benchmark", "pascal-5i"), 1, "no folder JPEGImages"),
        (("--splits", "DATA/images"), 1, "has no val/fold<k>.txt"),
    ],
)
def test_mistakes_are_one_sentence(data: Path, options: tuple[str, ...], code: int, message: str) -> None:
    save_file({"x": torch.zeros(1)}, data / "seen.safetensors", {TRAINING_KEY: '{"held_out": 0}'})
    given = [option.replace("DATA", str(data)) for option in options]
    found, output = run("--benchmark", "folder", "--data", str(data), *given)
    assert found == code, output
    assert message in output
    assert output.startswith("fscs: ")
    assert output.count("\n") == 1


def test_the_command_offers_every_benchmark() -> None:
    (option,) = (parameter for parameter in command.params if parameter.name == "benchmark")
    assert list(option.type.choices) == list(BENCHMARKS)


def test_counts_survive_the_journal(tmp_path: Path) -> None:
    metrics, again = Metrics(), Metrics()
    generator = np.random.default_rng(0)
    with open_journal(tmp_path, {}) as journal:
        for index in range(4):
            counts = metrics.update(
                (3, 9),
                predicted_presence=generator.integers(0, 2, 2),
                target_presence=generator.integers(0, 2, 2),
                predicted_mask=generator.integers(0, 3, (5, 6)),
                target_mask=generator.integers(0, 3, (5, 6)),
            )
            journal.add_episode(0, index, [counts])
    with open_journal(tmp_path, {}) as journal:
        for index in range(4):
            again.add(journal.episodes[0, index][0])
    assert again.summary() == metrics.summary()
    assert again.interval() == metrics.interval()
