"""Two classes with five labelled photos each, encoded once and saved; later runs only load them.

Usage: python examples/five_shots_saved.py
"""

from pathlib import Path

import numpy as np

from fscs_sdk import FewShotSegmenter, SupportSet
from fscs_sdk.demo import PHOTOS
from fscs_sdk.images import read_image

FILE = Path("pets_and_people.safetensors")
SHOTS = {"cat": ["cat_support", "cat_query", "cat_query_closeup"], "person": ["person_support", "person_query_gray"]}


def five_shots(stems: list[str]) -> list[tuple[np.ndarray, np.ndarray]]:
    """The photos and masks, then their mirror images until there are five: put five photos of your own here."""
    pairs = [(read_image(PHOTOS / f"{s}.jpg"), read_image(PHOTOS / f"{s}_mask.png")[:, :, 0] > 0) for s in stems]
    mirrored = [(np.ascontiguousarray(p[:, ::-1]), np.ascontiguousarray(m[:, ::-1])) for p, m in pairs]
    return (pairs + mirrored + pairs)[:5]


model = FewShotSegmenter.from_pretrained()
if not FILE.exists():
    supports = model.encode({name: five_shots(stems) for name, stems in SHOTS.items()})  # the slow half, once
    supports.save(FILE)
supports = SupportSet.load(FILE)
for query in ("person_query.jpg", "coffee.jpg"):
    prediction = model.predict(PHOTOS / query, supports)
    print(f"{query}: {prediction}")
