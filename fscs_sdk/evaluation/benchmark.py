"""VOC-animals: a model, and the training-free baselines on its backbone, over the episodes of one fold.

The data folder holds ``images/<id>.jpg``, ``masks/<id>.png`` (class ids, 255 = unknown), ``classes.json`` and
``splits/{val,trn}/fold<k>.txt``. Of a list only the classes with at least eight photos are used.
"""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fscs_sdk.evaluation.baselines import SIMILARITIES, TrainingFree, similarity_map
from fscs_sdk.evaluation.episodes import Episode, EpisodeSampler, is_held_out, read_split, well_filled
from fscs_sdk.evaluation.metrics import Interval, Metrics, Summary
from fscs_sdk.images import read_image
from fscs_sdk.model.ifsl import Inference
from fscs_sdk.segmenter import EncodedQuery, FewShotSegmenter
from fscs_sdk.supports import Shot, SupportSet

Split = Literal["val", "held-out"]
UNKNOWN = 255
#: One photo in this many of a trn list is kept from training by ``TrainConfig.held_out``.
HELD_OUT = 20
#: Held-out episodes on which a baseline's threshold is chosen, and the thresholds tried.
CALIBRATION_EPISODES = 200
THRESHOLDS = tuple(np.round(np.arange(0.1, 0.96, 0.025), 3).tolist())


@dataclass(frozen=True)
class Setting:
    """N, K, how many episodes, and the photos that they are drawn from."""

    ways: int = 1
    shots: int = 1
    episodes: int = 1000
    split: Split = "val"


@dataclass(frozen=True)
class Result:
    """One method on one fold, with the classes' names."""

    fold: int
    method: str
    summary: Summary
    interval: Interval
    classes: dict[int, str]

    def cells(self) -> tuple[str, ...]:
        """Texts for one row: fold, method, ER, accuracy, mIoU, FB-IoU, IoU by class."""
        s, low_high = self.summary, self.interval
        by_class = ", ".join(f"{self.classes[number]} {iou:.1f}" for number, iou in s.class_iou.items())
        return (
            str(self.fold),
            self.method,
            f"{s.exact_ratio:.1f} ({low_high.exact_ratio[0]:.1f}-{low_high.exact_ratio[1]:.1f})",
            f"{s.accuracy:.1f}",
            f"{s.mean_iou:.1f} ({low_high.mean_iou[0]:.1f}-{low_high.mean_iou[1]:.1f})",
            f"{s.foreground_background_iou:.1f}",
            by_class,
        )

    def to_dict(self) -> dict[str, object]:
        by_class = {self.classes[number]: iou for number, iou in self.summary.class_iou.items()}
        return {
            "fold": self.fold,
            "method": self.method,
            **dataclasses.asdict(self.summary),
            "class_iou": by_class,
            "interval_95": dataclasses.asdict(self.interval),
        }


class Photos:
    """A data folder's photos and label maps, each photo encoded once."""

    def __init__(self, segmenter: FewShotSegmenter, folder: Path) -> None:
        self.segmenter, self.folder = segmenter, folder
        self.query = lru_cache(maxsize=256)(self._query)
        self.shot = lru_cache(maxsize=512)(self._shot)
        self.labels = lru_cache(maxsize=256)(self._labels)

    def supports(self, episode: Episode) -> SupportSet:
        """The encoded supports of an episode."""
        shots = [[self.shot(p, c) for p in photos] for c, photos in zip(episode.classes, episode.supports, strict=True)]
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

    def _query(self, photo: str) -> EncodedQuery:
        return self.segmenter.encode_query(self._image(photo))

    def _shot(self, photo: str, number: int) -> SupportSet:
        return self.segmenter.encode({"shot": Shot(self._image(photo), self.labels(photo) == number)})

    def _image(self, photo: str) -> NDArray[np.uint8]:
        return read_image(self.folder / "images" / f"{photo}.jpg")

    def _labels(self, photo: str) -> NDArray[np.uint8]:
        with Image.open(self.folder / "masks" / f"{photo}.png") as mask:
            return np.asarray(mask)


