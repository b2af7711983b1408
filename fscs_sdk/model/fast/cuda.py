"""Triton kernels for CUDA devices where no gradient is asked for, each beside the plain path that it must equal.

``attend`` is :func:`fscs_sdk.model.squeeze.attend_plainly` without its scores in memory. Level 2 at 400 pixels has, for
one pair, 8 heads x 49 targets x 49 keys x 2,500 query positions = 48 million scores: 192 MB that the plain path writes
and reads for every channel, for the mask, the softmax and the sum. Embeddings and context, all that is needed, are
31 MB.

``normalize`` is group normalisation and the ReLU after it. A group of level 2 has a million elements and a query meets
few supports; PyTorch's kernel gives a group one block of threads, so that five pairs fill 20 of 132 multiprocessors.
Here a group is shared by as many blocks as it has stretches, and the ReLU costs nothing.

Importing this module imports Triton; :func:`fscs_sdk.model.fast.cpu.has_fused_kernels` says whether it can be used.
"""
# Triton has no type information, and its functions are compiled by itself.
# mypy: disable-error-code="import-untyped,import-not-found,no-untyped-def,no-untyped-call,untyped-decorator,misc"

import torch
import triton
import triton.language as tl
from torch import Tensor

#: Target positions times query positions that a block of attention computes, and the most of either.
BLOCK_SCORES, MOST_TARGETS, MOST_POSITIONS = 512, 8, 256
#: Channels of a head from which a block needs the registers of four warps; two leave a channel's sum in one thread.
WIDE_HEAD = 4
#: Elements of one channel that a block of normalisation takes.
STRETCH = 2048
#: What a key is to the kernel: hidden, visible, or one of a support that has none visible, where all count alike.
HIDDEN, VISIBLE, BLIND = 0, 1, 2


