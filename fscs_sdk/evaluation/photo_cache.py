"""Episodes as the model takes them: every photo of a data set is encoded once and kept while there is room."""

import dataclasses
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fscs_sdk.evaluation.datasets import Dataset
from fscs_sdk.evaluation.episodes import Episode
from fscs_sdk.examination import Photos, examine
from fscs_sdk.images import fullest_tile, resize_image, resize_mask
from fscs_sdk.model.tiles import SCALES, SHARE, Scale, ScaleChoice
from fscs_sdk.segmenter import EncodedQuery, FewShotSegmenter
from fscs_sdk.supports import Shot, SupportSet


class EncodedPhotos:
    """A data set's photos through one backbone."""

    def __init__(self, segmenter: FewShotSegmenter, dataset: Dataset, *, weak: bool = False) -> None:
        """Prepare; nothing is read.

        Args:
            weak: supports are class tags, their masks are withheld.
        """
        self.segmenter, self.dataset, self.weak = segmenter, dataset, weak
        self.query = lru_cache(maxsize=256)(self._query)
        self.query_in_tiles = lru_cache(maxsize=64)(self._query_in_tiles)
        self.shot = lru_cache(maxsize=512)(self._shot)
        self.shot_in_tile = lru_cache(maxsize=512)(self._shot_in_tile)
        self.labels = lru_cache(maxsize=256)(dataset.labels)
        self.small = lru_cache(maxsize=512)(self._small)
        self.small_mask = lru_cache(maxsize=512)(self._small_mask)

    def serves(self, other: FewShotSegmenter) -> bool:
        """Whether another model's photos would be encoded just the same, so that these can be used for it."""
        network, another = self.segmenter.network, other.network
        return (
            network.backbone.name == another.backbone.name
            and (network.input_side, network.close_up) == (another.input_side, another.close_up)
            and self.segmenter.dtype == other.dtype
            and _equal(network.backbone, another.backbone)
            and _equal(network.adapter, another.adapter)
        )

    def query_of(self, photo: str, supports: SupportSet) -> EncodedQuery:
        """A photo as these supports need it."""
        return self.query_in_tiles(photo) if supports.in_tiles else self.query(photo)

    def supports(self, episode: Episode, scale: Scale = "whole") -> SupportSet:
        """The encoded supports of an episode, for queries at that scale; class n is named by its id."""
        shot = self.shot if scale == "whole" else self.shot_in_tile
        shots = [[shot(p, c) for p in photos] for c, photos in zip(episode.classes, episode.supports, strict=True)]
        flat = [shot for class_shots in shots for shot in class_shots]
        return dataclasses.replace(
            flat[0],
            names=tuple(str(number) for number in episode.classes),
            class_index=torch.repeat_interleave(torch.arange(len(shots)), torch.tensor([len(s) for s in shots])),
            features=tuple(
                tuple(torch.cat(maps) for maps in zip(*(shot.features[level] for shot in flat), strict=True))
                for level in range(len(flat[0].features))
            ),
            masks=torch.cat([shot.masks for shot in flat]),
            tagged=torch.cat([shot.tagged for shot in flat]),
            thresholds=flat[0].thresholds.repeat(len(shots)),
        )

    def calibrated(
        self,
        segmenter: FewShotSegmenter,
        episode: Episode,
        negatives: Sequence[str],
        scale: ScaleChoice = "auto",
    ) -> SupportSet:
        """The same, calibrated by a model on their photos and on some that show none of the classes."""
        at_scale = {one: self.supports(episode, one) for one in (SCALES if scale != "whole" else SCALES[:1])}
        supports = at_scale["whole"]
        asked = [(p, c) for c, photos in zip(episode.classes, episode.supports, strict=True) for p in photos]
        names = [*(photo for photo, _ in asked), *negatives]
        masks = [self.small_mask(photo, number) for photo, number in asked]
        photos = Photos(
            names=supports.names,
            class_index=supports.class_index.numpy(),
            tagged=supports.tagged.numpy(),
            masks=np.stack([np.ones_like(mask) if self.weak else mask for mask in masks]),
            marked=np.array([1.0 if self.weak else (self.labels(p) == number).mean() for p, number in asked]),
            pixels=np.stack([self.small(photo) for photo in names]),
            features=(supports.features[0], supports.features[1]),
            close_masks=supports.masks.numpy(),
        )

        def ask(photo: int, shots: Sequence[int], scale: Scale) -> Tensor:
            query = self.query(names[photo]) if scale == "whole" else self.query_in_tiles(names[photo])
            return segmenter.ask(query, at_scale[scale], shots, scale)

        examination, found = examine(photos, ask, delta=segmenter.network.threshold, scales=[scale] * len(supports))
        return dataclasses.replace(
            supports.at_scales(found.scales, at_scale["tiles"]) if "tiles" in found.scales else supports,
            thresholds=found.thresholds,
            calibration=found.calibration,
            examination=examination,
        )

    def _small(self, photo: str) -> NDArray[np.uint8]:
        return resize_image(self._image(photo), self.segmenter.network.input_side)

    def _small_mask(self, photo: str, number: int) -> NDArray[np.bool_]:
        return resize_mask(self.labels(photo) == number, self.segmenter.network.input_side)

    def _query(self, photo: str) -> EncodedQuery:
        return self.segmenter.encode_query(self._image(photo))

    def _query_in_tiles(self, photo: str) -> EncodedQuery:
        return self.segmenter.encode_query(self._image(photo), tiles=True)

    def _shot(self, photo: str, number: int) -> SupportSet:
        image = self._image(photo)
        return self.segmenter.encode({"shot": Shot(image, None if self.weak else self.labels(photo) == number)})

    def _shot_in_tile(self, photo: str, number: int) -> SupportSet:
        image = self._image(photo)
        if self.weak:
            return self.shot(photo, number)
        return self.segmenter.encode({"shot": Shot(*fullest_tile(image, self.labels(photo) == number, SHARE))})

    def _image(self, photo: str) -> NDArray[np.uint8]:
        image, labels = self.dataset.image(photo), self.labels(photo)
        if image.shape[:2] != labels.shape:
            raise ValueError(
                f"the photo {photo!r} has {image.shape[0]} rows and {image.shape[1]} columns and its mask "
                f"{labels.shape[0]} and {labels.shape[1]}; a mask must be as large as its photo"
            )
        return image


def _equal(ours: nn.Module | None, theirs: nn.Module | None) -> bool:
    """Whether two modules of one kind have the same weights."""
    if ours is None or theirs is None:
        return ours is theirs
    tensors = theirs.state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in ours.state_dict().items())
