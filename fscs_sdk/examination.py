"""What labelled photos say of each other: which reference is bad, and what to set each class's threshold and mask to.

Every shot is asked as a query: for its own class with the other shots as supports, and for other classes; so are photos
that the caller says show none of the classes. Nothing here knows of files or of the network: a function answers for
pairs of photos.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.calibration import LARGEST, OFFSETS, Evidence, Presence, fit_presence, mask_offset, tiles_pay
from fscs_sdk.likeness import Look, distance, margin, near_duplicates
from fscs_sdk.model.ifsl import Calibration, pool_shots
from fscs_sdk.model.tiles import TILES, Scale, ScaleChoice
from fscs_sdk.outlines import Moved, best_offset
from fscs_sdk.spelling import counted

#: A photo (shots first, then negatives), shots (P',) of one class, and the scale at which they look -> foreground minus
#: background logits of the pairs, (P', h, w).
Ask = Callable[[int, Sequence[int], Scale], Tensor]
#: Photos of other classes, and likewise negatives, that are asked for a class at most; and shots that look for another.
NEGATIVES_PER_CLASS, LOOKING = 16, 10
#: A calibrated score is the probability that the class is there, so this is where presence begins.
EVEN = 0.5
#: From this sureness on a suspect sets no threshold and no offset.
DOUBTED = 0.5
#: Another class claims a shot if it is so much more probable there than the shot's own, and found so well under its
#: mask (IoU); and how sure it is then that the shot is wrong.
CLAIM_MARGIN, CLAIM_OVERLAP, CLAIMED = 0.3, 0.3, 0.8


@dataclass(frozen=True)
class Suspect:
    """A reference that seems to be bad.

    Attributes:
        name: its class.
        shot: counted from 1, in the order given.
        reason: what is wrong with it, in words.
        sureness: in [0, 1]; 1 = certain, no model had to be asked.
    """

    name: str
    shot: int
    reason: str
    sureness: float


@dataclass(frozen=True)
class ExaminedShot:
    """What was found in one shot.

    Attributes:
        name: its class.
        shot: counted from 1.
        tagged: it has no mask.
        score: the mean peak of the maps of the class's other shots in it, as the model's probability in [0, 1]; None
            for one that is alone.
        iou: of that map, with the class's offset, with the shot's mask; None without either.
        claimed_by: another class whose shots find themselves where the mask is, more surely than its own do.
        shows: other classes that seem to be elsewhere in it, unmarked.
    """

    name: str
    shot: int
    tagged: bool
    score: float | None
    iou: float | None
    claimed_by: str | None = None
    shows: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExaminedClass:
    """What a class's photos say of it.

    Attributes:
        name: the class.
        shots: how many it has.
        calibrated: whether there is evidence enough to change anything: two shots that can be trusted, or a negative.
        threshold: the mean of the shots' peaks, as the model's own probability in [0, 1], from which the class counts
            as present.
        offset: what is added to its logits, for the mask.
        right: the share of right answers about presence to expect, of photos half of which show it, in [0, 1]; where
            no photo was asked (the three counts below are 0), what is expected of any class.
        interval: of ``right``, 95 %.
        positives: photos that show the class and were asked about; near-duplicates count together like one.
        foreign: photos of other classes that were.
        negatives: photos named as negatives that were.
        scale: at which its shots look for it.
        advice: the one photo more that would help most.
    """

    name: str
    shots: int
    calibrated: bool
    threshold: float
    offset: float
    right: float
    interval: tuple[float, float]
    positives: int
    foreign: int
    negatives: int
    advice: str
    scale: Scale = "whole"

    def __str__(self) -> str:
        """A sentence for people."""
        state = f"threshold {self.threshold:.2f}, offset {self.offset:+.2f}" if self.calibrated else "as the model asks"
        if self.scale == "tiles":
            state += "; looked for in tiles, which takes about five times as long"
        if self.positives + self.foreign + self.negatives == 0:
            known = "no photo could be asked for it, so how many of its answers are right is not known"
        else:
            low, high = (round(100 * value) for value in self.interval)
            known = (
                f"{100 * self.right:.0f} % of answers right ({low} to {high}), from {counted(self.positives, 'photo')} "
                f"with it, {self.foreign} of other classes and {counted(self.negatives, 'negative')}"
            )
        return f"{self.name}: {state}; {known}; {self.advice}"


@dataclass(frozen=True)
class Examination:
    """All of it.

    Attributes:
        suspects: what is wrong, surest first.
        classes: in the supports' order.
        shots: in the supports' order.
        remarks: what else was seen, such as a negative that seems to show a class.
        pairs: (photo, shot) pairs that the network was asked.
        found: for every shot float32 (h, w) in [0, 1], its class's map when the other shots look for it, or None; not
            part of what is saved.
    """

    suspects: tuple[Suspect, ...]
    classes: tuple[ExaminedClass, ...]
    shots: tuple[ExaminedShot, ...]
    remarks: tuple[str, ...]
    pairs: int
    found: tuple[NDArray[np.float32] | None, ...] = field(default=(), repr=False, compare=False)

    @property
    def certain(self) -> bool:
        """Whether something is wrong for certain, such as a mask without a pixel."""
        return any(suspect.sureness >= 1 for suspect in self.suspects)

    def to_dict(self) -> dict[str, Any]:
        """All but ``found``, ready for JSON."""
        return {name: value for name, value in asdict(replace(self, found=())).items() if name != "found"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Examination":
        """What :meth:`to_dict` made.

        Raises:
            KeyError, TypeError, ValueError: it is not that.
        """
        return cls(
            suspects=tuple(Suspect(**suspect) for suspect in values["suspects"]),
            classes=tuple(ExaminedClass(**{**one, "interval": _pair(one["interval"])}) for one in values["classes"]),
            shots=tuple(ExaminedShot(**{**shot, "shows": tuple(shot["shows"])}) for shot in values["shots"]),
            remarks=tuple(str(remark) for remark in values["remarks"]),
            pairs=int(values["pairs"]),
        )

    def __str__(self) -> str:
        """A few lines for people: suspects, then classes, worst first."""
        lines = [f"{_called(s.name, s.shot)} {s.reason} (sure to {100 * s.sureness:.0f} %)" for s in self.suspects]
        lines += [str(one) for one in sorted(self.classes, key=lambda one: one.right)]
        return "\n".join([*lines, *self.remarks])


@dataclass(frozen=True, eq=False)
class Photos:
    """What is examined: P shots, then M negatives.

    Attributes:
        names: the N classes.
        class_index: (P,), the class (from 0) of every shot; shots of a class stand together, in the order of classes.
        tagged: bool (P,), shots without a mask.
        masks: bool (P, side, side), the shots' masks as the photos are, not cropped around small objects.
        marked: (P,), the share of the photo that the mask marks, at its own size.
        pixels: uint8 (P + M, side, side, 3).
        features: of levels 4 and 3, the shots' maps (P, C_l, h, w) as supports, cropped around small objects.
        close_masks: bool (P, side, side), the masks that go with the features.
    """

    names: tuple[str, ...]
    class_index: NDArray[np.int64]
    tagged: NDArray[np.bool_]
    masks: NDArray[np.bool_]
    marked: NDArray[np.float64]
    pixels: NDArray[np.uint8]
    features: tuple[tuple[Tensor, ...], tuple[Tensor, ...]]
    close_masks: NDArray[np.bool_]

    def look(self, shot: int, level: int) -> Look:
        """What a shot shows at level 4 (``level`` 0) or 3 (1)."""
        return Look.of([maps[shot] for maps in self.features[level]], self.close_masks[shot])

    def shots_of(self, way: int) -> list[int]:
        return [int(shot) for shot in np.flatnonzero(self.class_index == way)]

    def shots_like(self, shot: int) -> list[int]:
        return self.shots_of(int(self.class_index[shot]))

    def is_given(self, photo: int, way: int) -> bool:
        """Whether a photo is one of the class's shots."""
        return photo < len(self.class_index) and int(self.class_index[photo]) == way

    def label(self, shot: int) -> tuple[str, int]:
        """The class's name and the shot's number in it, from 1."""
        way = int(self.class_index[shot])
        return self.names[way], shot - int(np.flatnonzero(self.class_index == way)[0]) + 1


