"""Frozen backbones: a normalised photo -> the feature maps that are correlated, level by level.

torchvision's and timm's networks are used as they are and tapped with hooks, which keep nothing: what a pass taps is
its own; a network of ours returns its maps. So any number of threads may share a backbone, and it can be copied and
pickled. To add one, add a :class:`BackboneSpec` to ``BACKBONES``: what to build, and for each level the names of the
modules to tap, in order of depth, and how many channels they have.

torchvision's ``create_feature_extractor`` was measured against the hooks and left: it computes no faster, traces the
network at every load, and gives no batch normalisation without its affine part.
"""

from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.correlation import Pyramid
from fscs_sdk.model.efficientnet_lite import EfficientNetLite0
from fscs_sdk.model.fast.folded import fold
from fscs_sdk.model.vit import plain_vit, token_pyramid

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class BackboneSpec:
    """How a backbone is built and where it is tapped.

    Attributes:
        build: returns the network without weights.
        levels: module names for levels 4, 3 and 2 (strides 32, 16 and 8).
        channels: C_l of what is tapped of each of them.
        tap: what is taken of such a module. ``returned``: what the network itself returns by its name. ``output``: what
            the module returns. ``input``: what it was given at its last call (the sum before a residual block's final
            ReLU). ``standardized``: the input of a batch normalisation, minus its running mean, over its running
            deviation, without its affine part. ``tokens``: what a block of a plain ViT returns, made maps by
            :func:`~.vit.token_pyramid`.
        unused: top-level modules that features do not need; they are dropped, and so are their tensors in files.
        mean, std: of the RGB input in [0, 1].
        patch: side in pixels of the patches that a plain ViT cuts its input into; None: of any other network.
        folds: whether each batch normalisation is applied right after the convolution named before it, and a CPU gains
            by folding it in: a third of EfficientNet-Lite0's time, but a tenth of ResNet-50's, not worth its memory.
    """

    build: Callable[[], nn.Module]
    levels: tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]
    channels: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    tap: Literal["returned", "output", "input", "standardized", "tokens"]
    unused: tuple[str, ...]
    mean: tuple[float, float, float] = field(default=IMAGENET_MEAN)
    std: tuple[float, float, float] = field(default=IMAGENET_STD)
    patch: int | None = None
    folds: bool = False

    @property
    def stride(self) -> int:
        """Pixels from one position of level 4 to the next."""
        return 32 if self.patch is None else 2 * self.patch

    def check_side(self, side: int) -> None:
        """Make sure that photos of a side can be taken.

        Raises:
            ValueError: a plain ViT's patches do not fill it.
        """
        if self.patch is not None and side % self.patch:
            below = side - side % self.patch
            raise ValueError(
                f"photos of {side} pixels a side cannot be cut into patches of {self.patch}; use a multiple of "
                f"{self.patch}, such as {below} or {below + self.patch}"
            )

    @property
    def maps(self) -> tuple[int, int, int]:
        """Number of maps of levels 4, 3 and 2."""
        return len(self.levels[0]), len(self.levels[1]), len(self.levels[2])

    @property
    def last_channels(self) -> tuple[int, int, int]:
        """Channels of the deepest map of levels 4, 3 and 2."""
        return self.channels[0][-1], self.channels[1][-1], self.channels[2][-1]


def _torchvision(name: str) -> nn.Module:
    import torchvision.models

    network: nn.Module = torchvision.models.get_model(name, weights=None)
    return network


def _bottlenecks(stage: int, count: int) -> tuple[str, ...]:
    return tuple(f"layer{stage}.{index}.relu" for index in range(count))


def _vgg(*indices: int) -> tuple[str, ...]:
    return tuple(f"features.{index}" for index in indices)


def _resnet(name: str, level3: int) -> BackboneSpec:
    levels = (_bottlenecks(4, 3), _bottlenecks(3, level3), _bottlenecks(2, 4))
    channels = ((2048,) * 3, (1024,) * level3, (512,) * 4)
    return BackboneSpec(partial(_torchvision, name), levels, channels, "input", ("avgpool", "fc"))


def _vit(name: str, width: int, patch: int, depth: int = 12) -> BackboneSpec:
    """A plain ViT of timm; see :mod:`~.vit` for what its levels are."""
    quarter = depth // 4
    level4, level3, level2 = (
        tuple(f"blocks.{index}" for index in range(part * quarter, (part + 1) * quarter)) for part in (3, 2, 1)
    )
    channels = (width,) * quarter
    build = partial(plain_vit, name)
    return BackboneSpec(build, (level4, level3, level2), (channels,) * 3, "tokens", (), patch=patch)


