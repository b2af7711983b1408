"""A model and supports as one file that answers without this package: ONNX, or a program of ``torch.export``.

The graph takes photos at the network's side and has everything else inside: pre-processing, backbone, adapter, head,
supports, thresholds. One (query, support) pair is computed at a time, whatever the batch, so that memory does not grow
with the number of classes and shots, nor the graph itself.
"""

import copy
import json
import logging
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fscs_sdk.atomic import TEMPORARY_PREFIX, writing
from fscs_sdk.formats import require
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.correlation import query_pyramid
from fscs_sdk.model.edges import POOL, Axis, Windows, follow, grid_colours, on_grid, window_radius
from fscs_sdk.model.fast.graph import SeenKeys
from fscs_sdk.model.ifsl import Calibration, Maps, decide
from fscs_sdk.model.squeeze import AttentiveSqueeze, KeyMasks, visible_keys
from fscs_sdk.supports import CALIBRATION, SupportSet

if TYPE_CHECKING:
    from fscs_sdk.segmenter import FewShotSegmenter

#: The file of a ``.pt2`` that holds what an ``.onnx`` has as its metadata.
METADATA_FILE = "fscs.json"
#: What the graph takes and gives, in this order; the last two where maps follow the photo's edges.
INPUT, OUTPUTS = "photos", ("scores", "present", "foreground", "mask", "maps", "edges")
#: The operators of ONNX that are used; runtimes since 2023 know them.
OPSET = 18
#: Bytes from which an ONNX file keeps its numbers in a second file: a protobuf ends at 2 GB.
LARGEST_FILE = 1_500_000_000


def export(model: "FewShotSegmenter", supports: SupportSet, path: str | os.PathLike[str]) -> list[Path]:
    """Write a model with its supports as a file for another runtime. It computes in float32.

    The graph's input ``photos`` is uint8 (B, side, side, 3): RGB, resized to the network's side without keeping the
    aspect, as Pillow's ``resize((side, side), Resampling.BILINEAR)`` does. Its outputs are

    - ``scores`` float32 (B, N) and ``present`` bool (B, N), as in :class:`fscs_sdk.Prediction`;
    - ``foreground`` float32 (B, N, side, side) in [0, 1], as ``Prediction.foreground`` of a photo of that size;
    - ``mask`` (B, side, side), uint8, or int32 above 255 classes: eq. 5 at the network's side;
    - ``maps`` float32 (B, N, h, w) in [0, 1]: the classes' maps as the network makes them, which are brought to a
      photo's size bilinearly, corners aligned;
    - ``edges`` float32 (B, N, 4, G, G): what is added to those at a photo's size, so that they follow its edges: of
      every position of a grid what its red, green and blue, 0 to 255, are multiplied by, and a number for their sum.

    Of a model with ``edges=False`` the last two are left out, and ``foreground`` is what ``maps`` is here.

    The file's metadata say what is needed to use it: see :func:`metadata`.

    Args:
        model: on the CPU, with an ASNet head.
        supports: what the model's ``encode`` made.
        path: ends in ``.onnx``, or in ``.pt2`` for ``torch.export.load``.

    Returns:
        The paths written: one, or an ``.onnx`` and the ``.onnx.data`` beside it that holds its numbers where they are
        more than an ONNX file can.

    Raises:
        ValueError: another ending, a model that cannot be exported, or another model's supports.
        MissingPackageError: ONNX's packages are not installed; an ImportError.
        OSError: the file cannot be written.
    """
    target = Path(path)
    if target.suffix not in (".onnx", ".pt2"):
        raise ValueError(f"'{target}' must end in .onnx or .pt2")
    head = model.network.head
    if type(head) is not ASNet:
        raise ValueError(f"a {type(head).__name__} cannot be exported; models with an ASNet head can")
    if model.protocol != "paper":
        raise ValueError(
            f"a model of the protocol '{model.protocol}' cannot be exported; load it with protocol='paper'"
        )
    if model.device.type != "cpu":
        raise ValueError(f"a model on {model.device} cannot be exported; load it with device='cpu'")
    model.check(supports)
    if supports.in_tiles:
        which = ", ".join(repr(n) for n, scale in zip(supports.names, supports.scales, strict=True) if scale == "tiles")
        raise ValueError(
            f"a graph takes photos whole, and {which} is looked for in tiles; encode with scales='whole' "
            "('fscs encode --scales whole')"
        )
    if target.suffix == ".onnx":
        for package in ("onnx", "onnxscript"):
            require(package, "ONNX export", extra="export")
    about, paths = metadata(model, supports), list[Path]()
    answer = _Answer(model, head, supports)
    program = _record(answer, _photos(answer.side).permute(0, 2, 3, 1).contiguous(), strict=True)
    with _draft(target, paths) as draft:
        if target.suffix == ".pt2":
            with _quietly():
                torch.export.save(program, draft, extra_files={METADATA_FILE: json.dumps(about)})
        else:
            _write_onnx(program, about, draft, OUTPUTS if model.edges else OUTPUTS[:4])
    return paths