@dataclass(frozen=True, eq=False)
class ClassSettings:
    """What is set for N classes: eq. 2's ``thresholds`` (N,), a ``calibration``, None where nothing is changed, and the
    ``scales`` at which they are looked for."""

    thresholds: Tensor
    calibration: Calibration | None
    scales: tuple[Scale, ...]


@dataclass(frozen=True, eq=False)
class _Found:
    """What a class's shots find in a photo together (:func:`~fscs_sdk.model.ifsl.pool_shots`): ``map`` (h, w) and
    ``peak``, both in logits."""

    map: NDArray[np.float64]
    peak: float

    @classmethod
    def of(cls, logits: NDArray[np.float64], weights: NDArray[np.float64] | None = None) -> "_Found":
        """Of what each shot finds, (P, h, w); ``weights`` (P,): how much each counts."""
        pooled, peak = pool_shots(torch.from_numpy(logits), None if weights is None else torch.from_numpy(weights))
        return cls(pooled.numpy(), float(peak))


@dataclass(frozen=True, eq=False)
class _Looked:
    """A shot that the other shots of its class look for.

    Attributes:
        others: the shots that look for it.
        found: what they find; near-duplicates of the shot count little.
        told: whether any of them is no near-duplicate; where none is, they all count alike.
        outside: the mean of their peaks well away from the mask; None without a mask, or where nothing is away from it.
        overlaps: (offsets,) IoU of the map with the mask; None without a mask.
        area: how surely their mean is higher inside the mask than outside, in [0, 1]; 0.5 without a mask.
        alone: (others, offsets) IoU with each of them alone.
        without: (others,) ``area`` with each of them left out.
    """

    others: tuple[int, ...]
    found: _Found
    told: bool
    outside: float | None
    overlaps: NDArray[np.float64] | None
    area: float
    alone: NDArray[np.float64]
    without: NDArray[np.float64]


