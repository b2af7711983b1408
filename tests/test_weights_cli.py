"""``fscs weights`` without a network: what it prints, what it publishes, how it fails."""

import copy
import json

import pytest
import yaml
from click.testing import CliRunner

from fscs_sdk.cli import main
from fscs_sdk.training.model_card import model_card
from fscs_sdk.training.publishing import prepare
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER, manifest, read_manifest
from fscs_sdk.weights.manifest import model_files

EMBEDDED = PACKAGE_FOLDER / "assets" / "asnet-mini"
CONVERT = {"status": "convert", "convert": {"origin": "the authors", "command": "fscs convert a.ckpt b"}}
FIGURE = {"benchmark": "pascal-5i", "folds": [2], "ways": 1, "shots": 5, "exact_ratio": 80.1, "published": "table 1"}


@pytest.fixture
def known(tmp_path, monkeypatch):
    """A manifest with the embedded model and one to convert; ``known()`` writes it anew."""
    content = json.loads(manifest.MANIFEST_PLACES[1].read_text(encoding="utf-8"))
    theirs = copy.deepcopy(content["models"]["asnet-mini"])
    del theirs["files"]
    content["models"] = {"asnet-mini": content["models"]["asnet-mini"], "theirs": theirs | CONVERT | {"figures": []}}

    def write():
        (tmp_path / "manifest.json").write_text(json.dumps(content), encoding="utf-8")

    write()
    monkeypatch.setattr(manifest, "MANIFEST_PLACES", (tmp_path / "manifest.json",))
    write.models = content["models"]
    return write


def fscs(*arguments):
    result = CliRunner().invoke(main, ["weights", *arguments])
    return result.exit_code, result.stdout, result.stderr


