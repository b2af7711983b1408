"""A class's threshold and mask offset from a handful of photos: pure arithmetic on logits, no network and no files.

A *peak* is the largest value of a shot's map (the difference of its two logits) in a photo, or the mean of several
shots' peaks (:func:`~fscs_sdk.model.ifsl.pool_shots`): eq. 2 compares it with the model's delta, for every class of
every domain alike. Here two groups of peaks are compared instead, photos that show the class and photos that do not,
each taken for normal, with one spread. What is expected before any photo is seen is the model's own rule: the two means
lie on either side of delta's logit. So a class with little evidence stays near the model's answer, and one with much
leaves it. All numbers of the prior are in logits and were chosen on photos that the model asked had not been trained on
(``docs/calibration.md`` says which).
"""

from dataclasses import dataclass, field
from functools import lru_cache
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]

#: Mask offsets that are tried, in logits.
OFFSETS: Values = np.arange(-4, 4.01, 0.25)
#: How far apart the two means are expected, and the standard deviations of that distance and of their middle.
GAP, GAP_SPREAD, MIDDLE_SPREAD = 3.0, 1.0, 2.0
#: Spread of the peaks within a group, and how many photos that expectation is worth.
SPREAD, SPREAD_WORTH = 1.2, 10.0
#: A photo of another class may show this one, unmarked: the share expected, and how many photos that is worth.
UNMARKED, UNMARKED_WORTH = 0.1, 10.0
#: Named negatives that halve what the photos of other classes count.
HALVING = 5
#: Photos with the class that it takes to lower the model's own cut.
FEWEST = 2
#: The peak away from the mask, in a photo that shows the class, is lower than one in a photo without it, and says less.
OUTSIDE_SHIFT, OUTSIDE_WEIGHT = 0.7, 0.15
#: What an offset costs: half of it squared, in IoU, shared among the shots.
OFFSET_PRICE = 0.025
#: Offsets this near to each other are judged together, so that one lucky pixel decides nothing.
OFFSET_BLUR = 0.5
#: In tiles a class gains so much IoU at each halving of the share of its photos that it covers, from a share at which
#: it gains nothing, and that much at most; how many shots that expectation is worth; above ``LARGEST`` nobody asks.
USUAL_GAIN, EVEN_SHARE, MOST_USUAL, USUAL_WORTH, LARGEST = 0.05, 0.15, 0.1, 2, 0.25
STEPS = 15


@dataclass(frozen=True, eq=False)
class Evidence:
    """What photos say of one class, in logits.

    Attributes:
        own: peaks of the class's photos, each asked with the other shots alone.
        own_worth: in (0, 1], what each of them counts: near-duplicates share what one photo counts. None: 1 each.
        outside: peaks in the same maps, well away from the masks.
        outside_worth: what each of them counts of :data:`OUTSIDE_WEIGHT`. None: 1 each.
        foreign: peaks of other classes' photos; one or the other may show this class too.
        named: peaks of photos that the caller says are without it.
        overlaps: (photos with a mask, offsets) IoU of those maps with the masks at every one of :data:`OFFSETS`.
    """

    own: Values = field(default_factory=lambda: np.zeros(0))
    own_worth: Values | None = None
    outside: Values = field(default_factory=lambda: np.zeros(0))
    outside_worth: Values | None = None
    foreign: Values = field(default_factory=lambda: np.zeros(0))
    named: Values = field(default_factory=lambda: np.zeros(0))
    overlaps: Values = field(default_factory=lambda: np.zeros((0, len(OFFSETS))))

    @property
    def enough(self) -> bool:
        """Whether there is anything to change the model's rule for: two shots that are not nearly the same, or a named
        negative."""
        return self.shown >= FEWEST or len(self.named) >= 1

    @property
    def shown(self) -> int:
        """How many different photos show the class: near-duplicates count together like one."""
        return len(self.own) if self.own_worth is None else round(float(np.sort(self.own_worth).sum()))


