"""Every frame of a video: is it there, and where? Writes the overlays as a video.

Usage: python examples/video_frames.py [VIDEO [OUT.avi]]
"""

import sys
from pathlib import Path

import cv2
import numpy as np

from fscs_sdk import FewShotSegmenter
from fscs_sdk.demo import PHOTOS, SUPPORTS


def pan():
    """RGB frames of a camera that pans over the demo's cat."""
    photo = cv2.cvtColor(cv2.imread(str(PHOTOS / "cat_query.jpg")), cv2.COLOR_BGR2RGB)
    height, width = photo.shape[:2]
    for left in np.linspace(0, width // 3, 4).astype(int):
        yield photo[: height // 2 * 2, left : left + width // 2]


frames = cv2.VideoCapture(sys.argv[1]) if len(sys.argv) > 1 else pan()
model = FewShotSegmenter.from_pretrained()
out = Path(sys.argv[2] if len(sys.argv) > 2 else "video_overlay.avi")
writer = None
for prediction in model.stream(frames, model.encode(SUPPORTS)):
    picture = cv2.cvtColor(prediction.plot(), cv2.COLOR_RGB2BGR)
    if writer is None:
        writer = cv2.VideoWriter(str(out), cv2.VideoWriter_fourcc(*"MJPG"), 10, picture.shape[1::-1])
    writer.write(picture)
    print(prediction)
if writer is not None:
    writer.release()
