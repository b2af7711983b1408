"""A frozen backbone and a head, and what they need to know of each other."""

from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

import torch
from torch import Tensor, nn

from fscs_sdk.model import ifsl
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import Pyramid, query_pyramid, support_pyramid

#: Intermediate results of a head in units of its largest level's correlation; without fast paths scores are the most.
COPIES = 32


class Head(Protocol):
    """What turns the maps of P (query, support) pairs into logits (P, 2, h, w); channel 1 is foreground."""

    def __call__(self, query: Pyramid, support: Pyramid, support_mask: Tensor | None) -> Tensor: ...


@dataclass(frozen=True)
class FewShotNetwork:
    """Photos in, logits out. The heavy half of a photo (its pyramid) is computed once and used for any number of pairs.

    Attributes:
        backbone: frozen.
        head: e.g. :class:`~.asnet.ASNet`.
        input_side: photos enter as ``input_side`` x ``input_side`` pixels.
        adapter: what the backbone's maps pass before they are compared, or None.
        threshold: delta of eq. 2 where nothing else is said; the paper's is 0.5.
        close_up: support photos are cropped around an object whose box is shorter than this share of the photo both
            ways (:func:`fscs_sdk.images.close_up`); 0 = never, as in the paper.
        protocol: the rules of inference (:mod:`~.ifsl`) where nothing else is said.
    """

    backbone: Backbone
    head: Head
    input_side: int
    adapter: Adapter | None = None
    threshold: float = 0.5
    close_up: float = 0.0
    protocol: ifsl.ProtocolName = "paper"

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """Its modules: what has weights."""
        return tuple(part for part in (self.backbone, self.head, self.adapter) if isinstance(part, nn.Module))

    @torch.inference_mode()
    def encode_queries(self, photos: Tensor) -> list[list[Tensor]]:
        """uint8 (B, 3, side, side) -> query pyramids, maps (B, C_l, H, W)."""
        return query_pyramid(self._maps(photos))

    @torch.inference_mode()
    def encode_supports(self, photos: Tensor) -> list[list[Tensor]]:
        """uint8 (P, 3, side, side) -> support pyramids, maps (P, C_l, h, w)."""
        return support_pyramid(self._maps(photos))

    @torch.inference_mode()
    def encode_both(self, photos: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """uint8 (B, 3, side, side) -> their pyramids as queries and as supports, in one pass through the backbone."""
        maps = self._maps(photos)
        return query_pyramid(maps), support_pyramid(maps)

    @torch.inference_mode()
    def pair_logits(self, query: Pyramid, support: Pyramid, masks: Tensor | None, *, at_once: int) -> Tensor:
        """Logits (P, 2, h, w) of one query with P supports, ``at_once`` pairs at a time (which changes no answer).

        Args:
            query: maps (1, C_l, H, W).
            support: maps (P, C_l, h, w), on any device and of any precision: a chunk of them is brought to the query's.
            masks: bool (P, side, side), or None for no masking.
        """
        like = query[0][0]
        parts = []
        for start in range(0, len(support[0][0]), at_once):
            chunk = slice(start, start + at_once)
            mask = None if masks is None else masks[chunk].to(like.device).float()
            # A copy to CUDA from pinned memory is not waited for; from other memory it is, whatever is asked.
            maps = [[feature[chunk].to(like, non_blocking=like.is_cuda) for feature in level] for level in support]
            parts.append(self.head(query, maps, mask))
        return torch.cat(parts)

    def identity(self) -> str:
        """12 hexadecimal digits that change when a weight does, the method, or what photos pass before the backbone.

        What only decides about answers (threshold, protocol) is not in it: encoded supports suit any.
        """
        method = [type(self.backbone).__name__, type(self.head).__name__]
        if getattr(self.head, "touched", False):  # one class of heads, two methods
            method.append("touched")
        digest = sha256(repr((*method, self.input_side, self.close_up)).encode())
        for part in self.parts:
            for name, tensor in part.state_dict().items():
                digest.update(name.encode())
                digest.update(tensor.float().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:12]

    def _maps(self, photos: Tensor) -> Pyramid:
        features = self.backbone(photos)
        return features if self.adapter is None else self.adapter.forward(features)


def pair_bytes(query: Pyramid, support: Pyramid) -> int:
    """What a head takes for one pair, roughly: some copies of the largest correlation that its levels have."""
    sizes = [len(q) * q[0].shape[-2:].numel() * s[0].shape[-2:].numel() for q, s in zip(query, support, strict=True)]
    return 4 * COPIES * max(sizes)
