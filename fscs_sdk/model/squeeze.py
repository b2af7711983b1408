"""Attentive squeeze layer (section 5.1, eqs. 9-14, fig. a.6): attention over support positions at every query position.

A correlation tensor is (P, C, h, w, Q): the block matrix of eq. 9 with its query positions as the last axis, so that
the tiny attention problems of all positions are solved by the same vector instruction.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.fast.cpu import attend_by_head, has_fused_kernels, squeeze_for_inference
from fscs_sdk.model.fast.graph import SeenKeys, attend_to_seen, convolve_volume

ATTENTION_HEADS = 8
GROUPS = 4
#: Rows and columns.
Slices = tuple[slice, slice]
#: For each output position of a convolution, row by row: what its window covers of the input, and the kernel taps that
#: meet it.
Windows = list[tuple[Slices, Slices]]
#: Height and width of a key grid -> its positions that see foreground.
KeyMasks = dict[tuple[int, int], SeenKeys]
#: Output positions above which a recorded graph convolves at once: so many windows hold few zeros and are many nodes.
MOST_WINDOWS = 4
#: Target times key positions from which a CPU computes attention head by head, so that scores stay in its cache.
LARGE_ATTENTION = 256


class SupportConv(nn.Module):
    """Convolution over the support dimensions only, the same at every query position."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int = 1, *, bias: bool = True) -> None:
        super().__init__()
        reference = nn.Conv2d(in_channels, out_channels, kernel, bias=bias)  # for PyTorch's default initialisation
        self.weight = reference.weight
        self.bias = reference.bias
        self.kernel, self.stride = kernel, stride
        self.padding = kernel // 2 if kernel > 2 else 0

    def forward(self, x: Tensor) -> Tensor:
        """(P, C_in, h, w, Q) -> (P, C_out, h', w', Q)."""
        return convolve_support(x, self.weight, self.bias, stride=self.stride, padding=self.padding)

    def output_side(self, side: int) -> int:
        return (side + 2 * self.padding - self.kernel) // self.stride + 1

    def windows(self, height: int, width: int) -> Windows:
        """Of an input of height x width."""
        rows = _windows(height, self.kernel, self.stride, self.padding)
        columns = _windows(width, self.kernel, self.stride, self.padding)
        return [((row, column), (taps, tap)) for row, taps in rows for column, tap in columns]


def convolve_support(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int) -> Tensor:
    """2D convolution over (h, w) of (P, C, h, w, Q) with ``weight`` (O, C, k, k) -> (P, O, h', w', Q).

    On a CPU one matrix product per output position, over the part of its window that lies inside the tensor: the
    strided windows hardly overlap, and at these sizes up to two thirds of a padded window would be zeros. Other devices
    do the zeros too, in one product: a call costs them more.
    """
    pairs, _, height, width, positions = x.shape
    out_channels, _, kernel, _ = weight.shape
    if kernel == 1 and stride == 1:
        out = _matmul(weight.flatten(1), bias, x.flatten(2))
        return out.view(pairs, out_channels, height, width, positions)
    if x.device.type != "cpu":
        return convolve_at_once(x, weight, bias, stride=stride, padding=padding)
    rows = _windows(height, kernel, stride, padding)
    columns = _windows(width, kernel, stride, padding)
    if torch.compiler.is_compiling() and len(rows) * len(columns) > MOST_WINDOWS:
        return convolve_volume(x, weight, bias, stride=stride, padding=padding)
    out_positions = []
    for row, tap_row in rows:
        for column, tap_column in columns:
            window = x[:, :, row, column].reshape(pairs, -1, positions)
            taps = weight[:, :, tap_row, tap_column].reshape(out_channels, -1)
            out_positions.append(_matmul(taps, bias, window))
    return torch.stack(out_positions, dim=2).view(pairs, out_channels, len(rows), len(columns), positions)


def convolve_at_once(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int) -> Tensor:
    """:func:`convolve_support` as one copy of all padded windows and one matrix product."""
    device = x.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        x = x.to(torch.get_autocast_dtype(device))  # as the product would do with the copy
    out_channels, _, kernel, _ = weight.shape
    padded = F.pad(x, (0, 0, padding, padding, padding, padding))
    windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)  # (P, C, h', w', Q, k, k)
    sizes = windows.shape[2:5]
    gathered = windows.permute(0, 1, 5, 6, 2, 3, 4).reshape(len(x), weight[0].numel(), -1)
    return _matmul(weight.flatten(1), bias, gathered).view(-1, out_channels, *sizes)


def _windows(side: int, kernel: int, stride: int, padding: int) -> list[tuple[slice, slice]]:
    """For each output position: the input slice that its window covers, and the kernel taps that meet it."""
    starts = range(-padding, side + padding - kernel + 1, stride)
    return [
        (slice(max(start, 0), min(start + kernel, side)), slice(max(-start, 0), min(kernel, side - start)))
        for start in starts
    ]


