"""What docs/calibration.md says of examination and calibration: bad references, probabilities, many classes, cost.

    python -m benchmarks.calibration DATA --part suspects|probabilities|pooling|scales|many|cost [--fold N ...]

``DATA`` is a folder of folders, as ``fscs evaluate --benchmark domains`` takes it.
"""

import itertools
import json
import resource
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk import FewShotSegmenter, Shot, SupportSet
from fscs_sdk.calibration import OFFSETS
from fscs_sdk.evaluation.benchmark import Settings, episode_target, pairs_of
from fscs_sdk.evaluation.datasets.domains import MINIMUM_PHOTOS, Domains
from fscs_sdk.evaluation.episodes import Episode
from fscs_sdk.evaluation.metrics import IGNORED
from fscs_sdk.evaluation.photo_cache import EncodedPhotos
from fscs_sdk.examination import Photos, Suspect, examine
from fscs_sdk.images import resize_image, resize_mask
from fscs_sdk.likeness import near_duplicates
from fscs_sdk.model.ifsl import Calibration, pool_shots
from fscs_sdk.model.tiles import Scale, ScaleChoice
from fscs_sdk.segmenter import EncodedQuery
from fscs_sdk.supports import CALIBRATION

#: What supports make of an episode and of photos that show none of its classes.
Rule = Callable[[Episode, Sequence[str]], SupportSet]
#: Queries that are asked of one set of supports: half of them with the class where there are so many.
QUERIES = 8
BINS = 10
#: Masks of maps as the network gives them, and of maps that follow the photo's edges.
MASKS = ("mIoU", "mIoU with edges")


class Measuring:
    """A model and the photos of some folds."""

    def __init__(
        self, data: Path, model: str, folds: Sequence[int], dtype: str = "auto", *, near_duplicates: bool = False
    ) -> None:
        """Load them.

        Args:
            near_duplicates: the supports of a class are near-duplicates of its first one, where it has any.
        """
        self.model = FewShotSegmenter.from_pretrained(model, device="cpu", dtype=dtype)
        self.dataset = Domains(data)
        self.photos = EncodedPhotos(self.model, self.dataset)
        self.near_duplicates = near_duplicates
        self.lists = {
            fold: pairs_of(self.dataset, fold, Settings(minimum_photos=MINIMUM_PHOTOS))
            for fold in (folds or self.dataset.folds)
        }

    def of_class(self, fold: int, number: int, salt: object) -> list[str]:
        """A fold's photos of a class in an order of their own for every ``salt``."""
        listed = [photo for photo, own in self.lists[fold] if own == number]
        return sorted(listed, key=lambda photo: sha256(f"{salt} {photo}".encode()).digest())

    def supports_of(self, fold: int, number: int, salt: object) -> list[str]:
        """The same, with near-duplicates of the first photo before the others if these are asked for."""
        first, *others = self.of_class(fold, number, salt)
        if not self.near_duplicates:
            return [first, *others]
        thumbnails = torch.from_numpy(np.stack([self.photos.small(photo) for photo in (first, *others)]))
        likeness = near_duplicates(thumbnails.permute(0, 3, 1, 2).float())[0, 1:]
        return [first, *(others[place] for place in np.argsort(-likeness, kind="stable"))]

    def classes(self) -> Iterator[tuple[int, int]]:
        for fold, pairs in self.lists.items():
            for number in sorted({number for _, number in pairs}):
                yield fold, number

    def shot(self, photo: str, number: int) -> Shot:
        return Shot(self.dataset.image(photo), self.dataset.labels(photo) == number)


# ---- Bad references --------------------------------------------------------------------------------------------------


