"""Triton's kernels equal the plain path, in Triton's interpreter; they compile for a GPU; where they are not used."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fscs_sdk.model.fast import cpu as kernels
from fscs_sdk.model.squeeze import SupportConv, convolve_at_once, convolve_support

pytest.importorskip("triton")
CHILD = Path(__file__).with_name("triton_child.py")


def child(task: str, **environment: str) -> dict[str, Any]:
    command = [sys.executable, str(CHILD), task]
    paths = os.pathsep.join([str(CHILD.parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths, **environment}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_kernels_equal_the_plain_path_in_the_interpreter() -> None:
    differences = child("interpret", TRITON_INTERPRET="1")
    assert {name.partition(" ")[0] for name in differences} == {"attend", "normalize", "layer"}
    # Scores are tens, so that their exponentials lose two digits; float16 may round to its neighbour; beside a mean of
    # 100 float32 keeps five digits of a deviation.
    allowed = {"attend": 5e-5, "float16": 2e-2, "normalize": 2e-4, "layer": 2e-5}
    for name, difference in differences.items():
        limit = allowed["float16"] if "float16" in name else allowed[name.partition(" ")[0]]
        assert difference <= limit, (name, difference)


def test_kernels_compile_for_an_h100(tmp_path: Path) -> None:
    import triton

    if not (Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas").is_file():
        pytest.skip("this Triton cannot compile for NVIDIA's devices")
    made = child("compile", TRITON_CACHE_DIR=str(tmp_path), TRITON_INTERPRET="0")
    assert set(made) == {"_attend", "_moments", "_normalize"}
    assert all(made.values())


def test_kernels_are_for_cuda_without_gradients(monkeypatch: pytest.MonkeyPatch) -> None:
    class Anywhere:
        dtype = torch.float16

        def __init__(self, device: str) -> None:
            self.device = torch.device(device)

    tried: list[torch.device] = []
    monkeypatch.setattr(kernels, "runs_triton", lambda device: tried.append(device) or True)
    with torch.no_grad():
        assert kernels.has_fused_kernels(Anywhere("cuda"))  # type: ignore[arg-type]
        assert not kernels.has_fused_kernels(Anywhere("cpu"))  # type: ignore[arg-type]
        assert not kernels.has_fused_kernels(Anywhere("mps"))  # type: ignore[arg-type]
    assert not kernels.has_fused_kernels(Anywhere("cuda"))  # type: ignore[arg-type]
    assert tried == [torch.device("cuda")]


def test_without_a_device_that_triton_knows_the_plain_path_is_taken() -> None:
    kernels.runs_triton.cache_clear()
    assert kernels.runs_triton(torch.device("cpu")) is False


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 2), (5, 4)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_at_once_is_the_same(kernel: int, stride: int, bias: bool) -> None:
    torch.manual_seed(kernel)
    conv = SupportConv(3, 5, kernel, stride, bias=bias)
    x = torch.randn(2, 3, 9, 6, 4, requires_grad=True)
    options = {"stride": stride, "padding": conv.padding}
    found = []
    for convolve in (convolve_at_once, convolve_support):
        x.grad = conv.weight.grad = None
        out = convolve(x, conv.weight, conv.bias, **options)
        out.square().sum().backward()
        found.append((out.detach(), x.grad, conv.weight.grad))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)