def metadata(model: "FewShotSegmenter", supports: SupportSet) -> dict[str, str]:
    """What an exported file says of itself; every value is JSON.

    ``names`` of the classes, in the order of the outputs; ``thresholds`` of presence by name; ``side`` in pixels;
    ``resize``, how photos are brought there; ``background``, what ``foreground`` at a photo's size is compared with to
    make a mask: ``1 - mean`` over all classes or, calibrated, ``1 - mean of present`` ones, and 1 where none is (a tie
    is the class's); ``edges``, how many pixels of the network's side there are to a position of the output ``edges``,
    or 0 where maps follow none; ``model``; ``fscs_sdk``, the version that exported it.
    """
    about = {
        "names": list(supports.names),
        "thresholds": dict(zip(supports.names, supports.thresholds.tolist(), strict=True)),
        "side": model.network.input_side,
        "resize": "Pillow BILINEAR to (side, side)",
        "background": "1 - mean" if supports.calibration is None else "1 - mean of present",
        "edges": POOL if model.edges else 0,
        "model": supports.model,
        "fscs_sdk": version("fscs-sdk"),
    }
    return {key: json.dumps(value, ensure_ascii=False) for key, value in about.items()}


class _Answer(nn.Module):
    """Photos -> answers, with the supports as buffers."""

    def __init__(self, model: "FewShotSegmenter", head: ASNet, supports: SupportSet) -> None:
        super().__init__()
        network = model.network
        self.backbone = _record(network.backbone, _photos(network.input_side), strict=False).module()
        self.head, self.adapter = copy.deepcopy((head, network.adapter))
        self.requires_grad_(False)
        self.side, self.edges = network.input_side, model.edges
        self.shots = torch.bincount(supports.class_index, minlength=len(supports)).tolist()
        self.maps = [len(level) for level in supports.features]
        self.register_buffer("thresholds", supports.thresholds)
        self.calibrated = supports.calibration is not None
        if supports.calibration is not None:
            for name in CALIBRATION:
                self.register_buffer(name, getattr(supports.calibration, name))
        seen = {} if bool(supports.tagged.all()) else _seen_keys(model, head, supports)
        self.grids = list(seen)
        constants = [feature for level in supports.features for feature in level]
        constants += [part for keys in seen.values() for part in (keys.places, keys.seen)]
        for index, constant in enumerate(constants):
            self.register_buffer(f"support{index}", constant.contiguous())
        self.constants = len(constants)

    thresholds: Tensor
    offsets: Tensor
    cuts: Tensor
    slopes: Tensor
    pooled: Tensor

    def forward(self, photos: Tensor) -> tuple[Tensor, ...]:
        from torch._higher_order_ops.scan import scan  # what becomes ONNX's Scan: a loop that the graph holds once

        maps = self.backbone(photos.permute(0, 3, 1, 2).contiguous())
        query = query_pyramid(maps if self.adapter is None else self.adapter(maps))
        supports = [getattr(self, f"support{index}") for index in range(self.constants)]
        size = (self.side, self.side)

        def pair(carry: Tensor, shot: list[Tensor], near: list[Tensor]) -> tuple[Tensor, Tensor]:
            maps, seen = self._levels(shot[: sum(self.maps)]), iter(shot[sum(self.maps) :])
            masks = {grid: SeenKeys(next(seen)[None], next(seen)[None]) for grid in self.grids}
            return carry.clone(), self.head(self._levels(near), maps, masks or None)[0]

        def followed(plane: Tensor, levels: Tensor, colours: Tensor, axis: Tensor) -> tuple[Tensor, Tensor]:
            coarse = on_grid(plane, self.side)
            added = Windows.of(colours, window_radius(coarse)).explain(coarse)
            at_side, _ = Maps((plane[None],), size).probabilities()
            return follow(at_side[0], levels, added, axis, axis), added

        def photo(carry: Tensor, seen: tuple[Tensor, list[Tensor]]) -> tuple[Tensor, tuple[Tensor, ...]]:
            view, near = seen
            _, logits = scan(lambda c, shot: pair(c, shot, near), carry, supports)
            calibration = Calibration(*(getattr(self, name) for name in CALIBRATION)) if self.calibrated else None
            found, scores, present = decide(
                torch.split(logits, self.shots), size, self.thresholds, calibration=calibration
            )
            small = found.foreground[0].clone()
            if not self.edges:
                return carry.clone(), (scores, present, small, found.mask(present))
            levels, colours = view.permute(2, 0, 1).float(), grid_colours(view)
            axis = Axis.of(self.side, self.side, view.device).weights
            _, (foreground, added) = scan(
                lambda c, plane: (c.clone(), followed(plane, levels, colours, axis)), carry, small
            )
            mask = replace(found, foreground=(foreground,)).mask(present)
            return carry.clone(), (scores, present, foreground, mask, small.clone(), added)

        _, answers = scan(photo, torch.zeros(1), (photos, [feature for level in query for feature in level]))
        return tuple(answers)

    def _levels(self, maps: list[Tensor]) -> list[list[Tensor]]:
        """Maps (C, H, W), one after the other -> float32 (1, C, H, W) by level."""
        rest = iter(maps)
        return [[next(rest)[None].to(torch.float32) for _ in range(count)] for count in self.maps]


