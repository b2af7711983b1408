"""Models, and the training-free baselines on the first one's backbone, over the episodes of a data set's folds."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.checkpoints.head import training_settings
from fscs_sdk.evaluation.answers import answers
from fscs_sdk.evaluation.datasets import Dataset
from fscs_sdk.evaluation.datasets.labels import UNKNOWN
from fscs_sdk.evaluation.episodes import Episode, EpisodeSampler, Task, is_held_out, well_filled
from fscs_sdk.evaluation.metrics import IGNORED, Counts, Metrics
from fscs_sdk.evaluation.photo_cache import EncodedPhotos
from fscs_sdk.evaluation.results import Result
from fscs_sdk.evaluation.tally import Journal, open_journal
from fscs_sdk.evaluation.training_free import SIMILARITIES, UNDECIDED, TrainingFree, similarity_map
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.segmenter import FewShotSegmenter

Split = Literal["val", "held-out"]
Pairs = list[tuple[str, int]]
#: One photo in this many of a trn list is kept from training where a head's file does not tell its own number.
HELD_OUT = 20
#: Held-out episodes on which a baseline's threshold is chosen, and the thresholds tried.
CALIBRATION_EPISODES = 200
THRESHOLDS = tuple(np.round(np.arange(0.1, 0.96, 0.025), 3).tolist())


@dataclass(frozen=True)
class Settings:
    """What is asked, and of which photos.

    Attributes:
        task: see :data:`~fscs_sdk.evaluation.episodes.Task`.
        ways: N.
        shots: K.
        episodes: how many of each fold.
        split: ``held-out``: photos of the trn lists that training left out, none of them on a val list.
        held_out: one photo in this many was left out (:func:`held_out_by`).
        weak: supports are class tags: their masks are withheld.
        thresholds: delta of eq. 2; for ``fs-cs`` every method is measured at each of them, () is its own.
        minimum_photos: classes with fewer photos in a list are not asked for.
        calibrate: measure every model also with its supports calibrated, beside the paper's rule.
        negatives: photos without any of the N classes that calibration is given, at most; fewer where the list has not
            so many.

    Raises:
        ValueError: settings that do not go together.
    """

    task: Task = "fs-cs"
    ways: int = 1
    shots: int = 1
    episodes: int = 1000
    split: Split = "val"
    held_out: int = HELD_OUT
    weak: bool = False
    thresholds: tuple[float, ...] = ()
    minimum_photos: int = 1
    calibrate: bool = False
    negatives: int = 0

    def __post_init__(self) -> None:
        if self.negatives and not self.calibrate:
            raise ValueError("negatives serve to calibrate; calibrate too, or leave them out")
        if self.task == "fs-c" and self.ways < 2:
            raise ValueError("fs-c asks which one of N classes is there, which needs ways=2 or more")
        if self.thresholds and self.task != "fs-cs":
            raise ValueError(f"{self.task} has no threshold; leave it out")
        different = set(self.thresholds)
        if len(different) < len(self.thresholds) or not all(0 <= threshold <= 1 for threshold in different):
            raise ValueError(f"thresholds {list(self.thresholds)} must be different numbers from 0 to 1")

    @property
    def deltas(self) -> tuple[float | None, ...]:
        """The thresholds of a method's rows; None is the method's own, or a task without."""
        return self.thresholds or (None,)

    def thresholds_of(self, segmenter: FewShotSegmenter) -> list[float]:
        """The thresholds that a method is measured at; none for a task without."""
        return (list(self.thresholds) or [segmenter.network.threshold]) if self.task == "fs-cs" else []


@dataclass(frozen=True)
class Method:
    """What is measured: a model, the photos that were encoded for it, and whether its supports are calibrated."""

    segmenter: FewShotSegmenter
    photos: EncodedPhotos
    calibrated: bool = False


def evaluate(
    segmenters: Mapping[str, FewShotSegmenter],
    dataset: Dataset,
    settings: Settings,
    *,
    folds: Sequence[int | None],
    baselines: bool,
    recorded: Mapping[str, Any],
    out: Path | None = None,
    advance: Callable[[int | None], object] = lambda fold: None,
) -> list[Result]:
    """Run all episodes of all folds; of each fold the models' results first, then the baselines'.

    A baseline's threshold is the one with the best 1-way 1-shot mIoU on held-out photos of the fold's trn list.

    Args:
        segmenters: by name, all of one protocol; a backbone that they share sees each photo once.
        folds: of the data set; (None,) if it has none.
        baselines: measure them too, on the backbone's own maps and on its adapter's; this needs trn lists.
        recorded: :func:`describe`.
        out: a folder to keep the counts in, from which the same call goes on.
        advance: called after each episode with its fold.

    Raises:
        ValueError: a list is malformed or too small, or ``out`` holds another evaluation.
        OSError: a list or photo cannot be read, or ``out`` cannot be written to.
    """
    encoded: list[EncodedPhotos] = []
    photos = {}
    for name, segmenter in segmenters.items():
        known = next((one for one in encoded if one.serves(segmenter)), None)
        if known is None:
            known = EncodedPhotos(segmenter, dataset, weak=settings.weak)
            encoded.append(known)
        photos[name] = known
    bases = _bases(encoded[0])
    results = []
    with open_journal(out, recorded) as journal:
        for fold in folds:
            methods = {}
            for name, segmenter in segmenters.items():
                methods[name] = Method(segmenter, photos[name])
                if settings.calibrate:
                    methods[f"{name}, calibrated"] = Method(segmenter, photos[name], calibrated=True)
            if baselines:
                methods |= _baselines(bases, fold, settings, journal)
            results += _evaluate_fold(methods, dataset, fold, settings, journal, advance)
    return results


def describe(
    segmenters: Mapping[str, FewShotSegmenter],
    dataset: Dataset,
    settings: Settings,
    *,
    benchmark: str,
    folds: Sequence[int | None],
    baselines: bool,
) -> dict[str, Any]:
    """All that the numbers depend on, ready for JSON: what a journal and a report record.

    ``lists`` are fingerprints of the folds' lists, so that another list is noticed.
    """
    first = next(iter(segmenters.values()))
    lists = ["\n".join(f"{photo} {number}" for photo, number in pairs_of(dataset, fold, settings)) for fold in folds]
    asked = dataclasses.asdict(settings)
    del asked["held_out"]  # the lists tell it, and runs that were begun without it go on
    return {
        "benchmark": benchmark,
        "folds": list(folds),
        "lists": [sha256(text.encode()).hexdigest()[:12] for text in lists],
        **asked,
        "thresholds": {name: settings.thresholds_of(segmenter) for name, segmenter in segmenters.items()},
        "models": {name: segmenter.identity for name, segmenter in segmenters.items()},
        "baselines": baselines,
        "protocol": first.protocol,
        "device": first.device.type,
        "dtype": _dtype(first),
        **({"edges": True} if first.edges else {}),  # runs that were begun before there was a choice go on
    }


def pairs_of(dataset: Dataset, fold: int | None, settings: Settings) -> Pairs:
    """A fold's list without the classes that have too few photos.

    Raises:
        ValueError: there is no such list, or it is malformed. OSError: it cannot be read.
    """
    if fold not in (dataset.folds or (None,)):
        raise ValueError(f"the data has no fold {fold}; it has {', '.join(map(str, dataset.folds)) or 'none at all'}")
    pairs = dataset.pairs("val", fold) if settings.split == "val" else _held_out(dataset, fold, settings.held_out)
    unnamed = next((number for _, number in pairs if number not in dataset.names), None)
    if unnamed is not None:
        raise ValueError(f"the list of fold {fold} has the class {unnamed}, which the data does not name; give its own")
    return well_filled(pairs, minimum=settings.minimum_photos)


def held_out_by(heads: Sequence[Path]) -> int:
    """n, where all of these heads were trained without one photo in n, as their files tell: else :data:`HELD_OUT`.

    Raises:
        ValueError: one of them was trained on every photo, or its file is damaged.
        FileNotFoundError: there is no such file.
    """
    numbers = []
    for head in heads:
        number = training_settings(head).get("held_out", HELD_OUT)
        if type(number) is not int or number < 1:
            raise ValueError(f"'{head}' was trained on every photo of its lists, none is held out; use the val lists")
        numbers.append(number)
    return math.lcm(*numbers)  # a hash that all of them divide


def _held_out(dataset: Dataset, fold: int | None, one_in: int) -> Pairs:
    if not dataset.has_training_lists:
        raise ValueError("the data has no trn lists, which held-out photos are taken from; use the val lists")
    validation = {photo for one in dataset.folds for photo, _ in dataset.pairs("val", one)}
    listed = dataset.pairs("trn", fold)
    return [(photo, number) for photo, number in listed if is_held_out(photo, one_in) and photo not in validation]


def _evaluate_fold(
    methods: Mapping[str, Method],
    dataset: Dataset,
    fold: int | None,
    settings: Settings,
    journal: Journal,
    advance: Callable[[int | None], object],
) -> list[Result]:
    pairs = pairs_of(dataset, fold, settings)
    sampler = EpisodeSampler(pairs, ways=settings.ways, shots=settings.shots, task=settings.task)
    table = {(name, delta): Metrics() for name in methods for delta in settings.deltas}
    for index in range(settings.episodes):
        if (fold, index) not in journal.episodes:
            episode = sampler.episode(index)
            negatives = _negatives(dataset, pairs, episode, settings.negatives)
            journal.add_episode(fold, index, _measure(methods, episode, negatives, settings))
        for metrics, counts in zip(table.values(), journal.episodes[fold, index], strict=True):
            metrics.add(counts)
        advance(fold)
    return [
        Result(settings.task, fold, name, delta, metrics.summary(), metrics.interval(), dataset.names)
        for (name, delta), metrics in table.items()
    ]


def _negatives(dataset: Dataset, pairs: Pairs, episode: Episode, count: int) -> list[str]:
    """Photos of the list, neither query nor supports, that show none of the episode's classes; a hash chooses them."""
    used = {episode.query, *(photo for photos in episode.supports for photo in photos)}
    listed = sorted(
        {photo for photo, _ in pairs} - used, key=lambda photo: sha256(f"{episode} {photo}".encode()).digest()
    )
    found: list[str] = []
    for photo in listed:
        if len(found) == count:
            break
        if not np.isin(dataset.labels(photo), episode.classes).any():
            found.append(photo)
    return found


