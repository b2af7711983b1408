"""How good a head is on photos that it was not trained on: one-way one-shot questions, half of them without the class.

For use between training runs, in batches and at a fixed size, so that a source takes seconds on a GPU: choose with
this, report with ``fscs evaluate``, which asks as users do.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.training.corpus import LabelledPhoto, Part, read_source
from fscs_sdk.training.data import UNKNOWN
from fscs_sdk.training.resident import ResidentPhotos, close_ups, cut, load_photos

#: Side of the squares that photos are held at and maps are compared at.
SIDE = 384
#: Share of a photo from which a class counts as an object to ask for; the data names nothing smaller.
SMALLEST = 0.003
#: Thresholds of presence (delta of eq. 2) that are tried.
DELTAS = (0.4, 0.5, 0.6, 0.7, 0.8)


@dataclass(frozen=True)
class Asked:
    """A source's photos: those that are asked about, and those that may be supports."""

    source: str
    part: str
    queries: tuple[LabelledPhoto, ...]
    supports: tuple[LabelledPhoto, ...]

    @classmethod
    def of(cls, root: Path, source: str, part: str, *, held_out: int) -> "Asked":
        """Read a source.

        Raises:
            ValueError: there is no such part, or it has no photo that could be asked about.
            OSError: the source cannot be read.
        """
        parts: dict[str, Part] = {
            "": "all", "all": "all", "training": "training", "held-out": "held-out", "validation": "validation"
        }  # fmt: skip
        if part not in parts:
            raise ValueError(f"'{source}' has no part '{part}'; a part is training, held out, validation or all")

        def read(part: Part) -> tuple[LabelledPhoto, ...]:
            found = read_source(root, source, excluded=(), held_out=held_out, smallest=SMALLEST, part=part)
            return tuple(photo for photo in found if photo.mask is not None)

        queries = read(parts[part])
        supports = queries + (read("training") if part == "held-out" else ())
        if not queries:
            raise ValueError(f"'{root / source}' has no photo with a mask in its part '{parts[part]}'")
        return cls(source, parts[part], queries, supports)


@dataclass(frozen=True)
class Question:
    """Is the class in the query, and where? Photos as numbers of ``Asked.queries`` and ``Asked.supports``."""

    query: int
    support: int
    name: str


