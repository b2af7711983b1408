"""One labelled photo of a cat, one of a person: which of them is in another photo, and where?

Usage: python examples/one_shot.py [PHOTO]
"""

import sys

from PIL import Image

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS

model = FewShotSegmenter.from_pretrained()  # asnet-mini: part of the package, no network needed
supports = {
    "cat": [PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png"],
    "person": [PHOTOS / "person_support.jpg", PHOTOS / "person_support_mask.png"],
}
query = sys.argv[1] if len(sys.argv) > 1 else PHOTOS / "cat_query.jpg"
prediction = model.predict(query, supports)

print(prediction.present, prediction.scores)  # which classes are there
print(prediction.mask.shape, prediction.mask.max())  # where: 0 = background, 1 = cat, 2 = person
Image.fromarray(prediction.plot()).save("one_shot.png")