@dataclass(frozen=True, eq=False)
class Presence:
    """Where a class's peaks are expected: with it around ``means[0]``, without it around ``means[1]``.

    Attributes:
        means: of the two groups, in logits.
        covariance: (2, 2), what is not known of the means.
        spread: standard deviation of a photo's peak around its group's mean.
        spread_worth: how many photos say so.
        unmarked: the share of other classes' photos that show the class.
        lowest: the cut is this at least.
    """

    means: Values
    covariance: Values
    spread: float
    spread_worth: float
    unmarked: float
    lowest: float

    @property
    def spreads(self) -> Values:
        """Of the next photo's peak in either group, with what is not known of the mean."""
        return np.asarray(np.sqrt(self.spread**2 + np.diag(self.covariance)))

    @property
    def gap(self) -> float:
        """Between the means; a class that is found less where it is than where it is not keeps a small one."""
        return float(max(self.means[0] - self.means[1], 0.5 * self.spread))

    @property
    def cut(self) -> float:
        """The peak that is equally far from both groups, in their spreads."""
        shown, absent = self.spreads
        return max(self.lowest, float((self.means[0] * absent + self.means[1] * shown) / (shown + absent)))

    @property
    def slope(self) -> float:
        """How fast the odds of presence rise at the cut: ``1 / (1 + exp(-slope (peak - cut)))`` is its probability."""
        return float(self.gap / np.prod(self.spreads))

    def shows(self, peaks: Values) -> Values:
        """How probably each photo of another class shows this one, unmarked."""
        nearness = (np.square(peaks - self.means[1]) - np.square(peaks - self.means[0])) / (2 * self.spread**2)
        odds = np.log(self.unmarked) - np.log1p(-self.unmarked) + nearness
        return np.asarray(_logistic(odds))

    def right(self) -> tuple[float, float, float]:
        """The share of right answers to expect of photos half of which show the class, and its 95 % interval.

        The interval is that of the share over all means and spreads that the evidence leaves possible.
        """
        steps = _normal_steps()
        root = np.linalg.cholesky(self.covariance)
        first, second, third = (axis.ravel() for axis in np.meshgrid(steps, steps, steps, indexing="ij"))
        shown = self.means[0] + root[0, 0] * first
        absent = self.means[1] + root[1, 0] * first + root[1, 1] * second
        spread = self.spread * np.exp(third / sqrt(2 * self.spread_worth))
        shares = (_below((shown - self.cut) / spread) + _below((self.cut - absent) / spread)) / 2
        low, high = np.percentile(shares, [2.5, 97.5])
        return float(shares.mean()), float(low), float(high)


def fit_presence(evidence: Evidence, delta: float) -> Presence:
    """The two groups of a class's peaks, from what its photos say and the model's own rule.

    Photos of other classes are weighed by how probably they are without the class, which is found together with the
    rest in a fixed number of steps (expectation maximisation); those that the caller named count in full. The result
    does not depend on the order of the photos. Where fewer than two photos show the class, nothing lowers the model's
    own cut: that the class is found weakly in photos without it does not say how surely it is found where it is.

    Args:
        delta: the model's own threshold in (0, 1), eq. 2.
    """
    foreign, named = np.sort(evidence.foreign), np.sort(evidence.named)
    own, own_worth = _sorted(evidence.own, evidence.own_worth)
    outside, outside_worth = _sorted(evidence.outside, evidence.outside_worth)
    absent = np.concatenate([foreign, named, outside + OUTSIDE_SHIFT])
    worth = HALVING / (HALVING + len(named))
    fixed = np.concatenate([np.ones(len(named)), outside_worth * OUTSIDE_WEIGHT])
    expected = _logit(delta) + np.array([GAP / 2, -GAP / 2])
    alike = MIDDLE_SPREAD**2 - GAP_SPREAD**2 / 4
    precision = np.linalg.inv(np.array([[0, alike], [alike, 0]]) + (MIDDLE_SPREAD**2 + GAP_SPREAD**2 / 4) * np.eye(2))
    lowest = _logit(delta) if evidence.shown < FEWEST else -np.inf
    spread, unmarked, without = SPREAD, UNMARKED, np.ones(len(foreign))
    for _ in range(STEPS):
        weights = np.concatenate([worth * without, fixed])
        covariance = np.asarray(
            np.linalg.inv(precision + np.diag([own_worth.sum(), weights.sum()]) / spread**2), np.float64
        )
        sums = np.array([(own_worth * own).sum(), (weights * absent).sum()])
        means = np.asarray(covariance @ (precision @ expected + sums / spread**2), dtype=np.float64)
        squares = (own_worth * np.square(own - means[0])).sum() + (weights * np.square(absent - means[1])).sum()
        spread_worth = SPREAD_WORTH + own_worth.sum() + weights.sum()
        spread = sqrt((squares + SPREAD_WORTH * SPREAD**2) / spread_worth)
        found = Presence(means, covariance, spread, float(spread_worth), float(unmarked), lowest)
        without = 1 - found.shows(foreign)
        unmarked = ((1 - without).sum() + UNMARKED * UNMARKED_WORTH) / (len(foreign) + UNMARKED_WORTH)
    return found


