"""The adapter's own training: cells of one class closer to each other, across photos, than to anything else.

Features are computed once for all photos; then each map's affine is trained by itself on cells drawn from them.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import LARGEST_SUPPORT_SIDE, pool
from fscs_sdk.training.data import Catalogue, Sample

logger = logging.getLogger(__name__)

#: Sources whose parts lie on objects of other classes that they do not name (hair on a person): no clear negatives.
UNCLEAR = {"clothing", "atwork"}
#: A cell belongs to what covers at least this share of it.
PURITY = 0.6
CLASSES, CELLS, BACKGROUND = 40, 8, 300
TEMPERATURE = 0.1
#: Pull towards the identity.
DECAY = 1e-3
VIEWS_AT_ONCE = 16


@dataclass(frozen=True)
class Cells:
    """Feature vectors of one map in half precision (cells, C), and their owners by class: indices into them.

    ``photo`` (cells,) tells apart the photos. ``background`` indexes cells that show no named class.
    """

    features: Tensor
    photo: Tensor
    by_class: tuple[Tensor, ...]
    background: Tensor


def train_adapter(backbone: Backbone, catalogue: Catalogue, *, steps: int, seed: int = 0) -> Adapter:
    """Train all affines; ``steps`` each."""
    maps, owners, photos = _features(backbone, catalogue, seed)
    adapter = Adapter([[feature.shape[1] for feature in level] for level in maps])
    features = [feature for level in maps for feature in level]
    maps.clear()
    for number, affine in enumerate(adapter.affines):
        cells = _cells(features.pop(0), owners, photos)  # each map leaves memory when it is done
        loss = train_affine(affine, cells, steps, seed)  # type: ignore[arg-type]
        logger.info("map %d of %d: contrastive loss %.3f", number + 1, len(adapter.affines), loss)
    return adapter


def contrastive_loss(vectors: Tensor, classes: Tensor, photos: Tensor, background: Tensor) -> Tensor:
    """Supervised contrastive loss: each positive pair against all negatives of its first member.

    Args:
        vectors: (M, C) normalised cells; ``classes``, ``photos`` (M,) their owners. Cells of one class and photo are
            no pair, they are alike anyway.
        background: (B, C) normalised cells that are negatives only.

    Returns:
        The mean over positive pairs of -log(exp(s_ij / t) / (exp(s_ij / t) + sum over negatives of exp(s_ik / t))).
    """
    similarity = vectors @ vectors.T / TEMPERATURE
    same = classes[:, None] == classes
    negatives = torch.cat([similarity.masked_fill(same, -torch.inf), vectors @ background.T / TEMPERATURE], dim=1)
    against = negatives.logsumexp(dim=1, keepdim=True)
    loss = torch.logaddexp(similarity, against) - similarity
    return loss[same & (photos[:, None] != photos)].mean()


def train_affine(affine: nn.Conv2d, cells: Cells, steps: int, seed: int) -> float:
    """Minimise the contrastive loss from the re-centred identity on; one-cycle learning rate."""
    torch.manual_seed(seed)
    weight = affine.weight.detach()[:, :, 0, 0].clone().requires_grad_()
    mean = cells.features[torch.randperm(len(cells.features))[:100_000]].float().mean(dim=0)
    bias = (-mean).requires_grad_()
    start = weight.detach().clone()
    optimizer = torch.optim.Adam([weight, bias])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    frequency = torch.tensor([len(c) for c in cells.by_class]).sqrt()
    total = 0.0
    for step in range(steps):
        drawn = torch.multinomial(frequency, CLASSES, replacement=True).unique()  # type: ignore[no-untyped-call]
        index = torch.cat([_draw(cells.by_class[c], CELLS) for c in drawn.tolist()])
        negative = _draw(cells.background, BACKGROUND)
        rows = F.normalize(cells.features[torch.cat([index, negative])].float() @ weight.T + bias, dim=1)
        owners = torch.repeat_interleave(drawn, CELLS)
        loss = contrastive_loss(rows[: len(index)], owners, cells.photo[index], rows[len(index) :])
        optimizer.zero_grad()
        (loss + DECAY * (weight - start).square().sum()).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
        total += float(loss.detach()) if step >= steps - 100 else 0.0
    with torch.no_grad():
        affine.weight.copy_(weight[:, :, None, None])
        affine.bias.copy_(bias)  # type: ignore[union-attr]
    return total / 100


def _draw(items: Tensor, count: int) -> Tensor:
    return items[torch.randint(len(items), (count,))]


@torch.no_grad()
def _features(
    backbone: Backbone, catalogue: Catalogue, seed: int
) -> tuple[list[list[Tensor]], dict[int, Tensor], Tensor]:
    """Every photo as it is and once augmented: maps in half precision, cell labels by map side, photo numbers."""
    maps: list[list[list[Tensor]]] = [[[] for _ in level] for level in backbone.spec.levels]
    labels: dict[int, list[Tensor]] = {}
    numbers: list[int] = []
    for views in _views(catalogue, seed):
        images = torch.from_numpy(np.stack([sample.image for _, sample in views])).permute(0, 3, 1, 2)
        seen = torch.from_numpy(np.stack([sample.labels for _, sample in views]))
        sides = set()
        for parts, level in zip(maps, backbone(images), strict=True):
            for part, feature in zip(parts, level, strict=True):
                part.append(pool(feature, LARGEST_SUPPORT_SIDE).half())
                sides.add(part[-1].shape[-1])
        for side in sides:
            labels.setdefault(side, []).append(cell_labels(seen, side))
        numbers += [number for number, _ in views]
    joined = [[torch.cat(part) for part in parts] for parts in maps]
    return joined, {side: torch.cat(found) for side, found in labels.items()}, torch.tensor(numbers)


def _views(catalogue: Catalogue, seed: int) -> Iterator[list[tuple[int, Sample]]]:
    """(photo number, view) of all photos, some at a time."""
    photos = [photo for name, listed in catalogue.photos.items() if name not in UNCLEAR for photo in listed]
    jobs = [(number, augmented) for number in range(len(photos)) for augmented in (False, True)]

    def view(number: int, augmented: bool) -> tuple[int, Sample]:
        rng = np.random.default_rng((seed, number)) if augmented else None
        return number, catalogue.view(photos[number], rng)

    with ThreadPoolExecutor() as threads:
        for start in range(0, len(jobs), VIEWS_AT_ONCE):
            yield list(threads.map(view, *zip(*jobs[start : start + VIEWS_AT_ONCE], strict=True)))


def _cells(feature: Tensor, labels: dict[int, Tensor], photos: Tensor) -> Cells:
    _, channels, height, width = feature.shape
    owners = labels[height].reshape(-1)
    found = owners[owners > 0].unique().tolist()  # type: ignore[no-untyped-call]
    photo = photos.repeat_interleave(height * width)
    by_class = [torch.nonzero(owners == number)[:, 0] for number in found]
    return Cells(
        features=feature.permute(0, 2, 3, 1).reshape(-1, channels).contiguous(),
        photo=photo,
        by_class=tuple(cells for cells in by_class if bool((photo[cells] != photo[cells][0]).any())),
        background=torch.nonzero(owners == 0)[:, 0],
    )


def cell_labels(labels: Tensor, side: int) -> Tensor:
    """Class numbers (B, H, W), 0 = background, -1 = unknown -> (B, side, side): what covers most of a cell, or -1.

    Where cells are no whole number of pixels, labels are brought to the next size of which they are.
    """
    pixels = -(-labels.shape[-1] // side)
    whole = F.interpolate(labels[:, None].float(), (side * pixels, side * pixels), mode="nearest-exact")
    patches = F.unfold(whole, pixels, stride=pixels)
    most = patches.mode(dim=1).values
    share = (patches == most[:, None]).float().mean(dim=1)
    most[share < PURITY] = -1
    return most.short().view(-1, side, side)
