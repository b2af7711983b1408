"""A literal, slow reference of the paper: eqs. 1-5, 8-14, table a.6 and the decoder. Shares no code with the package.

Correlations have the paper's layout, one support correlation tensor for every query position: (P, C, H, W, h, w). A
state is a plain dict of tensors with the package's names. Details that the paper leaves open (epsilons, the norms in
W_o and W_l, no ReLU after the two sums, attention where no key is foreground) follow the authors' program.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

State = dict[str, Tensor]


# ---- Hypercorrelation (eq. 8) ----------------------------------------------------------------------------------------


def hypercorrelation(query: Sequence[Sequence[Tensor]], support: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    """Raw maps (P, C_l, H, W) and (P, C_l, h, w), level by level -> for each level (P, L, H, W, h, w)."""
    return [
        torch.stack([_cosines(q, _pool_support(s)) for q, s in zip(query_level, support_level, strict=True)], dim=1)
        for query_level, support_level in zip(query, support, strict=True)
    ]


def _pool_support(feature: Tensor) -> Tensor:
    """[pool support dims. by half], for the 50x50 maps of a 400x400 photo."""
    if feature.shape[-1] < 50:
        return feature
    return F.avg_pool2d(feature, 3, stride=2, padding=1, count_include_pad=True)


def _cosines(query: Tensor, support: Tensor) -> Tensor:
    query = query / (query.norm(dim=1, keepdim=True) + 1e-5)
    support = support / (support.norm(dim=1, keepdim=True) + 1e-5)
    return torch.einsum("pcHW,pchw->pHWhw", query, support).clamp(min=0)


# ---- Attentive squeeze layer (eqs. 9-14) -----------------------------------------------------------------------------


def attentive_squeeze(
    state: State, name: str, x: Tensor, mask: Tensor | None, stride: int, padding: int, *, pooled_keys: bool
) -> Tensor:
    """AS(C_in -> C_out, k, s, p): (P, C_in, H, W, h, w) -> (P, C_out, H, W, h', w')."""
    key_geometry = (stride, padding) if pooled_keys else (1, 0)
    target = _convolve(state, f"{name}.target", x, stride, padding)
    key = _convolve(state, f"{name}.key", x, *key_geometry)
    value = _convolve(state, f"{name}.value", x, *key_geometry)
    context = masked_attention(target, key, value, mask, heads=8)  # eqs. 10-12

    attended = F.relu(_group_norm(state, f"{name}.aggregate_norm", context))  # W_o
    attended = _convolve(state, f"{name}.aggregate.conv", attended, 1, 0)
    attended = F.relu(_group_norm(state, f"{name}.aggregate.norm", attended))
    shortcut = x
    if f"{name}.shortcut.conv.weight" in state:  # W_l
        shortcut = _convolve(state, f"{name}.shortcut.conv", x, stride, padding)
        shortcut = F.relu(_group_norm(state, f"{name}.shortcut.norm", shortcut))
    x = _group_norm(state, f"{name}.attention_norm", attended + shortcut)  # eq. 13

    wide = _convolve(state, f"{name}.feed_forward.conv", x, 1, 0)
    wide = F.relu(_group_norm(state, f"{name}.feed_forward.norm", wide))
    wide = _convolve(state, f"{name}.feed_forward_out", wide, 1, 0)
    return _group_norm(state, f"{name}.output_norm", wide + x)  # eq. 14


def masked_attention(target: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int) -> Tensor:
    """Eqs. 10-12, one support correlation tensor at a time: (P, C_hd, H, W, h', w') of each."""
    pairs, channels, height, width = target.shape[:4]
    context = torch.empty_like(target)
    for pair in range(pairs):
        foreground = None if mask is None else _foreground_keys(mask[pair], key.shape[-2:])
        for row in range(height):
            for column in range(width):
                here = (pair, slice(None), row, column)
                t, k, v = (x[here].reshape(heads, channels // heads, -1) for x in (target, key, value))
                a = t.transpose(1, 2) @ k  # eq. 10, for every head: (heads, target positions, key positions)
                if foreground is None:
                    attention = torch.softmax(a, dim=-1)
                else:
                    attention = torch.zeros_like(a)
                    attention[:, :, foreground] = torch.softmax(a[:, :, foreground], dim=-1)  # eq. 11
                    if not foreground.any():
                        attention[:] = 1 / len(foreground)
                context[here] = (attention @ v.transpose(1, 2)).transpose(1, 2).reshape(context[here].shape)  # eq. 12
    return context


def _foreground_keys(mask: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(mask[None, None], tuple(size), mode="bilinear", align_corners=True).flatten() != 0


def _convolve(state: State, name: str, x: Tensor, stride: int, padding: int) -> Tensor:
    """The same 2D convolution over (h, w) at all query positions: a Conv3d whose kernel is 1 along them."""
    weight = state[f"{name}.weight"][:, :, None]
    out = F.conv3d(x.flatten(2, 3), weight, state.get(f"{name}.bias"), (1, stride, stride), (0, padding, padding))
    return out.unflatten(2, x.shape[2:4])


def _group_norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 4, state[f"{name}.weight"], state[f"{name}.bias"])


# ---- The network (table a.6) -----------------------------------------------------------------------------------------


def asnet(state: State, correlations: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    """[level 4, level 3, level 2] of (P, L, H, W, h, w) and masks (P, height, width) -> logits (P, 2, 2H, 2W)."""
    level4, level3, level2 = correlations
    level4 = attentive_squeeze(state, "level4.0", level4, mask, 4, 2, pooled_keys=False)
    level4 = attentive_squeeze(state, "level4.1", level4, mask, 2, 1, pooled_keys=False)
    level4 = level4.mean(dim=(4, 5), keepdim=True)  # [pool support dims.]
    level3 = attentive_squeeze(state, "level3.0", level3, mask, 4, 2, pooled_keys=True)
    level3 = attentive_squeeze(state, "level3.1", level3, mask, 4, 2, pooled_keys=True)
    level2 = attentive_squeeze(state, "level2.0", level2, mask, 4, 2, pooled_keys=True)
    level2 = attentive_squeeze(state, "level2.1", level2, mask, 4, 2, pooled_keys=True)

    mix = _upsample_query(level4, level3) + level3
    mix = attentive_squeeze(state, "mix43.0", mix, mask, 1, 0, pooled_keys=False)
    mix = attentive_squeeze(state, "mix43.1", mix, mask, 1, 0, pooled_keys=False)
    mix = _upsample_query(mix, level2) + level2
    mix = attentive_squeeze(state, "mix32.0", mix, mask, 1, 0, pooled_keys=False)
    mix = attentive_squeeze(state, "mix32.1", mix, mask, 1, 0, pooled_keys=False)

    x = F.relu(_decoder_convolution(state, 0, mix[..., 0, 0]))
    x = F.relu(_decoder_convolution(state, 1, x))
    x = upsample(x, (2 * x.shape[-2], 2 * x.shape[-1]))
    x = F.relu(_decoder_convolution(state, 2, x))
    return _decoder_convolution(state, 3, x)


def upsample(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


def _upsample_query(coarse: Tensor, like: Tensor) -> Tensor:
    """(P, C, H, W, 1, 1) to the query positions of ``like``."""
    return upsample(coarse[..., 0, 0], like.shape[2:4])[..., None, None]


def _decoder_convolution(state: State, index: int, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"decoder.{index}.weight"], state[f"decoder.{index}.bias"], padding=1)


# ---- iFSL inference (eqs. 1-5) ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Answer:
    foreground: Tensor
    background: Tensor
    present: list[bool]
    mask: Tensor


def paper_answer(shot_logits: Sequence[Tensor], size: tuple[int, int], thresholds: Sequence[float]) -> Answer:
    """Section 5.1's class-wise maps, then eqs. 2-5. ``shot_logits``: for each class (K, 2, h, w)."""
    maps = [torch.softmax(sum(shots) / len(shots), dim=0)[1] for shots in shot_logits]
    present = [bool(y.max() >= delta) for y, delta in zip(maps, thresholds, strict=True)]  # eq. 2
    foreground = torch.stack([upsample(y[None, None], size)[0, 0] for y in maps])  # eq. 1
    background = sum(1 - y for y in foreground) / len(foreground)  # eq. 3
    together = torch.cat([foreground, background[None]])  # eq. 4
    return Answer(foreground, background, present, _most_probable(together, present, (*range(1, len(maps) + 1), 0)))


