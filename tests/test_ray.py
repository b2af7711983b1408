"""A real local Ray: two actors answer what the plain model answers."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS

pytest.importorskip("ray.data", reason="Ray is an extra")
pycocotools = pytest.importorskip("pycocotools.mask", reason="run lengths are pycocotools'")

#: Ray's workers give way to every other process unless they are told not to: on a busy machine they would never end.
BUSY = {"RAY_worker_niceness": "0"}
NAMES = ("cat_query.jpg", "coffee.jpg", "dog.jpg", "person_query.jpg")


@pytest.fixture(scope="module")
def cluster():
    import ray

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patch:
        for name, value in BUSY.items():
            patch.setenv(name, value)
        warnings.simplefilter("ignore")  # Ray's own
        ray.init(num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
        yield ray
        ray.shutdown()


@pytest.mark.filterwarnings("default")
def test_two_actors_answer_as_the_model(cluster, model32: FewShotSegmenter, tmp_path):
    from fscs_sdk.integrations.ray import Predictor

    supports = model32.encode({"cat": (PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png")})
    supports.save(tmp_path / "cat.safetensors")
    (tmp_path / "broken.jpg").write_bytes(b"no photo")
    photos = [*(str(PHOTOS / name) for name in NAMES), str(tmp_path / "broken.jpg")]
    options = {"supports": str(tmp_path / "cat.safetensors"), "device": "cpu", "dtype": "float32"}
    answered = cluster.data.read_binary_files(photos, include_paths=True).map_batches(
        Predictor, fn_constructor_kwargs=options, batch_size=2, compute=cluster.data.ActorPoolStrategy(size=2)
    )
    rows = {row["path"]: row for row in answered.take_all()}
    assert sorted(rows) == sorted(photos)
    assert "bytes" not in rows[photos[0]]
    for path in photos[:-1]:
        expected = model32.predict(path, supports)
        row = rows[path]
        assert row["error"] == ""
        assert row["present"].tolist() == [*expected.present.values()]
        np.testing.assert_allclose(row["scores"], [*expected.scores.values()], atol=1e-5)
        area = np.zeros(expected.mask.shape, dtype=bool)
        for lengths in json.loads(row["masks"]).values():
            area |= pycocotools.decode(lengths).astype(bool)
        assert (area == (expected.mask == 1)).all()
    assert rows[photos[-1]]["error"]


# ---- A folder run ------------------------------------------------------------------------------------------------


def command(folder: Path, out: Path, *more: str) -> list[str]:
    arguments = [str(folder / "photos"), "--supports", str(folder / "supports.safetensors"), "--out", str(out)]
    return [
        *(sys.executable, "-m", "fscs_sdk.cli", "predict", *arguments, "--formats", "mask,csv"),
        *("--device", "cpu", "--dtype", "float32", *more),
    ]


def results(out: Path) -> dict[str, object]:
    """Files and contents; of the journal, whose order and seconds differ, what it says of each photo."""
    files = {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()}
    lines = [json.loads(line) for line in files.pop("journal.jsonl").splitlines()]
    for line in lines:
        line["seconds"] = 0
    return {**files, "journal": {line["path"]: line for line in lines}}


def answered(out: Path) -> int:
    """Photos that the journal has an answer for."""
    journal = out / "journal.jsonl"
    text = journal.read_text() if journal.is_file() else ""
    return len({line for line in text.splitlines() if '"status": "ok"' in line or '"status": "failed"' in line})


def wait_for(condition, process: subprocess.Popen[bytes], seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the run ended before it could be disturbed"
        assert time.monotonic() < end, "the run does not go on"
        time.sleep(0.2)


def actors_below(pid: int) -> list[int]:
    import psutil  # Ray brings it along

    return [
        child.pid for child in psutil.Process(pid).children(recursive=True) if "MapWorker" in " ".join(child.cmdline())
    ]


@pytest.mark.skipif(os.name == "nt", reason="kill -9")
def test_a_run_on_two_actors_survives_one_of_them_and_goes_on_after_the_driver(model32: FewShotSegmenter, tmp_path):
    """An actor is killed, then the driver; the same command ends the run, and all is as a plain run leaves it."""
    supports = model32.encode({"cat": (PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png")})
    supports.save(tmp_path / "supports.safetensors")
    (tmp_path / "photos" / "sub").mkdir(parents=True)
    for number in range(40):
        name = NAMES[number % len(NAMES)]
        with Image.open(PHOTOS / name) as image:
            image.resize((96 + number, 80)).save(tmp_path / "photos" / ("sub" if number % 2 else "") / f"{number}.png")
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    out = tmp_path / "ray"
    on_ray = command(tmp_path, out, "--engine", "ray", "--actors", "2")
    with subprocess.Popen(
        on_ray, env=os.environ | BUSY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as driver:
        wait_for(lambda: answered(out) >= 8, driver)
        os.kill(actors_below(driver.pid)[0], signal.SIGKILL)
        before = answered(out)
        wait_for(lambda: answered(out) >= before + 8, driver)
        driver.kill()
    assert 0 < answered(out) < 41
    done = subprocess.run([*on_ray, "--json"], env=os.environ | BUSY, capture_output=True, text=True, timeout=600)
    report = json.loads(done.stdout)
    assert done.returncode == 1, done.stderr  # as ever where a photo cannot be read
    assert report["done_before"] > 0
    assert (report["photos"], report["failed"]) == (41, 1)
    plain = subprocess.run(command(tmp_path, tmp_path / "plain"), capture_output=True, text=True, timeout=600)
    assert plain.returncode == 1, plain.stderr
    assert results(out) == results(tmp_path / "plain")


def test_rays_options_without_ray_are_misuse(tmp_path):
    from click.testing import CliRunner

    from fscs_sdk.cli import main

    for option in (["--actors", "2"], ["--gpus", "0"]):
        result = CliRunner().invoke(main, ["predict", ".", "--supports", "x", "--out", str(tmp_path), *option])
        assert result.exit_code == 2
        assert "--address, --actors and --gpus belong to '--engine ray'" in result.output


@pytest.mark.filterwarnings("default")
def test_gpus_that_the_cluster_has_not_are_said_rather_than_waited_for(cluster, model32, tmp_path):
    from fscs_sdk.folder import predict_folder
    from fscs_sdk.integrations.ray_folder import RayAnswers

    supports = model32.encode({"cat": (PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png")})
    with pytest.raises(ValueError, match=r"each model is to have 0\.5 GPUs, and the cluster has 0; lower --gpus"):
        predict_folder(model32, PHOTOS / NAMES[0], supports, tmp_path / "out", answering=RayAnswers(gpus=0.5))


def test_a_model_is_the_same_one_on_another_device(model32: FewShotSegmenter):
    """The meta device stands for a GPU: all tensors go there, and those of the driver stay."""
    from fscs_sdk.integrations.ray_folder import _on

    assert _on("cpu", model32, "auto") is model32
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fscs_sdk.segmenter.choose_device", torch.device)
        patch.setattr("fscs_sdk.model.network.FewShotNetwork.identity", lambda _: model32.identity.rpartition("@")[2])
        there = _on("meta", model32, "float16")
    assert there.identity == model32.identity
    assert (there.device.type, there.dtype, there.protocol) == ("meta", torch.float16, model32.protocol)
    assert {tensor.device.type for part in there.network.parts for tensor in part.parameters()} == {"meta"}
    assert {tensor.device.type for part in model32.network.parts for tensor in part.parameters()} == {"cpu"}
