"""Forms of the squeeze layer's operations for graphs that are recorded and run elsewhere (:mod:`fscs_sdk.export`).

They equal the plain path and ask for what a runtime has fast kernels for, products and convolutions, in few nodes.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

#: Below any score, by so much that adding a score to it is lost in rounding: where no key is visible all are equal.
HIDDEN = -1e30


@dataclass(frozen=True)
class SeenKeys:
    """The key positions of a grid that see foreground: what a mask comes to, known before a graph is recorded.

    Attributes:
        places: int64 (P, V), V positions of the grid, those that are seen first; V is the most that a pair has, and all
            of the grid if there is a pair that has none.
        seen: bool (P, V), False for the places that only fill a row up.
    """

    places: Tensor
    seen: Tensor

    @classmethod
    def of(cls, visible: Tensor) -> "SeenKeys":
        """From what :func:`fscs_sdk.model.squeeze.visible_keys` says: bool (P, S)."""
        counts = visible.sum(dim=1)
        most = int(counts.max()) if bool(counts.all()) else visible.shape[1]
        seen, places = visible.sort(dim=1, descending=True, stable=True)
        return cls(places[:, :most].contiguous(), seen[:, :most].contiguous())

    def choose(self, x: Tensor) -> Tensor:
        """(1, C, S, Q) of one pair, at all positions of the grid -> (1, C, V, Q)."""
        return x.index_select(2, self.places[0])


def attend_to_seen(target: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, heads: int) -> Tensor:
    """:func:`fscs_sdk.model.squeeze.attend` with the softmax in its parts: along an axis that is not the last a runtime
    would transpose all scores for it. The context is divided by the sum of the weights, not every weight.
    """
    if key.shape[2] == 1:
        return value.expand_as(target)
    targets, keys, values = (x.view(len(x), heads, -1, *x.shape[2:]) for x in (target, key, value))
    scores = targets[:, :, 0, :, None] * keys[:, :, 0, None]  # (P, heads, T, S, Q); eq. 10
    for channel in range(1, keys.shape[2]):
        scores = scores + targets[:, :, channel, :, None] * keys[:, :, channel, None]
    if seen is not None:
        scores = scores + torch.where(seen, 0.0, HIDDEN)[:, None, None, :, None]
    weights = (scores - scores.amax(dim=3, keepdim=True)).exp()  # eq. 11, but for its sum
    context = (weights[:, :, None] * values[:, :, :, None]).sum(dim=4) / weights.sum(dim=3)[:, :, None]  # eq. 12
    return context.reshape(target.shape)


def convolve_volume(x: Tensor, weight: Tensor, bias: Tensor | None, *, stride: int, padding: int) -> Tensor:
    """:func:`fscs_sdk.model.squeeze.convolve_support` as a convolution of three dimensions, 1 wide along queries."""
    return F.conv3d(x, weight[..., None], bias, stride=(stride, stride, 1), padding=(padding, padding, 0))