def mask_offset(overlaps: Values) -> float:
    """The offset with the best IoU where every shot is found by the others, less a price for its size; 0 without shots.

    Args:
        overlaps: (shots, offsets) as :attr:`Evidence.overlaps`.
    """
    if not len(overlaps):
        return 0.0
    reach = round(3 * OFFSET_BLUR / (OFFSETS[1] - OFFSETS[0]))
    kernel = np.exp(-0.5 * np.square(np.arange(-reach, reach + 1) * (OFFSETS[1] - OFFSETS[0]) / OFFSET_BLUR))
    mean = np.pad(np.sort(overlaps, axis=0).mean(axis=0), reach, mode="edge")
    worth = np.convolve(mean, kernel / kernel.sum(), "valid") - OFFSET_PRICE * np.square(OFFSETS) / len(overlaps)
    best = np.flatnonzero(worth >= worth.max() - 1e-9)  # equally good: the one that changes least
    return float(OFFSETS[best[np.argmin(np.abs(OFFSETS[best]))]])


def tiles_pay(whole: Values, tiles: Values, share: float) -> bool:
    """Whether a class should be looked for in the query's tiles: what its shots say, and what is usual for its size.

    Args:
        whole, tiles: (shots, offsets) as :attr:`Evidence.overlaps`, of the same shots at both scales.
        share: of its photos that the class covers, in (0, 1].
    """
    usual = float(np.clip(USUAL_GAIN * np.log2(EVEN_SHARE / max(share, 1e-6)), -MOST_USUAL, MOST_USUAL))
    gains = _nested(tiles) - _nested(whole)
    return bool(np.sort(gains).sum() + USUAL_WORTH * usual > 0)


def _nested(overlaps: Values) -> Values:
    """(shots,) IoU of every shot at the offset that the other shots would set."""
    offsets = [mask_offset(np.delete(overlaps, shot, axis=0)) for shot in range(len(overlaps))]
    return np.asarray(overlaps[np.arange(len(overlaps)), np.searchsorted(OFFSETS, offsets)])


def _sorted(peaks: Values, worth: Values | None) -> tuple[Values, Values]:
    """Peaks in ascending order, and what each counts."""
    worth = np.ones(len(peaks)) if worth is None else worth
    order = np.lexsort((worth, peaks))
    return peaks[order], worth[order]


def _logit(share: float) -> float:
    share = min(max(share, 0.01), 0.99)  # a model that asks for 0 or 1 has no rule to stay near
    return float(np.log(share) - np.log1p(-share))


def _logistic(values: Values) -> Values:
    return np.asarray(1 / (1 + np.exp(-np.clip(values, -60, 60))))


def _below(values: Values) -> Values:
    """The normal distribution function, within 2e-4 (a logistic with a cubic term; no library for one function)."""
    values = np.clip(values, -8, 8)
    return _logistic(1.5976 * values + 0.070566 * values**3)


@lru_cache(maxsize=1)
def _normal_steps() -> Values:
    """Nine equally probable values of a normal variable."""
    grid = np.linspace(-5, 5, 4001)
    return np.asarray(np.interp((np.arange(9) + 0.5) / 9, _below(grid), grid))
