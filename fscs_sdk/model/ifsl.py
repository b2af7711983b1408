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


@dataclass(frozen=True, eq=False)
class Calibration:
    """What examined supports add to eqs. 1 and 2, class by class; (0, 0, 1) leaves a class as the model answers.

    Attributes:
        offsets: float32 (N,), added to the foreground's logit at every position of a class (eq. 1).
        cuts: float32 (N,), the logit at the map's peak, before the offset, that a class shows as often as not when it
            is there.
        slopes: float32 (N,), above 0: the score of eq. 2 is the logistic function of slope x (peak - cut).
    """

    offsets: Tensor
    cuts: Tensor
    slopes: Tensor

    def to(self, device: torch.device) -> "Calibration":
        """The same numbers on another device."""
        return Calibration(self.offsets.to(device), self.cuts.to(device), self.slopes.to(device))


@dataclass(frozen=True)
class Inference:
    """The answer for one query.

    Attributes:
        foreground: float32 (N, H, W) in [0, 1], Y of eq. 1.
        background: float32 (H, W) in [0, 1], eq. 3; calibrated, see :func:`infer`.
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
    shot_logits: Sequence[Tensor],
    size: tuple[int, int],
    thresholds: Tensor,
    *,
    protocol: Protocol = "paper",
    calibration: Calibration | None = None,
) -> Inference:
    """Answer one query from its shots' logits.

    Args:
        shot_logits: for each of N classes its shots' maps (K, 2, h, w); channel 1 is foreground. K may differ.
        size: (H, W) of the answer; maps are brought there bilinearly, corners aligned.
        thresholds: (N,) delta of eq. 2 for each class, in [0, 1].
        calibration: of the N classes; the background is then what no class that is present claims, so that a class
            that is absent changes nothing for the others.

    Raises:
        ValueError: a calibration with the authors' protocol, which decides shot by shot.
    """
    if calibration is not None:
        if protocol != "paper":
            raise ValueError("calibrated supports are answered by the protocol 'paper' alone, not by 'authors'")
        foreground, scores = _calibrated_maps(shot_logits, size, calibration)
        present = scores >= thresholds
        background = _background_of_present(foreground, present)
        return Inference(foreground, background, scores, present, merge(foreground, background, present))
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


def _calibrated_maps(
    shot_logits: Sequence[Tensor], size: tuple[int, int], calibration: Calibration
) -> tuple[Tensor, Tensor]:
    """Eq. 1 with the class's offset, and eq. 2's scores as probabilities that the class is there."""
    foreground = torch.empty(len(shot_logits), *size, dtype=torch.float32, device=shot_logits[0].device)
    scores = []
    numbers = torch.stack([calibration.offsets, calibration.cuts, calibration.slopes], dim=1).to(foreground)
    for shots, (offset, cut, slope), resized in zip(shot_logits, numbers, foreground, strict=True):
        logits = shots.float().mean(dim=0)
        probabilities = torch.stack([logits[0], logits[1] + offset]).softmax(dim=0)[1]
        resized.copy_(_resize(probabilities[None, None], size)[0, 0].clamp_(0, 1))
        scores.append(torch.stack([slope * logits[0], slope * (logits[1] - cut)]).softmax(dim=0)[1].max())
    return foreground, torch.stack(scores)


def _background_of_present(foreground: Tensor, present: Tensor) -> Tensor:
    """1 - the largest map among the classes that are present.

    With the classes taken as independent, P(none) is the product of all (1 - Y) and P(n alone) that of Y_n and the
    other (1 - Y): n is the likelier of the two exactly where Y_n > 1 - Y_n, however many classes there are.
    """
    background = torch.ones_like(foreground[0])
    for shown, candidate in zip(present, foreground, strict=True):  # one at a time: see merge
        background = torch.where(shown & (1 - candidate < background), 1 - candidate, background)
    return background


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
