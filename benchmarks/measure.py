"""From workloads to figures: interleaved timings, stages, peak memory, agreement on real photos."""

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.roofline import operations, product_rate, seconds, synchronize
from benchmarks.workloads import Sides, Workload, counted_passes, synthetic_network
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.images import read_image
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.correlation import Pyramid, correlate
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.streaming import run

#: The models inside the package, smallest first.
SHIPPED = ("asnet-mini", "asnet-base")


@dataclass(frozen=True)
class Model:
    """What the workloads run: ASNet on a backbone with random weights at an input side in pixels."""

    backbone: str
    side: int
    device: str


def measure(workload: Workload, model: Model, dtypes: Sequence[str], *, repeats: int) -> dict[str, Any]:
    """Time the naive loop and the shipped path in turn; one entry for each dtype.

    ``speedup`` is the median over repeats of naive seconds / shipped seconds, each pair measured back to back.
    """
    sides = Sides(synthetic_network(model.backbone, model.side), workload, device=model.device)
    naive = sides.naive()
    shipped = {dtype: sides.shipped(dtype) for dtype in dtypes}
    expected = _first(sides, naive)
    firsts = {dtype: _first(sides, answer) for dtype, answer in shipped.items()}
    times: dict[str, list[float]] = {"naive": [], **{dtype: [] for dtype in dtypes}}
    for repeat in range(repeats):
        times["naive"].append(seconds(lambda: naive(repeat), sides.device))  # noqa: B023 (called at once)
        for dtype, answer in shipped.items():
            times[dtype].append(_long_enough(lambda: answer(repeat), sides.device))  # noqa: B023
    figures = {}
    for dtype, first in firsts.items():
        resolved = FewShotSegmenter(sides.network, name="benchmark", device=model.device, dtype=dtype).dtype
        rate = product_rate(resolved, sides.device)
        ratios = [slow / fast for slow, fast in zip(times["naive"], times[dtype], strict=True)]
        maps = torch.from_numpy(first.answer.foreground)
        figures[dtype] = {
            "dtype": str(resolved).removeprefix("torch."),
            "speedup": statistics.median(ratios),
            "speedup_range": [min(ratios), max(ratios)],
            "queries_per_s": 1 / statistics.median(times[dtype]),
            "milliseconds": 1000 * statistics.median(times[dtype]),
            "naive_milliseconds": 1000 * statistics.median(times["naive"]),
            "gigaflop": first.operations / 1e9,
            "roofline_gigaflop_per_s": rate / 1e9,
            "share_of_roofline": first.operations / rate / statistics.median(times[dtype]),
            "largest_map_difference": float((maps - expected.answer.foreground.cpu()).abs().max()),
            "same_presence": list(first.answer.present.values()) == expected.answer.present.tolist(),
            "backbone_photos": first.photos,
            "naive_backbone_photos": expected.photos,
        }
    return figures


@dataclass(frozen=True)
class First:
    """A path's first answer, which also warms it up: what it took of operations and of photos in the backbone."""

    answer: Any
    operations: int
    photos: int


def _first(sides: Sides, path: Callable[[int], Any]) -> First:
    answers: list[Any] = []
    with counted_passes(sides.network.backbone) as photos:
        # by a worker, which shares with no other: operations are counted in one thread
        work = run(lambda: operations(lambda: answers.append(path(0))))
    return First(answers[0], work, sum(photos))


def _long_enough(work: Callable[[], object], device: torch.device) -> float:
    """Seconds of one call; the mean of as many as fill half a second, so that the clock is not what is seen."""
    once = seconds(work, device)
    count = round(0.5 / once)
    return once if count < 2 else seconds(lambda: [work() for _ in range(count)], device) / count


def stages(workload: Workload, model: Model, dtype: str, *, repeats: int) -> dict[str, float]:
    """Median milliseconds of each stage of one query with encoded supports, and of the naive head for comparison."""
    sides = Sides(synthetic_network(model.backbone, model.side), workload, device=model.device)
    segmenter = FewShotSegmenter(sides.network, name="benchmark", device=model.device, dtype=dtype, edges=False)
    supports = segmenter.encode(sides.supports())
    query = segmenter.encode_query(sides.queries[0])
    pairs = _pairs(query.pyramid, supports.features)
    whole = {
        "backbone": lambda: segmenter.encode_query(sides.queries[0]),
        "correlation, head, inference": lambda: segmenter.infer(query, supports),
        "correlation": lambda: [_correlations(query.pyramid, pair) for pair in pairs],
    }
    found = {name: _median(work, sides, repeats) for name, work in whole.items()}
    masks = supports.masks.to(sides.device).float()
    head, naive_head = _heads(sides, query.pyramid, pairs, masks)
    autocast = torch.autocast(sides.device.type, segmenter.dtype, enabled=segmenter.dtype != torch.float32)
    with torch.inference_mode():
        found["naive head"] = _median(naive_head, sides, repeats)
        with autocast:
            found["head"] = _median(head, sides, repeats)
    return {name: 1000 * value for name, value in found.items()}


def _pairs(query: Pyramid, features: Pyramid) -> list[list[list[Tensor]]]:
    """The support pyramid of each pair by itself, in the query's precision, as the shipped path takes them on a CPU."""
    like = query[0][0]
    count = len(features[0][0])
    return [[[feature[pair : pair + 1].to(like) for feature in level] for level in features] for pair in range(count)]


def _correlations(query: Pyramid, support: Pyramid) -> list[Tensor]:
    return [correlate(q, s) for q, s in zip(query, support, strict=True)]


