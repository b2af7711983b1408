"""Ask an exported model without torch and without fscs-sdk: numpy, pillow and onnxruntime are all it needs.

Usage: python examples/onnx_without_torch.py MODEL.onnx PHOTO MASK.png, with MODEL.onnx from 'fscs export'
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 4:
    sys.exit(__doc__)
model, photo, out = sys.argv[1:]
options = onnxruntime.SessionOptions()
options.log_severity_level = 3  # errors: it warns of constants that it has no use for
session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
about = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}

image = ImageOps.exif_transpose(Image.open(photo)).convert("RGB")
resized = image.resize((about["side"], about["side"]), Image.Resampling.BILINEAR)
scores, present, foreground, _ = session.run(None, {"photos": np.asarray(resized)[None]})


def bilinear(size: int, side: int) -> np.ndarray:
    """(size, side): what every pixel takes of ``side`` points, corners aligned."""
    return np.maximum(0, 1 - np.abs(np.linspace(0, side - 1, size)[:, None] - np.arange(side)))


maps = bilinear(image.height, foreground.shape[2]) @ foreground[0] @ bilinear(image.width, foreground.shape[3]).T
shown = np.where(present[0][:, None, None], maps, -1)  # a class that is absent is nowhere in the mask
counted = maps if about["background"] == "1 - mean" else maps[present[0]]
background = 1 - counted.sum(axis=0) / max(1, len(counted))
mask = np.where(shown.max(axis=0) >= background, shown.argmax(axis=0) + 1, 0)
for name, score, there in zip(about["names"], scores[0], present[0], strict=True):
    print(f"{name}: {'present' if there else 'absent'} ({score:.2f})")
Image.fromarray(mask.astype(np.uint8)).save(out)