def authors_answer(shot_logits: Sequence[Tensor], size: tuple[int, int], thresholds: Sequence[float]) -> Answer:
    """The authors' rule for K shots: votes, and means of log-probabilities; background is the first channel."""
    present, log_foreground, log_background = [], [], []
    for shots, delta in zip(shot_logits, thresholds, strict=True):
        log_maps = torch.log_softmax(shots, dim=1)
        votes = [float(log_map[1].exp().max() >= delta) for log_map in log_maps]
        present.append(sum(votes) / len(votes) >= 0.5)
        mean = upsample(log_maps, size).mean(dim=0)
        log_background.append(mean[0])
        log_foreground.append(mean[1])
    background = sum(log_background) / len(log_background)
    together = torch.stack([background, *log_foreground])
    mask = _most_probable(together, present, range(len(together)))
    return Answer(torch.stack(log_foreground).exp(), background.exp(), present, mask)


def _most_probable(together: Tensor, present: list[bool], labels: Sequence[int]) -> Tensor:
    """Eq. 5 pixel by pixel: the label of the largest channel, where the channels of absent classes do not compete."""
    mask = torch.zeros(together.shape[1:], dtype=torch.int64)
    for row in range(mask.shape[0]):
        for column in range(mask.shape[1]):
            best = None
            for channel, label in enumerate(labels):
                if label and not present[label - 1]:
                    continue
                if best is None or together[channel, row, column] > best:
                    best = together[channel, row, column]
                    mask[row, column] = label
    return mask