def examine(
    photos: Photos,
    ask: Ask,
    *,
    delta: float,
    scales: Sequence[ScaleChoice] = (),
    negatives_per_class: int = NEGATIVES_PER_CLASS,
    progress: Callable[[int, int], object] | None = None,
) -> tuple[Examination, ClassSettings]:
    """Ask the photos about each other, and set thresholds and offsets by what they say.

    Every shot is asked with at most ten others of its class, and for a class at most ``negatives_per_class`` photos of
    other classes and as many named negatives, which a hash of their pixels chooses: the order of photos and classes
    changes nothing. With N classes of K <= 11 shots these are at most N K (K - 1 + 2 ``negatives_per_class``) pairs.
    Where classes are looked for in tiles they are asked once more so, each as four pairs.

    Args:
        ask: see :data:`Ask`.
        delta: the model's own threshold, eq. 2.
        scales: of the N classes; ``auto``: as the shots that look for each other say. Without any, all are whole.
        progress: called with the pairs asked and all of them.

    Raises:
        ValueError: ``negatives_per_class`` is below 0.
    """
    if negatives_per_class < 0:
        raise ValueError(f"negatives_per_class is {negatives_per_class}; it must be a number from 0")
    thumbnails = _thumbnails(photos.pixels)
    same = _same_photos(thumbnails)
    alike = near_duplicates(thumbnails[: len(photos.class_index)])
    plan = _plan(photos, same, negatives_per_class)
    answers = _Answers(photos, alike, ask, progress)
    answers.look(plan, "whole")
    ways = range(len(photos.names))
    suspects = _by_themselves(photos, same)
    suspects += [one for way in ways for one in _unlike(photos, photos.shots_of(way), answers.looked)]
    surest: dict[tuple[str, int], Suspect] = {}
    for one in sorted(suspects, key=lambda one: (-one.sureness, one.name, one.shot, one.reason)):
        surest.setdefault((one.name, one.shot), one)
    doubted = {shot for shot, suspect in surest.items() if suspect.sureness >= DOUBTED}

    found_in = _choose_scales(answers, plan, scales or ["whole"] * len(ways), doubted)
    looked, asked = answers.looked, answers.asked
    while True:  # again for each shot that another class claims: it sets nothing either
        evidence = [_evidence(photos, way, looked, asked, doubted, alike) for way in ways]
        presences = [fit_presence(one, delta) for one in evidence]
        offsets = [mask_offset(one.overlaps) if one.enough else 0.0 for one in evidence]
        seen, remarks = _seen(photos, looked, asked, presences, offsets)
        claims = {(shot.name, shot.shot): shot.claimed_by for shot in seen if shot.claimed_by}
        if set(surest) >= set(claims):
            break
        for shot in sorted(set(claims) - set(surest)):
            surest[shot] = Suspect(*shot, "is found by other photos than its own", CLAIMED)
        doubted |= set(claims)
    named = (_with_claim(suspect, claims.get(shot)) for shot, suspect in surest.items())
    examination = Examination(
        suspects=tuple(sorted(named, key=lambda one: (-one.sureness, one.name, one.shot))),
        classes=tuple(
            replace(
                _summary(photos, way, evidence[way], presences[way], offsets[way], delta, asked), scale=found_in[way]
            )
            for way in ways
        ),
        shots=seen,
        remarks=(*_of_near_duplicates(photos, alike, same), *remarks),
        pairs=answers.total,
        found=tuple(_map(looked.get(shot)) for shot in range(len(photos.class_index))),
    )
    return examination, _settings(evidence, presences, offsets, delta, found_in)