def evaluate_fold(
    segmenter: FewShotSegmenter,
    folder: Path,
    fold: int,
    setting: Setting,
    *,
    baselines: bool,
    advance: Callable[[], object] = lambda: None,
) -> list[Result]:
    """Run all episodes of a fold; the model's result first, then the baselines'.

    A baseline's threshold is the one with the best 1-way 1-shot mIoU on held-out photos of the fold's trn list.

    Raises:
        ValueError: a list is malformed or too small. OSError: a list or photo cannot be read.
    """
    photos = Photos(segmenter, folder)
    if not (folder / "classes.json").is_file():
        raise FileNotFoundError(f"'{folder}' has no classes.json: give a folder with images, masks, splits and it")
    names = {int(number): name for number, name in json.loads((folder / "classes.json").read_text()).items()}
    segmenters = {"ASNet": segmenter}
    if baselines:
        for name, similarity in SIMILARITIES.items():
            head = TrainingFree(similarity, _calibrate(similarity, photos, fold))
            segmenters[name] = _with_head(segmenter, head)
    sampler = EpisodeSampler(_pairs(folder, fold, setting.split), ways=setting.ways, shots=setting.shots)
    metrics = {name: Metrics() for name in segmenters}
    for index in range(setting.episodes):
        episode = sampler.episode(index)
        query, supports = photos.query(episode.query), photos.supports(episode)
        target, presence = _target(photos.labels(episode.query), episode.classes, segmenter.protocol)
        for name, method in segmenters.items():
            _update(metrics[name], episode.classes, method.infer(query, supports), target, presence)
        advance()
    return [Result(fold, name, m.summary(), m.interval(), names) for name, m in metrics.items()]


def _pairs(folder: Path, fold: int, split: Split) -> list[tuple[str, int]]:
    """A fold's list, classes with fewer than eight photos left out."""
    if split == "val":
        return well_filled(read_split(folder / "splits" / "val" / f"fold{fold}.txt"))
    validation = {p for path in sorted((folder / "splits" / "val").glob("*.txt")) for p, _ in read_split(path)}
    listed = read_split(folder / "splits" / "trn" / f"fold{fold}.txt")
    return well_filled([(p, c) for p, c in listed if is_held_out(p, HELD_OUT) and p not in validation])


def _with_head(segmenter: FewShotSegmenter, head: TrainingFree) -> FewShotSegmenter:
    network = dataclasses.replace(segmenter.network, head=head)
    return FewShotSegmenter(network, name="baseline", device=segmenter.device, protocol=segmenter.protocol)


def _calibrate(similarity: Callable[[Tensor, Tensor, Tensor], Tensor], photos: Photos, fold: int) -> float:
    sampler = EpisodeSampler(_pairs(photos.folder, fold, "held-out"), ways=1, shots=1)
    metrics = {threshold: Metrics() for threshold in THRESHOLDS}
    for index in range(CALIBRATION_EPISODES):
        episode = sampler.episode(index)
        query, supports = photos.query(episode.query), photos.supports(episode)
        target, presence = _target(photos.labels(episode.query), episode.classes, "paper")
        features = [[feature.to(photos.segmenter.device) for feature in level] for level in supports.features]
        mask = supports.masks.float().to(photos.segmenter.device)
        found = similarity_map(similarity, query.pyramid, features, mask)[:, None]
        found = torch.nn.functional.interpolate(found, query.size, mode="bilinear", align_corners=True)[0, 0]
        plane = found.cpu().numpy()
        for threshold, metric in metrics.items():
            mask_at = (plane >= threshold).astype(np.int64)
            metric.update(
                episode.classes,
                predicted_presence=[bool(mask_at.any())],
                target_presence=presence,
                predicted_mask=mask_at,
                target_mask=target,
            )
    best: float = max(THRESHOLDS, key=lambda threshold: metrics[threshold].summary().mean_iou)
    return best


def _target(
    labels: NDArray[np.uint8], classes: Sequence[int], protocol: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Class ids -> episodic mask 0..N (255 unknown; ``authors``: background) and presence (N,)."""
    target = np.zeros(labels.shape, np.uint8)
    for position, number in enumerate(classes, start=1):
        target[labels == number] = position
    presence = np.array([bool((target == position).any()) for position in range(1, len(classes) + 1)])
    if protocol == "paper":
        target[labels == UNKNOWN] = UNKNOWN
    return target, presence


def _update(
    metrics: Metrics,
    classes: Sequence[int],
    answer: Inference,
    target: NDArray[np.uint8],
    presence: NDArray[np.bool_],
) -> None:
    metrics.update(
        classes,
        predicted_presence=answer.present.cpu().numpy(),
        target_presence=presence,
        predicted_mask=answer.mask.cpu().numpy(),
        target_mask=target,
    )
