"""What to look for: labelled photos (:class:`Shot`) and, encoded once, a :class:`SupportSet` to keep, save and ship."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from hashlib import sha256
from numbers import Real
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fscs_sdk.atomic import write_atomically, writing
from fscs_sdk.examination import Examination
from fscs_sdk.images import ImageSource, MaskSource
from fscs_sdk.model.ifsl import Calibration
from fscs_sdk.model.tiles import SCALES, Scale, ScaleChoice
from fscs_sdk.spelling import find_name
from fscs_sdk.streaming import run

#: Format 1 has neither calibration nor examination, format 2 no scales, format 3 no ``pooled``; their files answer as
#: they did.
FORMAT_VERSION, READABLE = 4, (1, 2, 3, 4)
LEVELS = ("level4", "level3", "level2")
CALIBRATION = tuple(one.name for one in fields(Calibration))


@dataclass(frozen=True, eq=False)
class Shot:
    """One labelled photo of a class.

    Attributes:
        image: a photo in any form that :func:`fscs_sdk.images.read_image` takes.
        mask: the class's pixels in it, of the same size, in any form that :func:`fscs_sdk.images.read_mask` takes;
            or the path of a LabelMe file whose shapes are called like the class.
        box: in place of a mask, a box around the object: left, top, right and bottom edge in pixels of the upright
            photo, (x0, y0, x1, y1); or a list of them. :mod:`fscs_sdk.references.boxes` says what is made of it.

    Without either the photo shows the class, and where is not said (a class tag, the paper's weak label).
    """

    image: ImageSource
    mask: MaskSource | None = None
    box: Sequence[float] | Sequence[Sequence[float]] | None = None

    @property
    def is_tag(self) -> bool:
        """Whether only the class's presence is known."""
        return self.mask is None and self.box is None


@dataclass(frozen=True, eq=False)
class SupportSet:
    """N classes, each with its encoded shots; a value that the caller holds. ``FewShotSegmenter.encode`` makes it.

    Attributes:
        names: the N class names; class n of a prediction's mask is ``names[n - 1]``.
        class_index: int64 (P,), the class (from 0) of every shot; shots of a class stand together, in its order.
        features: for levels 4, 3 and 2 the pooled and normalised maps of all shots, (P, C_l, h, w): float32 for a
            model that computes in float32; else float16, which changes no answer of products that are rounded more.
        masks: bool (P, side, side), the shots' foreground at the model's input side; all True for a class tag.
        tagged: bool (P,), True for shots without a mask.
        thresholds: float32 (N,), delta of eq. 2 for each class, in [0, 1].
        model: identity of the model that encoded it; no other model can use it.
        source: digest of all that it was made from beside the model (photos, masks, thresholds that were given): equal
            on every machine, device and dtype, whose features differ by rounding; empty in files of earlier versions.
        calibration: what eqs. 1 and 2 add for each class, or None: then everything is the paper's.
        scales: for each class whether it is looked for in the whole query or in its tiles; empty: in the whole, all.
        examination: what the shots said of each other where they were examined.
    """

    names: tuple[str, ...]
    class_index: Tensor
    features: tuple[tuple[Tensor, ...], ...]
    masks: Tensor
    tagged: Tensor
    thresholds: Tensor
    model: str
    source: str = ""
    calibration: Calibration | None = None
    scales: tuple[Scale, ...] = ()
    examination: Examination | None = None
    format_version: int = field(default=FORMAT_VERSION)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        shots = torch.bincount(self.class_index, minlength=len(self)).tolist()
        classes = ", ".join(f"{name}: {count}" for name, count in zip(self.names, shots, strict=True))
        return f"SupportSet({classes}; model {self.model})"

    @property
    def offsets(self) -> Tensor:
        """float32 (N,), what is added to each class's logits (eq. 1); zeros where nothing was calibrated."""
        return torch.zeros(len(self), dtype=torch.float32) if self.calibration is None else self.calibration.offsets

    @property
    def in_tiles(self) -> bool:
        """Whether a class is looked for in the query's tiles: then a photo costs about five times as much."""
        return "tiles" in self.scales

    @property
    def report(self) -> str:
        """What the examination found, in lines for people; of supports that were not examined, how to do so."""
        if self.examination is None:
            return "these supports were not examined; encode them with calibrate=True"
        return str(self.examination)

    def with_thresholds(self, thresholds: float | Mapping[str, float]) -> "SupportSet":
        """The same supports with another presence threshold, for all classes or for those named.

        Raises:
            ValueError: a value outside [0, 1], or a name that is not a class of this set.
        """
        merged = merge_thresholds(self.names, thresholds, self.thresholds)
        if not self.source or torch.equal(merged, self.thresholds):
            return replace(self, thresholds=merged)
        changed = [n for n, same in enumerate((merged == self.thresholds).tolist()) if not same]
        texts = sorted(f"{self.names[n]}={merged[n].item()!r}" for n in changed)
        return replace(self, thresholds=merged, source=digest(self.source, *texts))

    def at_scales(self, scales: Sequence[Scale], cropped: "SupportSet") -> "SupportSet":
        """The same classes, each looked for at a scale of its own.

        Args:
            scales: of the N classes.
            cropped: the same shots as they serve queries in tiles; of the classes that are whole they are not used.
        """
        in_tiles = torch.tensor([scale == "tiles" for scale in scales], device="cpu")[self.class_index]

        def mixed(whole: Tensor, tile: Tensor) -> Tensor:
            whole = whole.clone()
            whole[in_tiles] = tile[in_tiles]
            return whole

        levels = zip(self.features, cropped.features, strict=True)
        features = tuple(tuple(map(mixed, *level)) for level in levels)
        return replace(self, features=features, masks=mixed(self.masks, cropped.masks), scales=tuple(scales))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a safetensors file that :meth:`load` reads back exactly. The file appears whole or not at all.

        Raises:
            OSError: the file cannot be written.
        """
        tensors = {
            "class_index": self.class_index,
            "masks": self.masks,
            "tagged": self.tagged,
            "thresholds": self.thresholds,
        }
        for level, maps in zip(LEVELS, self.features, strict=True):
            tensors |= {f"{level}.{index}": feature for index, feature in enumerate(maps)}
        if self.calibration is not None:
            tensors |= {name: getattr(self.calibration, name) for name in CALIBRATION}
        header = {
            "format_version": self.format_version,
            "names": self.names,
            "model": self.model,
            "source": self.source,
            "scales": self.scales,
            "examination": None if self.examination is None else self.examination.to_dict(),
        }
        metadata = {"fscs_support_set": json.dumps(header)}
        data = save({name: tensor.contiguous().cpu() for name, tensor in tensors.items()}, metadata)
        with writing(Path(path), "the support set"):
            write_atomically(Path(path), data)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> "SupportSet":
        """Read a file that :meth:`save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is not a support set, is damaged (a part is missing, of another type or shape, or not
                finite), or has a newer format.
        """
        source = Path(path)
        if not source.is_file():
            raise FileNotFoundError(f"there is no support set '{source}'; check the path, or make one with encode()")
        try:
            with safe_open(source, framework="pt") as file:
                header = dict(json.loads((file.metadata() or {})["fscs_support_set"]))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        except (SafetensorError, KeyError, ValueError, TypeError):
            raise ValueError(f"'{source}' is not a support set or is damaged; encode and save it again") from None
        if header.get("format_version") not in READABLE:
            raise ValueError(
                f"'{source}' has support set format {header.get('format_version')}, this version reads "
                f"{READABLE[0]} to {READABLE[-1]}; update fscs-sdk, or encode the supports again"
            )
        try:
            return run(lambda: _assemble(header, tensors))
        except (KeyError, IndexError, TypeError, RuntimeError, ValueError):
            raise ValueError(f"'{source}' is a damaged support set; encode and save it again") from None


def _assemble(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> SupportSet:
    features = []
    for level in LEVELS:
        count = sum(name.startswith(f"{level}.") for name in tensors)
        maps = (tensors[f"{level}.{index}"] for index in range(count))
        features.append(tuple(feature.contiguous(memory_format=torch.channels_last) for feature in maps))
    if header["format_version"] < 4:
        tensors = {"pooled": torch.zeros(len(header["names"]), dtype=torch.bool), **tensors}
    numbers = [tensors[name] for name in CALIBRATION] if CALIBRATION[0] in tensors else None
    examination = header.get("examination")
    supports = SupportSet(
        names=tuple(header["names"]),
        class_index=tensors["class_index"],
        features=tuple(features),
        masks=tensors["masks"],
        tagged=tensors["tagged"],
        thresholds=tensors["thresholds"],
        model=str(header["model"]),
        source=str(header.get("source", "")),
        calibration=None if numbers is None else Calibration(*numbers),
        scales=tuple(header.get("scales", ())),
        examination=None if examination is None else Examination.from_dict(examination),
    )
    parse_supports({name: Shot("") for name in supports.names})  # the names must be names
    if not isinstance(header["names"], list) or len(set(supports.names)) != len(supports):
        raise ValueError("the names are not a list of different names")
    if supports.scales and (len(supports.scales) != len(supports) or not set(supports.scales) <= set(SCALES)):
        raise ValueError("the scales do not fit")
    _check_shots(supports)
    _check_numbers(supports)
    return supports


def digest(*parts: str | NDArray[Any]) -> str:
    """What tells these texts and arrays, in this order, from all others: 32 hexadecimal digits."""
    total = sha256()
    for part in parts:
        if isinstance(part, str):
            kind, data = "text", part.encode("utf-8", "surrogatepass")
        else:
            bits = part.dtype == np.bool_  # whose bytes need not be 0 and 1: Pillow's are 255
            kind, data = f"{part.dtype} {part.shape}", (np.packbits(part) if bits else part).tobytes()
        total.update(sha256(kind.encode()).digest() + sha256(data).digest())
    return total.hexdigest()[:32]


def _check_shots(supports: SupportSet) -> None:
    index, maps = supports.class_index, [feature for level in supports.features for feature in level]
    shots = len(index)
    if index.dtype != torch.int64 or index.ndim != 1 or not torch.equal(index, index.sort().values):
        raise ValueError("the shots do not stand in the order of their classes")
    if set(index.tolist()) != set(range(len(supports))):
        raise ValueError("a class has no shots, or shots have no class")
    side = supports.masks.shape[-1]
    if supports.masks.dtype != torch.bool or supports.masks.shape != (shots, side, side):
        raise ValueError("the masks do not fit")
    if supports.tagged.dtype != torch.bool or supports.tagged.shape != (shots,):
        raise ValueError("the tags do not fit")
    for feature in maps:
        if feature.dtype not in (torch.float32, torch.float16) or feature.ndim != 4 or len(feature) != shots:
            raise ValueError("the features do not fit")
        if not bool(feature.isfinite().all()):
            raise ValueError("a feature is not a finite number")


def _check_numbers(supports: SupportSet) -> None:
    """Numbers of classes: of one type and length, and where they may be."""
    numbers, calibration = [supports.thresholds], supports.calibration
    if calibration is not None:
        numbers += [calibration.offsets, calibration.cuts, calibration.slopes]
        if not bool((calibration.slopes > 0).all()):
            raise ValueError("a score falls as its class appears")
        if calibration.pooled.dtype != torch.bool or calibration.pooled.shape != (len(supports),):
            raise ValueError("how shots are pooled does not fit")
    if any(one.dtype != torch.float32 or one.shape != (len(supports),) for one in numbers):
        raise ValueError("the numbers of the classes do not fit")
    if not all(bool(one.isfinite().all()) for one in numbers):
        raise ValueError("a number of a class is not finite")
    if not bool(((supports.thresholds >= 0) & (supports.thresholds <= 1)).all()):
        raise ValueError("a threshold is outside [0, 1]")


def merge_thresholds(names: Sequence[str], given: float | Mapping[str, float], default: Tensor) -> Tensor:
    """(N,) thresholds: ``default``, overridden for all classes or for those named.

    Raises:
        ValueError: a value outside [0, 1], or a name that is not among ``names``.
    """
    values = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, given)
    merged = default.clone()
    for name, value in values.items():
        known = find_name(name, names)
        if known is None:
            raise ValueError(f"a threshold was given for {name!r}, which is not one of the classes {list(names)}")
        if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
            raise ValueError(f"the threshold of {name!r} is {value!r}; it must be a number from 0 to 1")
        merged[list(names).index(known)] = float(value)
    return merged


def choose_scales(names: Sequence[str], given: ScaleChoice | Mapping[str, ScaleChoice]) -> tuple[ScaleChoice, ...]:
    """For each of N classes what was asked for, for all or by name; ``auto`` where nothing was.

    Raises:
        ValueError: another word, or a name that is not among ``names``.
    """
    values = dict(given) if isinstance(given, Mapping) else dict.fromkeys(names, given)
    chosen: dict[str, ScaleChoice] = dict.fromkeys(names, "auto")
    for name, value in values.items():
        known = find_name(name, names)
        if known is None:
            raise ValueError(f"a scale was given for {name!r}, which is not one of the classes {list(names)}")
        if value not in get_args(ScaleChoice):
            raise ValueError(f"the scale of {name!r} is {value!r}; it must be 'auto', 'whole' or 'tiles'")
        chosen[known] = value
    return tuple(chosen.values())


def parse_supports(supports: Mapping[str, object]) -> dict[str, list[Shot]]:
    """The mapping that users write -> class name -> shots.

    A value is ``[image, mask]`` or ``(image, mask)`` (one shot), a :class:`Shot`, or a list of shots, each of them
    ``(image, mask)``, ``[image, mask]`` or a :class:`Shot`.

    Raises:
        ValueError: no class, a class without a shot, a name that is not a non-empty string, or a value of another form.
    """
    if not isinstance(supports, Mapping):
        raise ValueError(
            f"supports must be a mapping of class names to shots such as {{'dog': [image, mask]}}, "
            f"or a SupportSet, not {type(supports).__name__}"
        )
    if not supports:
        raise ValueError("there are no support classes: give at least one, such as {'dog': [image, mask]}")
    parsed: dict[str, list[Shot]] = {}
    for name, value in supports.items():
        if not isinstance(name, str) or not name.strip():
            raise ValueError(f"a class name must be a non-empty string, not {name!r}")
        if find_name(name, parsed) is not None:
            raise ValueError(f"the class {name.strip()!r} is given twice; put all its shots into one list")
        parsed[name.strip()] = _parse_shots(name, value)
    return parsed


def _parse_shots(name: str, value: object) -> list[Shot]:
    if isinstance(value, Shot):
        return [value]
    if not isinstance(value, (list, tuple)):
        raise ValueError(
            f"the supports of class {name!r} must be [image, mask], a Shot or a list of them, "
            f"not {type(value).__name__}; for a photo without a mask write Shot(image)"
        )
    if not value:
        raise ValueError(f"class {name!r} has no shots; give at least one, such as [image, mask]")
    if all(isinstance(item, (Shot, list, tuple)) for item in value):
        return [_parse_shot(name, item) for item in value]
    return [_parse_shot(name, value)]


def _parse_shot(name: str, item: object) -> Shot:
    if isinstance(item, Shot):
        return item
    if isinstance(item, (list, tuple)) and len(item) == 2 and not any(isinstance(i, (Shot, list, tuple)) for i in item):
        image, mask = item
        return Shot(image, mask)
    raise ValueError(
        f"a shot of class {name!r} must be an (image, mask) pair or a Shot; several shots are a list of pairs, "
        "a photo without a mask is Shot(image)"
    )
