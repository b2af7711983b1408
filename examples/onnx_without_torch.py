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
answers = session.run(None, {"photos": np.asarray(resized)[None]})
found = {output.name: answer[0] for output, answer in zip(session.get_outputs(), answers, strict=True)}
scores, present = found["scores"], found["present"]


def spread(planes: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Bilinearly, to pixels that lie at these places between the points of the planes (..., h, w)."""
    down, across = (
        np.maximum(0, 1 - np.abs(places[:, None] - np.arange(count)))
        for places, count in zip((rows, columns), planes.shape[-2:], strict=True)
    )
    return down @ planes @ across.T


small = found["maps"] if about["edges"] else found["foreground"]  # the network's maps, brought to the photo's size
maps = spread(small, *(np.linspace(0, n - 1, size) for size, n in zip(image.size[::-1], small.shape[1:], strict=True)))
if about["edges"]:  # what makes them follow the photo's edges
    last = found["edges"].shape[-1] - 1
    scale = about["side"] / about["edges"]
    grid = [np.clip((np.arange(size) + 0.5) * scale / size - 0.5, 0, last) for size in image.size[::-1]]
    for plane, coefficients in zip(maps, found["edges"], strict=True):
        red, green, blue, rest = spread(coefficients, *grid)
        levels = np.asarray(image)
        plane += red * levels[..., 0] + green * levels[..., 1] + blue * levels[..., 2] + rest
    maps = maps.clip(0, 1)
shown = np.where(present[:, None, None], maps, -1)  # a class that is absent is nowhere in the mask
counted = maps if about["background"] == "1 - mean" else maps[present]
background = 1 - counted.sum(axis=0) / max(1, len(counted))
mask = np.where(shown.max(axis=0) >= background, shown.argmax(axis=0) + 1, 0)
for name, score, there in zip(about["names"], scores, present, strict=True):
    print(f"{name}: {'present' if there else 'absent'} ({score:.2f})")
Image.fromarray(mask.astype(np.uint8)).save(out)
