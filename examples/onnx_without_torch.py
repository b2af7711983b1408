"""Ask an exported model without torch and without fscs-sdk: numpy, pillow and onnxruntime are all it needs.

Usage: python examples/onnx_without_torch.py MODEL.onnx PHOTO MASK.png    (of 8 bits, opaque; 255 classes at most)
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

_, model, photo, out = sys.argv if len(sys.argv) == 4 else sys.exit(__doc__)
onnxruntime.set_default_logger_severity(3)  # errors: it warns of constants that it has no use for
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
resized = np.asarray(image.resize((about["side"], about["side"]), Image.Resampling.BILINEAR))
answers = zip(session.get_outputs(), session.run(None, {"photos": resized[None]}), strict=True)
found = {output.name: answer[0] for output, answer in answers}
present, small, size = found["present"], found.get("maps", found["foreground"]), (image.height, image.width)


def spread(planes: np.ndarray, *places: np.ndarray) -> np.ndarray:
    """Planes (..., h, w) at the rows and columns of these places between their points, bilinearly."""
    sides = zip(places, planes.shape[-2:], strict=True)
    down, across = (np.maximum(0, 1 - abs(p[:, None] - np.arange(n))) for p, n in sides)
    return down @ planes @ across.T


maps = spread(small, *(np.linspace(0, n - 1, length) for n, length in zip(small.shape[1:], size, strict=True)))
for plane, added in zip(maps, found.get("edges", ()), strict=False):  # what of red, green, blue and 1 is added
    grid = [((np.arange(n) + 0.5) * about["side"] / about["edges"] / n - 0.5).clip(0, len(added[0]) - 1) for n in size]
    plane += (spread(added, *grid) * np.dstack([image, np.ones(size)]).transpose(2, 0, 1)).sum(axis=0)
shown = np.where(present[:, None, None], maps.clip(0, 1), -1)  # a class that is absent is nowhere in the mask
counted = maps.clip(0, 1) if about["background"] == "1 - mean" else shown[present]
mask = np.where(shown.max(0) >= 1 - counted.sum(0) / max(1, len(counted)), shown.argmax(0) + 1, 0)
for name, score, there in zip(about["names"], found["scores"], present, strict=True):
    print(f"{name}: {'present' if there else 'absent'} ({score:.2f})")
Image.fromarray(mask.astype(np.uint8)).save(out)
