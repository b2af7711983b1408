"""iFSL inference (section 4, eqs. 1-5): shot logits -> foreground maps -> presence, background, mask. Pure functions.

Where the paper and its authors' program differ, both are here: see :class:`ProtocolName`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from fscs_sdk.model.edges import PIECE_ROWS, Addition, Edges

ProtocolName = Literal["paper", "authors"]
"""``paper``: the K logit maps of a class are averaged, then softmax (section 5.1); the background is the mean of
(1 - Y) (eq. 3). ``authors``: every shot is normalised by itself; a class is present if at least half of its shots say
so; maps and background are means of log-probabilities. For one way and one shot the two agree up to the
interpolation between the maps' points, of probabilities here and of their logarithms there. By both, a class that is
absent is nowhere in the mask; the authors' program asks the votes for presence and the mean for the mask, so that of
several shots it may leave pixels of a class that it calls absent."""

PROTOCOLS: tuple[str, ...] = get_args(ProtocolName)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What examined supports change in eqs. 1 and 2, class by class; (0, 0, 1, False) leaves a class as the model
    answers.

    Attributes:
        offsets: float32 (N,), added to the foreground's logit at every position of a class (eq. 1).
        cuts: float32 (N,), the logit at the map's peak, before the offset, that a class shows as often as not when it
            is there.
        slopes: float32 (N,), above 0: the score of eq. 2 is the logistic function of slope x (peak - cut).
        pooled: bool (N,), map and peak are those of :func:`pool_shots`; else, as in the paper, the mean of the shots'
            logits and its own peak.
    """

    offsets: Tensor
    cuts: Tensor
    slopes: Tensor
    pooled: Tensor

    def to(self, device: torch.device) -> "Calibration":
        """The same numbers on another device."""
        return Calibration(*(getattr(self, field.name).to(device) for field in fields(self)))


#: The power of :func:`pool_shots`.
POWER = 0.25
#: Elements of all classes' maps at the photo's size that are in memory at once: on a CPU few enough for its caches.
ELEMENTS_AT_ONCE = {"cpu": 2**18}
MOST_ELEMENTS_AT_ONCE = 2**25


