"""ASNet with one part taken out at a time (table 5). Each is trained by itself."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.correlation import Pyramid
from fscs_sdk.model.squeeze import AttentiveSqueeze, KeyMasks, attend, visible_keys

#: Smallest side of a local window: with the mixing layers' kernel of 1, a target would see nothing but itself.
SMALLEST_WINDOW = 3


class UnmaskedASNet(ASNet):
    """Table 5b, "w/o masked attention": eq. 11 without its mask, so that a support counts with its background."""

    def forward(self, query: Pyramid, support: Pyramid, support_mask: Tensor | KeyMasks | None) -> Tensor:
        """As :meth:`ASNet.forward`, for any mask what that gives for None."""
        return super().forward(query, support, None)


class UnfusedASNet(ASNet):
    """Table 5c, "w/o multi-layer fusion": levels are averaged over the support positions and added.

    The paper's words; that every level goes straight to level 2's grid, bilinearly, is ours.
    """

    def __init__(self, maps: tuple[int, int, int]) -> None:
        super().__init__(maps)
        del self.mix43, self.mix32

    def squeeze(
        self,
        correlations: Iterable[Tensor],
        query_sizes: Sequence[tuple[int, int]],
        support_mask: Tensor | KeyMasks | None,
    ) -> Tensor:
        """As :meth:`ASNet.squeeze`."""
        planes = []
        branches = (self.level4, self.level3, self.level2)
        for branch, correlation, size in zip(branches, correlations, query_sizes, strict=False):
            plane = branch(correlation, support_mask).mean(dim=(2, 3)).view(len(correlation), -1, *size)
            planes.append(F.interpolate(plane, query_sizes[-1], mode="bilinear", align_corners=True))
        return self._decode(torch.stack(planes).sum(dim=0))


class LocalASNet(ASNet):
    """Table 5a, "global -> local": every target attends to the keys around its own place (stand-alone self-attention).

    The paper does not give the window. Here it is the layer's own kernel, and 3x3 where that is smaller; embeddings and
    parameters stay those of ASNet, with no relative positions added, so that only the reach of attention differs.
    """

    def __init__(self, maps: tuple[int, int, int]) -> None:
        super().__init__(maps)
        for branch in (self.level4, self.level3, self.level2, self.mix43, self.mix32):
            for index, layer in enumerate(branch):
                branch[index] = _local(layer)


class LocalSqueeze(AttentiveSqueeze):
    """An attentive squeeze layer whose targets see a window of keys."""

    def forward(self, correlation: Tensor, support_mask: Tensor | KeyMasks | None) -> Tensor:
        """As :meth:`AttentiveSqueeze.forward`, of masks."""
        if isinstance(support_mask, dict):
            raise TypeError("a local layer takes masks, not the keys that see foreground")
        target, key, value = self.target(correlation), self.key(correlation), self.value(correlation)
        shortcut = correlation if self.shortcut is None else self.shortcut(correlation)
        step, reach = self.target.stride // self.key.stride, max(self.target.kernel, SMALLEST_WINDOW) // 2
        context = attend_locally(target, key, value, support_mask, step=step, reach=reach)
        attended = self.aggregate(F.relu(self.aggregate_norm(context)))
        attended = self.attention_norm(attended + shortcut)
        out: Tensor = self.output_norm(attended + self.feed_forward_out(self.feed_forward(attended)))
        return out


def attend_locally(
    target: Tensor, key: Tensor, value: Tensor, support_mask: Tensor | None, *, step: int, reach: int
) -> Tensor:
    """Masked attention of the target at (i, j) to keys at most ``reach`` rows and columns from (step * i, step * j).

    Args:
        target: (P, C, h', w', Q).
        key, value: (P, C, h, w, Q).
        support_mask: float (P, mask height, mask width); None = no masking. Where a window sees no foreground,
            attention is uniform over the window.

    Returns:
        (P, C, h', w', Q).
    """
    visible = None if support_mask is None else visible_keys(support_mask, *key.shape[2:4]).view(-1, *key.shape[2:4])
    contexts = []
    for row in range(target.shape[2]):
        rows = slice(max(0, step * row - reach), step * row + reach + 1)
        for column in range(target.shape[3]):
            columns = slice(max(0, step * column - reach), step * column + reach + 1)
            near_key, near_value = (x[:, :, rows, columns].flatten(2, 3) for x in (key, value))
            near_visible = None if visible is None else visible[:, rows, columns].flatten(1)
            contexts.append(attend(target[:, :, row, column, None], near_key, near_value, near_visible))
    return torch.cat(contexts, dim=2).view(target.shape)


def _local(layer: nn.Module) -> LocalSqueeze:
    """A new local layer with the sizes of an attentive squeeze layer."""
    if not isinstance(layer, AttentiveSqueeze):
        raise TypeError(f"only an attentive squeeze layer can be made local, not {type(layer).__name__}")
    hidden, in_channels = layer.target.weight.shape[:2]
    kernel, stride = layer.target.kernel, layer.target.stride
    return LocalSqueeze(in_channels, 2 * hidden, kernel, stride, pool_key_value=layer.key.kernel == kernel)