def draw_questions(asked: Asked, count: int, *, seed: int = 0) -> list[Question]:
    """Classes in turn, in random order; every other time the query shows the class.

    Raises:
        ValueError: the source has no class with a query, a support beside it, and a photo without the class.
    """
    rng = np.random.default_rng(seed)
    names = sorted({name for photo in asked.queries for name in photo.large})
    shown = {name: [i for i, photo in enumerate(asked.queries) if name in photo.large] for name in names}
    absent = {name: [i for i, p in enumerate(asked.queries) if name not in p.classes.values()] for name in names}
    supports = {name: [i for i, photo in enumerate(asked.supports) if name in photo.large] for name in names}
    usable = [name for name in names if len({asked.supports[i].image for i in supports[name]}) > 1]
    if not usable:
        raise ValueError(f"'{asked.source}' has no class with two photos in its part '{asked.part}'")
    order = [name for _ in range(-(-count // (2 * len(usable)))) for name in rng.permutation(usable)]
    questions = []
    for number in range(count):
        name = str(order[number // 2])
        listed = absent[name] if number % 2 and absent[name] else shown[name]
        query = int(rng.choice(listed))
        others = [i for i in supports[name] if asked.supports[i].image != asked.queries[query].image]
        questions.append(Question(query, int(rng.choice(others)), name))
    return questions


def measure(
    network: FewShotNetwork, asked: Sequence[Asked], count: int, *, device: torch.device, at_once: int
) -> Iterator[dict[str, Any]]:
    """Every source's figures: presences that are right and mean IoU in percent by threshold, and mean IoU where told.

    ``told``: only of queries that show the class, as if presence were known. IoUs are pooled over a class's questions,
    then averaged over classes, at ``SIDE`` x ``SIDE`` positions.
    """
    for part in network.parts:
        part.to(device).eval()
    if device.type == "cuda":
        network.backbone.to(memory_format=torch.channels_last)
    for one in asked:
        questions = draw_questions(one, count)
        names = sorted({question.name for question in questions})
        queries = _load(one.queries, [question.query for question in questions], names, device)
        supports = _load(one.supports, [question.support for question in questions], names, device)
        counts = [
            _answer(network, queries, supports, torch.arange(start, min(start + at_once, count)), questions, names)
            for start in range(0, count, at_once)
        ]
        yield {"source": one.source, "part": one.part, "episodes": count, **_figures(counts)}


def _load(
    photos: Sequence[LabelledPhoto], chosen: Sequence[int], names: Sequence[str], device: torch.device
) -> ResidentPhotos:
    """One row for each question."""
    number = {name: index + 1 for index, name in enumerate(names)}
    tables = np.zeros((len(chosen), 256), np.int32)
    tables[:, 255] = UNKNOWN
    for row, index in zip(tables, chosen, strict=True):
        for value, name in photos[index].classes.items():
            row[value] = number.get(name, 0)
    return load_photos([photos[index] for index in chosen], list(tables), SIDE, device)


@dataclass(frozen=True)
class _Counts:
    """Of B questions: ``owner``, ``present`` (B,); ``overlap``, ``union`` of maps that are cut at 0.5; ``score``."""

    owner: Tensor
    present: Tensor
    overlap: Tensor
    union: Tensor
    foreground: Tensor
    score: Tensor


@torch.inference_mode()
def _answer(
    network: FewShotNetwork,
    queries: ResidentPhotos,
    supports: ResidentPhotos,
    rows: Tensor,
    questions: Sequence[Question],
    names: Sequence[str],
) -> _Counts:
    device = queries.images.device
    rows = rows.to(device)
    owner = torch.tensor([names.index(questions[int(row)].name) + 1 for row in rows], device=device)
    side = network.input_side
    whole = torch.tensor([0.0, 0.0, 1.0, 1.0], device=device).expand(len(rows), 4)
    boxes, small = close_ups(
        supports.labels(rows) == owner[:, None, None], supports.shapes[rows], network.close_up, None
    )
    shots, marks = cut(supports, rows, torch.where(small[:, None], boxes, whole), side)
    photos, _ = cut(queries, rows, whole, side)
    mask = (marks == owner[:, None, None]).float()
    with torch.autocast(device.type, torch.float16, enabled=device.type == "cuda"):
        query = network.encode_queries(photos.round().to(torch.uint8))
        support = network.encode_supports(shots.round().to(torch.uint8))
        logits = network.head(query, support, mask)
    probability = logits.float().softmax(dim=1)[:, 1]
    truth = queries.labels(rows)
    known, wanted = truth != UNKNOWN, truth == owner[:, None, None]
    found = F.interpolate(probability[:, None], (SIDE, SIDE), mode="bilinear", align_corners=True)[:, 0] >= 0.5
    found = found & known
    return _Counts(
        owner=owner.cpu(),
        present=wanted.flatten(1).any(dim=1).cpu(),
        overlap=(found & wanted).sum(dim=(1, 2)).cpu(),
        union=(found | wanted).sum(dim=(1, 2)).cpu(),
        foreground=wanted.sum(dim=(1, 2)).cpu(),
        score=probability.amax(dim=(1, 2)).cpu(),
    )


def _figures(counts: Sequence[_Counts]) -> dict[str, Any]:
    joined = {name: torch.cat([getattr(part, name) for part in counts]) for name in vars(counts[0])}
    owner, present, overlap, union, foreground, score = (joined[name] for name in joined)

    def mean_iou(overlap: Tensor, union: Tensor, among: Tensor) -> float:
        shares = [overlap[owner == o].sum() / union[owner == o].sum().clamp(min=1) for o in set(owner[among].tolist())]
        return round(100 * float(torch.stack(shares).mean()), 2)

    exact, iou = {}, {}
    for delta in DELTAS:
        shown = score >= delta
        exact[str(delta)] = round(100 * float((shown == present).float().mean()), 2)
        iou[str(delta)] = mean_iou(overlap * shown, torch.where(shown, union, foreground), present)
    told = mean_iou(overlap * present, union * present, present)
    return {"classes": len(set(owner.tolist())), "told": told, "exact_ratio": exact, "mean_iou": iou}
