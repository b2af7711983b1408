"""Questions about photos that were not trained on, and the figures that come of the answers."""

import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from torch import Tensor

from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.training.__main__ import main
from fscs_sdk.training.validation import Asked, draw_questions, measure
from training_stub import tiny_backbone, write_sources


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("data"))


def test_questions_are_half_of_photos_without_the_class(data: Path) -> None:
    asked = Asked.of(data, "parts", "", held_out=0)
    questions = draw_questions(asked, 40)
    for question in questions:
        query, support = asked.queries[question.query], asked.supports[question.support]
        assert query.image != support.image
        assert question.name in support.large
    shown = [question.name in asked.queries[question.query].large for question in questions]
    assert sum(shown) == 20
    assert {question.name for question in questions} == {"parts/axis", "parts/bolt"}
    assert questions == draw_questions(asked, 40) != draw_questions(asked, 40, seed=1)


def test_parts_keep_what_is_trained_on_apart(data: Path) -> None:
    def names(part: str, held_out: int = 0) -> set[str]:
        return {photo.image.stem for photo in Asked.of(data, "voc", part, held_out=held_out).queries}

    assert names("validation") == {"dog2", "dog3"}
    assert names("training") == {"cat0", "cat1", "cat2", "cat3", "dog0", "dog1"}
    held_out = Asked.of(data, "voc", "held-out", held_out=2)
    kept = {photo.image.stem for photo in held_out.queries}
    assert kept == names("training") - names("training", held_out=2)
    assert 0 < len(kept) < 6
    assert {photo.image.stem for photo in held_out.supports} == names("training")
    with pytest.raises(ValueError, match="no part 'test'"):
        Asked.of(data, "voc", "test", held_out=0)


class Fixed:
    """A head that says the same of every query."""

    def __init__(self, margin: float) -> None:
        self.margin = margin

    def __call__(self, query: list[list[Tensor]], support: list[list[Tensor]], mask: Tensor) -> Tensor:
        logits = torch.zeros(len(mask), 2, 8, 8)
        logits[:, 1] = self.margin
        return logits


@pytest.mark.parametrize("margin", [3.0, -3.0])
def test_figures_of_a_head_that_always_says_the_same(data: Path, margin: float) -> None:
    network = FewShotNetwork(tiny_backbone(), Fixed(margin), 64)
    asked = [Asked.of(data, "parts", "", held_out=0)]
    (line,) = measure(network, asked, 12, device=torch.device("cpu"), at_once=5)
    assert (line["episodes"], line["classes"]) == (12, 2)
    assert set(line["exact_ratio"].values()) == {50.0}
    if margin > 0:
        # 900 of 110 x 88 known pixels; told counts the photos with the class, the other figure all
        assert line["told"] == pytest.approx(100 * 900 / (110 * 88), rel=0.06)
        assert line["mean_iou"]["0.6"] == pytest.approx(line["told"] / 2, rel=0.02)
    else:
        assert line["told"] == line["mean_iou"]["0.5"] == 0


def test_the_command_prints_a_line_for_each_source(data: Path, tmp_path: Path) -> None:
    options = ["validate", "fscs_sdk/assets/asnet-mini/head.safetensors", "--data", str(data), "--episodes", "2"]
    done = CliRunner().invoke(
        main, [*options, "--source", "parts", "--out", str(tmp_path / "lines"), "--device", "cpu"]
    )
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (tmp_path / "lines").read_text().splitlines()]
    assert [line["source"] for line in lines] == ["parts"]
    assert json.loads(done.stdout.splitlines()[-1]) == lines[0]
    refused = CliRunner().invoke(main, [*options, "--source", "nothing"])
    assert refused.exit_code == 1
    assert "holds 'nothing'" in refused.output
