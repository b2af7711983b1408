"""Losses: by hand, by label, and their gradients against finite differences."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fscs_sdk.model.correlation import query_pyramid, support_pyramid
from fscs_sdk.model.heads import build_head
from fscs_sdk.training.losses import (
    TERMS,
    classification_loss,
    dice_loss,
    pair_losses,
    presence_loss,
    segmentation_loss,
)
from training_stub import SPEC, tiny_backbone

MASKED_LOSSES = (segmentation_loss, dice_loss, presence_loss)
LOG_2 = math.log(2)


def some_pairs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, target and validity: a large object, a small one, none; some positions unknown."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 2, 6, 6, generator=generator, dtype=dtype)
    target = torch.zeros(3, 6, 6, dtype=dtype)
    target[0, :3], target[1, 2, 2] = 1, 0.7
    valid = torch.ones(3, 6, 6, dtype=torch.bool)
    valid[:, :, 4:] = False
    return logits, target, valid


def test_losses_by_hand() -> None:
    """Undecided everywhere: Dice is 1 - (2 * 8 * .5 + 1) / (16 * .5 + 8 + 1), all others log 2."""
    logits, valid = torch.zeros(2, 2, 4, 4), torch.ones(2, 4, 4, dtype=torch.bool)
    target = torch.zeros(2, 4, 4)
    target[0, :2] = 1
    assert segmentation_loss(logits, target, valid).tolist() == pytest.approx([LOG_2, LOG_2])
    assert dice_loss(logits, target, valid).tolist() == pytest.approx([1 - 9 / 17, 0])
    assert presence_loss(logits, target, valid).tolist() == pytest.approx([LOG_2, LOG_2])
    assert classification_loss(logits, torch.tensor([True, False])).tolist() == pytest.approx([LOG_2, LOG_2])


def test_the_classification_loss_is_the_mean_of_the_log_map() -> None:
    """Of probabilities 1/2 and 1/4 of foreground, not the logarithm of their mean."""
    probabilities = torch.tensor([0.5, 0.25]).view(1, 1, 1, 2)
    logits = torch.cat([1 - probabilities, probabilities], dim=1).log().expand(2, -1, -1, -1)
    found = classification_loss(logits, torch.tensor([True, False])).tolist()
    assert found == pytest.approx([(LOG_2 + math.log(4)) / 2, (LOG_2 - math.log(0.75)) / 2])


@pytest.mark.parametrize("loss", MASKED_LOSSES)
def test_unknown_positions_change_no_loss(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    logits, target, valid = some_pairs()
    changed, other = logits.clone(), target.clone()
    changed[:, :, :, 4:], other[:, :, 4:] = 50, 1
    torch.testing.assert_close(loss(changed, other, valid), loss(logits, target, valid))


@pytest.mark.parametrize("loss", MASKED_LOSSES)
def test_a_photo_of_which_nothing_is_known_has_no_loss(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    logits, target, valid = some_pairs()
    logits.requires_grad_()
    found = loss(logits, target, valid & False)
    assert found.isfinite().all()
    found.sum().backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize(
    ("loss", "strong", "weak"),
    [
        ("segmentation", {"segmentation", "dice", "presence"}, {"classification"}),
        ("classification", {"classification"}, {"classification"}),
        ("both", set(TERMS), {"classification"}),
    ],
)
def test_the_label_and_the_setting_choose_the_terms(loss: Any, strong: set[str], weak: set[str]) -> None:
    """Table a.7; a pair with a class tag alone has eq. 6 whatever the setting."""
    logits, target, valid = some_pairs()
    target[1:] = target[0]
    is_strong, present = torch.tensor([True, False, True]), torch.tensor([True, True, False])
    terms = pair_losses(logits, target, valid, present=present, strong=is_strong, loss=loss, dice=1.0, presence=1.0)
    assert terms.shape == (len(TERMS), 3)
    for pair, wanted in enumerate((strong, weak, strong)):
        assert {name for name, value in zip(TERMS, terms[:, pair].tolist(), strict=True) if value} == wanted


def test_weights_scale_their_terms() -> None:
    logits, target, valid = some_pairs()
    present = strong = torch.ones(3, dtype=torch.bool)

    def terms(dice: float, presence: float) -> Tensor:
        return pair_losses(
            logits, target, valid, present=present, strong=strong, loss="both", dice=dice, presence=presence
        )

    factors = torch.tensor([1, 0.5, 0.25, 1])[:, None]
    torch.testing.assert_close(terms(0.5, 0.25), terms(1.0, 1.0) * factors)


def test_bfloat16_logits_are_not_summed_in_bfloat16() -> None:
    logits, target, valid = some_pairs()
    rounded = logits.bfloat16()
    for loss in MASKED_LOSSES:
        torch.testing.assert_close(
            loss(rounded, target, valid), loss(rounded.float(), target, valid), rtol=0.01, atol=0
        )
    present = torch.tensor([True, False, True])
    torch.testing.assert_close(classification_loss(rounded, present), classification_loss(rounded.float(), present))


@pytest.mark.parametrize("loss", MASKED_LOSSES)
def test_gradients_of_losses_of_masks(loss: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
    logits, target, valid = some_pairs(torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, valid), logits.requires_grad_())


def test_gradients_of_the_loss_of_tags() -> None:
    logits, _, _ = some_pairs(torch.float64)
    present = torch.tensor([True, False, True])
    assert torch.autograd.gradcheck(lambda x: classification_loss(x, present), logits.requires_grad_())


@pytest.mark.parametrize("method", ["asnet", "panet"])
def test_gradients_of_a_head_through_the_loss(method: str) -> None:
    """In float64, with a support mask, in one step down to the loss of all four terms."""
    backbone = tiny_backbone().double()
    generator = torch.Generator().manual_seed(0)
    photos = torch.randint(0, 255, (4, 3, 288, 288), generator=generator, dtype=torch.uint8)
    features = backbone(photos)
    sides = zip((2, 4, 8), query_pyramid(features), strict=True)
    query = [[feature[:2, :, :side, :side] for feature in level] for side, level in sides]
    support = [[feature[2:] for feature in level] for level in support_pyramid(features)]
    masks = torch.zeros(2, 288, 288, dtype=torch.float64)
    masks[:, 60:200, 60:200] = 1
    target = (torch.rand(2, 16, 16, generator=generator, dtype=torch.float64) > 0.5).double()
    valid = torch.rand(2, 16, 16, generator=generator) > 0.2
    yes = torch.tensor([True, True])
    torch.manual_seed(0)
    head = build_head(method, SPEC).double()

    def loss() -> Tensor:
        logits = head(query, support, masks)
        return pair_losses(logits, target, valid, present=yes, strong=yes, loss="both", dice=0.9, presence=0.4).sum()

    loss().backward()  # type: ignore[no-untyped-call]
    for seed in range(3):
        expected, found = slopes(head, loss, torch.Generator().manual_seed(seed))
        assert found == pytest.approx(expected, rel=3e-3)


def slopes(head: nn.Module, loss: Callable[[], Tensor], generator: torch.Generator) -> tuple[float, float]:
    """The slope in the direction of the gradient of a random half of all tensors: by differences, and as computed.

    In other directions slopes are so small that float32, in which a masked softmax is computed, would hide them.
    """
    chosen = [p for p in head.parameters() if torch.rand(1, generator=generator) < 0.5]
    gradients = [p.grad for p in chosen if p.grad is not None]
    assert len(gradients) == len(chosen) > 0
    length = math.sqrt(sum(float(gradient.square().sum()) for gradient in gradients))
    step, values = 1e-4, []
    for move in (step, -2 * step):
        with torch.no_grad():
            for parameter, gradient in zip(chosen, gradients, strict=True):
                parameter.add_(gradient, alpha=move / length)
        values.append(float(loss().detach()))  # with gradients on: without them other kernels would compute it
    with torch.no_grad():
        for parameter, gradient in zip(chosen, gradients, strict=True):
            parameter.add_(gradient, alpha=step / length)
    return (values[0] - values[1]) / (2 * step), length