def _heads(
    sides: Sides, query: Pyramid, pairs: Sequence[Pyramid], masks: Tensor
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The learner alone on ready correlations of a workload: shipped, pair by pair; naive, all at once, in float32."""
    from benchmarks.naive import learner

    head = sides.network.head
    if not isinstance(head, ASNet):
        raise TypeError("the naive loop knows ASNet alone")
    state = head.state_dict()
    sizes = [(level[0].shape[-2], level[0].shape[-1]) for level in query]
    with torch.inference_mode():
        ours = [_correlations(query, pair) for pair in pairs]
        plain = [
            _plain_layout(torch.cat(level).float(), size)
            for level, size in zip(zip(*ours, strict=True), sizes, strict=True)
        ]

    def shipped() -> None:
        for pair, mask in zip(ours, torch.split(masks, 1), strict=True):
            head.squeeze(pair, sizes, mask)

    return shipped, (lambda: learner(state, plain, masks))


def _plain_layout(correlation: Tensor, size: tuple[int, int]) -> Tensor:
    """(P, L, h, w, Q) -> (P, L, H, W, h, w), as the naive loop has it."""
    pairs, maps, height, width, _ = correlation.shape
    return correlation.movedim(-1, 2).reshape(pairs, maps, *size, height, width).contiguous()


def _median(work: Callable[[], object], sides: Sides, repeats: int) -> float:
    work()
    return statistics.median(seconds(work, sides.device) for _ in range(repeats))


def peak_memory(workload: Workload, model: Model, side: str) -> int:
    """Bytes by which memory rises while a path (``naive`` or a dtype) encodes and answers; in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.memory", workload.name, model.backbone, str(model.side), side]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent.parent)
    return int(json.loads(done.stdout)["bytes"])


def first_answer() -> float:
    """Seconds from starting Python to asnet-mini's first answer, in a process of its own."""
    code = (
        "from fscs_sdk import FewShotSegmenter; from fscs_sdk.demo import PHOTOS, SUPPORTS; "
        "FewShotSegmenter.from_pretrained().predict(PHOTOS / 'cat_query.jpg', SUPPORTS)"
    )
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
    return time.perf_counter() - start


def shipped_rates(device: str, dtype: str, *, seconds_at_least: float = 6.0) -> dict[str, float]:
    """Queries a second of the models that ship, asked in turn: 1-way 1-shot, encoded support, decoded photo."""
    photo = read_image(PHOTOS / "cat_query.jpg")
    models = {name: FewShotSegmenter.from_pretrained(name, device=device, dtype=dtype) for name in SHIPPED}
    supports = {name: model.encode({"cat": SUPPORTS["cat"]}) for name, model in models.items()}
    times: dict[str, list[float]] = {name: [] for name in models}
    for name, model in models.items():
        model.predict(photo, supports[name])
    while sum(map(sum, times.values())) < seconds_at_least:
        for name, model in models.items():
            start = time.perf_counter()
            model.predict(photo, supports[name])
            times[name].append(time.perf_counter() - start)
    return {name: 1 / statistics.median(taken) for name, taken in times.items()}


def stream_rates(device: str, dtype: str, *, seconds_at_least: float = 5.0) -> dict[str, float]:
    """Queries a second of the models that ship, many at once: ``stream`` over decoded photos, 1-way 1-shot, encoded."""
    photo = read_image(PHOTOS / "cat_query.jpg")
    rates = {}
    for name in SHIPPED:
        model = FewShotSegmenter.from_pretrained(name, device=device, dtype=dtype)
        supports = model.encode({"cat": SUPPORTS["cat"]})
        count = 16
        while True:
            start = time.perf_counter()
            for _ in model.stream([photo] * count, supports):
                pass
            taken = time.perf_counter() - start
            if taken >= seconds_at_least / 2:
                break
            count *= 4 if taken < seconds_at_least / 8 else 2
        rates[name] = count / taken
    return rates


def profile(workload: Workload, model: Model, dtype: str, *, most: int = 40) -> list[dict[str, Any]]:
    """Where one warm query with encoded supports spends its time: operators, or on a GPU kernels, the longest first."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as recording

    sides = Sides(synthetic_network(model.backbone, model.side), workload, device=model.device)
    answer = sides.shipped(dtype)
    for index in range(3):
        answer(index)
    on_gpu = sides.device.type == "cuda"
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA] if on_gpu else [ProfilerActivity.CPU]
    with recording(activities=activities) as recorded:
        answer(0)
        synchronize(sides.device)
    spent = [
        (event.self_device_time_total if on_gpu else event.self_cpu_time_total, event)
        for event in recorded.key_averages()
    ]
    spent.sort(key=lambda row: -row[0])
    return [
        {"name": event.key, "calls": event.count, "ms": time_us / 1000} for time_us, event in spent[:most] if time_us
    ]


def agreement(photos: Sequence[Path], device: str, dtype: str) -> dict[str, float]:
    """How much asnet-mini's answers on real photos change with ``dtype``: shares of equal mask pixels and presences."""
    if not photos:
        photos = [PHOTOS / name for name in QUERIES]
    plain = FewShotSegmenter.from_pretrained(device=device, dtype="float32", edges=False)
    other = FewShotSegmenter.from_pretrained(device=device, dtype=dtype, edges=False)
    plain_supports, other_supports = plain.encode(SUPPORTS), other.encode(SUPPORTS)
    pixels, presences, largest = [], [], 0.0
    for photo in photos:
        a, b = plain.predict(photo, plain_supports), other.predict(photo, other_supports)
        pixels.append(float((a.mask == b.mask).mean()))
        presences += [a.present[name] == b.present[name] for name in a.names]
        largest = max(largest, float(np.abs(a.foreground - b.foreground).max()))
    return {
        "photos": len(photos),
        "same_mask_pixels": statistics.fmean(pixels),
        "same_presences": statistics.fmean(presences),
        "largest_map_difference": largest,
    }
