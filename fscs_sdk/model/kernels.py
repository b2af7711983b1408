"""Fast paths, each beside the plain one that it must equal.

``attend_by_head`` is :func:`fscs_sdk.model.squeeze.attend` for CPUs: the scores of one head of one pair at a time, so
that they stay in the processor's cache, with a backward pass of its own (autograd's would keep and copy every
intermediate product).
"""

from typing import Any

import torch
from torch import Tensor


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
        ctx.save_for_backward(queries, keys, values)
        ctx.attentions, ctx.hidden, ctx.heads = attentions, hidden, heads
        return context.view_as(target).to(target.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        queries, keys, values = ctx.saved_tensors
        grad = grads[0].float().reshape(queries.shape)
        d_queries, d_keys, d_values = (torch.empty_like(x) for x in (queries, keys, values))
        for index, attention in enumerate(ctx.attentions):
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
