"""Fast paths for CPUs, each beside the plain one that it must equal, and the question whether CUDA has one.

``attend_by_head`` is :func:`fscs_sdk.model.squeeze.attend` for CPUs: the scores of one head of one pair at a time, so
that they stay in the processor's cache, with a backward pass of its own (autograd's would keep and copy every
intermediate product).

``squeeze_for_inference`` is :meth:`fscs_sdk.model.squeeze.AttentiveSqueeze.forward` for CPUs where no gradient is
asked for. It computes one pair at a time in memory that its thread keeps, because a CPU spends longer on fetching fresh
memory than on most of a layer's arithmetic; it embeds visible keys only, because the others get a weight of exactly 0;
and its products may be of bfloat16, while softmax, normalisations and residual sums stay in float32.

``has_fused_kernels`` says where those of :mod:`fscs_sdk.model.fast.cuda` are used, for CUDA devices.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from fscs_sdk.model.squeeze import AttentiveSqueeze, SupportConv, Windows

_logger = logging.getLogger(__name__)

#: Scores in memory at once: few enough for the processor's caches, enough to make a call worth its while.
SCORES_AT_ONCE = 2**18
#: Least score below a target's largest: e^-60 of it is nothing in float32, and what is smaller still, or no longer a
#: normal number, takes a processor many times as long.
LEAST_SCORE = -60.0
#: Frames after which a thread gives back memory that none of them needed; a pair takes some twenty.
FRAMES_REMEMBERED = 256


def has_onednn() -> bool:
    """Is there oneDNN? Its convolutions use the widest vectors of every processor, as matrix products do not on all."""
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def attend_by_head(target: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, heads: int) -> Tensor:
    """Masked multi-head attention at every query position, computed in float32; arguments as in ``squeeze.attend``."""
    out: Tensor = _AttentionByHead.apply(target, key, value, visible, heads)
    return out


class _AttentionByHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, target: Tensor, key: Tensor, value: Tensor, visible: Tensor | None, heads: int) -> Tensor:
        queries, keys, values = (_by_head(x, heads) for x in (target, key, value))
        hidden = None if visible is None else ~visible[:, None, :, None]
        context = torch.empty_like(queries)
        attentions: list[Tensor] = []
        for index in range(len(queries)):
            attention = _outer(queries[index], keys[index])
            if hidden is not None:
                attention.masked_fill_(hidden[index // heads], -1e9)
            attention = attention.softmax(dim=1)
            for channel, row in enumerate(values[index]):
                torch.sum(attention * row, dim=1, out=context[index, channel])
            if any(ctx.needs_input_grad[:3]):
                attentions.append(attention)
        ctx.save_for_backward(queries, keys, values, *attentions)  # freed with the graph, as attributes are not
        ctx.hidden, ctx.heads = hidden, heads
        return context.view_as(target).to(target.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        queries, keys, values, *attentions = ctx.saved_tensors
        grad = grads[0].float().reshape(queries.shape)
        d_queries, d_keys, d_values = (torch.empty_like(x) for x in (queries, keys, values))
        for index, attention in enumerate(attentions):
            d_scores = _outer(grad[index], values[index]).mul_(attention)
            d_scores.addcmul_(attention, d_scores.sum(dim=1, keepdim=True), value=-1)
            if ctx.hidden is not None:  # a masked score is a constant, also where it gets attention: no key is visible
                d_scores.masked_fill_(ctx.hidden[index // ctx.heads], 0)
            for channel in range(queries.shape[1]):
                torch.sum(attention * grad[index, channel, :, None], dim=0, out=d_values[index, channel])
                torch.sum(d_scores * keys[index, channel], dim=1, out=d_queries[index, channel])
                torch.sum(d_scores * queries[index, channel, :, None], dim=0, out=d_keys[index, channel])
        shape = grads[0].shape
        d_target, d_key, d_value = (
            d.reshape(shape[0], shape[1], -1, shape[3]).to(grads[0].dtype) for d in (d_queries, d_keys, d_values)
        )
        return d_target, d_key, d_value, None, None


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(P, C, S, Q) -> float32 (P * heads, C / heads, S, Q)."""
    return x.float().reshape(x.shape[0] * heads, -1, x.shape[2], x.shape[3])


