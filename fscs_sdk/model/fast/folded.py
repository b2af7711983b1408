"""A frozen network without batch normalisations: each is a part of the convolution before it."""

from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(network: nn.Module) -> nn.Module:
    """A copy in which every batch normalisation is folded into the convolution that its module names just before it.

    Args:
        network: in evaluation mode; in all of its modules such a pair must be applied one right after the other.

    Returns:
        The same function up to rounding, with the same hooks; it shares no weights, and follows none that change.
    """
    copy = deepcopy(network)
    for module in list(copy.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(module.named_children()):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, conv_name, fuse_conv_bn_eval(conv, norm))
                setattr(module, norm_name, nn.Identity())
    return copy.to(memory_format=torch.channels_last)