def front_matter(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_the_list_says_where_models_are_and_how_good_they_are(known, tmp_path):
    figure = read_manifest()["asnet-mini"]["figures"][0]
    known.models["theirs"]["figures"] = [FIGURE]
    known()
    code, output, _ = fscs("list", "--cache-dir", str(tmp_path))
    assert code == 0
    heading, mini, theirs = (" ".join(line.split()) for line in output.splitlines())
    assert heading == "NAME BACKBONE TASK SIZE WHERE ER % mIoU % ON"
    assert mini.startswith("asnet-mini efficientnet_lite0 FS-CS 10.0 MB in the package ")
    assert f" {figure['exact_ratio']} {figure['mean_iou']} voc-animals 1-way 1-shot, measured" in mini
    assert theirs == "theirs efficientnet_lite0 FS-CS to be converted 80.1 pascal-5i 1-way 5-shot, published"


def test_path_and_fetch_print_the_files_of_the_package():
    expected = f"{EMBEDDED / HEAD_FILE}\n{EMBEDDED / BACKBONE_FILE}\n"
    assert fscs("path", "asnet-mini")[:2] == (0, expected)
    assert fscs("fetch", "asnet-mini", "efficientnet_lite0")[:2] == (0, f"{expected}{EMBEDDED / BACKBONE_FILE}\n")


@pytest.mark.parametrize("command", ["fetch", "path", "verify"])
@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("asnet-maxi", "there is no model"),
        (
            "theirs",
            "theirs must be converted first: get its checkpoint (the authors), run `fscs convert a.ckpt b`, and",
        ),
    ],
)
def test_a_name_that_cannot_be_had_is_one_sentence(known, command, name, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    code, output, error = fscs(command, name, "--cache-dir", str(tmp_path))
    assert (code, output) == (1, "")
    assert error.startswith("fscs: ")
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_debug_shows_the_traceback():
    result = CliRunner().invoke(main, ["--debug", "weights", "path", "asnet-maxi"])
    assert isinstance(result.exception, ValueError)


def test_a_dry_run_shows_the_files_and_the_card_and_sends_nothing(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a dry run reaches no Hub")

    monkeypatch.setattr("huggingface_hub.HfApi.__init__", refuse)
    code, output, _ = fscs("publish", "asnet-mini", "org/repo", "--dry-run")
    assert code == 0
    for name in (HEAD_FILE, BACKBONE_FILE, "config.json", "README.md", "LICENSE", "NOTICE"):
        assert f"  {name} " in output
    assert f"{(EMBEDDED / HEAD_FILE).stat().st_size:,} bytes" in output
    assert 'FewShotSegmenter.from_pretrained("org/repo")' in output


def test_what_is_published_is_described_by_the_manifest():
    entry = read_manifest()["asnet-mini"]
    publication = prepare("asnet-mini", "org/repo")
    config = json.loads(publication.files["config.json"])
    assert config["name"] == "asnet-mini"
    assert {key: config[key] for key in ("method", "backbone", "input_side")} == {
        key: entry[key] for key in ("method", "backbone", "input_side")
    }
    assert [(file["file"], file["sha256"]) for file in config["files"]] == [
        (name, file.sha256) for name, file in zip((HEAD_FILE, BACKBONE_FILE), model_files("asnet-mini"), strict=True)
    ]
    assert publication.files["LICENSE"].startswith(b"MIT License")
    assert publication.files["NOTICE"] == (EMBEDDED / "NOTICE").read_bytes()
    assert publication.size("LICENSE") == len(publication.files["LICENSE"])
    card = publication.files["README.md"].decode()
    matter = front_matter(card)
    assert matter["license"] == "other"
    assert matter["license_name"] == "mit-and-apache-2.0"
    assert matter["pipeline_tag"] == "image-segmentation"
    for text in (*entry["training_data"], entry["terms"], entry["recipe"], entry["figures"][0]["command"]):
        assert text in card
    for file in model_files("asnet-mini"):
        assert file.sha256 in card
    rows = [line for line in card.splitlines() if line.startswith("| voc-animals")]
    assert len(rows) == len(entry["figures"]) + sum(len(figure["baselines"]) for figure in entry["figures"])
    assert f"| {entry['figures'][0]['exact_ratio']} |" in rows[0]


def test_a_card_marks_what_others_published_and_names_one_licence():
    entry = read_manifest()["asnet-mini"] | {"figures": [FIGURE], "licence": {"head": "MIT"}, "protocol": "authors"}
    card = model_card("theirs", entry, model_files("asnet-mini")[:1], "org/repo")
    assert front_matter(card)["license"] == "mit"
    assert "| pascal-5i, folds 2 | this model | 1 | 5 |  | 80.1 |  |  |  | table 1 |" in card
    assert 'from_pretrained("org/repo", protocol="authors")' in card
    assert "Not measured yet." in model_card("theirs", entry | {"figures": []}, model_files("asnet-mini"), "org/repo")


@pytest.mark.parametrize(
    ("name", "repo", "sentence"),
    [
        ("asnet-mini", "repo", "'repo' cannot be a repository; give org/repo"),
        ("asnet-mini", "org/../repo", "cannot be a repository; give org/repo"),
        ("theirs", "org/repo", "'theirs' is not a model whose weights can be published"),
        ("asnet-maxi", "org/repo", "'asnet-maxi' is not a model whose weights can be published"),
    ],
)
def test_what_cannot_be_published_is_one_sentence(known, name, repo, sentence):
    code, _, error = fscs("publish", name, repo, "--dry-run")
    assert code == 1
    assert sentence in error
    assert len(error.splitlines()) == 1


def test_the_weights_of_others_are_not_published(known):
    known.models["asnet-mini"]["licence"]["head"] = "unknown (ask the authors)"
    known()
    code, _, error = fscs("publish", "asnet-mini", "org/repo", "--dry-run")
    assert code == 1
    assert "asnet-mini is not ours to publish: its head's licence is unknown" in error


def test_offline_mode_publishes_nothing(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, _, error = fscs("publish", "asnet-mini", "org/repo")
    assert code == 1
    assert "cannot write org/repo: HF_HUB_OFFLINE is set; unset it and try again" in error


def test_converted_files_of_torchvision_are_verified_by_their_names(tmp_path):
    content = b"safetensors of a pickled file"
    digest = "d" * 64
    folder = tmp_path / "fscs-sdk" / "0123456789abcdef"
    folder.mkdir(parents=True)
    (folder / f"resnet50-0676ba61.{digest}.safetensors").write_bytes(content)
    code, output, _ = fscs("verify", "resnet50", "--cache-dir", str(tmp_path))
    assert code == 1
    assert output.startswith("wrong   resnet50 backbone: ")
    assert "fscs weights fetch resnet50" in output
    assert not (folder / f"resnet50-0676ba61.{digest}.safetensors").exists()
    assert fscs("verify", "resnet50", "--cache-dir", str(tmp_path))[:2] == (1, "absent  resnet50 backbone: not here\n")