@dataclass(frozen=True)
class Maps:
    """The maps of one query as the network gives them; they are brought to the photo's size when they are asked for.

    Attributes:
        foreground: of N classes, probabilities or their logarithms: float32 (n, h, w) of neighbours whose maps are of
            one size, and so on.
        size: (H, W) of the photo.
        background: float32 (h, w), the same of the background. Where there is none, it is made of the foreground at the
            photo's size: 1 - the mean of all classes (eq. 3), or, with ``present``, 1 - the mean of those.
        present: bool (N,), see ``background``.
        logarithms: whether they are interpolated as logarithms.
        edges: of the photo, which the foreground follows (:mod:`~.edges`); None: none, as in the paper.
    """

    foreground: tuple[Tensor, ...]
    size: tuple[int, int]
    background: Tensor | None = None
    present: Tensor | None = None
    logarithms: bool = False
    edges: Edges | None = None

    def _rows(self, first: int, last: int, addition: Addition | None) -> tuple[Tensor, Tensor]:
        """Rows ``first`` to ``last`` - 1 at the photo's size, as what is interpolated: (N, rows, W) and (rows, W)."""
        blocks = [_resize_rows(block, self.size, first, last) for block in self.foreground]
        foreground = torch.cat(blocks) if len(blocks) > 1 else blocks[0]
        if self.background is not None:
            return foreground, _resize_rows(self.background[None], self.size, first, last)[0]
        foreground.clamp_(0, 1)
        if addition is not None:
            addition.to(foreground, first)
        if self.present is not None:
            return foreground, _background_of_present(foreground, self.present)
        return foreground, 1 - foreground.mean(dim=0)

    def bands(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """All rows, so many at a time that they need little memory: which they are, foreground (N, rows, W) and
        background (rows, W)."""
        height, width = self.size
        elements = ELEMENTS_AT_ONCE.get(self.foreground[0].device.type, MOST_ELEMENTS_AT_ONCE)
        step = max(1, elements // (sum(len(block) for block in self.foreground) * width))
        addition = None if self.edges is None else self.edges.fit(self.foreground)
        if addition is not None:
            step = max(step, PIECE_ROWS)
        for first in range(0, height, step):
            last = min(first + step, height)
            yield slice(first, last), *self._rows(first, last, addition)

    def probabilities(self) -> tuple[Tensor, Tensor]:
        """Foreground float32 (N, H, W) and background (H, W) in [0, 1]."""
        like = self.foreground[0]
        ways = sum(len(block) for block in self.foreground)
        foreground = torch.empty((ways, *self.size), dtype=like.dtype, device=like.device)
        background = torch.empty(self.size, dtype=like.dtype, device=like.device)
        for rows, part, rest in self.bands():
            foreground[:, rows] = part.exp_() if self.logarithms else part
            background[rows] = rest.exp_() if self.logarithms else rest
        return foreground, background

    def mask(self, present: Tensor) -> Tensor:
        """Eq. 5: uint8 (H, W), or int32 above 255 classes; see :func:`merge`. bool (N,) says which are candidates."""
        kind = torch.uint8 if len(present) <= 255 else torch.int32
        if _is_known(present):
            if not present.any():
                return torch.zeros(self.size, dtype=kind, device=present.device)
            number = kind
        else:
            number = torch.int64  # graphs' runtimes do not count in bytes
        mask = torch.empty(self.size, dtype=kind, device=present.device)
        for rows, foreground, background in self.bands():
            mask[rows] = merge(foreground, background, present, background_last=not self.logarithms, dtype=number)
        return mask


@dataclass(frozen=True)
class Inference:
    """The answer for one query.

    Attributes:
        maps: what the foreground and the background are made of.
        scores: float32 (N,) in [0, 1]; a class is present if its score reaches its threshold (eq. 2). The score is the
            maximum of the map before it is brought to the photo's size (``authors``: the median-high over shots).
        present: bool (N,).
        mask: (H, W); 0 = background, n = class n counted from 1 (eq. 5); uint8, or int32 above 255 classes. A class
            that is absent is nowhere in it.
    """

    maps: Maps
    scores: Tensor
    present: Tensor
    mask: Tensor

    @cached_property
    def _probabilities(self) -> tuple[Tensor, Tensor]:
        return self.maps.probabilities()

    @property
    def foreground(self) -> Tensor:
        """float32 (N, H, W) in [0, 1], Y of eq. 1; made when it is first asked for."""
        return self._probabilities[0]

    @property
    def background(self) -> Tensor:
        """float32 (H, W) in [0, 1], eq. 3 (calibrated, see :func:`infer`); made when it is first asked for."""
        return self._probabilities[1]


def infer(
    shot_logits: Sequence[Tensor],
    size: tuple[int, int],
    thresholds: Tensor,
    *,
    protocol: ProtocolName = "paper",
    calibration: Calibration | None = None,
    edges: Edges | None = None,
) -> Inference:
    """Answer one query from its shots' logits.

    Args:
        shot_logits: for each of N classes its shots' maps (K, 2, h, w); channel 1 is foreground. K may differ, and with
            a calibration h and w too.
        size: (H, W) of the answer; maps are brought there bilinearly, corners aligned.
        thresholds: (N,) delta of eq. 2 for each class, in [0, 1].
        calibration: of the N classes; eq. 3 is then a mean over the classes that are present, so that one that is
            absent changes nothing for the others.
        edges: which the maps follow before eqs. 3 and 5; presence (eq. 2) is asked before. Not by the authors'
            protocol.

    Raises:
        ValueError: a calibration with the authors' protocol, which decides shot by shot.
    """
    maps, scores, present = decide(shot_logits, size, thresholds, protocol=protocol, calibration=calibration)
    if protocol == "paper":
        maps = replace(maps, edges=edges)
    return Inference(maps, scores, present, maps.mask(present))


def decide(
    shot_logits: Sequence[Tensor],
    size: tuple[int, int],
    thresholds: Tensor,
    *,
    protocol: ProtocolName = "paper",
    calibration: Calibration | None = None,
) -> tuple[Maps, Tensor, Tensor]:
    """The first part of :func:`infer`, eqs. 1 and 2, with its arguments and its error.

    Returns:
        The maps, which follow no edges; scores float32 (N,) in [0, 1]; and presences bool (N,).
    """
    if calibration is None:
        maps, scores = (_paper_maps if protocol == "paper" else _authors_maps)(shot_logits, size)
        return maps, scores, scores >= thresholds
    if protocol != "paper":
        raise ValueError("calibrated supports are answered by the protocol 'paper' alone, not by 'authors'")
    maps, scores = _calibrated_maps(shot_logits, size, calibration)
    present = scores >= thresholds
    return replace(maps, present=present), scores, present


def merge(
    foreground: Tensor,
    background: Tensor,
    present: Tensor,
    *,
    background_last: bool = True,
    dtype: torch.dtype = torch.int64,
) -> Tensor:
    """Eq. 5: the most probable of background and the classes that are present, at every position.

    Args:
        foreground: (N, H, W) probabilities or their logarithms.
        background: (H, W), the same of the background.
        present: bool (N,); a class that is absent wins nowhere.
        background_last: on a tie the first candidate wins: a class, where the background comes last.
        dtype: of the answer, which must hold N.

    Returns:
        (H, W), 0 = background, n = class n counted from 1.
    """
    known = _is_known(present)
    best = torch.full_like(background, float("-inf"))
    index = torch.zeros_like(background, dtype=dtype)
    for way in present.nonzero()[:, 0].tolist() if known else range(len(present)):
        candidate = foreground[way] if known else torch.where(present[way], foreground[way], float("-inf"))
        better = candidate > best
        best = torch.maximum(candidate, best)
        index = torch.maximum(index, better.to(dtype) * (way + 1))  # the last that was better has the largest number
    return index * (best >= background if background_last else best > background)


def _is_known(present: Tensor) -> bool:
    """Whether what is present can be asked without waiting for a device, and no graph is being recorded."""
    return present.device.type == "cpu" and not torch.compiler.is_compiling()


def _paper_maps(shot_logits: Sequence[Tensor], size: tuple[int, int]) -> tuple[Maps, Tensor]:
    foreground = torch.stack([shots.float().mean(dim=0).softmax(dim=0)[1] for shots in shot_logits])
    return Maps((foreground,), size), foreground.amax(dim=(1, 2))


def _calibrated_maps(
    shot_logits: Sequence[Tensor], size: tuple[int, int], calibration: Calibration
) -> tuple[Maps, Tensor]:
    """Eq. 1 with the class's offset, and eq. 2's scores as probabilities that the class is there."""
    maps, scores = [], []
    columns = calibration.offsets, calibration.cuts, calibration.slopes, calibration.pooled.float()
    numbers = torch.stack(columns, dim=1).to(shot_logits[0].device)
    for shots, (offset, cut, slope, pooled) in zip(shot_logits, numbers, strict=True):
        background, foreground = shots.float().mean(dim=0)
        found, peak = pool_shots(shots[:, 1].float() - shots[:, 0].float())
        score = torch.stack([slope * background, slope * (foreground - cut)]).softmax(dim=0)[1].max()
        scores.append(torch.where(pooled > 0, torch.sigmoid(slope * (peak - cut)), score))
        background = torch.where(pooled > 0, torch.zeros_like(found), background)
        foreground = torch.where(pooled > 0, found, foreground)
        maps.append(torch.stack([background, foreground + offset]).softmax(dim=0)[1])
    blocks: list[list[Tensor]] = []
    for one in maps:
        if blocks and blocks[-1][0].shape == one.shape:
            blocks[-1].append(one)
        else:
            blocks.append([one])
    return Maps(tuple([torch.stack(block) for block in blocks]), size), torch.stack(scores)


def pool_shots(logits: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """What the shots of a calibrated class find together; of a single shot, what it finds.

    A shot finds what looks like its own object: one chair's back, another's legs. In the mean of the logits (section
    5.1) what a single shot is sure of is outvoted by those that it tells nothing. So the odds of a position are a
    power mean of the shots' odds, between their geometric mean, which is the paper's, and the arithmetic one; and the
    peak, which decides on presence, is the mean of the shots' own peaks, wherever they are.

    Args:
        logits: (K, h, w), foreground minus background of every shot.
        weights: (K,), not below 0, how much each counts; alike where none are given.

    Returns:
        The map (h, w) and its peak (), both in logits.
    """
    peaks = logits.amax(dim=(1, 2))
    weights = torch.ones_like(peaks) if weights is None else weights
    weights = weights / weights.sum()
    together = torch.logsumexp(POWER * logits + weights.log()[:, None, None], dim=0) / POWER
    return together, (weights * peaks).sum()


def _background_of_present(foreground: Tensor, present: Tensor) -> Tensor:
    """Eq. 3 over the classes that are present: the mean of their (1 - Y), and 1 where none is."""
    total = torch.zeros_like(foreground[0])
    for shown, candidate in zip(present, foreground, strict=True):  # in turn: absent ones do not even move the rounding
        total = torch.where(shown, total + candidate, total)
    return 1 - total / present.sum().clamp(min=1)


def _authors_maps(shot_logits: Sequence[Tensor], size: tuple[int, int]) -> tuple[Maps, Tensor]:
    means, scores = [], []
    for shots in shot_logits:
        log_probabilities = shots.float().log_softmax(dim=1)
        means.append(log_probabilities.mean(dim=0))
        peaks = log_probabilities[:, 1].exp().amax(dim=(1, 2))
        # At least half of the votes are yes exactly when this peak, from the top, reaches the threshold.
        scores.append(peaks.sort(descending=True).values[(len(peaks) + 1) // 2 - 1])
    log_maps = torch.stack(means)
    maps = Maps((log_maps[:, 1],), size, background=log_maps[:, 0].mean(dim=0), logarithms=True)
    return maps, torch.stack(scores)


def _resize_rows(maps: Tensor, size: tuple[int, int], first: int, last: int) -> Tensor:
    """Rows ``first`` to ``last`` - 1 of maps (N, h, w) brought to (H, W) bilinearly, corners aligned.

    Positions are counted in whole numbers, so that a row is the same whatever rows are asked for beside it.
    """
    width, lowest, steps = size[1], maps.shape[1] - 1, max(size[0] - 1, 1)
    top, bottom = first * lowest // steps, min((last - 1) * lowest // steps + 1, lowest)
    columns = F.interpolate(
        maps[None, :, top : bottom + 1], (bottom - top + 1, width), mode="bilinear", align_corners=True
    )[0]
    positions = torch.arange(first, last, device=maps.device) * lowest
    above = positions // steps
    share = (positions % steps).to(maps.dtype) / steps
    below = (above + 1).clamp(max=lowest)
    return torch.lerp(columns.index_select(1, above - top), columns.index_select(1, below - top), share[:, None])
