"""The loop that the shipped path is measured against: the paper's network in its authors' order, written plainly.

For every query and every shot: the query and the N supports pass through the backbone again, all correlations are
materialised in the layout (P, L, H, W, h, w), and the learner runs them as Conv3d, GroupNorm and einsum, an operation
at a time. Weights are those of a shipped :class:`~fscs_sdk.model.network.FewShotNetwork`; only they are shared with it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from fscs_sdk.model.backbone import Backbone

Pyramid = Sequence[Sequence[Tensor]]
State = dict[str, Tensor]
#: Support maps of this side and more are halved (table a.6, "pool support dims. by half").
POOLED_SIDE = 33
#: (kernel, stride, padding) of the target embedding and whether the keys share them, for each block of table a.6.
BLOCKS = {
    "level4.0": (4, 2, False),
    "level4.1": (2, 1, False),
    **{f"level{level}.{block}": (4, 2, True) for level in (3, 2) for block in (0, 1)},
    **{f"mix{mix}.{block}": (1, 0, False) for mix in (43, 32) for block in (0, 1)},
}


@dataclass(frozen=True)
class NaiveLoop:
    """Answers one query from N x K supports; nothing is kept from one query to the next.

    Attributes:
        backbone: frozen, shared with the shipped path.
        state: the learner's tensors, in the names of :class:`fscs_sdk.model.asnet.ASNet`.
    """

    backbone: Backbone
    state: State

    @torch.inference_mode()
    def shot_logits(self, query: Tensor, supports: Tensor, masks: Tensor) -> Tensor:
        """uint8 photos (1, 3, side, side) and (N, K, 3, side, side), masks (N, K, side, side) -> (N, K, 2, h, w)."""
        shots = []
        for shot in range(supports.shape[1]):
            query_maps = self.backbone(query)
            support_maps = self.backbone(supports[:, shot])
            correlations = hypercorrelation(query_maps, support_maps)
            shots.append(learner(self.state, correlations, masks[:, shot].float()))
        return torch.stack(shots, dim=1)


def hypercorrelation(query: Pyramid, support: Pyramid) -> list[Tensor]:
    """Eq. 8: maps (1, C_l, H, W) and (N, C_l, h, w) -> for each level (N, L, H, W, h, w)."""
    levels = []
    for query_level, support_level in zip(query, support, strict=True):
        maps = [_cosines(q, s) for q, s in zip(query_level, support_level, strict=True)]
        levels.append(torch.stack(maps, dim=1))
    return levels


def _cosines(query: Tensor, support: Tensor) -> Tensor:
    if support.shape[-1] >= POOLED_SIDE:
        support = F.avg_pool2d(support, 3, stride=2, padding=1)
    query = (query / (query.norm(dim=1, keepdim=True) + 1e-5)).expand(len(support), -1, -1, -1)
    support = support / (support.norm(dim=1, keepdim=True) + 1e-5)
    return torch.einsum("pcHW,pchw->pHWhw", query, support).clamp(min=0)


def learner(state: State, correlations: Sequence[Tensor], mask: Tensor | None) -> Tensor:
    """Table a.6: [level 4, level 3, level 2] of (P, L, H, W, h, w) and masks (P, side, side) -> (P, 2, 2H, 2W)."""
    level4, level3, level2 = (
        _pair_of_blocks(state, name, x, mask)
        for name, x in zip(("level4", "level3", "level2"), correlations, strict=True)
    )
    mix = _pair_of_blocks(state, "mix43", _upsample(level4.mean(dim=(4, 5)), level3) + level3, mask)
    mix = _pair_of_blocks(state, "mix32", _upsample(mix[..., 0, 0], level2) + level2, mask)
    x = F.relu(_decode(state, 0, mix[..., 0, 0]))
    x = F.relu(_decode(state, 1, x))
    x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
    return _decode(state, 3, F.relu(_decode(state, 2, x)))


def _pair_of_blocks(state: State, name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    return attentive_squeeze(state, f"{name}.1", attentive_squeeze(state, f"{name}.0", x, mask), mask)


def attentive_squeeze(state: State, name: str, x: Tensor, mask: Tensor | None) -> Tensor:
    """Eqs. 9-14 for one block: (P, C_in, H, W, h, w) -> (P, C_out, H, W, h', w')."""
    stride, padding, pooled_keys = BLOCKS[name]
    key_stride, key_padding = (stride, padding) if pooled_keys else (1, 0)
    target = _convolve(state, f"{name}.target", x, stride, padding)
    key = _convolve(state, f"{name}.key", x, key_stride, key_padding)
    value = _convolve(state, f"{name}.value", x, key_stride, key_padding)
    context = _attend(target, key, value, mask)
    attended = F.relu(_norm(state, f"{name}.aggregate_norm", context))
    attended = F.relu(_norm(state, f"{name}.aggregate.norm", _convolve(state, f"{name}.aggregate.conv", attended)))
    if f"{name}.shortcut.conv.weight" in state:
        x = _convolve(state, f"{name}.shortcut.conv", x, stride, padding)
        x = F.relu(_norm(state, f"{name}.shortcut.norm", x))
    x = _norm(state, f"{name}.attention_norm", attended + x)
    wide = F.relu(_norm(state, f"{name}.feed_forward.norm", _convolve(state, f"{name}.feed_forward.conv", x)))
    return _norm(state, f"{name}.output_norm", x + _convolve(state, f"{name}.feed_forward_out", wide))


def _attend(target: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, heads: int = 8) -> Tensor:
    t, k, v = (_by_head(x, heads) for x in (target, key, value))
    scores = torch.einsum("pndHWt,pndHWs->pnHWts", t, k)
    if mask is not None:
        visible = F.interpolate(mask[:, None], key.shape[-2:], mode="bilinear", align_corners=True).flatten(1) != 0
        scores = scores.masked_fill(~visible[:, None, None, None, None], -1e9)
    context = torch.einsum("pnHWts,pndHWs->pndHWt", scores.softmax(dim=-1), v)
    return context.flatten(1, 2).view(target.shape)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(P, heads * d, H, W, h, w) -> (P, heads, d, H, W, positions)."""
    pairs, channels, height, width = x.shape[:4]
    return x.reshape(pairs, heads, channels // heads, height, width, -1)


def _convolve(state: State, name: str, x: Tensor, stride: int = 1, padding: int = 0) -> Tensor:
    weight = state[f"{name}.weight"][:, :, None]
    out = F.conv3d(x.flatten(2, 3), weight, state.get(f"{name}.bias"), (1, stride, stride), (0, padding, padding))
    return out.reshape(*out.shape[:2], *x.shape[2:4], *out.shape[3:])


def _norm(state: State, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, 4, state[f"{name}.weight"], state[f"{name}.bias"])


def _upsample(coarse: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(coarse, like.shape[2:4], mode="bilinear", align_corners=True)[..., None, None]


def _decode(state: State, index: int, x: Tensor) -> Tensor:
    return F.conv2d(x, state[f"decoder.{index}.weight"], state[f"decoder.{index}.bias"], padding=1)
