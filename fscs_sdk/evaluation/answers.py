"""What a model answers, by task: which classes are there, and the mask."""

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.evaluation.episodes import Task
from fscs_sdk.model.ifsl import merge
from fscs_sdk.segmenter import EncodedQuery, FewShotSegmenter
from fscs_sdk.supports import SupportSet

#: bool (N,) presences and the mask (H, W), 0 = background, n = the n-th class.
Answer = tuple[NDArray[np.bool_], NDArray[np.int64]]


def answers(
    segmenter: FewShotSegmenter,
    query: EncodedQuery,
    supports: SupportSet,
    *,
    task: Task,
    thresholds: Sequence[float] = (),
) -> list[Answer]:
    """The answer of one pass through the network: for ``fs-cs`` one for each threshold, else one alone.

    - ``fs-cs``: eqs. 2, 3 and 5 of the paper.
    - ``fs-s``: all classes are taken for present, eq. 5 decides at every position. The authors' program decides shot by
      shot there and lets the shots vote; with more than one class it has no rule, and ``protocol="paper"`` is needed.
    - ``fs-c``: the class with the highest score is present, and no other (section 6.2, "Robustness").

    Args:
        thresholds: delta of eq. 2, for ``fs-cs``; none: the supports' own.

    Raises:
        ValueError: ``fs-s`` by the authors' protocol with several classes.
    """
    if task == "fs-cs":
        return _by_threshold(segmenter, query, supports, thresholds)
    if task == "fs-s" and segmenter.protocol == "authors":
        return [_voted(segmenter, query, supports)]
    answer = segmenter.infer(query, supports.with_thresholds(0.0))
    if task == "fs-s":
        return [_arrays(answer.present, answer.mask)]
    present = torch.zeros_like(answer.present)
    present[answer.scores.argmax()] = True
    return [_arrays(present, _merge(segmenter, answer.foreground, answer.background, present))]


def _by_threshold(
    segmenter: FewShotSegmenter, query: EncodedQuery, supports: SupportSet, thresholds: Sequence[float]
) -> list[Answer]:
    if supports.calibration is not None or not thresholds:  # the background depends on who is present
        sets = [supports.with_thresholds(threshold) for threshold in thresholds] or [supports]
        return [_arrays(one.present, one.mask) for one in (segmenter.infer(query, each) for each in sets)]
    answer = segmenter.infer(query, supports.with_thresholds(thresholds[0]))
    found = [_arrays(answer.present, answer.mask)]
    for threshold in thresholds[1:]:
        present = answer.scores >= threshold
        found.append(_arrays(present, _merge(segmenter, answer.foreground, answer.background, present)))
    return found


def _voted(segmenter: FewShotSegmenter, query: EncodedQuery, supports: SupportSet) -> Answer:
    """The authors' rule for FS-S: sum the K binary masks, divide by max(1, the largest sum), keep 0.5 and above."""
    if len(supports) != 1:
        raise ValueError(
            f"the authors' protocol has no rule for fs-s with {len(supports)} classes; use ways=1 or paper"
        )
    shots = range(len(supports.class_index))
    votes = torch.stack([segmenter.infer(query, _one_shot(supports, shot)).mask for shot in shots]).sum(dim=0)
    mask = votes / votes.max().clamp(min=1) >= 0.5
    return _arrays(torch.ones(1, dtype=torch.bool), mask.long())


def _one_shot(supports: SupportSet, shot: int) -> SupportSet:
    """One of the shots of a set with one class, at threshold 0."""
    chosen = slice(shot, shot + 1)
    return dataclasses.replace(
        supports,
        class_index=supports.class_index[chosen],
        features=tuple(tuple(feature[chosen] for feature in level) for level in supports.features),
        masks=supports.masks[chosen],
        tagged=supports.tagged[chosen],
        thresholds=torch.zeros(1),
    )


def _merge(segmenter: FewShotSegmenter, foreground: Tensor, background: Tensor, present: Tensor) -> Tensor:
    """Eq. 5 on probabilities; on their logarithms, which the authors use, the same candidates win."""
    return merge(foreground, background, present, background_last=segmenter.protocol == "paper")


def _arrays(present: Tensor, mask: Tensor) -> Answer:
    return present.cpu().numpy(), mask.cpu().numpy()
