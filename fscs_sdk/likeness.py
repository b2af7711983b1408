"""How alike shots are: what they mark, by masked means of the features and their cosines, and the photos as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

#: Of the places outside a mask, the share that looks most like a prototype; and what counts as outside and inside.
NEAREST, OUTSIDE, INSIDE = 0.05, 0.05, 0.5
#: Cells a side in which photos are compared; the correlation from which on two begin to be near-duplicates, and that at
#: which they are nothing else. Frames of a slow video are above .97, other photos of one place seldom above .9.
CELLS, SIMILAR, SAME = 16, 0.90, 0.99


@dataclass(frozen=True, eq=False)
class Look:
    """What a shot shows, at one level of features.

    Attributes:
        places: float32 (h w, C), unit vectors for each of the level's maps, together of length 1.
        share: float32 (h w,), how much of each is foreground.
        prototype: float32 (C,), the mean of the places by their shares, of length 1.
    """

    places: NDArray[np.float32]
    share: NDArray[np.float32]
    prototype: NDArray[np.float32]

    @classmethod
    def of(cls, maps: Sequence[Tensor], mask: NDArray[np.bool_]) -> "Look":
        """Of a level's maps (C_l, h, w) and the shot's mask (side, side)."""
        units = [F.normalize(one.detach().cpu().float().flatten(1), dim=0) for one in maps]
        places = (torch.cat(units) / len(units) ** 0.5).T.numpy()
        size = maps[0].shape[-2:]
        share = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].float(), (size[0], size[1]))[0].flatten().numpy()
        prototype = share @ places
        return cls(places, share, prototype / (np.linalg.norm(prototype) + 1e-6))


def distance(one: Look, others: Sequence[Look]) -> float:
    """The logarithm of 1 - the mean cosine between a shot's prototype and those of others, one at least."""
    cosines = sorted(float((one.prototype * other.prototype).sum()) for other in others)
    return float(np.log(min(max(1 - float(np.mean(cosines)), 1e-3), 2)))


def margin(one: Look, others: Sequence[Look]) -> float:
    """How much more a shot's prototype looks like what the others mark than like the likest places that they do not.

    Of a photo of another thing in the same room, the likest places of the others are outside their masks.
    """
    margins = []
    for other in others:
        cosines = (other.places * one.prototype).sum(axis=1)
        inside, outside = other.share > INSIDE * other.share.max(), other.share < OUTSIDE
        if inside.any() and outside.any():
            nearest = np.sort(cosines[outside])[::-1][: max(1, int(outside.sum() * NEAREST))]
            margins.append(float(cosines[inside].mean() - nearest.mean()))
    return float(np.mean(sorted(margins))) if margins else 0.0


def near_duplicates(thumbnails: Tensor) -> NDArray[np.float64]:
    """(P, P) in [0, 1]: how far two photos are the same scene from the same place, 1 on the diagonal.

    By the correlation of their colours in :data:`CELLS` x :data:`CELLS` cells, whatever the backbone. What a colour has
    everywhere is left out: red ground, or light under water, is no scene.

    Args:
        thumbnails: float32 (P, 3, h, w).
    """
    cells = F.adaptive_avg_pool2d(thumbnails, CELLS).double()
    cells = F.normalize((cells - cells.mean(dim=(2, 3), keepdim=True)).flatten(1), dim=1)
    alike = ((cells @ cells.T).numpy() - SIMILAR) / (SAME - SIMILAR)
    np.fill_diagonal(alike, 1)
    return np.asarray(alike.clip(0, 1))