def shifted(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """By half of the object's box, to where there is more room."""
    moved = np.zeros_like(mask)
    places = np.argwhere(mask)
    low, high = places.min(axis=0), places.max(axis=0) + 1
    away = np.where(low + high < mask.shape, 1, -1) * ((high - low) // 2)
    places = places + away
    places = places[((places >= 0) & (places < mask.shape)).all(axis=1)]
    moved[tuple(places.T)] = True
    return moved


def tiny(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """20 pixels somewhere."""
    small = np.zeros_like(mask)
    row, column = np.random.default_rng(int(mask.sum())).integers(0, np.array(mask.shape) - 5)
    small[row : row + 4, column : column + 5] = True
    return small


BAD: dict[str, Callable[[NDArray[np.bool_]], NDArray[np.bool_]]] = {
    "inverted": lambda mask: ~mask,
    "shifted": shifted,
    "whole photo": lambda mask: np.ones_like(mask),
    "20 pixels": tiny,
}


class Examined:
    """Shots that are examined again and again, some of them bad: what each finds in another's photo is asked once."""

    def __init__(self, model: FewShotSegmenter) -> None:
        self.model = model
        self.shots: list[tuple[Shot, SupportSet, EncodedQuery]] = []
        self.found: dict[tuple[int, int], Tensor] = {}

    def add(self, shot: Shot) -> int:
        """A shot's number; a photo that is known from another shot does not pass as a query again."""
        known = next((query for other, _, query in self.shots if other.image is shot.image), None)
        query = known or self.model.encode_query(np.asarray(shot.image))
        self.shots.append((shot, self.model.encode({"class": shot}), query))
        return len(self.shots) - 1

    def suspects(self, chosen: Sequence[int]) -> tuple[Suspect, ...]:
        """Of these shots, given for one class; as ``FewShotSegmenter.examine`` finds them."""
        side, delta = self.model.network.input_side, self.model.network.threshold
        shots, encoded, _ = zip(*(self.shots[number] for number in chosen), strict=True)
        masks = [np.asarray(shot.mask) for shot in shots]
        level4, level3 = (
            tuple(torch.cat(maps) for maps in zip(*(one.features[level] for one in encoded), strict=True))
            for level in (0, 1)
        )
        photos = Photos(
            names=("class",),
            class_index=np.zeros(len(chosen), dtype=np.int64),
            tagged=np.zeros(len(chosen), dtype=bool),
            masks=np.stack([resize_mask(mask, side) for mask in masks]),
            marked=np.array([mask.mean() for mask in masks]),
            pixels=np.stack([resize_image(np.asarray(shot.image), side) for shot in shots]),
            features=(level4, level3),
            close_masks=torch.cat([one.masks for one in encoded]).numpy(),
        )

        def ask(photo: int, others: Sequence[int], _: Scale) -> Tensor:
            return torch.stack([self.ask(chosen[photo], chosen[other]) for other in others])

        return examine(photos, ask, delta=delta)[0].suspects

    def ask(self, photo: int, shot: int) -> Tensor:
        first = next(n for n, (other, _, _) in enumerate(self.shots) if other.image is self.shots[photo][0].image)
        if (first, shot) not in self.found:
            self.found[first, shot] = self.model.ask(self.shots[photo][2], self.shots[shot][1], [0])[0]
        return self.found[first, shot]


def measure_suspects(measuring: Measuring, trials: int) -> dict[str, Any]:
    """Five shots, one of them bad: how often is it the first suspect? And of five good ones, is any suspected?"""
    found: dict[str, list[bool]] = {kind: [] for kind in (*BAD, "another class", "five good")}
    by_set: dict[str, dict[str, list[bool]]] = {}
    named: list[str] = []
    for (fold, number), trial in itertools.product(list(measuring.classes()), range(trials)):
        chosen = measuring.of_class(fold, number, f"suspects {trial}")[:5]
        shots = [measuring.shot(photo, number) for photo in chosen]
        place, name = trial % 5, measuring.dataset.names[number]
        examined = Examined(measuring.model)
        good = [examined.add(shot) for shot in shots]
        for kind in found:
            if kind == "five good":
                suspects = examined.suspects(good)
                named += [f"{name}: {chosen[one.shot - 1]} {one.reason} ({one.sureness:.2f})" for one in suspects]
                right = bool(suspects)
            else:
                bad = (
                    replace(shots[place], mask=BAD[kind](np.asarray(shots[place].mask)))
                    if kind in BAD
                    else stranger(measuring, fold, number, trial)
                )
                if bad is None:
                    continue
                suspects = examined.suspects([*good[:place], examined.add(bad), *good[place + 1 :]])
                right = bool(suspects) and suspects[0].shot == place + 1
            found[kind].append(right)
            by_set.setdefault(name.partition("/")[0], {}).setdefault(kind, []).append(right)
    shares = {kind: _share(values) for kind, values in found.items()}
    return {
        "classes": len(found["five good"]) // trials,
        "trials": sum(len(values) for kind, values in found.items() if kind != "five good"),
        "named first, %": {kind: share for kind, share in shares.items() if kind != "five good"},
        "named first, all, %": _share(
            [right for kind, values in found.items() if kind != "five good" for right in values]
        ),
        "five good, something suspected, %": shares["five good"],
        "suspected among good ones": named,
        "by set": {called: {kind: _share(values) for kind, values in one.items()} for called, one in by_set.items()},
    }


def _share(values: Sequence[bool]) -> float | None:
    return round(100 * float(np.mean(values)), 1) if values else None


def stranger(measuring: Measuring, fold: int, number: int, trial: int) -> Shot | None:
    """A photo without the class, with the mask of another; of another fold where every photo of this one shows it."""
    own = sorted({other for _, other in measuring.lists[fold]} - {number})
    for other in own[trial % max(1, len(own)) :] + own[: trial % max(1, len(own))]:
        for photo in measuring.of_class(fold, other, f"stranger {trial}"):
            if not (measuring.dataset.labels(photo) == number).any():
                return measuring.shot(photo, other)
    return None


# ---- Probabilities ---------------------------------------------------------------------------------------------------


def measure_probabilities(measuring: Measuring, shots: int, negatives: int, sets: int, ways: int) -> dict[str, Any]:
    """Presence and masks of N classes asked together, by the paper's rule and calibrated, over several queries each."""

    def calibrated(episode: Episode, given: Sequence[str]) -> SupportSet:
        return measuring.photos.calibrated(measuring.model, episode, given, "whole")

    rules: dict[str, Rule] = {"paper": lambda episode, _: measuring.photos.supports(episode), "calibrated": calibrated}
    return compare_rules(measuring, rules, shots, negatives, sets, ways)


def measure_scales(measuring: Measuring, shots: int, negatives: int, sets: int, ways: int) -> dict[str, Any]:
    """The same, calibrated, for queries that are asked whole, and in tiles where the supports say so."""

    def scaled(scale: ScaleChoice) -> Rule:
        return lambda episode, given: measuring.photos.calibrated(measuring.model, episode, given, scale)

    return compare_rules(measuring, {"whole": scaled("whole"), "auto": scaled("auto")}, shots, negatives, sets, ways)


def compare_rules(
    measuring: Measuring, rules: Mapping[str, Rule], shots: int, negatives: int, sets: int, ways: int
) -> dict[str, Any]:
    """The same supports, negatives and queries by every rule."""
    by_fold: dict[int, dict[str, list[Any]]] = {}
    for fold, trial in itertools.product(measuring.lists, range(sets)):
        numbers = sorted({number for _, number in measuring.lists[fold]})
        turn = trial * ways % len(numbers)
        classes = tuple((numbers + numbers)[turn : turn + ways])
        if len(numbers) < ways:
            continue
        supports = tuple(tuple(measuring.supports_of(fold, n, f"{trial} {n}")[:shots]) for n in classes)
        used = {photo for photos in supports for photo in photos}
        rest = [p for p in dict.fromkeys(p for p, _ in measuring.lists[fold]) if p not in used]
        rest = sorted(rest, key=lambda photo: sha256(f"{trial} {photo}".encode()).digest())
        shown = {photo: np.isin(classes, measuring.dataset.labels(photo)) for photo in rest[: 20 * QUERIES]}
        without = [photo for photo, there in shown.items() if not there.any()]
        given, without = without[:negatives], without[negatives:]
        with_one = [photo for photo, there in shown.items() if there.any()]
        queries = with_one[: QUERIES - min(QUERIES // 2, len(without))] + without[: QUERIES // 2]
        episode = Episode("", 0, classes, supports)
        both = {kind: rule(episode, given) for kind, rule in rules.items()}
        table = by_fold.setdefault(
            fold, {f"{kind} {what}": [] for kind in both for what in ("asked", "exact", *MASKS, "in tiles")}
        )
        for kind, encoded in both.items():
            names = [measuring.dataset.names[number] for number in classes]
            table[f"{kind} in tiles"] += [
                n for n, scale in zip(names, encoded.scales, strict=False) if scale == "tiles"
            ]
        for photo, (kind, encoded) in itertools.product(queries, both.items()):
            query = measuring.photos.query_of(photo, encoded)
            answer = measuring.model.infer(query, encoded)
            target, there = episode_target(measuring.photos.labels(photo), classes, "paper")
            present = answer.present.numpy()
            masks = [replace(answer.maps, edges=one).mask(answer.present).numpy() for one in (None, query.edges)]
            table[f"{kind} asked"] += zip(answer.scores.tolist(), there.tolist(), present.tolist(), strict=True)
            table[f"{kind} exact"].append(bool((present == there).all()))
            for (way, number), (drawn, mask) in itertools.product(
                enumerate(classes, start=1), zip(MASKS, masks, strict=True)
            ):
                counted = target != IGNORED
                ours, theirs = (mask == way) & counted, (target == way) & counted
                table[f"{kind} {drawn}"].append((number, (ours & theirs).sum(), (ours | theirs).sum()))
    report: dict[str, Any] = {"shots": shots, "negatives": negatives, "ways": ways, "sets of a fold": sets}
    for kind in rules:
        asked = np.array([one for table in by_fold.values() for one in table[f"{kind} asked"]], dtype=float)
        report[kind] = {
            "presence right, %": _mean(_right(table[f"{kind} asked"]) for table in by_fold.values()),
            "exact ratio, %": _mean(100 * float(np.mean(table[f"{kind} exact"])) for table in by_fold.values()),
            **{
                f"{drawn}, %": _mean(_pooled(table[f"{kind} {drawn}"]) for table in by_fold.values()) for drawn in MASKS
            },
            "expected calibration error, %": round(_error(asked), 1),
            "reliability": _reliability(asked),
            "by fold": {
                ", ".join(measuring.dataset.folders_of(fold)): {
                    "presence right, %": round(_right(table[f"{kind} asked"]), 1),
                    "exact ratio, %": round(100 * float(np.mean(table[f"{kind} exact"])), 1),
                    **{f"{drawn}, %": round(_pooled(table[f"{kind} {drawn}"]), 1) for drawn in MASKS},
                    "answers": len(table[f"{kind} asked"]),
                    "in tiles": table[f"{kind} in tiles"],
                }
                for fold, table in by_fold.items()
            },
        }
    return report


def measure_pooling(measuring: Measuring, shots: int, trials: int) -> dict[str, Any]:
    """K shots joined as in the paper (the mean of their logits, and its peak) and by ``pool_shots``: how many pairs
    of a photo with the class and one without are ranked rightly, and IoU at the offset that is best for the class."""
    by_fold: dict[int, dict[str, list[float]]] = {}
    for (fold, number), trial in itertools.product(list(measuring.classes()), range(trials)):
        photos = measuring.of_class(fold, number, f"pooling {trial}")
        supports, shown = tuple(photos[:shots]), photos[shots : shots + QUERIES // 2]
        others = sorted({photo for photo, _ in measuring.lists[fold]} - set(photos))
        others.sort(key=lambda photo: sha256(f"pooling {trial} {photo}".encode()).digest())
        absent = [photo for photo in others[: 2 * QUERIES] if not (measuring.dataset.labels(photo) == number).any()]
        absent = absent[: QUERIES // 2]
        if len(supports) < shots or not shown or not absent:
            continue
        encoded = measuring.photos.supports(Episode("", 0, (number,), (supports,)))
        peaks: dict[str, list[float]] = {"averaged": [], "pooled": []}
        overlaps = {kind: np.zeros((2, len(OFFSETS))) for kind in peaks}
        for photo in (*shown, *absent):
            logits = measuring.model.ask(measuring.photos.query(photo), encoded, range(shots))
            mean = logits.mean(dim=0)
            for kind, (found, peak) in zip(peaks, ((mean, mean.max()), pool_shots(logits)), strict=True):
                peaks[kind].append(float(peak))
                if photo in shown:
                    labels, size = measuring.photos.labels(photo), (len(found), found.shape[1])
                    marks = torch.from_numpy(np.stack([labels == number, labels != IGNORED])).float()
                    truth, known = F.adaptive_avg_pool2d(marks, size)
                    drawn = torch.stack([found + offset >= 0 for offset in OFFSETS]) * known
                    both = (drawn * truth).sum(dim=(1, 2)).numpy()
                    overlaps[kind] += np.stack([both, drawn.sum(dim=(1, 2)).numpy() + float(truth.sum()) - both])
        table = by_fold.setdefault(fold, {f"{kind} {what}": [] for kind in peaks for what in ("ranked", "IoU")})
        for kind, values in peaks.items():
            there, away = np.split(np.array(values), [len(shown)])
            table[f"{kind} ranked"].append(100 * float((there[:, None] > away).mean()))
            table[f"{kind} IoU"].append(100 * float((overlaps[kind][0] / overlaps[kind][1]).max()))
    if not by_fold:
        raise click.UsageError("every photo of these folds shows every class; take others")
    return {
        "shots": shots,
        "trials": sum(len(table["pooled IoU"]) for table in by_fold.values()),
        **{
            f"{kind} {what}, %": _mean(np.mean(table[f"{kind} {what}"]) for table in by_fold.values())
            for what, kind in itertools.product(("ranked", "IoU"), ("averaged", "pooled"))
        },
    }


def _mean(values: Any) -> float:
    return round(float(np.mean(list(values))), 1)


def _right(asked: Sequence[tuple[float, bool, bool]]) -> float:
    """Mean over photos with and without the class, so that it does not matter how many there are of either."""
    table = np.array(asked, dtype=float)
    shares = [(table[table[:, 1] == there, 2] == there).mean() for there in (0, 1) if (table[:, 1] == there).any()]
    return 100 * float(np.mean(shares))


def _pooled(overlaps: Sequence[tuple[int, int, int]]) -> float:
    numbers = sorted({number for number, _, _ in overlaps})
    sums = [np.sum([[i, u] for own, i, u in overlaps if own == number], axis=0) for number in numbers]
    return 100 * float(np.mean([intersection / union for intersection, union in sums if union]))


def _error(asked: NDArray[np.float64]) -> float:
    """Expected calibration error in percent: how far scores are from shares, over ten bins."""
    return 100 * sum(abs(row["score"] - row["share"]) * row["answers"] for row in _reliability(asked)) / len(asked)


def _reliability(asked: NDArray[np.float64]) -> list[dict[str, float]]:
    bins = np.minimum((asked[:, 0] * BINS).astype(int), BINS - 1)
    return [
        {
            "score": round(float(asked[bins == number, 0].mean()), 3),
            "share": round(float(asked[bins == number, 1].mean()), 3),
            "answers": int((bins == number).sum()),
        }
        for number in range(BINS)
        if (bins == number).any()
    ]


# ---- Many classes, and what it costs ---------------------------------------------------------------------------------


def measure_many(measuring: Measuring, ways: int, shots: int) -> dict[str, Any]:
    """Photos that show one of N classes: is it drawn as well as when it is the only one that is asked for?"""
    listed = list(measuring.classes())
    chosen = sorted(listed, key=lambda one: sha256(f"many {one}".encode()).digest())[:ways]
    classes = tuple(number for _, number in chosen)
    supports = tuple(tuple(measuring.of_class(fold, number, "many")[:shots]) for fold, number in chosen)
    many = measuring.photos.calibrated(measuring.model, Episode("", 0, classes, supports), [], "whole")
    found: dict[str, list[tuple[int, int, int]]] = {"alone": [], "among all": [], "paper, among all": []}
    right = {"calibrated": 0, "paper": 0}
    asked = 0
    for way, (fold, number) in enumerate(chosen, start=1):
        for photo in measuring.of_class(fold, number, "many")[shots : shots + 2]:
            labels = measuring.photos.labels(photo)
            if np.isin(classes, labels).sum() != 1:
                continue
            asked += 1
            target, _ = episode_target(labels, [number], "paper")
            query = measuring.photos.query(photo)
            answer = measuring.model.infer(query, many)
            paper = measuring.model.infer(
                query,
                replace(many, calibration=None, thresholds=many.thresholds * 0 + measuring.model.network.threshold),
            )
            alone = measuring.model.infer(query, one_class(many, way - 1))
            right["calibrated"] += bool(answer.present.sum() == 1 and answer.present[way - 1])
            right["paper"] += bool(paper.present.sum() == 1 and paper.present[way - 1])
            counted = target != IGNORED
            for kind, mask in (
                ("alone", alone.mask.numpy() == 1),
                ("among all", answer.mask.numpy() == way),
                ("paper, among all", paper.mask.numpy() == way),
            ):
                ours, theirs = mask & counted, (target == 1) & counted
                found[kind].append((number, (ours & theirs).sum(), (ours | theirs).sum()))
    return {
        "ways": ways,
        "shots": shots,
        "photos": asked,
        **{f"mIoU {kind}, %": round(_pooled(overlaps), 1) for kind, overlaps in found.items()},
        **{f"exact, {kind}, %": round(100 * count / asked, 1) for kind, count in right.items()},
    }


def one_class(supports: Any, way: int) -> Any:
    """One class of a calibrated set, with its own numbers."""
    kept = (supports.class_index == way).nonzero()[:, 0]
    found = supports.calibration
    return replace(
        supports,
        names=supports.names[way : way + 1],
        class_index=supports.class_index[kept] * 0,
        features=tuple(tuple(feature[kept] for feature in level) for level in supports.features),
        masks=supports.masks[kept],
        tagged=supports.tagged[kept],
        thresholds=supports.thresholds[way : way + 1],
        calibration=Calibration(*(getattr(found, name)[way : way + 1] for name in CALIBRATION)),
    )


def measure_cost(measuring: Measuring, ways: int, shots: int) -> dict[str, Any]:
    """What encode(calibrate=True) takes, photos decoded before: time, that of all cores together, and memory."""
    supports = {
        measuring.dataset.names[number]: [
            measuring.shot(photo, number) for photo in measuring.of_class(fold, number, "cost")[:shots]
        ]
        for fold, number in list(measuring.classes())[:ways]
    }
    begun = time.perf_counter()
    plain = measuring.model.encode(supports)
    middle, middle_of_cores = time.perf_counter(), time.process_time()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    calibrated = measuring.model.encode(supports, calibrate=True, scales="whole")
    ended, ended_of_cores = time.perf_counter(), time.process_time()
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    scaled = measuring.model.encode(supports, calibrate=True)
    last = time.perf_counter()
    pairs, more = (0 if one.examination is None else one.examination.pairs for one in (calibrated, scaled))
    return {
        "classes": len(plain),
        "shots": shots,
        "pairs": pairs,
        "pairs, scales chosen too": more,
        "classes in tiles": scaled.scales.count("tiles"),
        "encode, s": round(middle - begun, 1),
        "encode and calibrate, s": round(ended - middle, 1),
        "encode, calibrate and choose scales, s": round(last - ended, 1),
        "of it on all cores together, s": round(ended_of_cores - middle_of_cores, 1),
        "most memory before and after, MiB": [round(peak / 1024) for peak in (before, after)],
    }


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--part", required=True, type=click.Choice(["suspects", "probabilities", "pooling", "scales", "many", "cost"])
)
@click.option(
    "--fold", "folds", multiple=True, type=int, help="Of the domains, as in 'fscs evaluate'; all if not given."
)
@click.option("--model", default="asnet-mini", show_default=True)
@click.option("--dtype", default="auto", show_default=True)
@click.option("--shots", default=5, show_default=True)
@click.option("--negatives", default=0, show_default=True)
@click.option("--ways", default=1, show_default=True)
@click.option("--trials", default=2, show_default=True, help="Of each class, or sets of supports of each fold.")
@click.option("--near-duplicates", is_flag=True, help="Supports that are near-duplicates, as frames of a video are.")
def main(
    data: Path,
    part: str,
    folds: tuple[int, ...],
    model: str,
    dtype: str,
    shots: int,
    negatives: int,
    ways: int,
    trials: int,
    near_duplicates: bool,
) -> None:
    """Print the measurement as JSON."""
    measuring = Measuring(data, model, folds, dtype, near_duplicates=near_duplicates)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # bad masks are planted on purpose
        report = {
            "suspects": lambda: measure_suspects(measuring, trials),
            "probabilities": lambda: measure_probabilities(measuring, shots, negatives, trials, ways),
            "scales": lambda: measure_scales(measuring, shots, negatives, trials, ways),
            "pooling": lambda: measure_pooling(measuring, shots, trials),
            "many": lambda: measure_many(measuring, ways, shots),
            "cost": lambda: measure_cost(measuring, ways, shots),
        }[part]()
    click.echo(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
