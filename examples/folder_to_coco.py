"""A folder of photos, labelled by one photo for each class -> COCO annotations, resumable.

Usage: python examples/folder_to_coco.py [FOLDER [OUT]]    (pip install 'fscs-sdk[formats]')
"""

import sys

from pycocotools.coco import COCO

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk.folder import predict_folder

folder = sys.argv[1] if len(sys.argv) > 1 else f"{PHOTOS}/*query*.jpg"
out = sys.argv[2] if len(sys.argv) > 2 else "coco"
model = FewShotSegmenter.from_pretrained()
summary = predict_folder(model, [folder], SUPPORTS, out, formats=("coco", "overlay"))
print(f"{summary.answered} answered, {summary.done_before} done before, {len(summary.failed)} failed")

annotations = COCO(summary.collected[0])
for category in annotations.loadCats(annotations.getCatIds()):
    found = annotations.getImgIds(catIds=[category["id"]])
    print(f"{category['name']}: in {len(found)} photos")