def _outer(left: Tensor, right: Tensor) -> Tensor:
    """Sum over channels of products: (d, T, Q), (d, S, Q) -> (T, S, Q)."""
    product = left[0, :, None] * right[0]
    for channel in range(1, len(left)):
        product.addcmul_(left[channel, :, None], right[channel])
    return product


# ---- CUDA devices ----------------------------------------------------------------------------------------------------


def has_fused_kernels(x: Tensor) -> bool:
    """Is ``x`` where Triton's kernels can be used: on a CUDA device, no gradient asked for, no graph being recorded?"""
    if x.device.type != "cuda" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return False
    return x.dtype.itemsize <= 4 and runs_triton(x.device)  # they compute in float32


@cache
def runs_triton(device: torch.device) -> bool:
    """Can Triton be imported, and compile for this device? Tried once, on two small tensors."""
    try:
        from fscs_sdk.model.fast.cuda import attend, normalize

        small = torch.zeros(1, 8, 1, 1, device=device)
        attend(small, small, small, None, heads=8)
        normalize(small, small[0, :, 0, 0], small[0, :, 0, 0], groups=4, epsilon=1.0, relu=True, dtype=torch.float32)
    except Exception as error:  # noqa: BLE001 (no Triton, no C compiler, an unknown device: all have the plain path)
        _logger.info("Triton cannot be used on %s, the plain path is: %s", device, error)
        return False
    return True


# ---- A layer without gradients. Tensors of one pair, support positions in the middle: (C, S, Q) ----------------------