def _matmul(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """(O, C) x (P, C, M) + (O,) -> (P, O, M)."""
    weight = weight.expand(x.shape[0], -1, -1)
    return torch.bmm(weight, x) if bias is None else torch.baddbmm(bias[:, None], weight, x)


def attend(target: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    """Masked multi-head attention over support positions (eqs. 10-12), at every query position by itself.

    Args:
        target: (P, C, T, Q), the paper's T, with T target positions; heads are consecutive slices of C.
        key, value: (P, C, S, Q).
        visible: bool (P, S), False where a key lies outside the support's foreground, or None for no masking.
            Where nothing is visible the attention is uniform over all keys.

    Returns:
        (P, C, T, Q).
    """
    if torch.compiler.is_compiling():
        return attend_to_seen(target, key, value, visible, ATTENTION_HEADS)
    if target.device.type == "cpu" and target.shape[2] * key.shape[2] >= LARGE_ATTENTION:
        return attend_by_head(target, key, value, visible, ATTENTION_HEADS)
    if has_fused_kernels(target):
        from fscs_sdk.model.fast import cuda  # loads Triton, which need not be there

        return cuda.attend(target, key, value, visible, ATTENTION_HEADS)
    return attend_plainly(target, key, value, visible)


def attend_plainly(target: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    """:func:`attend` in the paper's own steps, for any device."""
    pairs, channels, _, positions = target.shape
    target, key, value = (
        x.view(pairs, ATTENTION_HEADS, channels // ATTENTION_HEADS, -1, positions) for x in (target, key, value)
    )
    scores = target[:, :, 0, :, None] * key[:, :, 0, None]  # (P, heads, T, S, Q); eq. 10, without 1/sqrt(d)
    for channel in range(1, channels // ATTENTION_HEADS):
        scores = torch.addcmul(scores, target[:, :, channel, :, None], key[:, :, channel, None])
    if visible is not None:
        scores = scores.float().masked_fill(~visible[:, None, None, :, None], -1e9)  # float16 ends at 65504
    attention = scores.softmax(dim=3).to(value.dtype)  # eq. 11
    context = (attention[:, :, None] * value[:, :, :, None]).sum(dim=4)  # eq. 12
    return context.flatten(1, 2)


class GroupNorm(nn.GroupNorm):
    """Group normalisation of (P, C, h, w, Q); statistics run over a group's channels and all h, w and Q of one pair."""

    def __init__(self, channels: int) -> None:
        super().__init__(GROUPS, channels)

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """The same shape; with ``relu`` negatives are clamped to 0 afterwards. Under autocast the answer is float32."""
        if has_fused_kernels(x):
            from fscs_sdk.model.fast import cuda  # loads Triton, which need not be there

            dtype = torch.float32 if torch.is_autocast_enabled(x.device.type) else x.dtype
            return cuda.normalize(
                x, self.weight, self.bias, groups=self.num_groups, epsilon=self.eps, relu=relu, dtype=dtype
            )
        x = super().forward(x)
        return F.relu(x) if relu else x


class Residual(nn.Module):
    """The convolutional path around an attention (W_l of eq. 13): convolution, group normalisation, ReLU."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.conv = SupportConv(in_channels, out_channels, kernel, stride, bias=False)
        self.norm = GroupNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.norm(self.conv(x), relu=True)
        return out


def is_for_inference(x: Tensor) -> bool:
    """Is ``x`` on a CPU, with no gradient asked for and no graph being recorded?"""
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


class AttentiveSqueeze(nn.Module):
    """AS(C_in -> C_out, k, s, p) of table a.6, p = k // 2 for k > 2 and 0 otherwise.

    Args:
        in_channels, out_channels: C_in and C_out; the hidden width is C_out / 2, split into 8 heads.
        kernel, stride: of the target embedding and the shortcut.
        pool_key_value: give the key and value embeddings the same kernel and stride; otherwise they are 1x1, stride 1.

    Attributes:
        touched: see :func:`visible_keys`; False, as in the authors' program, unless it is set.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, *, pool_key_value: bool = False
    ) -> None:
        super().__init__()
        self.touched = False
        hidden = out_channels // 2
        key_kernel, key_stride = (kernel, stride) if pool_key_value else (1, 1)
        self.target = SupportConv(in_channels, hidden, kernel, stride)
        self.key = SupportConv(in_channels, hidden, key_kernel, key_stride)
        self.value = SupportConv(in_channels, hidden, key_kernel, key_stride)
        unchanged = in_channels == out_channels and stride == 1 and 2 * self.target.padding - kernel == -1
        self.shortcut = None if unchanged else Residual(in_channels, out_channels, kernel, stride)
        self.aggregate_norm = GroupNorm(hidden)
        self.aggregate = Residual(hidden, out_channels, 1, 1)
        self.attention_norm = GroupNorm(out_channels)
        self.feed_forward = Residual(out_channels, hidden, 1, 1)
        self.feed_forward_out = SupportConv(hidden, out_channels, 1, bias=False)
        self.output_norm = GroupNorm(out_channels)

    def forward(self, correlation: Tensor, support_mask: Tensor | KeyMasks | None) -> Tensor:
        """(P, C_in, h, w, Q) -> (P, C_out, h', w', Q).

        ``support_mask``: float (P, mask height, mask width) in [0, 1], 0 = background, or the keys that see foreground
        in each grid; None = no masking.
        """
        sides = correlation.shape[2:4]
        grid = (self.key.output_side(sides[0]), self.key.output_side(sides[1]))
        if not isinstance(support_mask, dict):
            visible = None if support_mask is None else visible_keys(support_mask, *grid, touched=self.touched)
            if is_for_inference(correlation):
                windows = self.target.windows(*sides), self.key.windows(*sides)
                squeezed = squeeze_for_inference(self, correlation, visible, windows, heads=ATTENTION_HEADS)
                height, width = (self.target.output_side(side) for side in sides)
                return squeezed.view(*squeezed.shape[:2], height, width, -1)
        target, key, value, shortcut = self._embed(correlation)
        keys, values = key.flatten(2, 3), value.flatten(2, 3)
        if isinstance(support_mask, dict):
            chosen = support_mask[grid]
            keys, values, visible = chosen.choose(keys), chosen.choose(values), chosen.seen
        context = attend(target.flatten(2, 3), keys, values, visible)
        context = context.view(target.shape)
        attended = self.aggregate(self.aggregate_norm(context, relu=True))
        attended = self.attention_norm(attended + shortcut)  # eq. 13; the authors' program has no ReLU here, nor below
        out: Tensor = self.output_norm(attended + self.feed_forward_out(self.feed_forward(attended)))  # eq. 14
        return out

    def _embed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Target, key, value and shortcut; those that share a geometry in one convolution."""
        hidden = self.target.weight.shape[0]
        if self.shortcut is None or self.key.kernel != self.target.kernel:
            key, value = torch.split(_convolve_together(x, (self.key, self.value)), hidden, dim=1)
            shortcut = x if self.shortcut is None else self.shortcut(x)
            return self.target(x), key, value, shortcut
        joint = _convolve_together(x, (self.target, self.key, self.value, self.shortcut.conv))
        target, key, value, shortcut = torch.split(joint, [hidden, hidden, hidden, joint.shape[1] - 3 * hidden], dim=1)
        return target, key, value, self.shortcut.norm(shortcut.contiguous(), relu=True)


def _convolve_together(x: Tensor, convs: tuple[SupportConv, ...]) -> Tensor:
    """Convolutions of one geometry over one input, as a single one with their outputs stacked."""
    weight = torch.cat([conv.weight for conv in convs])
    bias = torch.cat([weight.new_zeros(c.weight.shape[0]) if c.bias is None else c.bias for c in convs])
    return convolve_support(x, weight, bias, stride=convs[0].stride, padding=convs[0].padding)


class SqueezeStack(nn.ModuleList):
    """Attentive squeeze layers, one after the other, under one mask."""

    def forward(self, correlation: Tensor, support_mask: Tensor | KeyMasks | None) -> Tensor:
        """As each layer: (P, C_in, h, w, Q) -> (P, C_out, h', w', Q)."""
        for layer in self:
            correlation = layer(correlation, support_mask)
        return correlation


def visible_keys(support_mask: Tensor, height: int, width: int, *, touched: bool = False) -> Tensor:
    """Which key positions see foreground: the mask resized bilinearly (align_corners) is above 0. -> bool (P, S).

    So a key looks at one point of the mask, and cracks, poles and whatever else lies between the points is seen by
    none: of a fifth of the supports of photos as users have them, at 5 x 5 keys.

    Args:
        touched: where no key sees foreground, those do whose cell, of height x width, holds any.
    """
    resized = F.interpolate(support_mask[:, None], (height, width), mode="bilinear", align_corners=True)
    visible = resized[:, 0].flatten(1) != 0
    if not touched or (is_for_inference(visible) and bool(visible.any(dim=1).all())):
        return visible
    # a cell of the pooling takes each pixel that it touches
    held = F.adaptive_max_pool2d(support_mask, (height, width)).flatten(1) > 0
    return visible | (held & ~visible.any(dim=1, keepdim=True))
