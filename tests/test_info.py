"""``fscs info``: what a report of a problem quotes."""

import json
import sys

import pytest
from click.testing import CliRunner

import fscs_sdk
import fscs_sdk.environment as module
from fscs_sdk.cli import main
from fscs_sdk.weights import list_models


def run(*arguments, **environment):
    result = CliRunner().invoke(main, ["info", *arguments], env=environment)
    return result.exit_code, result.output


def test_it_shows_versions_devices_cache_and_models():
    import torch

    code, output = run()
    assert code == 0
    rows = dict(line.split(maxsplit=1) for line in output.splitlines() if line.startswith("  "))
    assert rows["fscs-sdk"] == fscs_sdk.__version__
    assert rows["torch"] == torch.__version__
    assert f"{torch.get_num_threads()} thread" in rows["cpu"]
    for name in list_models():
        assert name in rows
    assert rows["asnet-mini"] == "in the package"
    assert "Nothing is wrong." in output


def test_json_has_the_same():
    code, output = run("--json")
    report = json.loads(output)
    assert code == 0
    assert set(report) == {"versions", "system", "cpu", "devices", "cache", "models", "problems"}
    assert report["versions"]["fscs-sdk"] == fscs_sdk.__version__
    assert report["versions"]["numpy"]
    assert report["devices"][-1]["name"] == "cpu"
    assert report["cpu"]["cores"] >= 1
    assert report["cache"]["free"] > 0
    assert report["problems"] == []


def test_the_cache_is_where_the_hub_client_has_it(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "not" / "yet"))
    code, output = run("--json")
    assert code == 0
    cache = json.loads(output)["cache"]
    assert cache["folder"] == str(tmp_path / "not" / "yet")
    assert cache["writable"]
    assert not cache["exists"]
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written_to_is_a_problem(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    code, output = run()
    assert code == 1
    assert "hub' cannot be written to; set HF_HOME to a folder that can" in output
    assert "not writable" in output
    assert "Nothing is wrong." not in output


def test_a_broken_torch_is_a_problem_and_the_rest_is_shown(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    code, output = run("--json")
    report = json.loads(output)
    assert code == 1
    assert report["devices"] == []
    assert report["models"]["asnet-mini"]
    (problem,) = report["problems"]
    assert problem.startswith("torch cannot be loaded: ")


def test_missing_packages(monkeypatch):
    def version(package):
        if package in ("timm", "supervision", "opencv-python"):
            raise module.PackageNotFoundError(package)
        return "9.9"

    monkeypatch.setattr(module, "version", version)
    code, output = run("--json")
    report = json.loads(output)
    assert code == 1
    assert report["versions"]["timm"] is None
    assert report["versions"]["supervision"] is None
    assert report["versions"]["opencv-python"] == "9.9 (opencv-python-headless)"
    assert report["problems"] == ["timm is not installed: pip install --force-reinstall fscs-sdk"]
    assert "pip install 'fscs-sdk[formats]'" in run()[1]


def test_a_missing_manifest_is_a_problem(monkeypatch):
    def fails():
        raise FileNotFoundError("weights_manifest.json is missing from the package; reinstall fscs-sdk")

    monkeypatch.setattr("fscs_sdk.weights.list_models", fails)
    code, output = run("--json")
    assert code == 1
    assert json.loads(output)["problems"] == ["weights_manifest.json is missing from the package; reinstall fscs-sdk"]


def test_a_processors_instruction_sets_are_named(monkeypatch, tmp_path):
    listing = tmp_path / "cpuinfo"
    listing.write_text("processor\t: 0\nmodel name\t: Fast CPU\nflags\t\t: fpu avx2 avx512_bf16 amx_tile other\n")
    monkeypatch.setattr(module, "CPU_LISTING", listing)
    cpu = json.loads(run("--json")[1])["cpu"]
    assert cpu["model"] == "Fast CPU"
    assert cpu["features"] == ["avx2", "avx512_bf16", "amx_tile"]


def test_a_system_without_a_listing_of_its_processor(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "CPU_LISTING", tmp_path / "nothing")
    code, output = run("--json")
    assert code == 0
    assert json.loads(output)["cpu"]["features"] == []


@pytest.mark.parametrize(("environment", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colours_only_where_they_are_wanted(environment, colored):
    code, output = run(FORCE_COLOR="1", TERM="xterm-256color", **environment)
    assert code == 0
    assert ("\x1b[36m" in output or "\x1b[32m" in output) is colored