class _Answers:
    """What the network said so far.

    Attributes:
        looked: for each shot that others of its class looked for what they found, at the class's scale.
        asked: for each photo and class that it is not given for what the class's shots found in it.
        total: pairs that were asked, or soon will be; a photo's tiles count each.
    """

    def __init__(
        self, photos: Photos, alike: NDArray[np.float64], ask: Ask, progress: Callable[[int, int], object] | None
    ) -> None:
        self.photos, self._alike, self._ask, self._progress = photos, alike, ask, progress
        self.looked: dict[int, _Looked] = {}
        self.asked: dict[tuple[int, int], _Found] = {}
        self.done = self.total = 0

    def look(self, plan: Sequence[tuple[int, int, list[int]]], scale: Scale) -> None:
        """Ask for (photo, class, shots that look for it) at a scale, in place of what was found at another."""
        photos, each = self.photos, TILES if scale == "tiles" else 1
        self.total += each * sum(len(shots) for _, _, shots in plan)
        for photo, way, shots in plan:
            logits = self._ask(photo, shots, scale).double().numpy()
            if photos.is_given(photo, way):
                mask = None if photos.tagged[photo] else photos.masks[photo]
                self.looked[photo] = _look(logits, shots, 1 - self._alike[photo, shots], mask)
            else:
                self.asked[photo, way] = _Found.of(logits)
            self.done += each * len(shots)
            if self._progress is not None:
                self._progress(self.done, self.total)


def _choose_scales(
    answers: _Answers,
    plan: Sequence[tuple[int, int, list[int]]],
    scales: Sequence[ScaleChoice],
    doubted: set[tuple[str, int]],
) -> tuple[Scale, ...]:
    """The scale of every class; ``answers``, of whole photos, become those at it.

    First the shots of every class are asked that is asked for in tiles, or that may gain by them. They say whether the
    other photos have to be asked so, too.
    """
    photos, whole = answers.photos, dict(answers.looked)
    ways = range(len(photos.names))
    masked = [[shot for shot in _trusted(photos, way, whole, doubted) if not photos.tagged[shot]] for way in ways]
    shares = [float(np.median(photos.marked[some])) if len(some) >= 2 else 1.0 for some in masked]
    chosen = ["whole" if one == "auto" and shares[way] > LARGEST else one for way, one in enumerate(scales)]
    answers.look([one for one in plan if chosen[one[1]] != "whole" and photos.is_given(*one[:2])], "tiles")
    for way in (way for way in ways if chosen[way] == "auto"):
        pay = tiles_pay(_overlaps_of(whole, masked[way]), _overlaps_of(answers.looked, masked[way]), shares[way])
        chosen[way] = "tiles" if pay else "whole"
        if not pay:
            answers.looked |= {shot: whole[shot] for shot in photos.shots_of(way) if shot in whole}
    answers.look([one for one in plan if chosen[one[1]] == "tiles" and not photos.is_given(*one[:2])], "tiles")
    return tuple("tiles" if one == "tiles" else "whole" for one in chosen)


def _settings(
    evidence: Sequence[Evidence],
    presences: Sequence[Presence],
    offsets: Sequence[float],
    delta: float,
    scales: tuple[Scale, ...],
) -> ClassSettings:
    def numbers(values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32, device="cpu")

    pairs = list(zip(evidence, presences, strict=True))
    thresholds = numbers([EVEN if one.enough else delta for one in evidence])
    if not any(one.enough for one in evidence) and "tiles" not in scales:
        return ClassSettings(thresholds, None, scales)
    cuts = numbers([presence.cut if one.enough else 0.0 for one, presence in pairs])
    slopes = numbers([presence.slope if one.enough else 1.0 for one, presence in pairs])
    pooled = torch.tensor([one.enough for one in evidence], device="cpu")
    return ClassSettings(thresholds, Calibration(numbers(offsets), cuts, slopes, pooled), scales)


# ---- What is asked ---------------------------------------------------------------------------------------------------


def _thumbnails(pixels: NDArray[np.uint8]) -> Tensor:
    """(P, 3, 32, 32), photo by photo."""
    return torch.cat(
        [F.adaptive_avg_pool2d(torch.from_numpy(one).permute(2, 0, 1)[None].float(), 32) for one in pixels]
    )


def _same_photos(thumbnails: Tensor) -> list[int]:
    """For every photo the first one that is the same, up to compression: itself, where it is the first of its kind."""
    small = thumbnails.flatten(1)
    near = torch.cdist(small, small, p=1) / small.shape[1]  # in grey levels
    contrast = small.std(dim=1)
    alike = near <= 0.05 * torch.minimum(contrast[:, None], contrast)
    alike |= torch.eye(len(small), dtype=torch.bool, device="cpu")
    return [int(row.nonzero()[0]) for row in alike]


def _plan(photos: Photos, same: Sequence[int], most: int) -> list[tuple[int, int, list[int]]]:
    """(photo, class, shots that look for it): each shot in its own class, and a sample of the others in every class.

    A photo is never asked for a class that it is given for, and the shots that are the same photo never look for it.
    """
    keys = [hashlib.sha256(np.ascontiguousarray(one).data).hexdigest() for one in photos.pixels]
    count = len(photos.class_index)
    plan = []
    for way, name in enumerate(photos.names):
        shots = photos.shots_of(way)
        given = {same[shot] for shot in shots}

        def order(photo: int, name: str = name) -> str:
            return hashlib.sha256(f"{keys[photo]} {name}".encode()).hexdigest()

        for shot in shots:
            others = sorted((other for other in shots if same[other] != same[shot]), key=order)[:LOOKING]
            if others:
                plan.append((shot, way, sorted(others)))
        strangers = [photo for photo in range(len(keys)) if same[photo] == photo and photo not in given]
        foreign = sorted((photo for photo in strangers if photo < count), key=order)[:most]
        negatives = sorted((photo for photo in strangers if photo >= count), key=order)[:most]
        plan += [(photo, way, shots) for photo in (*foreign, *negatives)]
    return sorted(plan, key=lambda one: one[0])  # a photo's pairs together: its maps need not be kept