BACKBONES: dict[str, BackboneSpec] = {
    "resnet50": _resnet("resnet50", 6),
    "resnet101": _resnet("resnet101", 23),
    "vgg16": BackboneSpec(
        partial(_torchvision, "vgg16"),
        (_vgg(30), _vgg(24, 26, 28), _vgg(17, 19, 21)),
        ((512,), (512,) * 3, (512,) * 3),
        "output",
        ("avgpool", "classifier"),
    ),
    # A dense block's output is an un-normalised concatenation: it is read, standardised, where the next layer reads it.
    "densenet169": BackboneSpec(
        partial(_torchvision, "densenet169"),
        (
            ("features.denseblock4.denselayer12.norm1", "features.denseblock4.denselayer23.norm1", "features.norm5"),
            (
                "features.denseblock3.denselayer7.norm1",
                "features.denseblock3.denselayer17.norm1",
                "features.transition3.norm",
            ),
            ("features.transition2.norm",),
        ),
        ((992, 1344, 1664), (448, 768, 1280), (512,)),
        "standardized",
        ("classifier",),
    ),
    "efficientnet_lite0": BackboneSpec(
        EfficientNetLite0,
        (
            ("blocks.5.0", "blocks.5.1", "blocks.5.2", "blocks.5.3", "blocks.6.0"),
            ("blocks.3.0", "blocks.3.1", "blocks.3.2", "blocks.4.0", "blocks.4.1", "blocks.4.2"),
            ("blocks.2.0", "blocks.2.1"),
        ),
        ((192,) * 4 + (320,), (80,) * 3 + (112,) * 3, (40,) * 2),
        "returned",
        ("conv_head", "bn2", "global_pool", "classifier"),
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        folds=True,
    ),
    "vit_small_patch14_reg4_dinov2.lvd142m": _vit("vit_small_patch14_reg4_dinov2.lvd142m", 384, 14),
    "vit_base_patch14_reg4_dinov2.lvd142m": _vit("vit_base_patch14_reg4_dinov2.lvd142m", 768, 14),
    "vit_small_patch16_dinov3.lvd1689m": _vit("vit_small_patch16_dinov3.lvd1689m", 384, 16),
    "vit_base_patch16_dinov3.lvd1689m": _vit("vit_base_patch16_dinov3.lvd1689m", 768, 16),
}


class Backbone(nn.Module):
    """A frozen network and its taps.

    Args:
        name: a key of ``BACKBONES``.

    Raises:
        ValueError: no backbone of that name, or the installed timm does not know it.
        ModuleNotFoundError: it is timm's, which is not installed.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise ValueError(f"there is no backbone {name!r}; choose one of {', '.join(BACKBONES)}")
        self.name = name
        self.spec = BACKBONES[name]
        self.network = self.spec.build()
        for unused in self.spec.unused:
            if hasattr(self.network, unused):
                setattr(self.network, unused, nn.Identity())
        for module in self.network.modules():
            if isinstance(module, nn.ReLU):
                module.inplace = False  # a tapped tensor must not be overwritten by the ReLU that follows it
        self.register_buffer(
            "mean", torch.tensor(self.spec.mean, dtype=torch.float32, device="cpu").view(3, 1, 1), persistent=False
        )
        self.register_buffer(
            "std", torch.tensor(self.spec.std, dtype=torch.float32, device="cpu").view(3, 1, 1), persistent=False
        )
        for level in self.spec.levels if self.spec.tap != "returned" else ():
            for tapped in level:
                module = self.network.get_submodule(tapped)
                if self.spec.tap in ("output", "tokens"):
                    module.register_forward_hook(_KeepOutput(tapped))
                else:
                    module.register_forward_pre_hook(_KeepInput(tapped, self.spec.tap == "standardized"))
        self.requires_grad_(False)
        self.eval()
        self._folded: tuple[nn.Module, ...] = ()  # no module of this one: it has no weights of its own

    mean: Tensor
    std: Tensor

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in evaluation mode: the backbone is frozen, its batch statistics too."""
        return super().train(False)

    def fold(self) -> None:
        """Pass photos that are on a CPU through a copy without batch normalisations, where that is faster; its maps
        differ by rounding. It is made of the weights as they are now; ``state_dict`` and so identities stay.
        """
        self._folded = (fold(self.network),) if self.spec.folds else ()

    def forward(self, photos: Tensor) -> Pyramid:
        """uint8 RGB photos (B, 3, side, side) -> maps (B, C_l, H, W) of levels 4, 3, 2.

        Raises:
            ValueError: the patches of a plain ViT do not fill the side.
        """
        for side in photos.shape[-2:]:
            self.spec.check_side(side)
        x = (photos.to(self.mean.dtype) / 255 - self.mean) / self.std
        is_folded = self._folded and x.device.type == "cpu" and not torch.compiler.is_compiling()
        network = self._folded[0] if is_folded else self.network
        tapped: dict[str, Tensor] = {}
        outer = _tapped.set(tapped)
        try:
            returned = network(x.contiguous(memory_format=torch.channels_last))
        finally:
            _tapped.reset(outer)
        if self.spec.tap == "returned":
            tapped = returned
        levels = tuple(tuple(tapped[name] for name in level) for level in self.spec.levels)
        if self.spec.patch is None:
            return levels
        height, width = photos.shape[-2:]
        return token_pyramid(self.network, levels, (height // self.spec.patch, width // self.spec.patch))


#: What the pass that is going on in this thread has tapped so far, by module name; None outside of any pass.
_tapped: ContextVar[dict[str, Tensor] | None] = ContextVar("tapped", default=None)


def _keep(name: str, tapped: Tensor) -> None:
    kept = _tapped.get()
    if kept is not None:
        kept[name] = tapped


@dataclass(frozen=True)
class _KeepOutput:
    """A hook that taps what a module returns."""

    name: str

    def __call__(self, _: nn.Module, __: object, output: Tensor) -> None:
        _keep(self.name, output)


@dataclass(frozen=True)
class _KeepInput:
    """A hook that taps what a module is given; where it is a batch normalisation, standardised if that is asked for."""

    name: str
    standardized: bool

    def __call__(self, module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        (x,) = inputs
        if self.standardized:
            if not isinstance(module, nn.BatchNorm2d):
                raise TypeError(f"a standardized tap needs a BatchNorm2d, not {type(module).__name__}")
            x = F.batch_norm(x, module.running_mean, module.running_var, training=False, eps=module.eps)
        _keep(self.name, x)
