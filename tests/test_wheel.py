"""The built wheel, alone in a virtual environment away from this repository, with sockets forbidden."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
PREDICTION = """
import sys

def refuse(event, arguments):
    if event.startswith("socket."):
        raise RuntimeError(f"sockets are forbidden: {event}")

sys.addaudithook(refuse)
import fscs_sdk
from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk import FewShotSegmenter, list_models
prediction = FewShotSegmenter.from_pretrained(device="cpu").predict(PHOTOS / "cat_query.jpg", SUPPORTS)
print(fscs_sdk.__file__, list_models(), prediction.present["cat"], bool(prediction.mask.any()), sep="\\n")
"""


def run(*command, cwd):
    """A command without this process's Python settings, in a folder of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "HF_", "VIRTUAL_ENV"))}
    return subprocess.run([*map(str, command)], cwd=cwd, env=clean, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dist")
    built = run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, cwd=ROOT)
    assert built.returncode == 0, built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """An environment with the wheel in it, which sees the packages that are installed here, and not this repository."""
    folder = tmp_path_factory.mktemp("environment")
    made = run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder)
    assert made.returncode == 0, made.stderr
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python, "install")
    installed = run(*pip, "--no-deps", "--no-index", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    (packages,) = folder.glob("**/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder, python, packages


def test_the_wheel_holds_what_a_user_needs_and_no_more(wheel):
    names = ZipFile(wheel).namelist()
    for needed in (
        "fscs_sdk/weights_manifest.json",
        "fscs_sdk/assets/asnet-mini/head.safetensors",
        "fscs_sdk/assets/asnet-mini/backbone.safetensors",
        "fscs_sdk/assets/asnet-mini/NOTICE",
        "fscs_sdk/py.typed",
        "fscs_sdk/app/static/index.html",
        "fscs_sdk/app/static/main.js",
    ):
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert all(name.startswith(("fscs_sdk/", "fscs_sdk-")) for name in names)
    assert not [name for name in names if name.endswith((".pyc", ".ckpt"))]


def test_an_installed_wheel_answers_with_sockets_forbidden(environment):
    folder, python, packages = environment
    answered = run(python, "-I", "-W", "error", "-c", PREDICTION, cwd=folder)
    assert answered.returncode == 0, answered.stderr
    place, models, present, found = answered.stdout.splitlines()
    assert Path(place).is_relative_to(packages)
    assert "asnet-mini" in models
    assert (present, found) == ("True", "True")


def test_an_installed_wheel_verifies_itself_and_notices_one_flipped_bit(environment):
    folder, python, packages = environment
    fscs = python.with_name("fscs")
    verified = run(fscs, "weights", "verify", cwd=folder)
    assert verified.returncode == 0, verified.stderr
    assert f"ok      asnet-mini head: {packages}" in verified.stdout
    published = run(fscs, "weights", "publish", "asnet-mini", "org/repo", "--dry-run", cwd=folder)
    assert published.returncode == 0, published.stderr
    assert "license_name: mit-and-apache-2.0" in published.stdout

    head = packages / "fscs_sdk" / "assets" / "asnet-mini" / "head.safetensors"
    content = bytearray(head.read_bytes())
    content[len(content) // 2] ^= 1
    head.write_bytes(content)
    verified = run(fscs, "weights", "verify", cwd=folder)
    assert verified.returncode == 1
    assert "wrong   asnet-mini head: " in verified.stdout
    assert "is not the published file" in verified.stdout
    assert "reinstall fscs-sdk" in verified.stdout
