"""EfficientNet-Lite0, features only: inverted bottlenecks with linear outputs, ReLU6, no squeeze-and-excitation.

Tan & Le, "EfficientNet" (ICML 2019), in the Lite variant of Google's TPU release (Apache-2.0). Parameters have the
names that timm gives them (``tf_efficientnet_lite0``), so that its files load as they are. It stands here because the
import of timm, with all that it imports, takes longer than every answer of a small model.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: Epsilon of the release's batch normalisations.
EPSILON = 1e-3


@dataclass(frozen=True)
class Stage:
    """Blocks of one width: how many, their output channels, kernel, the first one's stride, and their expansion."""

    blocks: int
    channels: int
    kernel: int
    stride: int
    expansion: int


STEM_CHANNELS = 32
STAGES = (
    Stage(1, 16, 3, 1, 1),
    Stage(2, 24, 3, 2, 6),
    Stage(2, 40, 5, 2, 6),
    Stage(3, 80, 3, 2, 6),
    Stage(3, 112, 5, 1, 6),
    Stage(4, 192, 5, 2, 6),
    Stage(1, 320, 3, 1, 6),
)


class SameConv(nn.Conv2d):
    """A convolution padded as TensorFlow's ``SAME``: ceil(size / stride) outputs, the odd pixel of padding last."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', ceil(H / stride), ceil(W / stride))."""
        kernel, stride, weight = self.kernel_size[0], self.stride[0], self.weight
        rows, columns = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:])
        if rows % 2 or columns % 2:
            # On CPUs a row of zeros before the kernel's, which is the same, and copies no map. A graph that is exported
            # keeps its kernels as they are.
            if x.device.type == "cpu" and not torch.compiler.is_compiling():
                weight = F.pad(weight, (columns % 2, 0, rows % 2, 0))
                rows, columns = rows + rows % 2, columns + columns % 2
            else:
                x = F.pad(x, (columns // 2, columns - columns // 2, rows // 2, rows - rows // 2))
                rows = columns = 0
        return F.conv2d(x, weight, self.bias, stride, (rows // 2, columns // 2), self.dilation, self.groups)


class DepthwiseSeparable(nn.Module):
    """The first stage's block, which does not expand: depthwise, then a linear 1x1 convolution."""

    def __init__(self, in_channels: int, channels: int, kernel: int) -> None:
        super().__init__()
        self.conv_dw = SameConv(in_channels, in_channels, kernel, groups=in_channels, bias=False)
        self.bn1 = nn.BatchNorm2d(in_channels, EPSILON)
        self.conv_pw = SameConv(in_channels, channels, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H, W)."""
        x = F.relu6(self.bn1(self.conv_dw(x)), inplace=True)
        out: Tensor = self.bn2(self.conv_pw(x))
        return out


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project linearly; with a shortcut where nothing changes its shape."""

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = in_channels * expansion
        self.has_shortcut = stride == 1 and in_channels == channels
        self.conv_pw = SameConv(in_channels, wide, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wide, EPSILON)
        self.conv_dw = SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn2 = nn.BatchNorm2d(wide, EPSILON)
        self.conv_pwl = SameConv(wide, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels, EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H / stride, W / stride)."""
        wide = F.relu6(self.bn1(self.conv_pw(x)), inplace=True)
        wide = F.relu6(self.bn2(self.conv_dw(wide)), inplace=True)
        out: Tensor = self.bn3(self.conv_pwl(wide))
        return out + x if self.has_shortcut else out


class EfficientNetLite0(nn.Module):
    """The network up to its last stage; ``blocks.S.B`` is block B of stage S, its output linear."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = SameConv(3, STEM_CHANNELS, 3, 2, bias=False)
        self.bn1 = nn.BatchNorm2d(STEM_CHANNELS, EPSILON)
        stages, width = [], STEM_CHANNELS
        for stage in STAGES:
            blocks: list[nn.Module] = []
            for index in range(stage.blocks):
                if stage.expansion == 1:
                    blocks.append(DepthwiseSeparable(width, stage.channels, stage.kernel))
                else:
                    stride = stage.stride if index == 0 else 1
                    blocks.append(InvertedResidual(width, stage.channels, stage.kernel, stride, stage.expansion))
                width = stage.channels
            stages.append(nn.Sequential(*blocks))
        self.blocks = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Normalised RGB (B, 3, H, W) -> the output of every block, by the block's name."""
        x = F.relu6(self.bn1(self.conv_stem(x)), inplace=True)
        maps = {}
        for stage, blocks in self.blocks.named_children():
            for block, layer in blocks.named_children():
                x = maps[f"blocks.{stage}.{block}"] = layer(x)
        return maps
