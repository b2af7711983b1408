"""Run by test_triton.py in a process of its own, because Triton chooses its interpreter when it is imported.

``interpret`` computes what the kernels and the plain path differ by, without a GPU; ``compile`` makes code for an H100.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from fscs_sdk.model import squeeze
from fscs_sdk.model.fast import cuda as triton_kernels
from fscs_sdk.model.squeeze import ATTENTION_HEADS, AttentiveSqueeze, GroupNorm, attend_plainly

#: Pairs, channels, targets, keys, query positions: a partly filled block of targets and of positions; a head of 2, 8
#: and 3 channels; one key; one target.
ATTENTIONS = {
    "tiny": (2, 16, 9, 5, 70),
    "wide heads": (2, 64, 4, 4, 130),
    "odd heads": (1, 24, 1, 3, 5),
    "one key": (3, 16, 3, 1, 2),
}
#: Channels, support positions, query positions: of one stretch, of several, of exactly one and of one element more.
NORMS = {
    "short": (32, 3, 7),
    "long": (8, 25, 250),
    "exact": (8, 1, triton_kernels.STRETCH),
    "over": (8, 1, triton_kernels.STRETCH + 1),
}
#: C_in, C_out, kernel, stride, pooled keys and values, support side.
LAYERS = {"first of level 3": (2, 16, 5, 4, True, 9), "last of a mix": (32, 32, 2, 1, False, 2)}


def attentions() -> Iterator[tuple[str, Tensor, Tensor]]:
    for name, (pairs, channels, targets, keys, positions) in ATTENTIONS.items():
        joint = 3 * torch.randn(pairs, 3 * channels, targets + keys, positions)
        target, key, value = joint.split(channels, dim=1)
        target, key, value = target[:, :, :targets].contiguous(), key[:, :, targets:], value[:, :, targets:]
        seen = torch.rand(pairs, keys) > 0.5
        seen[0] = False  # a support without foreground
        for kind, visible in (("all", None), ("some", seen)):
            ours = triton_kernels.attend(target, key, value, visible, ATTENTION_HEADS)
            yield f"attend {name}, {kind}", ours, attend_plainly(target, key, value, visible)
        halves = [x.to(torch.float16) for x in (target, key, value)]
        ours = triton_kernels.attend(*halves, seen, ATTENTION_HEADS)
        if ours.dtype != torch.float16:
            raise TypeError(f"attention of float16 gives {ours.dtype}")
        plain = attend_plainly(*(x.float() for x in halves), seen)
        yield f"attend {name}, float16", ours.float(), plain.to(torch.float16).float()


def norms() -> Iterator[tuple[str, Tensor, Tensor]]:
    for name, (channels, keys, positions) in NORMS.items():
        x = torch.randn(2, channels + 5, keys, 1, positions) + 100  # a mean that squares would drown in
        x = x[:, 5:]  # pairs apart, as one of several embeddings lies in memory
        norm = GroupNorm(channels)
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
        for relu in (False, True):
            ours = triton_kernels.normalize(
                x, norm.weight, norm.bias, groups=norm.num_groups, epsilon=norm.eps, relu=relu, dtype=torch.float32
            )
            yield f"normalize {name}, relu {relu}", ours, norm(x.double().float(), relu=relu)


def layers() -> Iterator[tuple[str, Tensor, Tensor]]:
    """A whole layer as on a GPU: every kernel, and the convolution in one piece."""
    for name, (inputs, outputs, kernel, stride, pooled, side) in LAYERS.items():
        layer = AttentiveSqueeze(inputs, outputs, kernel, stride, pool_key_value=pooled)
        x = torch.rand(2, inputs, side, side, 6)
        mask = torch.zeros(2, 40, 40)
        mask[0, :20, :25] = 1
        plain = layer(x, mask).detach()
        with as_on_a_gpu() as asked, torch.no_grad():
            ours = layer(x, mask)
        if len(asked) < 6:
            raise RuntimeError("the kernels were not used")
        yield f"layer {name}", ours, plain


@contextmanager
def as_on_a_gpu() -> Iterator[list[Tensor]]:
    """No CPU's path is taken; yields what the kernels were asked for."""
    asked: list[Tensor] = []
    paths: dict[str, Any] = {
        "is_for_inference": lambda _: False,
        "has_fused_kernels": lambda x: asked.append(x) or True,
        "LARGE_ATTENTION": 10**9,
        "convolve_support": squeeze.convolve_at_once,
    }
    with ExitStack() as stack:
        for name, path in paths.items():
            stack.enter_context(patch.object(squeeze, name, path))
        yield asked


def interpret() -> dict[str, float]:
    torch.manual_seed(0)
    with torch.no_grad():
        found = [*attentions(), *norms()]
    return {name: float((ours - plain).abs().max()) for name, ours, plain in (*found, *layers())}


def compile_all() -> dict[str, int]:
    """Bytes of code of each kernel, for compute capability 9.0."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    sizes = dict.fromkeys(("target_pair", "key_pair", "value_pair", "targets", "keys", "positions"), "i32")
    tensors = {**dict.fromkeys(("target", "key", "value"), "*fp16"), "kinds": "*u8", "out": "*fp16"}
    blocks = {"heads": 8, "width": 2, "masked": True, "block_channels": 2, "block_targets": 8, "block_positions": 64}
    shape = dict.fromkeys(("pair_stride", "channels", "size", "stretches"), "i32")
    affine = {"moments": "*fp32", "weight": "*fp32", "bias": "*fp32"}
    jobs = (
        (triton_kernels._attend, tensors | sizes, blocks),
        (triton_kernels._moments, {"x": "*fp16", "moments": "*fp32"} | shape, {"stretch": 2048}),
        (
            triton_kernels._normalize,
            {"x": "*fp16", "out": "*fp32"} | affine | shape | {"width": "i32", "epsilon": "fp32"},
            {"relu": True, "stretch": 2048, "parts": 256},
        ),
    )
    made = {}
    for kernel, signature, constants in jobs:
        source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
        compiled = triton.compile(source, target=GPUTarget("cuda", 90, 32))
        made[kernel.__name__] = len(compiled.asm["cubin"])
    return made


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"interpret": interpret, "compile": compile_all}[sys.argv[1]]()))
