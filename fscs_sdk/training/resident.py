"""All photos on the device, and batches that are cut, coloured and paired there.

Ten thousand photos of 384 x 384 pixels are 6 GB with their masks: no disk, decoder or copy stands between a GPU and
its next step. The processor draws which photos meet (:meth:`ResidentCatalogue.batch`); where they are cut is decided
on the device too, because only there are the masks. The same step has the same pairs, and, on one kind of device, the
same pixels.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fscs_sdk.training.augmentation import SMALLEST_CROP
from fscs_sdk.training.corpus import LabelledPhoto
from fscs_sdk.training.data import UNLABELLED, Catalogue
from fscs_sdk.training.loader import BatchTensors

#: Share of the views that show the whole photo, as most queries are at inference.
WHOLE_SHARE = 0.35
#: Share of the supports that are cropped around small objects where inference would.
CLOSE_UP_SHARE = 0.9
#: Boxes that are tried for a crop, as in ``augmentation.crop_box``.
TRIES = 8
#: Share of the views without colour.
GREY_SHARE = 0.08
#: A close-up's side in units of the object's, as :func:`fscs_sdk.images.close_up` has it.
CONTEXT = 2.0


@dataclass(frozen=True)
class ResidentPhotos:
    """M photos of any shape, each as a square.

    Attributes:
        images: uint8 (M, 3, side, side).
        masks: uint8 (M, side, side), the values of the files.
        tables: int32 (M, 256), a value's class index; 0 = none, UNKNOWN = nobody knows.
        shapes: float32 (M, 2), height and width of the file.
    """

    images: Tensor
    masks: Tensor
    tables: Tensor
    shapes: Tensor

    def labels(self, index: Tensor, step: int = 1) -> Tensor:
        """Class indices of some photos, int32 (V, side / step, side / step): every ``step``-th row and column."""
        values = self.masks[index][:, ::step, ::step]
        return self.tables[index].gather(1, values.flatten(1).long()).view(values.shape)


def load_photos(
    photos: Sequence[LabelledPhoto], tables: Sequence[NDArray[np.int32]], side: int, device: torch.device
) -> ResidentPhotos:
    """Decode photos that have masks, on all processors, and put them on the device."""
    images = torch.empty(len(photos), 3, side, side, dtype=torch.uint8, device=device)
    masks = torch.empty(len(photos), side, side, dtype=torch.uint8, device=device)
    shapes = torch.empty(len(photos), 2)

    def load(number: int) -> None:
        image, mask = photos[number].open()
        if mask is None:
            raise ValueError(f"'{photos[number].image}' has no mask, which photos on the device must have")
        square = np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))
        images[number] = torch.from_numpy(square.copy()).permute(2, 0, 1).to(device)
        masks[number] = torch.from_numpy(np.array(mask.resize((side, side), Image.Resampling.NEAREST))).to(device)
        shapes[number] = torch.tensor([image.height, image.width])

    Image.init()  # Pillow's first look for a format must not happen in several threads at once
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(load, range(len(photos))))
    return ResidentPhotos(images, masks, torch.from_numpy(np.stack(tables)).to(device), shapes.to(device))


class ResidentCatalogue:
    """Batches of several groups of classes, each group as the batches of :class:`~.data.Catalogue` are.

    A photo that is drawn has two views: one as a support, cropped around a small object as it is at inference, and one
    as a query.
    """

    def __init__(self, catalogue: Catalogue, device: torch.device) -> None:
        """Load all photos.

        Raises:
            ValueError: a photo has no mask.
            OSError: a photo cannot be read.
        """
        self.catalogue, self.config, self.device = catalogue, catalogue.config, device
        photos = [photo for listed in catalogue.photos.values() for photo in listed]
        self._number = {photo.image: number for number, photo in enumerate(photos)}
        self.photos = load_photos(photos, [catalogue.table(p) for p in photos], self.config.resident_side, device)

    def batch(self, step: int) -> BatchTensors:
        """Photos of a few classes with their pairs; the same for the same step. Nothing waits for the device."""
        rng = np.random.default_rng((self.config.seed, step, 3))
        shots = self.config.photos_per_class - 1 if rng.random() < self.config.several_share else 1
        drawn = _Drawn()
        for _ in range(self.config.groups):
            self._draw_group(drawn, self.config.pairs // shots, shots, rng)
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        images, labels = self._views(drawn, generator)
        queries, supports, classes = (self._tensor(x) for x in (drawn.queries, drawn.supports, drawn.classes))
        masked = self._tensor(rng.random(len(drawn.queries)) >= self.config.withheld_share)
        return BatchTensors(
            photos=images,
            labels=labels,
            queries=queries,
            supports=supports,
            classes=classes,
            strong=torch.ones_like(masked),
            masked=masked,
            present=(labels[queries] == classes[:, None, None]).flatten(1).any(dim=1),
        )

    def _draw_group(self, drawn: "_Drawn", pairs: int, shots: int, rng: np.random.Generator) -> None:
        """Add a group's photos, and its pairs; a photo's views get their numbers in :meth:`_views`."""
        first, owners, sources = len(drawn.photos), [], []
        for source, name in self.catalogue.draw_classes(rng):
            photos, count = self.catalogue.by_class[source][name], self.config.photos_per_class
            for index in rng.choice(len(photos), count, replace=len(photos) < count):
                drawn.photos.append(self._number[photos[index].image])
                drawn.owners.append(self.catalogue.class_index[name])
                owners.append(name)
                sources.append(source)
        mosaics = [-1 - len(drawn.mosaics) - number for number in range(self.config.mosaics)]
        drawn.mosaics += [first + rng.choice(len(owners), 4, replace=False) for _ in mosaics]
        for number in range(pairs):
            support = number if number < len(owners) else int(rng.integers(len(owners)))
            alike = [i for i, owner in enumerate(owners) if owner == owners[support] and i != support]
            others = [
                i
                for i, owner in enumerate(owners)
                if owner != owners[support] and owners[support] not in UNLABELLED.get(sources[i], ())
            ]
            absent = others and rng.random() < self.config.negative_share
            query = int(rng.choice(others if absent else alike))
            further = [i for i in alike if i != query][: shots - 1]
            more = [support] * (shots - 1 - len(further))
            drawn.queries.append(mosaics.pop() if mosaics else first + query)
            drawn.supports.append([first + i for i in (support, *further, *more)])
            drawn.classes.append(self.catalogue.class_index[owners[support]])

    def _views(self, drawn: "_Drawn", generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """All views of a batch: as supports, as queries, and mosaics; ``drawn.queries`` then index these."""
        index, owners = self._tensor(drawn.photos), self._tensor(drawn.owners)
        wanted = self.photos.labels(index, step=2) == owners[:, None, None]
        draw = _Dice(generator, self.device)
        close, small = close_ups(wanted, self.photos.shapes[index], self.config.close_up, draw)
        near = small & (draw(len(index)) < CLOSE_UP_SHARE)
        as_support, as_query = (random_boxes(wanted, self.config.smallest_object, draw) for _ in range(2))
        boxes = torch.cat([torch.where(near[:, None], close, as_support), as_query])
        images, labels = cut(
            self.photos, torch.cat([index, index]), boxes, self.config.side, flip=draw(len(boxes)) < 0.5
        )
        count = len(drawn.photos)
        if drawn.mosaics:
            parts = self._tensor(np.stack(drawn.mosaics)) + count
            joined, joined_labels = join_mosaics(images, labels, parts, draw)
            images, labels = torch.cat([images, joined]), torch.cat([labels, joined_labels])
        drawn.queries = [count + query if query >= 0 else 2 * count - 1 - query for query in drawn.queries]
        return colour(images, draw), labels

    def _tensor(self, values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values)).to(self.device, non_blocking=True)


class _Drawn:
    """What a batch is made of: photos with the class that each was drawn for, and pairs of them.

    ``mosaics`` are fours of photos; a query below 0 is mosaic ``-1 - query``.
    """

    def __init__(self) -> None:
        self.photos: list[int] = []
        self.owners: list[int] = []
        self.mosaics: list[NDArray[np.int64]] = []
        self.queries: list[int] = []
        self.supports: list[list[int]] = []
        self.classes: list[int] = []


@dataclass(frozen=True)
class _Dice:
    """Random numbers on the device."""

    generator: torch.Generator
    device: torch.device

    def __call__(self, *shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=self.generator, device=self.device)


def random_boxes(wanted: Tensor, smallest: float, draw: _Dice) -> Tensor:
    """Boxes (V, 4) of views, as shares of the photo: top, left, bottom, right.

    Each of 30-100 % of the photo, keeping 40 % of the object and covered by ``smallest``; else, and in a share of the
    views by chance, the whole photo.

    Args:
        wanted: bool (V, h, w), where the object is.
    """
    count, height, width = wanted.shape
    area = draw(count, TRIES, low=SMALLEST_CROP)
    aspect = draw(count, TRIES, low=-0.35, high=0.35).exp()
    size = torch.stack([(area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)], dim=2)
    start = draw(count, TRIES, 2) * (1 - size)
    boxes = torch.cat([start, start + size], dim=2)
    sums = F.pad(wanted.float().cumsum(1).cumsum(2), (1, 0, 1, 0))  # of all that lies above and to the left
    ends = (boxes * boxes.new_tensor([height, width, height, width])).round().long()
    top, left, bottom, right = ends.unbind(2)
    flat, row = sums.flatten(1), width + 1
    inside = flat.gather(1, bottom * row + right) - flat.gather(1, top * row + right)
    inside = inside - flat.gather(1, bottom * row + left) + flat.gather(1, top * row + left)
    cells = (bottom - top) * (right - left)
    good = (inside >= 0.4 * flat[:, -1:]) & (inside >= smallest * cells)
    chosen = boxes[torch.arange(count, device=boxes.device), good.int().argmax(dim=1)]
    whole = ~good.any(dim=1) | (draw(count) < WHOLE_SHARE)
    return torch.where(whole[:, None], boxes.new_tensor([0.0, 0.0, 1.0, 1.0]), chosen)


def close_ups(wanted: Tensor, shapes: Tensor, below: float, draw: _Dice | None) -> tuple[Tensor, Tensor]:
    """The crops of :func:`fscs_sdk.images.close_up`: boxes (V, 4) as in :func:`random_boxes`, and whether they apply.

    Args:
        wanted: bool (V, h, w), where the object is.
        shapes: (V, 2), height and width of the photos in pixels, in which the crop is square.
        below: share of the photo's height and width.
        draw: moves and scales a crop a little; None = as inference does.
    """
    first, last = zip(*(_extent(wanted.any(dim=axis)) for axis in (2, 1)), strict=True)
    start, end = torch.stack(first, dim=1), torch.stack(last, dim=1)
    span = end - start
    context = CONTEXT if draw is None else draw(len(wanted), 1, low=0.8 * CONTEXT, high=1.3 * CONTEXT)
    side = (context * (span * shapes).amax(dim=1, keepdim=True) / shapes).clamp(max=1)
    middle = (start + end) / 2
    if draw is not None:
        middle = middle + draw(len(wanted), 2, low=-0.1, high=0.1) * side
    corner = torch.minimum((middle - side / 2).clamp(min=0), 1 - side)
    small = (span < below).all(dim=1) & (span > 0).all(dim=1)
    return torch.cat([corner, corner + side], dim=1), small


def _extent(seen: Tensor) -> tuple[Tensor, Tensor]:
    """Where the true values of (V, n) begin and end, as shares of n; 0 and 0 where there are none."""
    count = seen.shape[1]
    number = torch.arange(1, count + 1, device=seen.device)
    last = (seen * number).amax(dim=1)
    first = count - (seen * (count + 1 - number)).amax(dim=1)
    return torch.where(last > 0, first, 0) / count, last / count


def cut(
    photos: ResidentPhotos, index: Tensor, boxes: Tensor, side: int, *, flip: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Boxes of photos at another size: float32 (V, 3, side, side) from 0 to 255, and labels int32 (V, side, side).

    Every pixel is the mean of four bilinear samples, so that a photo that is made smaller is smoothed.
    """
    images = F.grid_sample(
        photos.images[index].float(), _grid(boxes, 2 * side, flip), padding_mode="border", align_corners=False
    )
    masks = F.grid_sample(
        photos.masks[index, None].float(), _grid(boxes, side, flip), mode="nearest", padding_mode="border",
        align_corners=False,
    )  # fmt: skip
    labels = photos.tables[index].gather(1, masks.flatten(1).long()).view(-1, side, side)
    return F.avg_pool2d(images, 2), labels


