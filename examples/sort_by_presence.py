"""Sort photos into folders by what is in them: OUT/cat, OUT/person, OUT/none; a photo may go into several.

Usage: python examples/sort_by_presence.py [FOLDER [OUT]]
"""

import shutil
import sys
from pathlib import Path

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PHOTOS
out = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("sorted_photos")
model = FewShotSegmenter.from_pretrained()
supports = model.encode(SUPPORTS, threshold={"person": 0.7})  # ask for more evidence where false alarms are dear
photos = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg"))
for photo, prediction in zip(photos, model.stream(photos, supports), strict=True):
    found = [name for name, present in prediction.present.items() if present] or ["none"]
    for name in found:
        (out / name).mkdir(parents=True, exist_ok=True)
        shutil.copy2(photo, out / name)
    print(f"{photo.name}: {', '.join(found)}")