def _seen_keys(model: "FewShotSegmenter", head: ASNet, supports: SupportSet) -> KeyMasks:
    """The supports' masks at every key grid that the head asks for: found out by asking it once, of one pair."""

    keys, side = KeyMasks(), model.network.input_side
    touched = any(layer.touched for layer in head.modules() if isinstance(layer, AttentiveSqueeze))

    class Recorder(KeyMasks):
        def __getitem__(self, grid: tuple[int, int]) -> SeenKeys:
            if grid not in keys:
                keys[grid] = SeenKeys.of(visible_keys(supports.masks.float(), *grid, touched=touched))
            return SeenKeys(keys[grid].places[:1], keys[grid].seen[:1])

    query = model.network.encode_queries(torch.zeros(1, 3, side, side, dtype=torch.uint8))
    with torch.inference_mode():
        head(query, [[feature[:1].float() for feature in level] for level in supports.features], Recorder())
    return keys


def _photos(side: int) -> Tensor:
    """Photos to record a graph with: two, because a batch of 1 would become a constant."""
    return torch.zeros(2, 3, side, side, dtype=torch.uint8)


def _record(module: nn.Module, photos: Tensor, *, strict: bool) -> torch.export.ExportedProgram:
    """A module's graph, for any batch.

    Args:
        strict: read the module's code, which loops need, instead of following one run of it, which hooks need.
    """
    batch = {0: torch.export.Dim("batch", min=1)}
    with _quietly():
        return torch.export.export(module, (photos,), dynamic_shapes=(batch,), strict=strict)


def _write_onnx(
    program: torch.export.ExportedProgram, about: Mapping[str, str], path: Path, outputs: Sequence[str]
) -> None:
    with _quietly():
        written = torch.onnx.export(
            program, opset_version=OPSET, input_names=[INPUT], output_names=list(outputs), dynamo=True, verbose=False
        )
    if written is None:  # for the type checker: only a call with a file name gives none
        raise RuntimeError("torch.onnx gave no program")
    written.model.metadata_props.update(about)
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    written.save(path, external_data=size > LARGEST_FILE)


@contextmanager
def _quietly() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextmanager
def _draft(target: Path, paths: list[Path]) -> Iterator[Path]:
    """Where to write instead of ``target``; what is there at the end takes its place, numbers before their graph."""
    with writing(target), tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=target.parent) as folder:
        yield Path(folder, target.name)
        for written in sorted(Path(folder).iterdir(), reverse=True):
            paths.insert(0, target.with_name(written.name))
            os.replace(written, paths[0])
