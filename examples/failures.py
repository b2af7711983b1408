"""What asnet-base gets right and wrong on photos that are free to share: draws failures.jpg.

Usage: python examples/failures.py    (pip install scikit-image, which has two of the photos)
"""

import numpy as np
from PIL import Image
from skimage import data

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS


def far(path):
    """The photo as if from afar: 80 pixels wide on gravel; a mask likewise, on nothing."""
    near = Image.open(path)
    field = Image.fromarray(data.gravel() if near.mode == "RGB" else np.zeros((512, 512), np.uint8))
    field = field.convert(near.mode).resize((640, 480))
    field.paste(near.resize((80, 80 * near.height // near.width), Image.Resampling.BOX), (240, 180))
    return field


cat, person, tiny = SUPPORTS["cat"], SUPPORTS["person"], [far(path) for path in SUPPORTS["cat"]]
grey, dog = ([PHOTOS / f"{stem}.jpg", PHOTOS / f"{stem}_mask.png"] for stem in ("person_query_gray", "dog"))
kitten, face, officer = (PHOTOS / f"{stem}.jpg" for stem in ("cat_query", "cat_query_closeup", "person_query"))
horse, crop = Image.fromarray(data.horse()).convert("RGB"), far(face).crop((180, 130, 380, 290))
CASES = {"cat": ([cat], kitten), "cat (none here)": ([cat], PHOTOS / "coffee.jpg"), "person": ([person], grey[0])}
CASES |= {"cat from afar": ([cat], far(face)), "the same, cropped": ([cat], crop)}
CASES |= {"cat, support from afar": ([tiny], kitten), "the same support, no cat": ([tiny], far(officer))}
CASES |= {"person, 1 shot": ([person], officer), "person, 2 shots": ([person, grey], officer)}
CASES |= {"dog (none here)": ([dog], kitten), "dog (a drawn horse)": ([dog], horse)}
model = FewShotSegmenter.from_pretrained("asnet-base")
sheet = Image.new("RGB", (4 * 300, 3 * 320), "white")
for tile, (name, (shots, query)) in enumerate(CASES.items()):
    prediction = model.predict(query, {name: shots})
    print(f"{name}: {prediction.scores[name]:.2f}, {(prediction.mask > 0).mean():.0%} of the photo")
    picture = Image.fromarray(prediction.plot())
    picture.thumbnail((290, 310))
    sheet.paste(picture, (tile % 4 * 300, tile // 4 * 320))
sheet.save("failures.jpg", quality=85)