class _Scratch(threading.local):
    """A thread's memory for intermediate results, kept from call to call. No value outlives its frame.

    It grows to what a layer needs of it for one pair, and shrinks where for some time less than half was needed.
    """

    def __init__(self) -> None:
        self.memory = torch.empty(0, dtype=torch.uint8, device="cpu")
        self.used = self.most = self.frames = 0

    @contextmanager
    def frame(self) -> Iterator[None]:
        """What is taken inside is given back at the end."""
        start = self.used
        try:
            yield
        finally:
            self.used = start
            if start == 0:
                self._fit()

    def _fit(self) -> None:
        self.frames += 1
        long = self.frames >= FRAMES_REMEMBERED
        if self.most > len(self.memory) or (long and 2 * self.most < len(self.memory)):
            with torch.inference_mode(False):  # so that it may be written to in any mode
                self.memory = torch.empty(self.most, dtype=torch.uint8, device="cpu")
        if long:
            self.frames = self.most = 0

    def take(self, *shape: int, dtype: torch.dtype) -> Tensor:
        """An uninitialised tensor; from fresh memory where the kept does not suffice yet."""
        start, size = self.used, torch.Size(shape).numel() * dtype.itemsize
        self.used += -(-size // 64) * 64
        self.most = max(self.most, self.used)
        if self.used > len(self.memory):
            return torch.empty(shape, dtype=dtype, device="cpu")
        return self.memory[start : start + size].view(dtype).view(shape)


_scratch = _Scratch()


def squeeze_for_inference(
    layer: AttentiveSqueeze,
    correlation: Tensor,
    visible: Tensor | None,
    windows: tuple[Windows, Windows],
    *,
    heads: int,
) -> Tensor:
    """``layer(correlation, mask)``; where autocast is on, products are rounded to its type, and so are their operands.

    Args:
        correlation: (P, C_in, h, w, Q), of any memory layout.
        visible: bool (P, S) for the S key positions; None = no masking.
        windows: of the layer's targets and of its keys, over (h, w).

    Returns:
        (P, C_out, S', Q) for the S' target positions.
    """
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else layer.target.weight.dtype
    with torch.autocast("cpu", enabled=False):
        pairs = [
            _squeeze_pair(layer, x, None if visible is None else visible[index], windows, heads, dtype)
            for index, x in enumerate(correlation)
        ]
    return pairs[0][None] if len(pairs) == 1 else torch.stack(pairs)


def _squeeze_pair(
    layer: AttentiveSqueeze,
    x: Tensor,
    visible: Tensor | None,
    windows: tuple[Windows, Windows],
    heads: int,
    dtype: torch.dtype,
) -> Tensor:
    """(C_in, h, w, Q) -> (C_out, S', Q)."""
    hidden = len(layer.target.weight)
    with _scratch.frame():
        around, key, value = _embed(layer, x, visible, windows, dtype)
        context = _normalize(_attend(around[:hidden], key, value, heads), layer.aggregate_norm).relu_()
        attended = _convolve_points(context, layer.aggregate.conv, dtype).to(context.dtype)
        attended = _normalize(attended, layer.aggregate.norm).relu_()
        if layer.shortcut is None:
            attended += x.flatten(1, 2)
        else:
            attended += _normalize(around[hidden:], layer.shortcut.norm).relu_()
    attended = _normalize(attended, layer.attention_norm)  # eq. 13
    wide = _normalize(_convolve_points(attended, layer.feed_forward.conv, dtype), layer.feed_forward.norm).relu_()
    _convolve_points(wide, layer.feed_forward_out, dtype, attended)
    return _normalize(attended, layer.output_norm)  # eq. 14


def _embed(
    layer: AttentiveSqueeze, x: Tensor, visible: Tensor | None, windows: tuple[Windows, Windows], dtype: torch.dtype
) -> tuple[Tensor, Tensor | None, Tensor]:
    """Target, and shortcut where there is one, at all positions; key and value at the visible ones.

    Where none is visible all are alike: then the one value is the mean of all, and needs no key.
    """
    around = [layer.target] if layer.shortcut is None else [layer.target, layer.shortcut.conv]
    chosen = None if visible is None else visible.nonzero().flatten().tolist()
    uniform = chosen is not None and not chosen
    inside = [layer.value] if uniform else [layer.key, layer.value]
    if uniform:
        chosen = None
    if (layer.key.kernel, layer.key.stride) == (layer.target.kernel, layer.target.stride):
        embedded, pairs = _convolve(x, windows[0], [around, inside], [None, chosen], dtype)
    else:
        (embedded,) = _convolve(x, windows[0], [around], [None], dtype)
        (pairs,) = _convolve(x, windows[1], [inside], [chosen], dtype)
    if uniform:
        return embedded, None, pairs.mean(dim=1, keepdim=True)
    key, value = pairs.chunk(2)
    return embedded, key, value


def _convolve(
    x: Tensor,
    windows: Windows,
    groups: Sequence[Sequence[SupportConv]],
    chosen: Sequence[list[int] | None],
    dtype: torch.dtype,
) -> list[Tensor]:
    """Convolutions of the same windows: (C, h, w, Q) -> for each group (O, S', Q), its convolutions' outputs stacked.

    ``chosen``: for each group the output positions that are asked for; None = all, as of the first.
    """
    places = [dict.fromkeys(range(len(windows)) if some is None else some) for some in chosen]
    sizes = [sum(len(conv.weight) for conv in convs) for convs in groups]
    stack = _stack([conv for convs in groups for conv in convs], dtype)
    outs = [
        _scratch.take(size, len(place), x.shape[-1], dtype=stack.weight.dtype)
        for size, place in zip(sizes, places, strict=True)
    ]
    columns, biases = [iter(out.unbind(1)) for out in outs], torch.split(stack.bias, sizes)
    with _scratch.frame():
        gathered = _scratch.take(stack.weight[0].numel(), x.shape[-1], dtype=dtype)
        for position, ((row, column), taps) in enumerate(windows):
            asked = [group for group, place in enumerate(places) if position in place]
            if not asked:
                continue
            window = x[:, row, column]
            inner = gathered[: window.shape[:3].numel()]
            inner.view(window.shape).copy_(window)
            matrix = stack.matrix(*taps)
            if dtype == stack.weight.dtype:
                for group in asked:
                    torch.addmm(biases[group], torch.split(matrix, sizes)[group], inner, out=next(columns[group]))
                continue
            product = torch.mm(matrix[: sum(sizes[: len(asked)])], inner)  # one for all, which packs the window once
            for group, part in zip(asked, torch.split(product, sizes[: len(asked)]), strict=True):
                torch.add(part, biases[group], out=next(columns[group]))
    return outs


class _Stack:
    """Convolutions of one geometry as one, their outputs stacked: weights as the products take them.

    Attributes:
        weight: (O, C, k, k).
        bias: (O, 1), zeros for a convolution without.
        state: of the tensors that it was made of; changes when one of them does.
    """

    def __init__(self, convs: Sequence[SupportConv], dtype: torch.dtype, state: object) -> None:
        zeros = [conv.weight.new_zeros(len(conv.weight)) for conv in convs]
        biases = [none if conv.bias is None else conv.bias for conv, none in zip(convs, zeros, strict=True)]
        self.weight = torch.cat([conv.weight for conv in convs]).detach()
        self.bias = torch.cat(biases).detach()[:, None]
        self.state = state
        self._dtype = dtype
        self._matrices: dict[tuple[int, ...], Tensor] = {}

    def matrix(self, rows: slice, columns: slice) -> Tensor:
        """(O, C * rows * columns) of the taps that meet a window; made once."""
        name = (rows.start, rows.stop, columns.start, columns.stop)
        if name not in self._matrices:
            self._matrices[name] = self.weight[:, :, rows, columns].flatten(1).to(self._dtype)
        return self._matrices[name]


#: What was made of convolutions, by the first of them: (how many, type of the products) -> their stack.
_stacks: WeakKeyDictionary[SupportConv, dict[tuple[int, torch.dtype], _Stack]] = WeakKeyDictionary()


def _stack(convs: Sequence[SupportConv], dtype: torch.dtype) -> _Stack:
    """The convolutions stacked: what was made last, unless their weights have changed since."""
    tensors = [tensor for conv in convs for tensor in (conv.weight, conv.bias) if tensor is not None]
    state = [(tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version) for tensor in tensors]
    kept = _stacks.setdefault(convs[0], {})
    stack = kept.get((len(convs), dtype))
    if stack is None or stack.state != state:
        stack = kept[len(convs), dtype] = _Stack(convs, dtype, state)
    return stack


def _convolve_points(x: Tensor, conv: SupportConv, dtype: torch.dtype, out: Tensor | None = None) -> Tensor:
    """A 1x1 convolution without bias: (C, S, Q) -> (O, S, Q) of the products' type, or added to ``out``."""
    weight, points = _stack([conv], dtype).matrix(slice(0, 1), slice(0, 1)), x.flatten(1).to(dtype)
    if out is not None and out.dtype == dtype:
        out.view(len(out), -1).addmm_(weight, points)
        return out
    product = torch.mm(weight, points).view(-1, *x.shape[1:])
    return product if out is None else out.add_(product)


def _attend(target: Tensor, key: Tensor | None, value: Tensor, heads: int) -> Tensor:
    """Unmasked attention (eqs. 10-12): (C, T, Q), (C, S, Q), (C, S, Q) -> (C, T, Q)."""
    context = _scratch.take(*target.shape, dtype=target.dtype)
    if key is None or value.shape[1] == 1:
        return context.copy_(value.expand_as(context))
    target, key, value, by_head = (
        x.view(heads, -1, *x.shape[1:]).permute(2, 0, 1, 3) for x in (target, key, value, context)
    )
    rows, positions = len(key) * heads, target.shape[-1]
    width = min(positions, max(1, SCORES_AT_ONCE // rows))
    height = max(1, SCORES_AT_ONCE // (rows * width))
    for left in range(0, positions, width):
        near = slice(left, left + width)
        for top in range(0, len(target), height):
            here = slice(top, top + height)
            _attend_chunk(target[here, ..., near], key[..., near], value[..., near], by_head[here, ..., near])
    return context


def _attend_chunk(target: Tensor, key: Tensor, value: Tensor, out: Tensor) -> None:
    """(t, heads, d, q), (S, heads, d, q), (S, heads, d, q); d = C / heads."""
    scores = target[:, None, :, 0] * key[:, :, 0]  # (t, S, heads, q)
    for channel in range(1, key.shape[2]):
        scores.addcmul_(target[:, None, :, channel], key[:, :, channel])
    scores.sub_(scores.amax(dim=1, keepdim=True)).clamp_(min=LEAST_SCORE).exp_()
    torch.mul(scores[:, 0, :, None], value[0], out=out)
    for index in range(1, len(value)):
        out.addcmul_(scores[:, index, :, None], value[index])
    out.div_(scores.sum(dim=1)[:, :, None])  # softmax's denominator, divided by once


def _normalize(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Group normalisation of (C, S, Q)."""
    return F.group_norm(x[None], norm.num_groups, norm.weight, norm.bias, norm.eps)[0]
