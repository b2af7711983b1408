"""Losses of one batch of (query, support) pairs, each with one class."""

import torch.nn.functional as F
from torch import Tensor

#: Positions whose logit margins are averaged for the presence loss: a smooth stand-in for the maximum of eq. 2.
TOP_POSITIONS = 8


def pair_loss(logits: Tensor, target: Tensor, valid: Tensor, *, dice: float, presence: float) -> Tensor:
    """Segmentation and presence loss of 1-way 1-shot pairs.

    The cross-entropy is eq. 7 for N = 1. The Dice loss counters its bias towards large objects; the presence loss is
    the objective of eq. 6 with the mean over positions replaced by the strongest ones, as eq. 2 decides by the maximum.

    Args:
        logits: (P, 2, H, W); channel 1 is foreground.
        target: (P, H, W) foreground in [0, 1].
        valid: bool (P, H, W); False = unknown, counts nowhere.
        dice, presence: weights of the second and third term.

    Returns:
        (P,) one loss for each pair.
    """
    margin = (logits[:, 1] - logits[:, 0]).float()
    weight = valid.float()
    area = weight.sum(dim=(1, 2)).clamp(min=1)
    cross_entropy = F.binary_cross_entropy_with_logits(margin, target, reduction="none")
    loss = (cross_entropy * weight).sum(dim=(1, 2)) / area

    foreground = (target * weight).sum(dim=(1, 2))
    probability = margin.sigmoid() * weight
    overlap = (probability * target).sum(dim=(1, 2))
    dice_loss = 1 - (2 * overlap + 1) / (probability.sum(dim=(1, 2)) + foreground + 1)
    present = foreground > 0
    loss = loss + dice * dice_loss * present

    strongest = margin.masked_fill(~valid, -1e4).flatten(1).topk(TOP_POSITIONS, dim=1).values.mean(dim=1)
    clear = foreground >= TOP_POSITIONS / 2  # a window that holds a sliver of the object is no evidence either way
    decided = clear | ~present
    presence_loss = F.binary_cross_entropy_with_logits(strongest, present.float(), reduction="none")
    return loss + presence * presence_loss * decided