def _look(
    logits: NDArray[np.float64], shots: Sequence[int], unlike: NDArray[np.float64], mask: NDArray[np.bool_] | None
) -> _Looked:
    """Measure what the other shots (P, h, w) found, which are so far no near-duplicates, against the mask."""
    told = bool(unlike.any())
    weights = unlike if told else np.ones(len(shots))
    found = _Found.of(logits, weights)
    truth = None if mask is None or not mask.any() else _shares(mask, logits.shape[1:])
    left_out = (logits.sum(axis=0) - logits) / max(1, len(shots) - 1)
    return _Looked(
        others=tuple(shots),
        found=found,
        told=told,
        outside=None if truth is None else _peak_outside(logits, truth, weights),
        overlaps=None if truth is None else _overlaps(found.map, truth),
        area=0.5 if truth is None else _area(logits.mean(axis=0), truth),
        alone=np.array([np.zeros(len(OFFSETS)) if truth is None else _overlaps(one, truth) for one in logits]),
        without=np.array([0.5 if truth is None or len(shots) < 2 else _area(one, truth) for one in left_out]),
    )


def _peak_outside(
    logits: NDArray[np.float64], truth: NDArray[np.float64], weights: NDArray[np.float64]
) -> float | None:
    """The weighted mean of the peaks of maps (P, h, w) more than a twelfth of the photo away from the mask, of which
    ``truth`` (h, w) is the share in every cell; None where that leaves next to nothing."""
    near = 2 * (max(truth.shape) // 12) + 1
    marked = torch.from_numpy(truth > 0)[None].double()
    free = F.max_pool2d(marked, near, stride=1, padding=near // 2)[0].numpy() == 0
    return float(np.average(logits[:, free].max(axis=1), weights=weights)) if free.mean() > 0.05 else None


def _overlaps_of(looked: Mapping[int, _Looked], shots: Sequence[int]) -> NDArray[np.float64]:
    """(shots with a mask, offsets), as :attr:`Evidence.overlaps`."""
    found = [looked[shot].overlaps for shot in shots]
    return np.array([one for one in found if one is not None]).reshape(-1, len(OFFSETS))


def _shares(mask: NDArray[np.bool_], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """How much of each of a map's cells is foreground: a mask of a few pixels is not lost."""
    pooled = F.adaptive_avg_pool2d(torch.from_numpy(mask)[None].double(), (shape[0], shape[1]))
    return np.asarray(pooled[0].numpy())


def _overlaps(logits: NDArray[np.float64], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """(offsets,) IoU of ``logits + offset >= 0`` with the shares of foreground."""
    order = logits.ravel().argsort()[::-1]
    inside = np.concatenate([[0], truth.ravel()[order].cumsum()])
    drawn = np.searchsorted(-logits.ravel()[order], OFFSETS, side="right")
    intersection = inside[drawn]
    return np.asarray(intersection / (drawn + inside[-1] - intersection))


def _area(logits: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    """Area under the ROC curve of the cells; 0.5 where one side is empty."""
    order = logits.ravel().argsort(kind="stable")
    inside = truth.ravel()[order]
    outside = 1 - inside
    pairs = float(inside.sum() * outside.sum())
    return float((inside * (outside.cumsum() - outside / 2)).sum()) / pairs if pairs > 0 else 0.5


# ---- What is wrong ---------------------------------------------------------------------------------------------------


def _by_themselves(photos: Photos, same: Sequence[int]) -> list[Suspect]:
    """What needs no model: masks that mark nothing, next to nothing or everything, and photos given twice."""
    suspects = []
    count = len(photos.class_index)
    negatives = {same[photo] for photo in range(count, len(same))}
    for shot in range(count):
        name, number = photos.label(shot)
        if not photos.tagged[shot] and not photos.masks[shot].any():
            empty = not photos.marked[shot]
            reason = "has a mask without a pixel" if empty else "has a mask of too few pixels to say anything"
            suspects.append(Suspect(name, number, reason, 1.0 if empty else 0.99))
        elif photos.marked[shot] < _NOTHING:
            suspects.append(Suspect(name, number, f"marks {100 * photos.marked[shot]:.2g} % of the photo alone", 0.95))
        elif photos.marked[shot] > _ALL and not photos.tagged[shot] and len(photos.shots_like(shot)) < 3:
            suspects.append(Suspect(name, number, "marks the whole photo; a photo without a mask says as much", 0.4))
        if same[shot] in negatives:
            suspects.append(Suspect(name, number, "is among the negatives too", 1.0))
        for other in range(shot):
            if same[other] != same[shot]:
                continue
            earlier, earlier_number = photos.label(other)
            if earlier == name:
                suspects.append(Suspect(name, number, f"is the same photo as shot {earlier_number}", 1.0))
            elif _contradict(photos, shot, other):
                reason = f"is the same photo as {_called(earlier, earlier_number)}, and marks the same place"
                suspects.append(Suspect(name, number, reason, 1.0))
            else:
                continue
            break
    return suspects


def _contradict(photos: Photos, one: int, other: int) -> bool:
    """Whether two classes are said to be at the same place of a photo; at two places they may well be."""
    first, second = photos.masks[one], photos.masks[other]
    smaller = min(first.sum(), second.sum())
    return bool((first & second).sum() > smaller / 2) or not smaller


#: Shares of a photo: a mask above the one marks all of it, one below the other nothing that could be learnt.
_ALL, _NOTHING = 0.95, 0.0005
#: A mask of more than this is whole, and has no outside in which anything could be.
_EVERYTHING = 0.999
#: A suspect whose class's photos have to be compared is named from this sureness on.
_NAMED_FROM = 0.6
#: A shot's log odds of being bad in one of three ways, against none of its class's shots being so: each number times
#: what :func:`_signs` says of it. Fitted as ``docs/calibration.md`` tells.
_WAYS_OF_WRONG: Mapping[str, Mapping[str, float]] = {
    "mask": {"always": -8.18, "whole": 5.45, "unlike maps": 1.35, "size": 2.17, "finds little": 4.25, "misleads": 35.6},
    "moved": {"always": -4.66, "gain": 0.95, "more gain": 0.81, "size": -0.48, "finds little": 2.22, "misleads": 61.5},
    "another thing": {"always": -0.53, "farther": 4.50, "far": 3.36, "less like": 6.41, "misleads": 39.2},
}
#: What the gain of moving a mask counts at least and at most.
_GAIN = (-3.0, 6.0)


def _unlike(photos: Photos, shots: Sequence[int], looked: Mapping[int, _Looked]) -> list[Suspect]:
    """The shot that fits the other masked shots of its class least, if one does not fit; of two nobody can tell."""
    masked = {shot for shot in shots if shot in looked and looked[shot].overlaps is not None}
    seen = {shot: looked[shot] for shot in sorted(masked) if masked & set(looked[shot].others)}
    if len(seen) < 3:
        return []
    moved = {shot: best_offset(photos.pixels[shot], photos.masks[shot], one.found.map) for shot, one in seen.items()}
    signs = _signs(photos, seen, moved)
    odds = {
        shot: {
            way: sum(weight * found.get(sign, 1.0) for sign, weight in weights.items())
            for way, weights in _WAYS_OF_WRONG.items()
        }
        for shot, found in signs.items()
    }
    summed = {shot: sum(np.exp(sorted(ways.values()))) for shot, ways in odds.items()}
    total = 1 + sum(sorted(summed.values()))
    suspects = []
    for shot, value in summed.items():
        sureness = float(min(0.99, value / total))
        if sureness >= _NAMED_FROM:
            name, number = photos.label(shot)
            way = max(odds[shot], key=lambda way: odds[shot][way])
            others = [other for other in seen if other != shot]
            suspects.append(Suspect(name, number, _reason(photos, shot, others, seen, way, moved[shot]), sureness))
    return suspects


def _signs(photos: Photos, seen: Mapping[int, _Looked], moved: Mapping[int, Moved]) -> dict[int, dict[str, float]]:
    """Of every shot what may tell that it is bad: mostly how far it is from the median of the others."""
    best = int(np.median(np.sort([one.overlaps for one in seen.values()], axis=0), axis=0).argmax())
    level4, level3 = ({shot: photos.look(shot, level) for shot in seen} for level in (0, 1))
    others = {shot: [other for other in one.others if other in seen] for shot, one in seen.items()}
    far = {shot: distance(level4[shot], [level4[other] for other in others[shot]]) for shot in seen}
    less = {shot: -margin(level3[shot], [level3[other] for other in others[shot]]) for shot in seen}
    gains = {shot: float(np.clip(one.gain, *_GAIN)) for shot, one in moved.items()}
    maps = {shot: -float(_log_odds(one.area)) for shot, one in seen.items()}
    alone = {shot: -_as_support(shot, seen, lambda one, at: one.alone[at, best]) for shot in seen}
    sizes = {shot: float(np.log(photos.marked[shot] + 1e-4)) for shot in seen}
    return {
        shot: {
            "whole": float(photos.marked[shot] > _ALL),
            "unlike maps": _apart(maps, shot),
            "size": abs(_apart(sizes, shot)),
            "finds little": _apart(alone, shot),
            "gain": gains[shot],
            "more gain": _apart(gains, shot),
            "far": far[shot],
            "farther": _apart(far, shot),
            "less like": _apart(less, shot),
            "misleads": _as_support(shot, seen, lambda one, at: one.without[at] - one.area),
        }
        for shot in seen
    }


def _as_support(shot: int, seen: Mapping[int, _Looked], value: Callable[[_Looked, int], float]) -> float:
    """The mean over the others of a value that each has with this shot as a support; 0 where none was asked with it."""
    values = sorted(float(value(one, one.others.index(shot))) for one in seen.values() if shot in one.others)
    return float(np.mean(values)) if values else 0.0


def _apart(values: Mapping[int, float], shot: int) -> float:
    return values[shot] - float(np.median([value for other, value in values.items() if other != shot]))


def _log_odds(share: float) -> float:
    share = min(max(share, 0.02), 0.98)
    return float(np.log(share) - np.log1p(-share))


def _reason(
    photos: Photos, shot: int, others: Sequence[int], seen: Mapping[int, _Looked], way: str, moved: Moved
) -> str:
    share, usual = float(photos.marked[shot]), float(np.median(photos.marked[list(others)]))
    inverted = seen[shot].area < 0.35 and (way == "mask" or share > 0.5)
    if share > _ALL and usual < _ALL:
        if share < _EVERYTHING and inverted:
            return "seems to be inverted: the others find the class outside the mask"
        return "marks the whole photo, the others an object"
    if share < usual / 20:
        return f"marks {100 * share:.2g} % of the photo, the others {100 * usual:.2g} %"
    if way == "moved":
        return f"has a mask that seems to be moved: it fits the photo better {_in_words(moved)}"
    if inverted:
        return "seems to be inverted: the others find the class outside the mask"
    if way == "another thing":
        return "is unlike the others: what it marks looks like another thing"
    return "has a mask that does not follow what the others find"


def _in_words(moved: Moved) -> str:
    steps = [
        (abs(moved.right), "of the width to the right" if moved.right > 0 else "of the width to the left"),
        (abs(moved.down), "of the height down" if moved.down > 0 else "of the height up"),
    ]
    said = [f"{100 * length:.0f} % {where}" for length, where in steps if length >= 0.01]
    return " and ".join(said) or "nearby"


def _with_claim(suspect: Suspect, claimed_by: str | None) -> Suspect:
    if claimed_by is None or suspect.sureness >= 1:
        return suspect
    return replace(suspect, reason=f"{suspect.reason}; looks like {claimed_by!r}")


# ---- What is set -----------------------------------------------------------------------------------------------------


def _trusted(photos: Photos, way: int, looked: Mapping[int, _Looked], doubted: set[tuple[str, int]]) -> list[int]:
    """A class's shots that were asked and that nobody suspects."""
    return [shot for shot in photos.shots_of(way) if shot in looked and photos.label(shot) not in doubted]


def _evidence(
    photos: Photos,
    way: int,
    looked: Mapping[int, _Looked],
    asked: Mapping[tuple[int, int], _Found],
    doubted: set[tuple[str, int]],
    alike: NDArray[np.float64],
) -> Evidence:
    """Near-duplicates find each other as nothing new will be found: each is asked with the others alone, and together
    they count like one photo."""
    trusted = [shot for shot in _trusted(photos, way, looked, doubted) if looked[shot].told]
    worth = {shot: 1 / float(np.sort(alike[shot, trusted]).sum()) for shot in trusted}
    outside = {shot: looked[shot].outside for shot in trusted}
    count = len(photos.class_index)
    return Evidence(
        own=np.array([looked[shot].found.peak for shot in trusted]),
        own_worth=np.array([worth[shot] for shot in trusted]),
        outside=np.array([peak for peak in outside.values() if peak is not None]),
        outside_worth=np.array([worth[shot] for shot, peak in outside.items() if peak is not None]),
        foreign=np.array([found.peak for (photo, one), found in asked.items() if one == way and photo < count]),
        named=np.array([found.peak for (photo, one), found in asked.items() if one == way and photo >= count]),
        overlaps=_overlaps_of(looked, trusted),
    )


def _seen(
    photos: Photos,
    looked: Mapping[int, _Looked],
    asked: Mapping[tuple[int, int], _Found],
    presences: Sequence[Presence],
    offsets: Sequence[float],
) -> tuple[tuple[ExaminedShot, ...], tuple[str, ...]]:
    """Every shot with what its own class and others find in it, and remarks on photos that show what nobody said."""

    def probability(found: _Found, way: int) -> float:
        return float(1 / (1 + np.exp(-presences[way].slope * (found.peak - presences[way].cut))))

    def overlap(shot: int, found: _Found, way: int) -> float:
        truth = _shares(photos.masks[shot], found.map.shape)
        return float(_overlaps(found.map, truth)[np.searchsorted(OFFSETS, offsets[way])])

    shots, remarks = [], []
    for shot in range(len(photos.class_index)):
        name, number = photos.label(shot)
        way, one = int(photos.class_index[shot]), looked.get(shot)
        masked = not photos.tagged[shot] and bool(photos.masks[shot].any())
        iou = overlap(shot, one.found, way) if one is not None and masked else None
        own = probability(one.found, way) if one is not None else 1.0
        there = {
            other
            for (photo, other), found in asked.items()
            if photo == shot and probability(found, other) > 0.5 and presences[other].shows(np.array(found.peak)) > 0.5
        }
        claims = {
            other: probability(found, other)
            for (photo, other), found in asked.items()
            if photo == shot and masked and overlap(shot, found, other) > CLAIM_OVERLAP
        }
        claims = {other: value for other, value in claims.items() if value > max(0.5, own + CLAIM_MARGIN)}
        claim = max(claims, key=lambda other: (claims[other], photos.names[other]), default=None)
        shows = tuple(sorted(photos.names[other] for other in there if other != claim))
        score = None if one is None else float(1 / (1 + np.exp(-one.found.peak)))
        claimed_by = None if claim is None else photos.names[claim]
        shots.append(ExaminedShot(name, number, bool(photos.tagged[shot]), score, iou, claimed_by, shows))
        remarks += [f"{_called(name, number)} seems to show {other!r} too" for other in shows]
    for (photo, way), found in sorted(asked.items(), key=lambda one: one[0]):
        if photo >= len(photos.class_index) and probability(found, way) > 0.5:
            number = photo - len(photos.class_index) + 1
            remarks.append(f"negative {number} seems to show {photos.names[way]!r}; if it does, take it out")
    return tuple(shots), tuple(remarks)


def _of_near_duplicates(photos: Photos, alike: NDArray[np.float64], same: Sequence[int]) -> list[str]:
    """A remark on every group of a class's shots that are nearly the same photo; of those that are it, one is left."""
    remarks = []
    for way, name in enumerate(photos.names):
        shots = photos.shots_of(way)
        left = list({same[shot]: shot for shot in reversed(shots)}.values())[::-1]
        while left:
            group, left = [left[0]], left[1:]
            for shot in group:  # grows while it is walked through
                group += [other for other in left if alike[shot, other] > 0.5]
                left = [other for other in left if other not in group]
            if len(group) > 1:
                numbers = [str(photos.label(shot)[1]) for shot in sorted(group)]
                remarks.append(
                    f"shots {', '.join(numbers[:-1])} and {numbers[-1]} of {name!r} are nearly the same photo "
                    "and count like one; others of other places would say more"
                )
    return remarks


def _summary(
    photos: Photos,
    way: int,
    evidence: Evidence,
    presence: Presence,
    offset: float,
    delta: float,
    asked: Mapping[tuple[int, int], _Found],
) -> ExaminedClass:
    right, low, high = presence.right()
    return ExaminedClass(
        name=photos.names[way],
        shots=len(photos.shots_of(way)),
        calibrated=evidence.enough,
        threshold=float(1 / (1 + np.exp(-presence.cut))) if evidence.enough else delta,
        offset=offset,
        right=right,
        interval=(low, high),
        positives=evidence.shown,
        foreign=len(evidence.foreign),
        negatives=len(evidence.named),
        advice=_advice(photos, way, presence, asked),
    )


def _advice(
    photos: Photos,
    way: int,
    presence: Presence,
    asked: Mapping[tuple[int, int], _Found],
) -> str:
    """The photo on the side of which less is known."""
    name = photos.names[way]
    if len(photos.shots_of(way)) == 1:
        return f"one photo proves little: a second one of {name!r}, with its mask, would help most"
    if presence.covariance[0, 0] >= presence.covariance[1, 1]:
        return f"one more photo of {name!r}, with its mask, would help most"
    count = len(photos.class_index)
    others = {photo: found.peak for (photo, one), found in asked.items() if one == way and photo < count}
    nearest = max(others, key=lambda photo: (others[photo], photos.label(photo)), default=None)
    such = "" if nearest is None else f", such as one with {photos.label(nearest)[0]!r} alone"
    return f"a photo without {name!r}{such}, given as a negative, would help most"


def _map(one: _Looked | None) -> NDArray[np.float32] | None:
    return None if one is None else np.asarray(1 / (1 + np.exp(-one.found.map)), dtype=np.float32)


def _called(name: str, shot: int) -> str:
    return f"shot {shot} of {name!r}"


def _pair(values: Sequence[float]) -> tuple[float, float]:
    low, high = values
    return float(low), float(high)
