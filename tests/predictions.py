"""Predictions to write and read back: any mask, any names; and what names people give."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from fscs_sdk import Prediction

quick = settings(max_examples=60, deadline=None, database=None)

#: Names that break what is careless about them.
ODD_NAMES = (
    "traffic light",
    "a/b",
    "a\\b",
    "a?b",
    "..",
    ".hidden",
    "-rf",
    "CON",
    "mask",
    "Mask",
    "overlay",
    "line\nbreak\r",
    "tab\there",
    'it\'s "quoted", 100 %',
    "comma, semicolon; # hash: [list] {map} & *",
    "naïve",
    "nai\u0308ve",
    "猫",
    "كلب",
    "🐕",
    "\x07\x7f\x85\u2028\ufeff",
    "null",
    "007",
    "=1+1",
    "x" * 255,
    "é" * 127,
)


def prediction(mask, names=None, *, scores=None, image=None):
    """The answer whose mask is this; a class is present if it has pixels, or has a score of 0.5 and more."""
    mask = np.asarray(mask)
    names = names or tuple(f"class {number}" for number in range(1, max(1, int(mask.max(initial=0))) + 1))
    found = set(np.unique(mask).tolist())
    scores = scores or {name: 0.9 if number in found else 0.1 for number, name in enumerate(names, start=1)}
    height, width = mask.shape
    foreground = np.random.default_rng(0).random((len(names), height, width), np.float32)
    return Prediction(
        names=tuple(names),
        scores=scores,
        present={name: score >= 0.5 for name, score in scores.items()},
        foreground=foreground,
        background=1 - foreground.max(axis=0, initial=0),
        mask=mask.astype(np.uint8 if len(names) <= 255 else np.uint16),
        image=np.full((height, width, 3), 120, np.uint8) if image is None else image,
    )


names = st.lists(st.sampled_from(ODD_NAMES) | st.text(min_size=1, max_size=8), min_size=1, max_size=4, unique=True)


@st.composite
def masks(draw, classes=3):
    """Masks of 0..classes: noise (holes, parts, single pixels), blocks, frames in frames, nothing, everything."""
    height, width = draw(st.integers(1, 20)), draw(st.integers(1, 20))
    kind = draw(st.sampled_from(["noise", "sparse", "dense", "blocks", "frames", "diagonal", "empty", "full"]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = random.integers(1, classes + 1, (height, width))
    rows, columns = np.mgrid[:height, :width]
    if kind in ("noise", "sparse", "dense"):
        share = {"noise": 0.5, "sparse": 0.1, "dense": 0.9}[kind]
        return np.where(random.random((height, width)) < share, values, 0)
    if kind == "blocks":
        coarse = random.integers(0, classes + 1, (-(-height // 4), -(-width // 4)))
        return coarse.repeat(4, 0).repeat(4, 1)[:height, :width]
    if kind == "frames":
        depth = np.minimum.reduce([rows, columns, height - 1 - rows, width - 1 - columns])
        return np.where(depth % 2 == 0, 1 + depth // 2 % classes, 0)
    if kind == "diagonal":
        return np.where((rows + columns) % draw(st.integers(2, 5)) == 0, 1, 0)
    return np.full((height, width), 0 if kind == "empty" else classes)


@st.composite
def predictions(draw):
    """Any prediction: a mask of up to as many classes as there are names, and any scores."""
    chosen = tuple(draw(names))
    mask = draw(masks(classes=len(chosen)))
    scores = {name: draw(st.floats(0, 1)) for name in chosen}
    return prediction(mask, chosen, scores=scores)
