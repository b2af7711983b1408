"""Plain vision transformers through timm: tokens of one width on one grid, as maps of three levels.

A plain ViT (Dosovitskiy et al., ICLR 2021) has no pyramid of its own: every block gives a token for each patch. Its
blocks are levels by their depth, and their sides are those of table a.6: the deepest quarter of the blocks, pooled to
half the grid, is level 4; the quarter before it, as it is, level 3; the one before that, brought up to twice the grid,
level 2. The first quarter is left out: its tokens still tell places rather than things. Class and register tokens are
no maps. Not in the paper, whose backbones are convolutional.
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.model.correlation import Pyramid

#: timm's modules whose networks are plain: one grid, one width, ``blocks``, ``norm``, tokens before the patches'.
PLAIN = ("vision_transformer", "eva")


def plain_vit(name: str) -> nn.Module:
    """timm's network without weights. Its position embeddings are interpolated to the grid of what it is given.

    Raises:
        ModuleNotFoundError: timm is not installed.
        ValueError: this timm does not know the name, or what it names is not a plain ViT.
    """
    try:
        import timm
    except ModuleNotFoundError:
        raise ModuleNotFoundError(f"the backbone {name} is timm's, which is not installed; pip install timm") from None
    if not timm.is_model(name):
        raise ValueError(f"timm {timm.__version__} has no {name}; pip install --upgrade timm")
    if not timm.models.is_model_in_modules(name, PLAIN):
        raise ValueError(f"{name} is not a plain ViT: it does not keep one grid of tokens from block to block")
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, dynamic_img_size=True)
    rope = getattr(network, "rope", None)
    if isinstance(rope, nn.Module) and any(buffer.is_meta for buffer in rope.buffers()):
        # A network that is built without values gets them from its file, in which what can be computed is not.
        rope.to_empty(device="cpu").reset_parameters()  # type: ignore[operator]
    return network


def token_pyramid(network: nn.Module, levels: Sequence[Sequence[Tensor]], grid: tuple[int, int]) -> Pyramid:
    """Tokens of some blocks -> maps.

    Every block's tokens pass the network's last normalisation, as its last block's do: without it a few channels of
    large values decide all cosines.

    Args:
        network: what :func:`plain_vit` gave.
        levels: for levels 4, 3 and 2, (B, prefix + H * W, C) after each block.
        grid: (H, W) in patches.

    Returns:
        Maps (B, C, ceil(H / 2), ceil(W / 2)), (B, C, H, W) and (B, C, 2H, 2W).
    """
    norm, prefix = network.get_submodule("norm"), network.num_prefix_tokens
    coarse, middle, fine = (
        [norm(tokens)[:, prefix:].transpose(1, 2).unflatten(2, grid) for tokens in level] for level in levels
    )
    return (
        tuple(F.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False) for x in coarse),
        tuple(middle),
        tuple(F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False) for x in fine),
    )