def _grid(boxes: Tensor, side: int, flip: Tensor | None) -> Tensor:
    """(V, side, side, 2), x and y from -1 to 1, of a box's pixel centres."""
    centres = (torch.arange(side, device=boxes.device) + 0.5) / side
    top, left, bottom, right = boxes[:, :, None].unbind(1)
    x, y = left + (right - left) * centres, top + (bottom - top) * centres
    if flip is not None:
        x = torch.where(flip[:, None], x.flip(1), x)
    shape = (len(boxes), side, side)
    return 2 * torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], dim=3) - 1


def join_mosaics(images: Tensor, labels: Tensor, parts: Tensor, draw: _Dice) -> tuple[Tensor, Tensor]:
    """Four views each, on a 2 x 2 grid that is cut at a random point.

    Args:
        images, labels: views (V, 3, side, side) and (V, side, side).
        parts: (M, 4), the views of each mosaic.
    """
    count, side = len(parts), images.shape[-1]
    centres = (torch.arange(side, device=images.device) + 0.5) / side
    edge = draw(count, 2, 1, low=0.35, high=0.65)
    second = centres >= edge  # (M, 2, side): of rows and of columns, whether they are in the second half
    place = torch.where(second, (centres - edge) / (1 - edge), centres / edge)
    shape = (count, side, side)
    grid = 2 * torch.stack([place[:, 1, None].expand(shape), place[:, 0, :, None].expand(shape)], dim=3) - 1
    number = 2 * second[:, 0, :, None].long() + second[:, 1, None].long()
    smooth, plain = F.avg_pool2d(images, 2), labels[:, None].float()
    joined, joined_labels = images.new_zeros(count, 3, side, side), plain.new_zeros(count, 1, side, side)
    for quarter, chosen in enumerate(parts.unbind(1)):
        here = (number == quarter)[:, None]
        pixels = F.grid_sample(smooth[chosen], grid, padding_mode="border", align_corners=False)
        values = F.grid_sample(plain[chosen], grid, mode="nearest", padding_mode="border", align_corners=False)
        joined, joined_labels = torch.where(here, pixels, joined), torch.where(here, values, joined_labels)
    return joined, joined_labels[:, 0].to(labels.dtype)


def colour(images: Tensor, draw: _Dice) -> Tensor:
    """Brightness, contrast and saturation, each by 0.7 to 1.3, and each channel by 0.9 to 1.1; some views in grey.

    Args:
        images: float32 (V, 3, side, side) from 0 to 255.

    Returns:
        uint8, of the same shape.
    """
    count = len(images)
    brightness, contrast, saturation = (draw(count, 1, 1, 1, low=0.7, high=1.3) for _ in range(3))
    saturation = torch.where(draw(count, 1, 1, 1) < GREY_SHARE, 0.0, saturation)
    images = images * brightness * draw(count, 3, 1, 1, low=0.9, high=1.1)
    grey = (images * images.new_tensor([0.299, 0.587, 0.114])[:, None, None]).sum(dim=1, keepdim=True)
    images = grey + saturation * (images - grey)
    mean = grey.mean(dim=(2, 3), keepdim=True)
    return (mean + contrast * (images - mean)).round().clamp(0, 255).to(torch.uint8)
