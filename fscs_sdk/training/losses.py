"""Losses of (query, supports) pairs of one class, from two-channel logits; channel 1 is foreground.

The paper chooses the loss by the label of the supports (section 4): the segmentation loss for masks, the classification
loss for class tags; table a.7 also adds the two. Two terms of ours stand beside the segmentation loss: Dice, and a
presence loss that looks where inference looks. With weights of 0 what remains is the paper's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from fscs_sdk.training.config import Loss

#: The order of what :func:`pair_losses` returns.
TERMS = ("segmentation", "dice", "presence", "classification")
#: Positions whose logit margins are averaged for the presence loss: a smooth stand-in for the maximum of eq. 2.
TOP_POSITIONS = 8


def pair_losses(
    logits: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    present: Tensor,
    strong: Tensor,
    loss: Loss,
    dice: float,
    presence: float,
) -> Tensor:
    """Every term of the loss of every pair, weighted: a pair's loss is their sum.

    Args:
        logits: (P, 2, H, W).
        target: (P, H, W) foreground in [0, 1].
        valid: bool (P, H, W); False = unknown, counts nowhere.
        present: bool (P,), the query's class tag. Only the classification loss reads it.
        strong: bool (P,); a pair that is not strong has the classification loss alone.
        loss: what strong pairs have: ``segmentation`` (with Dice and presence), ``classification``, or ``both``.
        dice, presence: weights of these terms.

    Returns:
        (4, P) in the order of ``TERMS``.
    """
    segmented = (strong & (loss != "classification")).to(torch.float32)
    classified = (~strong | (loss != "segmentation")).to(torch.float32)
    return torch.stack(
        [
            segmentation_loss(logits, target, valid) * segmented,
            dice * dice_loss(logits, target, valid) * segmented,
            presence * presence_loss(logits, target, valid) * segmented,
            classification_loss(logits, present) * classified,
        ]
    )


def segmentation_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Eq. 7 for N = 1: L_S = -mean over p of [Y_gt(p) log Y(p) + (1 - Y_gt(p)) log(1 - Y(p))].

    With one class the background map of eq. 3 is 1 - Y. The mean runs over known positions; eq. 7's further factors
    1 / ((N + 1) HW) are left out, as in the authors' program.

    Arguments as for :func:`pair_losses`. Returns (P,).
    """
    losses = F.binary_cross_entropy_with_logits(_margin(logits), target, reduction="none")
    return (losses * valid).sum(dim=(1, 2)) / valid.sum(dim=(1, 2)).clamp(min=1)


def classification_loss(logits: Tensor, present: Tensor) -> Tensor:
    """Eq. 6 for N = 1, as the authors' program has it: the spatial mean of the log map against the class tag.

    L_C = -[y mean over p of log Y(p) + (1 - y) mean over p of log(1 - Y(p))]. The paper writes the logarithm of the
    mean and the first term alone, and calls it the binary cross-entropy of the average-pooled scores.

    Args:
        logits: (P, 2, H, W) of whole queries.
        present: bool (P,), y.

    Returns:
        (P,).
    """
    scores = _precise(logits).log_softmax(dim=1).mean(dim=(2, 3))
    return -scores.gather(1, present.long()[:, None])[:, 0]


def dice_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """1 - (2 sum Y Y_gt + 1) / (sum Y + sum Y_gt + 1), which counters eq. 7's bias towards large objects.

    0 where there is no foreground. Arguments as for :func:`pair_losses`. Returns (P,).
    """
    foreground = (target * valid).sum(dim=(1, 2))
    probability = _margin(logits).sigmoid() * valid
    overlap = (probability * target).sum(dim=(1, 2))
    return (1 - (2 * overlap + 1) / (probability.sum(dim=(1, 2)) + foreground + 1)) * (foreground > 0)


def presence_loss(logits: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """The purpose of eq. 6 by the rule of eq. 2: cross-entropy of the strongest positions against presence.

    The logit is the mean margin of the eight strongest known positions, and presence is whether there is foreground
    among those. Little foreground, such as a sliver in a window, is no evidence either way: the loss is 0.

    Arguments as for :func:`pair_losses`. Returns (P,).
    """
    foreground = (target * valid).sum(dim=(1, 2))
    margin = _margin(logits).masked_fill(~valid, -1e4)
    strongest = margin.flatten(1).topk(TOP_POSITIONS, dim=1).values.mean(dim=1)
    present = foreground > 0
    decided = (foreground >= TOP_POSITIONS / 2) | ~present
    return F.binary_cross_entropy_with_logits(strongest, present.to(margin.dtype), reduction="none") * decided


def _margin(logits: Tensor) -> Tensor:
    """(P, 2, H, W) -> (P, H, W), the logit of eq. 1's Y."""
    return _precise(logits[:, 1] - logits[:, 0])


def _precise(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
