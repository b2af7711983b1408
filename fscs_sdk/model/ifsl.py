"""iFSL inference (section 4, eqs. 1-5): shot logits -> foreground maps -> presence, background, mask. Pure functions.

Where the paper and its authors' program differ, both are here: see :class:`Protocol`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

Protocol = Literal["paper", "authors"]
"""``paper``: the K logit maps of a class are averaged, then softmax (section 5.1); the background is the mean of
(1 - Y) (eq. 3). ``authors``: every shot is normalised by itself; a class is present if at least half of its shots say
so; maps and background are means of log-probabilities. For one way and one shot the two agree up to the
interpolation between the maps' points, of probabilities here and of their logarithms there."""

PROTOCOLS: tuple[str, ...] = get_args(Protocol)


@dataclass(frozen=True)
class Inference:
    """The answer for one query.

    Attributes:
        foreground: float32 (N, H, W) in [0, 1], Y of eq. 1.
        background: float32 (H, W) in [0, 1], eq. 3.
        scores: float32 (N,) in [0, 1]; a class is present if its score reaches its threshold (eq. 2). The score is the
            maximum of the map before it is brought to the photo's size (``authors``: the median-high over shots).
        present: bool (N,).
        mask: int64 (H, W); 0 = background, n = class n counted from 1 (eq. 5). A class that is absent is nowhere in it.
    """

    foreground: Tensor
    background: Tensor
    scores: Tensor
    present: Tensor
    mask: Tensor


def infer(
    shot_logits: Sequence[Tensor], size: tuple[int, int], thresholds: Tensor, *, protocol: Protocol = "paper"
) -> Inference:
    """Answer one query from its shots' logits.

    Args:
        shot_logits: for each of N classes its shots' maps (K, 2, h, w); channel 1 is foreground. K may differ.
        size: (H, W) of the answer; maps are brought there bilinearly, corners aligned.
        thresholds: (N,) delta of eq. 2 for each class, in [0, 1].
    """
    if protocol == "paper":
        foreground, background, scores = _paper_maps(shot_logits, size)
        present = scores >= thresholds
        mask = merge(foreground, background, present)
        return Inference(foreground, background, scores, present, mask)
    log_foreground, log_background, scores = _authors_log_maps(shot_logits, size)
    present = scores >= thresholds
    mask = merge(log_foreground, log_background, present, background_last=False)
    return Inference(log_foreground.exp_(), log_background.exp_(), scores, present, mask)


def merge(foreground: Tensor, background: Tensor, present: Tensor, *, background_last: bool = True) -> Tensor:
    """Eq. 5: the most probable of background and the classes that are present, at every position.

    Args:
        foreground: (N, H, W) probabilities or their logarithms.
        background: (H, W), the same of the background.
        present: bool (N,); a class that is absent wins nowhere.
        background_last: on a tie the first candidate wins: a class, where the background comes last.

    Returns:
        int64 (H, W), 0 = background, n = class n counted from 1.
    """
    best = torch.full_like(background, float("-inf"))
    index = torch.zeros_like(background, dtype=torch.int64)
    for way, (shown, candidate) in enumerate(zip(present, foreground, strict=True), start=1):  # a copy of all maps
        better = shown & (candidate > best)  # can be gigabytes, so one at a time
        best = torch.where(better, candidate, best)
        index.masked_fill_(better, way)
    return index * (best >= background if background_last else best > background)


def _paper_maps(shot_logits: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    foreground = torch.empty(len(shot_logits), *size, dtype=torch.float32, device=shot_logits[0].device)
    scores = []
    for shots, resized in zip(shot_logits, foreground, strict=True):
        probabilities = shots.float().mean(dim=0).softmax(dim=0)[1]
        scores.append(probabilities.max())
        resized.copy_(_resize(probabilities[None, None], size)[0, 0].clamp_(0, 1))
    return foreground, 1 - foreground.mean(dim=0), torch.stack(scores)


def _authors_log_maps(shot_logits: Sequence[Tensor], size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    log_foreground = torch.empty(len(shot_logits), *size, dtype=torch.float32, device=shot_logits[0].device)
    log_background = torch.zeros(size, dtype=torch.float32, device=shot_logits[0].device)
    scores = []
    for shots, foreground in zip(shot_logits, log_foreground, strict=True):
        log_probabilities = shots.float().log_softmax(dim=1)
        maps = _resize(log_probabilities, size).mean(dim=0)
        log_background += maps[0]
        foreground.copy_(maps[1])
        peaks = log_probabilities[:, 1].exp().amax(dim=(1, 2))
        # At least half of the votes are yes exactly when this peak, from the top, reaches the threshold.
        scores.append(peaks.sort(descending=True).values[(len(peaks) + 1) // 2 - 1])
    return log_foreground, log_background / len(shot_logits), torch.stack(scores)


def _resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(maps, size, mode="bilinear", align_corners=True)
