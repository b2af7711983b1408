"""Settings of a training run: what can be said, what is refused, and files of before."""

import dataclasses
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fscs_sdk import training
from fscs_sdk.training.config import TrainConfig
from training_stub import SMALL

FOLDER = Path(training.__file__).parent / "recipes"
#: Those of the paper's rows, and those of what ships.
PAPER = sorted(FOLDER.glob("paper*.json"))
RECIPES = sorted({*FOLDER.glob("*.json")} - {*PAPER} - {*FOLDER.glob("dinov*.json")})


def test_settings_survive_saving(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, excluded_classes=("cat", "cow"), labels="mixed")
    config.save(tmp_path / "config.json")
    assert TrainConfig.load(tmp_path / "config.json") == config


def test_a_file_names_only_what_it_changes(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text('{"head": "hsnet", "learning_rate": 1, "sources": [["voc", 1]]}')
    assert TrainConfig.load(path) == TrainConfig(head="hsnet", learning_rate=1, sources=(("voc", 1),))


def test_settings_that_are_gone_may_stand_in_older_files() -> None:
    gone = {"pasted": 0, "texture_share": 0.0, "cached_views": 0, "workers": 3}
    assert TrainConfig.parse({"steps": 9, **gone}) == TrainConfig(steps=9)


def test_the_papers_rows_differ_in_what_their_names_say() -> None:
    paper = TrainConfig.load(FOLDER / "paper.json")
    assert (paper.geometric, paper.photometric, paper.swap, paper.dice, paper.presence) == (False, False, True, 0, 0)
    assert {path.stem: TrainConfig.load(path) for path in PAPER} == {
        "paper": paper,
        "paper-weak": dataclasses.replace(paper, labels="weak", learning_rate=1e-4),
        "paper-mixed": dataclasses.replace(paper, labels="mixed"),
        "paper-5-shot": dataclasses.replace(paper, shots=5, photos_per_class=6),
    }


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_recipes_of_before_mean_what_they_meant(recipe: Path) -> None:
    config, written = TrainConfig.load(recipe), json.loads(recipe.read_text())
    assert dict(config.sources)["voc"] > 0
    if "untagged_share" in written:
        assert config.withheld_share == written.pop("untagged_share")
    for name in {field.name for field in dataclasses.fields(config)} - set(written) - {"withheld_share"}:
        assert getattr(config, name) == getattr(TrainConfig(), name)
    assert (config.task, config.labels, config.loss) == ("fs-cs", "strong", "segmentation")
    assert config.head == ("asnet-touched" if config.resident_side else "asnet")
    assert (config.shots, config.swap, config.geometric, config.photometric) == (1, False, True, True)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"task": "fs-c"}, "task must be one of fs-cs, fs-s, not 'fs-c'"),
        ({"labels": "some"}, "labels must be one of strong, weak, mixed"),
        ({"loss": "all"}, "loss must be one of"),
        ({"steps": 0}, "steps must be 1 or more, not 0"),
        ({"steps": "9"}, "steps must be int, not '9'"),
        ({"steps": True}, "steps must be int"),
        ({"swap": 1}, "swap must be bool"),
        ({"weak_share": 1.5}, "weak_share must be from 0 to 1, not 1.5"),
        ({"negative_share": float("nan")}, "negative_share must be from 0 to 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"sources": []}, "sources must name at least one"),
        ({"sources": [["voc", 0]]}, "weight above 0"),
        ({"sources": ["voc"]}, "sources must be"),
        ({"shots": 3}, "raise photos_per_class"),
        ({"classes": 1, "photos_per_class": 3}, "four photos"),
        ({"task": "fs-s", "labels": "weak"}, "its tag teaches nothing"),
        ({"task": "fs-s", "loss": "both"}, "its tag teaches nothing"),
        ({"head": "panet", "coarse_share": 0.1}, "which panet cannot do; set coarse_share to 0"),
        ({"side": 400}, "not 400; change side, or set whole_share to 1"),
        ({"epochs": 3}, "there is no setting 'epochs'"),
        ({"pasted": 2}, "there is no setting 'pasted' any more, and runs without it differ; leave it out"),
        ({"cached_views": 4, "workers": 4}, "there is no setting 'cached_views' any more"),
    ],
)
def test_what_cannot_work_is_refused_in_one_sentence(values: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as error:
        TrainConfig.parse(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("changes", [{"whole_share": 1.0}, {"labels": "weak"}, {"loss": "both"}, {"head": "pfenet"}])
def test_sides_that_32_does_not_divide_are_for_whole_queries(changes: dict[str, object]) -> None:
    assert not TrainConfig.parse({"side": 400, **changes}).uses_windows


@given(st.dictionaries(st.sampled_from([f.name for f in dataclasses.fields(TrainConfig)]), st.from_type(object)))
def test_no_value_is_more_than_a_value_error(values: dict[str, object]) -> None:
    try:
        config = TrainConfig.parse(values)
    except ValueError:
        return
    assert dataclasses.replace(config) == config


@pytest.mark.parametrize("text", ["", "[]", "{", '{"steps": -1}', '"steps"'])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "broken.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"the settings in '{path}' cannot be used")):
        TrainConfig.load(path)
