"""The job arrays of examples/cluster ask for every shard once, in a form that the command takes."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from fscs_sdk.cli.predict import predict
from fscs_sdk.folder import parse_shard

FOLDER = Path(__file__).parents[1] / "examples" / "cluster"
pytestmark = pytest.mark.skipif(os.name == "nt", reason="shell scripts")


def asked(script: list[str], folder: Path, **environment: str) -> dict[str, object]:
    """The options with which a script calls ``fscs predict``."""
    (folder / "fscs").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (folder / "fscs").chmod(0o755)
    paths = f"{folder}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(script, env={"PATH": paths, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    command, *arguments = done.stdout.splitlines()
    assert command == "predict"
    return predict.make_context("predict", arguments).params


def check(params: list[dict[str, object]], count: int) -> None:
    assert [parse_shard(str(one["shard"])) for one in params] == [(index, count) for index in range(1, count + 1)]
    assert {(one["inputs"], one["supports"], one["out"]) for one in params} == {
        (("/data/photos",), Path("/data/pets.safetensors"), Path("/data/results"))
    }


def test_slurm(tmp_path):
    script = FOLDER / "slurm.sh"
    text = script.read_text()
    first, last = map(int, re.search(r"^#SBATCH --array=(\d+)-(\d+)$", text, re.M).groups())
    assert first == 1
    command = re.search(r"^#   sbatch --export=ALL,(\S+) examples/cluster/slurm\.sh$", text, re.M).group(1)
    data = dict(part.split("=") for part in command.split(","))
    count = {"SLURM_ARRAY_TASK_COUNT": str(last), "SLURM_CPUS_PER_TASK": "4"}
    tasks = [
        asked(["bash", str(script)], tmp_path, SLURM_ARRAY_TASK_ID=str(index), **count, **data)
        for index in range(first, last + 1)
    ]
    check(tasks, last)
    no_data = subprocess.run(["bash", str(script)], env={"PATH": os.environ["PATH"], **count}, capture_output=True)
    assert no_data.returncode != 0


def test_kubernetes(tmp_path):
    yaml = pytest.importorskip("yaml", reason="PyYAML reads the manifest")
    job = yaml.safe_load((FOLDER / "kubernetes.yaml").read_text())
    assert (job["kind"], job["spec"]["completionMode"]) == ("Job", "Indexed")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    count = job["spec"]["completions"]
    script = [*container["command"], *container["args"]]
    assert shlex.split(script[-1])[:3] == ["exec", "fscs", "predict"]
    check([asked(script, tmp_path, JOB_COMPLETION_INDEX=str(index)) for index in range(count)], count)
    assert container["volumeMounts"][0]["name"] == job["spec"]["template"]["spec"]["volumes"][0]["name"]
