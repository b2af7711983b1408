"""Which few of many labelled photos to take as shots."""

import warnings
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.images import ImageSource, read_thumbnail
from fscs_sdk.references.annotations import EmbeddedPhoto, ReferenceWarning

#: The most photos of a class that are looked at; of more, so many at even distances in the data set's order.
LOOKED_AT = 100
#: Objects that cover less of their photo are taken only where there are too few others.
SMALL = 0.02
#: Side of the thumbnails by which photos are compared.
SIDE = 8


def choose(photos: Sequence[ImageSource | EmbeddedPhoto], shares: Sequence[float | None], count: int) -> list[int]:
    """The places of ``count`` photos that differ from each other, in ascending order; of no more than that, all.

    Objects that cover less than 2 % of their photo are put last. The others (100 at most, at even distances) are
    compared as thumbnails of 8 x 8 colours: as many photos as are wanted are picked, each as far as can be from those
    picked before (the first is the one nearest to the mean), every photo joins the picked one that it is nearest to,
    and of each of these groups the photo in its middle is taken. So shots differ, and none is an odd one out. The same
    photos give the same shots.

    Args:
        photos: the photos of a class.
        shares: how much of each the class covers, from 0 to 1, or None if that is not known.
        count: how many to take, 1 or more.
    """
    if len(photos) <= count:
        return list(range(len(photos)))
    large = [place for place, share in enumerate(shares) if share is None or share >= SMALL]
    if len(large) < count:
        known = [1.0 if share is None else share for share in shares]
        return sorted(sorted(range(len(photos)), key=lambda place: -known[place])[:count])
    looks: dict[int, NDArray[np.float32]] = {}
    for place in _evenly(large, max(LOOKED_AT, count)):
        photo = photos[place]
        try:
            source = photo.read() if isinstance(photo, EmbeddedPhoto) else photo
            looks[place] = read_thumbnail(source, SIDE).astype(np.float32).ravel()
        except (ValueError, OSError) as error:
            warnings.warn(f"not taken as a shot: {error}", ReferenceWarning, stacklevel=2)
    if len(looks) <= count:
        return sorted(looks)
    places = list(looks)
    return sorted(places[index] for index in _middles(np.stack(list(looks.values())), count))


def _evenly(places: list[int], most: int) -> list[int]:
    if len(places) <= most:
        return places
    return [places[index] for index in np.linspace(0, len(places) - 1, most).round().astype(int)]


def _middles(looks: NDArray[np.float32], count: int) -> list[int]:
    """Rows of ``looks`` (P, D), one from the middle of each of ``count`` groups."""
    distances = np.linalg.norm(looks[:, None] - looks[None], axis=2)
    picked = [int(np.linalg.norm(looks - looks.mean(axis=0), axis=1).argmin())]
    while len(picked) < count:
        nearest = distances[picked].min(axis=0)
        nearest[picked] = -1  # else, of photos that are all equal, one would be picked again
        picked.append(int(nearest.argmax()))
    group = distances[picked].argmin(axis=0)
    group[picked] = np.arange(count)  # of equal photos each keeps its own group
    members = [np.flatnonzero(group == number) for number in range(count)]
    return [int(own[distances[np.ix_(own, own)].sum(axis=1).argmin()]) for own in members]