def _measure(
    methods: Mapping[str, Method], episode: Episode, negatives: Sequence[str], settings: Settings
) -> list[Counts]:
    """One episode's counts: of each method one for each threshold."""
    counts = []
    for method in methods.values():
        segmenter, photos = method.segmenter, method.photos
        if method.calibrated:
            supports, thresholds = photos.calibrated(segmenter, episode, negatives), list(settings.thresholds)
        else:
            supports, thresholds = photos.supports(episode), settings.thresholds_of(segmenter)
        target, presence = episode_target(photos.labels(episode.query), episode.classes, segmenter.protocol)
        if settings.task == "fs-c":  # the list says which one it is; a second one may hide in the photo's corner
            presence = np.array([number == episode.query_class for number in episode.classes])
        found = answers(
            segmenter,
            photos.query_of(episode.query, supports),
            supports,
            task=settings.task,
            thresholds=thresholds,
        )
        counts += [
            Metrics().update(
                episode.classes,
                predicted_presence=present,
                target_presence=presence,
                predicted_mask=mask,
                target_mask=target,
            )
            for present, mask in found
        ]
    return counts


def episode_target(
    labels: NDArray[np.uint16], classes: Sequence[int], protocol: str
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Class ids -> episodic mask 0..N (unknown: 255; ``authors``: background) and presence (N,)."""
    target = np.zeros(labels.shape, np.uint8)
    for position, number in enumerate(classes, start=1):
        target[labels == number] = position
    presence = np.array([bool((target == position).any()) for position in range(1, len(classes) + 1)])
    if protocol == "paper":
        target[labels == UNKNOWN] = IGNORED
    return target, presence


def _bases(photos: EncodedPhotos) -> dict[str, EncodedPhotos]:
    """The maps that baselines compare, by what is added to their names: the backbone's own, and its adapter's."""
    segmenter = photos.segmenter
    if segmenter.network.adapter is None:
        return {"": photos}
    bare = _with(segmenter, dataclasses.replace(segmenter.network, adapter=None))
    return {"": EncodedPhotos(bare, photos.dataset, weak=photos.weak), " + adapter": photos}


def _baselines(
    bases: Mapping[str, EncodedPhotos], fold: int | None, settings: Settings, journal: Journal
) -> dict[str, Method]:
    methods = {f"{name}{added}": (one, photos) for added, photos in bases.items() for name, one in SIMILARITIES.items()}
    if fold not in journal.thresholds:
        chosen = {name: _calibrate(one, photos, fold, settings) for name, (one, photos) in methods.items()}
        journal.add_thresholds(fold, chosen)
    found = {}
    for name, (similarity, photos) in methods.items():
        head = TrainingFree(similarity, journal.thresholds[fold][name])
        network = dataclasses.replace(photos.segmenter.network, head=head, threshold=UNDECIDED)
        found[name] = Method(_with(photos.segmenter, network), photos)
    return found


def _with(segmenter: FewShotSegmenter, network: FewShotNetwork) -> FewShotSegmenter:
    return FewShotSegmenter(
        network,
        name="baseline",
        device=segmenter.device,
        dtype=_dtype(segmenter),
        protocol=segmenter.protocol,
        edges=False,
    )


def _dtype(segmenter: FewShotSegmenter) -> str:
    return str(segmenter.dtype).removeprefix("torch.")


def _calibrate(
    similarity: Callable[[Tensor, Tensor, Tensor], Tensor], photos: EncodedPhotos, fold: int | None, settings: Settings
) -> float:
    held_out = well_filled(_held_out(photos.dataset, fold, HELD_OUT), minimum=max(2, settings.minimum_photos))
    try:
        sampler = EpisodeSampler(held_out, ways=1, shots=1)
    except ValueError as error:
        raise ValueError(f"the baselines' thresholds need held-out photos; leave the baselines out: {error}") from None
    metrics = {threshold: Metrics() for threshold in THRESHOLDS}
    for index in range(CALIBRATION_EPISODES):
        episode = sampler.episode(index)
        query, supports = photos.query(episode.query), photos.supports(episode)
        target, presence = episode_target(photos.labels(episode.query), episode.classes, "paper")
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
