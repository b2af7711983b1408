"""The core operation of every baseline and ablation against the plainest version of it."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.baselines.ablations import UnmaskedASNet, attend_locally
from fscs_sdk.model.baselines.hsnet import LEVEL_2, LEVEL_3, LEVEL_4, WIDTHS, CenterPivotConv4d, SqueezingBlock
from fscs_sdk.model.baselines.panet import PANet, prototypes
from fscs_sdk.model.baselines.pfenet import SCALES, prior_mask
from fscs_sdk.model.baselines.prototypes import Projection
from fscs_sdk.model.baselines.support_mask import foreground_seen, foreground_share
from fscs_sdk.model.correlation import normalize
from fscs_sdk.model.squeeze import attend

# ---- Masks -----------------------------------------------------------------------------------------------------------


def test_a_position_sees_the_mask_at_its_own_point() -> None:
    mask = torch.zeros(1, 9, 9)
    mask[0, 4, 8] = 1  # where the middle row's last position of 3x3 lies
    assert foreground_seen(mask, torch.zeros(1, 5, 3, 3))[0, 0].tolist() == [[0, 0, 0], [0, 0, 1], [0, 0, 0]]
    mask = torch.zeros(1, 9, 9)
    mask[0, 2, 2] = 1  # between the points
    assert not foreground_seen(mask, torch.zeros(1, 5, 3, 3)).any()


def test_the_share_of_a_cell_misses_nothing() -> None:
    mask = torch.zeros(1, 6, 6)
    mask[0, 1, 1] = 1
    mask[0, 3:, 3:] = 1
    assert foreground_share(mask, torch.zeros(1, 5, 2, 2))[0, 0].tolist() == [[pytest.approx(1 / 9), 0], [0, 1]]


# ---- HSNet -----------------------------------------------------------------------------------------------------------


def convolve_4d(x: NDArray[np.float64], kernel: NDArray[np.float64], stride: int) -> NDArray[np.float64]:
    """Full 4D convolution, position by position: x (C, H, W, h, w), kernel (O, C, k, k, k, k), padded by k // 2."""
    side = kernel.shape[2]
    padded = np.pad(x, [(0, 0)] + [(side // 2, side // 2)] * 4)
    _, height, width, rows, columns = x.shape
    out = np.zeros((len(kernel), height, width, math.ceil(rows / stride), math.ceil(columns / stride)))
    for y, z, row, column in np.ndindex(*out.shape[1:]):
        i, j = row * stride, column * stride
        window = padded[:, y : y + side, z : z + side, i : i + side, j : j + side]
        out[:, y, z, row, column] = (kernel * window).sum(axis=(1, 2, 3, 4, 5))
    return out


@pytest.mark.parametrize(("kernel", "stride", "support"), [(3, 1, (2, 2)), (3, 2, (5, 4)), (5, 4, (9, 6))])
@torch.no_grad()
def test_center_pivot_convolution_is_a_sparse_4d_one(kernel: int, stride: int, support: tuple[int, int]) -> None:
    """Of the 4D kernel only the taps at the query's centre, or at the support's, are not 0."""
    torch.manual_seed(0)
    conv = CenterPivotConv4d(2, 3, kernel, stride).double()
    x = torch.randn(2, 2, *support, 3 * 4, dtype=torch.float64)
    full, centre = np.zeros((3, 2, *[kernel] * 4)), kernel // 2
    full[:, :, centre, centre] += conv.support.weight.numpy()
    full[:, :, :, :, centre, centre] += conv.query.weight.numpy()
    bias = (conv.support.bias + conv.query.bias).numpy()[:, None, None, None, None]
    for pair, ours in zip(x, conv(x, (3, 4)), strict=True):
        planes = pair.unflatten(3, (3, 4)).permute(0, 3, 4, 1, 2).numpy()
        expected = convolve_4d(planes, full, stride) + bias
        np.testing.assert_allclose(ours.unflatten(3, (3, 4)).permute(0, 3, 4, 1, 2).numpy(), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "sides"), [(LEVEL_4, range(9, 17)), (LEVEL_3, range(17, 33)), (LEVEL_2, range(17, 33))]
)
@torch.no_grad()
def test_every_level_is_squeezed_to_2x2(shape: tuple[tuple[int, int], ...], sides: range) -> None:
    block = SqueezingBlock((1, *WIDTHS), shape)
    for side in (sides[0], sides[len(sides) // 2], sides[-1]):
        assert block(torch.zeros(1, 1, side, side, 1), (1, 1)).shape == (1, 128, 2, 2, 1)


# ---- PFENet ----------------------------------------------------------------------------------------------------------


def prior_by_loops(query: Tensor, support: Tensor, mask: Tensor) -> NDArray[np.float64]:
    """(C, H, W), (C, h, w), mask (h, w) -> (H, W), as section 3.2 says it."""
    best = np.zeros(query.shape[1:])
    for y, z in np.ndindex(*best.shape):
        for row, column in np.ndindex(*mask.shape):
            a, b = query[:, y, z].double(), (support * mask)[:, row, column].double()
            lengths = float(a.norm() * b.norm())
            best[y, z] = max(best[y, z], float(a @ b) / lengths if lengths else 0)
    low, high = best.min(), best.max()
    return (best - low) / (high - low + 1e-7)


def test_the_prior_mask_is_the_papers() -> None:
    generator = torch.Generator().manual_seed(0)
    query, support = torch.randn(1, 6, 3, 4, generator=generator), torch.randn(2, 6, 4, 5, generator=generator)
    masks = torch.zeros(2, 4, 5)
    masks[0, 1:3, 2:4] = 1
    masks[1] = 1
    ours = prior_mask(normalize(query), normalize(support), masks)  # the masks' points are the maps'
    for pair in range(2):
        expected = prior_by_loops(query[0], support[pair], masks[pair])
        np.testing.assert_allclose(ours[pair, 0].numpy(), expected, atol=1e-4)
        assert expected.max() > 0.99


def test_a_prior_without_foreground_is_zero() -> None:
    query, support = (normalize(torch.randn(1, 6, 3, 3)) for _ in range(2))
    assert not prior_mask(query, support, torch.zeros(1, 9, 9)).any()


def test_the_scales_are_the_papers_at_the_papers_size() -> None:
    assert [round(60 * scale) for scale in SCALES] == [60, 30, 15, 8]


# ---- Prototypes ------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_projection_is_one_convolution_of_all_levels() -> None:
    torch.manual_seed(0)
    projection = Projection((4, 6), 3)
    levels = [[torch.randn(2, 9, 2, 3), torch.randn(2, 4, 2, 3)], [torch.randn(2, 6, 5, 7)]]
    coarse = F.interpolate(levels[0][-1], (5, 7), mode="bilinear", align_corners=True)
    stacked = torch.cat([coarse * 2, levels[1][-1] * math.sqrt(6)], dim=1)
    expected = F.conv2d(stacked, torch.cat([conv.weight for conv in projection.convs], dim=1))
    torch.testing.assert_close(projection(levels), expected, rtol=1e-4, atol=1e-5)


def test_panets_prototypes_are_averages_under_the_mask() -> None:
    """Of the map enlarged to the mask, as the paper says it; enlarged by repetition here."""
    rng = np.random.default_rng(0)
    features, mask = rng.standard_normal((5, 4, 3)), rng.random((24, 18)) < 0.3
    enlarged = features.repeat(6, axis=1).repeat(6, axis=2)
    background, foreground = prototypes(torch.from_numpy(features)[None], torch.from_numpy(mask)[None].double())[0]
    np.testing.assert_allclose(foreground.numpy(), enlarged[:, mask].mean(axis=1), rtol=1e-4)
    np.testing.assert_allclose(background.numpy(), enlarged[:, ~mask].mean(axis=1), rtol=1e-4)


@torch.no_grad()
def test_panets_logits_are_twenty_cosines() -> None:
    torch.manual_seed(0)
    panet = PANet((4, 5, 6))
    query = [[normalize(torch.randn(1, channels, side, side))] for channels, side in ((4, 2), (5, 4), (6, 8))]
    support = [[normalize(torch.randn(1, channels, side, side))] for channels, side in ((4, 2), (5, 4), (6, 4))]
    mask = torch.zeros(1, 16, 16)
    mask[0, 4:, 3:9] = 1
    logits = panet(query, support, mask)[0]
    corner = panet.embed(query)[0, :, 0, 0]
    for logit, prototype in zip(logits[:, 0, 0], prototypes(panet.embed(support), mask)[0], strict=True):
        cosine = corner @ prototype / (corner.norm() * prototype.norm())
        assert logit == pytest.approx(20 * float(cosine), abs=1e-4)
    empty = panet(query, support, torch.zeros(1, 16, 16))[0]
    assert not empty[1].any()
    assert empty[0].any()


# ---- ASNet's ablations -----------------------------------------------------------------------------------------------


def embeddings(target_side: int, key_side: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    sides = (target_side, key_side, key_side)
    target, key, value = (torch.randn(2, 16, side, side, 3, generator=generator) for side in sides)
    return target, key, value


def test_local_attention_of_unlimited_reach_is_global() -> None:
    target, key, value = embeddings(3, 5)
    mask = torch.zeros(2, 10, 10)
    mask[0, :6, 3:] = 1
    visible = (F.interpolate(mask[:, None], (5, 5), mode="bilinear", align_corners=True) != 0).flatten(1)
    expected = attend(target.flatten(2, 3), key.flatten(2, 3), value.flatten(2, 3), visible).view(target.shape)
    local = attend_locally(target, key, value, mask, step=2, reach=9)
    torch.testing.assert_close(local, expected, rtol=1e-4, atol=1e-5)


def test_local_attention_sees_its_window_only() -> None:
    target, key, value = embeddings(3, 5)
    before = attend_locally(target, key, value, None, step=2, reach=1)
    value[:, :, 4, 4] += 1
    changed = (attend_locally(target, key, value, None, step=2, reach=1) != before).any(dim=(0, 1, 4))
    assert changed.tolist() == [[False, False, False], [False, False, False], [False, False, True]]


def test_local_attention_without_foreground_is_the_windows_mean() -> None:
    target, key, value = embeddings(2, 2)
    local = attend_locally(target, key, value, torch.zeros(2, 8, 8), step=1, reach=0)
    torch.testing.assert_close(local, value)


@torch.no_grad()
def test_asnet_without_masks_is_asnet_with_none() -> None:
    plain, unmasked = ASNet((1, 1, 1)), UnmaskedASNet((1, 1, 1))
    unmasked.load_state_dict(plain.state_dict())
    query = [[normalize(torch.randn(1, 4, side, side))] for side in (1, 2, 3)]
    support = [[normalize(torch.randn(1, 4, side, side))] for side in (9, 17, 17)]
    assert torch.equal(unmasked(query, support, torch.zeros(1, 34, 34)), plain(query, support, None))
