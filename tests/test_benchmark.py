"""The benchmark's own rules: targets, baselines, calibration lists."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fscs_sdk import FewShotSegmenter
from fscs_sdk.evaluation import benchmark
from fscs_sdk.evaluation.benchmark import Settings, episode_target, evaluate
from fscs_sdk.evaluation.datasets import LabelFolder
from fscs_sdk.evaluation.episodes import is_held_out
from fscs_sdk.evaluation.training_free import SIMILARITIES, TrainingFree, mean_prototype, nearest_feature
from test_cli import make_benchmark


def test_target_by_protocol() -> None:
    labels = np.array([[0, 8, 9, 65535]], np.uint16)
    target, presence = episode_target(labels, (9, 3), "paper")
    assert target.tolist() == [[0, 0, 1, 255]]
    assert presence.tolist() == [True, False]
    target, _ = episode_target(labels, (9, 3), "authors")
    assert target.tolist() == [[0, 0, 1, 0]]


def test_similarities_by_hand() -> None:
    """Two support positions, (1, 0) and (0, 1); the query looks like the first."""
    support = torch.tensor([[[[1.0, 0.0]], [[0.0, 1.0]]]])
    query = torch.tensor([[[[1.0]], [[0.0]]]])
    first, second, both = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.ones(1, 2)
    for weights, nearest, mean in ((first, 1.0, 1.0), (second, 0.0, 0.0), (both, 1.0, 0.5**0.5)):
        assert nearest_feature(query, support, weights).item() == pytest.approx(nearest)
        assert mean_prototype(query, support, weights).item() == pytest.approx(mean)


def test_a_training_free_head_is_undecided_at_its_threshold() -> None:
    feature = torch.nn.functional.normalize(torch.rand(1, 4, 3, 3), dim=1)
    pyramid = [[feature], [feature]]
    logits = TrainingFree(nearest_feature, 1.0)(pyramid, pyramid, torch.ones(1, 6, 6))
    assert logits.shape == (1, 2, 3, 3)
    assert logits.softmax(dim=1)[:, 1].numpy() == pytest.approx(0.5, abs=1e-5)


def test_evaluate_with_baselines(model: FewShotSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_benchmark(tmp_path)
    trn = tmp_path / "splits" / "trn" / "fold1.txt"
    val = tmp_path / "splits" / "val" / "fold1.txt"
    lines = val.read_text().splitlines()
    monkeypatch.setattr(benchmark, "HELD_OUT", 1)
    monkeypatch.setattr(benchmark, "CALIBRATION_EPISODES", 4)

    def run(settings: Settings) -> list[benchmark.Result]:
        return evaluate({"ours": model}, LabelFolder(tmp_path), settings, folds=[1], baselines=True, recorded={})

    with pytest.raises(ValueError, match=r"leave the baselines out: .*too few for ways=1"):
        run(Settings(episodes=2))  # every photo of the trn list is on the val list
    trn.write_text("\n".join(lines[:5] + lines[10:15]))
    val.write_text("\n".join(lines[5:10] + lines[15:]))
    results = run(Settings(ways=2, shots=2, episodes=3))
    assert [result.method for result in results] == [
        "ours",
        *(f"{name}{maps}" for maps in ("", " + adapter") for name in SIMILARITIES),
    ]
    assert all(result.summary.episodes == 3 for result in results)


def test_held_out_is_a_fixed_share() -> None:
    names = [f"2008_{number:06d}" for number in range(4000)]
    share = sum(is_held_out(name, 20) for name in names) / len(names)
    assert 0.035 < share < 0.065
    assert not any(is_held_out(name, 0) for name in names)