def attend(target: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, heads: int) -> Tensor:
    """Masked attention (eqs. 10-12), summed in float32; arguments as in :func:`fscs_sdk.model.squeeze.attend`.

    A program holds the targets of one head for a block of query positions, and goes over the keys twice: for the
    largest score, then for weights and context. A hidden key is not read.
    """
    target, key, value = (_with_whole_channels(x) for x in (target, key, value))
    pairs, channels, targets, positions = target.shape
    out = torch.empty(target.shape, dtype=value.dtype, device=value.device)
    kinds = key if visible is None else _kinds(visible)
    block_targets = min(MOST_TARGETS, triton.next_power_of_2(targets))
    block_positions = min(MOST_POSITIONS, BLOCK_SCORES // block_targets)
    grid = (triton.cdiv(positions, block_positions), pairs * heads, triton.cdiv(targets, block_targets))
    with torch.cuda.device_of(target):  # Triton launches on the current device
        _attend[grid](
            target,
            key,
            value,
            kinds,
            out,
            target.stride(0),
            key.stride(0),
            value.stride(0),
            targets,
            key.shape[2],
            positions,
            heads=heads,
            width=channels // heads,
            masked=visible is not None,
            block_channels=triton.next_power_of_2(channels // heads),
            block_targets=block_targets,
            block_positions=block_positions,
            num_warps=4 if channels // heads > WIDE_HEAD else 2,
        )
    return out


def normalize(
    x: Tensor, weight: Tensor, bias: Tensor, *, groups: int, epsilon: float, relu: bool, dtype: torch.dtype
) -> Tensor:
    """Group normalisation of (P, C, ...), computed in float32, then ReLU if asked for -> contiguous, of type ``dtype``.

    The first kernel writes mean and squared deviations of every stretch of every channel; the second puts a group's
    together by their exact rule (Chan et al. 1979), which loses no digits where the mean is large.
    """
    x = _with_whole_channels(x)
    pairs, channels = x.shape[:2]
    size = x[0, 0].numel()
    stretches = triton.cdiv(size, STRETCH)
    out = torch.empty(x.shape, dtype=dtype, device=x.device)
    moments = torch.empty(pairs * channels, stretches, 2, dtype=torch.float32, device=x.device)
    grid = (pairs * channels, stretches)
    with torch.cuda.device_of(x):
        _moments[grid](x, moments, x.stride(0), channels, size, stretches, stretch=STRETCH)
        _normalize[grid](
            x,
            out,
            moments,
            weight,
            bias,
            x.stride(0),
            channels,
            channels // groups,
            size,
            stretches,
            epsilon,
            relu=relu,
            stretch=STRETCH,
            parts=triton.next_power_of_2(channels // groups * stretches),
        )
    return out


def _with_whole_channels(x: Tensor) -> Tensor:
    """``x`` (P, C, ...) itself if the channels of a pair lie in memory one after the other; else a copy."""
    return x if x[0].is_contiguous() else x.contiguous()


def _kinds(visible: Tensor) -> Tensor:
    """bool (P, S) -> uint8 (P, S) of HIDDEN, VISIBLE and BLIND."""
    kinds = visible.to(torch.uint8) + BLIND * (~visible.any(dim=1, keepdim=True)).to(torch.uint8)
    return kinds.contiguous()


@triton.jit
def _attend(
    target,
    key,
    value,
    kinds,
    out,
    target_pair,
    key_pair,
    value_pair,
    targets,
    keys,
    positions,
    heads: tl.constexpr,
    width: tl.constexpr,
    masked: tl.constexpr,
    block_channels: tl.constexpr,
    block_targets: tl.constexpr,
    block_positions: tl.constexpr,
):
    pair = (tl.program_id(1) // heads).to(tl.int64)
    head = tl.program_id(1) % heads
    c = tl.arange(0, block_channels)[:, None, None]
    t = tl.program_id(2) * block_targets + tl.arange(0, block_targets)[None, :, None]
    q = tl.program_id(0) * block_positions + tl.arange(0, block_positions)[None, None, :]
    near = (c < width) & (q < positions)
    inside = near & (t < targets)
    channel = head * width + c
    here = (channel * targets + t) * positions + q
    first = channel * keys * positions + q
    key += pair * key_pair
    value += pair * value_pair
    kinds += pair * keys
    asked = tl.load(target + pair * target_pair + here, mask=inside, other=0.0).to(tl.float32)
    peak = tl.full([block_targets, block_positions], float("-inf"), tl.float32)
    for s in range(keys):
        kind = 1
        if masked:
            kind = tl.load(kinds + s).to(tl.int32)
        if kind != 0:
            offered = tl.load(key + first + s * positions, mask=near, other=0.0).to(tl.float32)
            peak = tl.maximum(peak, _score(asked, offered, kind))
    total = tl.zeros([block_targets, block_positions], tl.float32)
    context = tl.zeros([block_channels, block_targets, block_positions], tl.float32)
    for s in range(keys):
        kind = 1
        if masked:
            kind = tl.load(kinds + s).to(tl.int32)
        if kind != 0:
            offered = tl.load(key + first + s * positions, mask=near, other=0.0).to(tl.float32)
            weight = tl.exp(_score(asked, offered, kind) - peak)
            total += weight
            context += weight[None, :, :] * tl.load(value + first + s * positions, mask=near, other=0.0).to(tl.float32)
    size = heads * width * targets * positions
    tl.store(out + pair * size + here, (context / total[None, :, :]).to(out.dtype.element_ty), mask=inside)


@triton.jit
def _score(asked, offered, kind):
    """Eq. 10 for one key: (channels, targets, positions) and (channels, 1, positions) -> (targets, positions)."""
    return tl.where(kind == 1, tl.sum(asked * offered, axis=0), 0.0)


@triton.jit
def _moments(x, moments, pair_stride, channels, size, stretches, stretch: tl.constexpr):
    row, part = tl.program_id(0), tl.program_id(1)
    at = part * stretch + tl.arange(0, stretch)
    inside = at < size
    start = (row // channels).to(tl.int64) * pair_stride + (row % channels) * size
    values = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, axis=0) / tl.minimum(size - part * stretch, stretch)
    deviations = tl.where(inside, values - mean, 0.0)
    tl.store(moments + 2 * (row * stretches + part), mean)
    tl.store(moments + 2 * (row * stretches + part) + 1, tl.sum(deviations * deviations, axis=0))


@triton.jit
def _normalize(
    x,
    out,
    moments,
    weight,
    bias,
    pair_stride,
    channels,
    width,
    size,
    stretches,
    epsilon,
    relu: tl.constexpr,
    stretch: tl.constexpr,
    parts: tl.constexpr,
):
    row = tl.program_id(0)
    channel = row % channels
    part = tl.arange(0, parts)
    known = part < width * stretches
    of_group = moments + 2 * ((row - channel % width) * stretches + part)
    means = tl.load(of_group, mask=known, other=0.0)
    squares = tl.load(of_group + 1, mask=known, other=0.0)
    counts = tl.where(known, tl.minimum(size - (part % stretches) * stretch, stretch), 0).to(tl.float32)
    total = width * size
    mean = tl.sum(counts * means, axis=0) / total
    squares += counts * (means - mean) * (means - mean)
    deviation = tl.sqrt(tl.sum(squares, axis=0) / total + epsilon)
    scale = tl.load(weight + channel).to(tl.float32) / deviation
    at = tl.program_id(1) * stretch + tl.arange(0, stretch)
    inside = at < size
    start = (row // channels).to(tl.int64) * pair_stride + channel * size
    values = tl.load(x + start + at, mask=inside, other=0.0).to(tl.float32)
    values = (values - mean) * scale + tl.load(bias + channel).to(tl.float32)
    if relu:
        values = tl.maximum(values, 0.0)
    tl.store(out + row.to(tl.int64) * size + at, values.to(out.dtype.element_ty), mask=inside)
