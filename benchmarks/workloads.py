"""What is measured: the four workloads, the model they run, and the two sides of the comparison."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.naive import NaiveLoop
from fscs_sdk.images import resize_image, resize_mask
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.ifsl import Inference, infer
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import SupportSet

Photo = NDArray[np.uint8]
#: Height and width of the synthetic photos, as in PASCAL VOC.
PHOTO_SIZE = (375, 500)


@dataclass(frozen=True)
class Workload:
    """N-way K-shot questions; ``fixed``: the supports of all queries are the same, so that they can be encoded once."""

    name: str
    ways: int
    shots: int
    fixed: bool
    what: str


WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("W1", 1, 1, fixed=False, what="one query, 1-way 1-shot, supports given each time"),
        Workload("W2", 5, 1, fixed=True, what="a folder of queries, 5-way 1-shot, fixed supports"),
        Workload("W3", 5, 5, fixed=True, what="a folder of queries, 5-way 5-shot, fixed supports"),
        Workload("W4", 20, 1, fixed=True, what="a folder of queries, 20-way 1-shot, fixed supports"),
    )
}


def synthetic_photo(seed: int) -> Photo:
    """Smooth coloured blobs, uint8 (375, 500, 3): speed does not depend on what a photo shows."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return np.ascontiguousarray(resize_image(coarse, max(PHOTO_SIZE))[: PHOTO_SIZE[0], : PHOTO_SIZE[1]])


def synthetic_mask(seed: int) -> NDArray[np.bool_]:
    """A rectangle of a ninth to a quarter of the photo."""
    rng = np.random.default_rng(seed)
    mask = np.zeros(PHOTO_SIZE, np.bool_)
    top, left = int(rng.integers(0, PHOTO_SIZE[0] // 2)), int(rng.integers(0, PHOTO_SIZE[1] // 2))
    mask[top : top + PHOTO_SIZE[0] // 2, left : left + PHOTO_SIZE[1] // 3] = True
    return mask


def synthetic_network(backbone: str, side: int, *, statistics: bool = True) -> FewShotNetwork:
    """ASNet on a backbone with random weights: the same work as with any.

    Args:
        statistics: take the batch statistics from synthetic photos, so that features keep their scale.
    """
    torch.manual_seed(0)
    trunk = Backbone(backbone)
    if statistics:
        _take_statistics(trunk, side)
    return FewShotNetwork(trunk, ASNet(trunk.spec.maps), side)


def _take_statistics(trunk: Backbone, side: int) -> None:
    photos = np.stack([resize_image(synthetic_photo(seed), side) for seed in range(2)])
    trunk.network.train()
    with torch.no_grad():
        for module in trunk.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
        trunk(torch.from_numpy(photos).permute(0, 3, 1, 2))
    trunk.network.eval()


class Sides:
    """A workload's photos, the shipped path and the naive loop over them, on one device."""

    def __init__(self, network: FewShotNetwork, workload: Workload, *, device: str) -> None:
        self.network, self.workload, self.device = network, workload, torch.device(device)
        for part in network.parts:
            part.to(self.device)
        count = workload.ways * workload.shots
        self.photos = [synthetic_photo(100 + number) for number in range(count)]
        self.masks = [synthetic_mask(100 + number) for number in range(count)]
        self.queries = [synthetic_photo(number) for number in range(4)]
        side = network.input_side
        self._query_tensors = [self._tensor(resize_image(query, side))[None] for query in self.queries]
        stacked = np.stack([resize_image(photo, side) for photo in self.photos])
        masks = np.stack([resize_mask(mask, side) for mask in self.masks])
        self._supports = self._tensor(stacked).view(workload.ways, workload.shots, 3, side, side)
        self._masks = torch.from_numpy(masks).to(self.device).view(workload.ways, workload.shots, side, side)

    def supports(self) -> dict[str, list[tuple[Photo, NDArray[np.bool_]]]]:
        """Class name -> its K (photo, mask)."""
        shots = list(zip(self.photos, self.masks, strict=True))
        per_class = self.workload.shots
        return {f"class {way}": shots[way * per_class : (way + 1) * per_class] for way in range(self.workload.ways)}

    def naive(self) -> Callable[[int], Inference]:
        """The naive loop's answer to query ``index``: photos are resized and on the device before the clock starts."""
        head = self.network.head
        if not isinstance(head, ASNet):
            raise TypeError("the naive loop knows ASNet alone")
        state = {name: tensor.float() for name, tensor in head.state_dict().items()}
        loop = NaiveLoop(self.network.backbone, state)
        thresholds = torch.full((self.workload.ways,), 0.5, device=self.device)

        def answer(index: int) -> Inference:
            query = self._query_tensors[index % len(self._query_tensors)]
            logits = loop.shot_logits(query, self._supports, self._masks)
            return infer(list(logits), PHOTO_SIZE, thresholds)

        return answer

    def shipped(self, dtype: str) -> Callable[[int], Any]:
        """The public path's answer to query ``index``, from decoded photos to a prediction."""
        segmenter = FewShotSegmenter(self.network, name="benchmark", device=self.device, dtype=dtype, edges=False)
        given = self.supports()
        supports: Mapping[str, object] | SupportSet = segmenter.encode(given) if self.workload.fixed else given
        return lambda index: segmenter.predict(self.queries[index % len(self.queries)], supports)

    def _tensor(self, photos: Photo) -> Tensor:
        return torch.from_numpy(photos).to(self.device).movedim(-1, -3)


@contextmanager
def counted_passes(backbone: Backbone) -> Iterator[list[int]]:
    """Collects the number of photos of every pass through the backbone."""
    photos: list[int] = []
    handle = backbone.register_forward_pre_hook(lambda _, inputs: photos.append(len(inputs[0])))
    try:
        yield photos
    finally:
        handle.remove()
