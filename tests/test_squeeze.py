from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

import reference
from fscs_sdk.model import squeeze
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.fast import cpu as kernels
from fscs_sdk.model.fast.cpu import attend_by_head
from fscs_sdk.model.squeeze import (
    ATTENTION_HEADS,
    LARGE_ATTENTION,
    AttentiveSqueeze,
    GroupNorm,
    SupportConv,
    attend,
    attend_plainly,
    convolve_support,
    visible_keys,
)

Attention = Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor]
MASKS = ("none", "full", "partial", "single", "empty")
seeds = st.integers(0, 2**31)

# name in table a.6: C_in, C_out, kernel, stride, padding, pooled keys and values, support height and width
LAYERS = {
    "level4.0": (3, 32, 5, 4, 2, False, 7, 13),
    "level4.1": (32, 128, 3, 2, 1, False, 4, 3),
    "level3.0": (6, 32, 5, 4, 2, True, 17, 20),
    "level3.1": (32, 128, 5, 4, 2, True, 5, 7),
    "mix.0": (128, 128, 1, 1, 0, False, 2, 2),
    "mix.1": (128, 128, 2, 1, 0, False, 2, 2),
}


def by_head(target: Tensor, key: Tensor, value: Tensor, visible: Tensor | None) -> Tensor:
    return attend_by_head(target, key, value, visible, ATTENTION_HEADS)


def visibility(kind: str, pairs: int, keys: int, generator: torch.Generator) -> Tensor | None:
    """Bool (P, S). The last pair of ``partial`` sees everything, so that pairs differ."""
    if kind == "none":
        return None
    if kind in ("full", "empty"):
        return torch.full((pairs, keys), kind == "full")
    visible = torch.zeros(pairs, keys, dtype=torch.bool)
    visible[torch.arange(pairs), torch.randint(keys, (pairs,), generator=generator)] = True
    if kind == "partial":
        visible |= torch.rand(pairs, keys, generator=generator) > 0.5
        visible[-1] = True
    return visible


def embeddings(
    generator: torch.Generator, pairs: int, channels: int, targets: int, keys: int, positions: int
) -> tuple[Tensor, Tensor, Tensor]:
    target, key, value = (
        torch.randn(pairs, channels, count, positions, generator=generator).requires_grad_()
        for count in (targets, keys, keys)
    )
    return target, key, value


def output_and_gradients(
    attention: Attention, inputs: tuple[Tensor, Tensor, Tensor], visible: Tensor | None
) -> tuple[Tensor, ...]:
    out = attention(*inputs, visible)
    weights = torch.linspace(-1, 1, out.numel()).view_as(out)
    return out.detach(), *torch.autograd.grad((out * weights).sum(), inputs)


# ---- Convolution over the support dimensions -------------------------------------------------------------------------


@settings(deadline=None, max_examples=80)
@given(seeds, st.data())
def test_convolve_support_is_a_convolution_at_every_query_position(seed: int, data: st.DataObject) -> None:
    kernel = data.draw(st.integers(1, 5), label="kernel")
    stride = data.draw(st.integers(1, 5), label="stride")
    padding = data.draw(st.integers(0, kernel - 1), label="padding")
    smallest = max(1, kernel - 2 * padding)
    height, width = data.draw(st.tuples(*[st.integers(smallest, 9)] * 2), label="support sides")
    pairs, channels, outputs, positions = data.draw(st.tuples(*[st.integers(1, 3)] * 4), label="P, C, O, Q")
    biased = data.draw(st.booleans(), label="bias")
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(pairs, channels, height, width, positions, generator=generator)
    weight = torch.randn(outputs, channels, kernel, kernel, generator=generator)
    bias = torch.randn(outputs, generator=generator) if biased else None
    ours = convolve_support(x, weight, bias, stride=stride, padding=padding)
    expected = [F.conv2d(x[..., q], weight, bias, stride, padding) for q in range(positions)]
    torch.testing.assert_close(ours, torch.stack(expected, dim=-1), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 2), (5, 4)])
def test_convolve_support_has_the_gradients_of_a_convolution(kernel: int, stride: int) -> None:
    generator = torch.Generator().manual_seed(kernel)
    x = torch.randn(2, 3, 6, 7, 4, generator=generator, requires_grad=True)
    conv = SupportConv(3, 5, kernel, stride)
    out = conv(x)
    expected = torch.stack([F.conv2d(x[..., q], conv.weight, conv.bias, stride, conv.padding) for q in range(4)], -1)
    inputs = (x, conv.weight, conv.bias)
    for ours, theirs in zip(
        torch.autograd.grad(out.square().sum(), inputs),
        torch.autograd.grad(expected.square().sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("kernel", "padding"), [(1, 0), (2, 0), (3, 1), (5, 2)])
def test_padding_follows_the_kernel(kernel: int, padding: int) -> None:
    assert SupportConv(1, 1, kernel).padding == padding


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (2, 1), (3, 2), (5, 4)])
@pytest.mark.parametrize("side", [2, 5, 13, 17, 32])
def test_output_side_is_the_side_of_the_output(kernel: int, stride: int, side: int) -> None:
    conv = SupportConv(1, 1, kernel, stride)
    assert conv(torch.zeros(1, 1, side, side, 1)).shape[2] == conv.output_side(side)


# ---- Attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("attention", [attend_plainly, by_head])
def test_attention_equals_the_reference(attention: Attention, kind: str) -> None:
    generator = torch.Generator().manual_seed(1)
    target, key, value = (torch.randn(2, 16, *side, 6, generator=generator) for side in ((2, 3), (4, 5), (4, 5)))
    visible = visibility(kind, 2, 20, generator)
    mask = None if visible is None else visible.view(2, 4, 5).float()
    ours = attention(target.flatten(2, 3), key.flatten(2, 3), value.flatten(2, 3), visible)
    paper = [x.unflatten(4, (2, 3)).permute(0, 1, 4, 5, 2, 3) for x in (target, key, value)]  # (P, C, H, W, h, w)
    expected = reference.masked_attention(paper[0], paper[1], paper[2], mask, heads=ATTENTION_HEADS)
    expected = expected.permute(0, 1, 4, 5, 2, 3).flatten(4).flatten(2, 3)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", MASKS)
def test_fast_attention_equals_the_plain_one_with_its_gradients(kind: str) -> None:
    generator = torch.Generator().manual_seed(2)
    inputs = embeddings(generator, 3, 16, 4, 9, 5)
    visible = visibility(kind, 3, 9, generator)
    plain = output_and_gradients(attend_plainly, inputs, visible)
    fast = output_and_gradients(by_head, inputs, visible)
    for name, ours, theirs in zip(("output", "target", "key", "value"), fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}")


@settings(deadline=None, max_examples=40)
@given(
    seeds,
    st.sampled_from(MASKS),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 6),
    st.integers(1, 8),
    st.integers(1, 4),
)
def test_fast_attention_equals_the_plain_one_at_any_shape(
    seed: int, kind: str, pairs: int, width: int, targets: int, keys: int, positions: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    inputs = embeddings(generator, pairs, ATTENTION_HEADS * width, targets, keys, positions)
    visible = visibility(kind, pairs, keys, generator)
    plain = output_and_gradients(attend_plainly, inputs, visible)
    fast = output_and_gradients(by_head, inputs, visible)
    for ours, theirs in zip(fast, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_fast_attention_takes_views_and_strided_gradients() -> None:
    generator = torch.Generator().manual_seed(3)
    joint = torch.randn(2, 48, 4, 5, generator=generator, requires_grad=True)
    gradients = []
    for attention in (attend_plainly, by_head):
        out = attention(*joint.split(16, dim=1), None)
        (gradient,) = torch.autograd.grad(out.transpose(1, 3).square().sum(), joint)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-4, atol=1e-5)


def test_fast_attention_can_be_differentiated_twice_from_one_forward_pass() -> None:
    inputs = embeddings(torch.Generator().manual_seed(4), 1, 8, 2, 3, 2)
    out = by_head(*inputs, None).square().sum()
    first = torch.autograd.grad(out, inputs, retain_graph=True)
    second = torch.autograd.grad(out, inputs)
    for once, again in zip(first, second, strict=True):
        torch.testing.assert_close(again, once)


def test_fast_attention_keeps_nothing_after_its_gradient() -> None:
    inputs = embeddings(torch.Generator().manual_seed(4), 1, 8, 2, 3, 2)
    out = by_head(*inputs, None)
    assert len(out.grad_fn.saved_tensors) > 3
    out.sum().backward()
    with pytest.raises(RuntimeError, match="already been freed"):
        _ = out.grad_fn.saved_tensors
    assert not any(isinstance(value, (Tensor, list)) for value in vars(out.grad_fn).values())


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("keys", [LARGE_ATTENTION // 16 - 1, LARGE_ATTENTION // 16, LARGE_ATTENTION])
def test_attend_gives_one_answer_on_both_sides_of_its_switch(keys: int, kind: str) -> None:
    generator = torch.Generator().manual_seed(5)
    target, key, value = (x.detach() for x in embeddings(generator, 2, 16, 16, keys, 3))
    visible = visibility(kind, 2, keys, generator)
    plain = attend_plainly(target, key, value, visible)
    torch.testing.assert_close(attend(target, key, value, visible), plain, rtol=0, atol=1e-5)


def test_large_attention_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(squeeze, "attend_by_head", lambda target, *_: taken.append(target.shape[2]) or target)
    for targets in (LARGE_ATTENTION // 16 - 1, LARGE_ATTENTION // 16):
        attend(torch.zeros(1, 8, targets, 1), torch.zeros(1, 8, 16, 1), torch.zeros(1, 8, 16, 1), None)
    assert taken == [LARGE_ATTENTION // 16]


@pytest.mark.parametrize("attention", [attend_plainly, by_head])
def test_hidden_keys_have_no_say_and_nothing_visible_means_all_alike(attention: Attention) -> None:
    generator = torch.Generator().manual_seed(6)
    target, key, value = (x.detach() for x in embeddings(generator, 2, 8, 3, 5, 4))
    visible = torch.zeros(2, 5, dtype=torch.bool)
    visible[0, 2] = True
    out = attention(target, key, value, visible)
    torch.testing.assert_close(out[0], value[0, :, 2:3].expand(-1, 3, -1))
    torch.testing.assert_close(out[1], value[1].mean(dim=1, keepdim=True).expand(-1, 3, -1))


@pytest.mark.parametrize("attention", [attend_plainly, by_head])
def test_inputs_of_attention_are_not_changed(attention: Attention) -> None:
    inputs = [x.detach() for x in embeddings(torch.Generator().manual_seed(7), 1, 8, 3, 5, 4)]
    before = [x.clone() for x in inputs]
    attention(*inputs, torch.tensor([[True, False, True, False, True]]))
    for x, copy in zip(inputs, before, strict=True):
        assert torch.equal(x, copy)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("attention", [attend_plainly, by_head])
@pytest.mark.parametrize("kind", ["none", "partial"])
def test_attention_runs_in_half_precision(attention: Attention, dtype: torch.dtype, kind: str) -> None:
    generator = torch.Generator().manual_seed(8)
    target, key, value = (x.detach() for x in embeddings(generator, 2, 8, 3, 5, 4))
    visible = visibility(kind, 2, 5, generator)
    out = attention(target.to(dtype), key.to(dtype), value.to(dtype), visible)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), attend_plainly(target, key, value, visible), rtol=0, atol=0.1)


# ---- Masks -----------------------------------------------------------------------------------------------------------


def test_a_key_is_visible_where_the_resized_mask_is_not_exactly_zero() -> None:
    mask = torch.zeros(1, 9, 9)
    mask[0, 4, 4] = 1
    assert visible_keys(mask, 3, 3).view(3, 3).nonzero().tolist() == [[1, 1]]
    assert not visible_keys(mask, 2, 2).any()  # only the corners are looked at
    mask[0, 0, 1] = 1e-6
    assert visible_keys(mask, 5, 5).sum() == 1
    assert visible_keys(mask, 9, 9).sum() == 2


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 40), st.integers(1, 40), st.integers(1, 8), st.integers(1, 8))
def test_masks_of_a_batch_are_resized_each_by_itself(
    seed: int, mask_height: int, mask_width: int, height: int, width: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    masks = (torch.rand(3, mask_height, mask_width, generator=generator) > 0.9).float()
    together = visible_keys(masks, height, width)
    assert together.shape == (3, height * width)
    for mask, row in zip(masks, together, strict=True):
        assert torch.equal(visible_keys(mask[None], height, width)[0], row)


# ---- The layer -------------------------------------------------------------------------------------------------------


def build(name: str) -> AttentiveSqueeze:
    inputs, outputs, kernel, stride, _, pooled, _, _ = LAYERS[name]
    torch.manual_seed(9)
    layer = AttentiveSqueeze(inputs, outputs, kernel, stride, pool_key_value=pooled)
    for parameter in layer.parameters():
        if parameter.dim() == 1:  # norms start at 1 and 0, which would hide a missing or exchanged one
            torch.nn.init.normal_(parameter, 0.5, 0.3)
    return layer


def expected_of(layer: AttentiveSqueeze, name: str, x: Tensor, size: tuple[int, int], mask: Tensor | None) -> Tensor:
    """The reference for (P, C, h, w, Q), in that layout."""
    *_, stride, padding, pooled, _, _ = LAYERS[name]
    state = {f"layer.{key}": tensor for key, tensor in layer.state_dict().items()}
    x = x.unflatten(4, size).permute(0, 1, 4, 5, 2, 3)
    out = reference.attentive_squeeze(state, "layer", x, mask, stride, padding, pooled_keys=pooled)
    return out.permute(0, 1, 4, 5, 2, 3).flatten(4)


def layer_mask(kind: str) -> Tensor | None:
    """Of two pairs; only the first sees the speck."""
    mask = None if kind == "none" else torch.zeros(2, 40, 50)
    if mask is not None and kind == "box":
        mask[:, :20, 10:40] = 1
        mask[1, :, 45:] = 1
    if mask is not None and kind == "speck":
        mask[0, 1, 1] = 1
    return mask


@pytest.mark.parametrize("gradients", [True, False], ids=["plain", "inference"])
@pytest.mark.parametrize("kind", ["none", "box", "speck", "empty"])
@pytest.mark.parametrize("name", LAYERS)
def test_layer_equals_the_reference(name: str, kind: str, gradients: bool) -> None:
    layer = build(name).requires_grad_(False)
    inputs, outputs, kernel, stride, padding, _, height, width = LAYERS[name]
    x = torch.rand(2, inputs, height, width, 6, generator=torch.Generator().manual_seed(10))
    mask = layer_mask(kind)
    with torch.set_grad_enabled(gradients):
        ours = layer(x, mask)
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    assert ours.shape == (2, outputs, *sides, 6)
    torch.testing.assert_close(ours, expected_of(layer, name, x, (2, 3), mask), rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["level4.0", "level3.0", "mix.0"])
def test_layer_has_the_gradients_of_the_plain_path(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = build(name)
    inputs, _, _, _, _, _, height, width = LAYERS[name]
    x = torch.rand(1, inputs, height, width, 4, generator=torch.Generator().manual_seed(11))
    mask = torch.zeros(1, 30, 30)
    mask[:, :25, :18] = 1  # with a corner, all that a 2x2 key grid looks at
    gradients = []
    for threshold in (0, 10**9):
        monkeypatch.setattr(squeeze, "LARGE_ATTENTION", threshold)
        layer.zero_grad()
        layer(x, mask).square().sigmoid().sum().backward()
        gradients.append({key: parameter.grad.clone() for key, parameter in layer.named_parameters()})
    for key, gradient in gradients[0].items():
        scale = gradients[1][key].abs().max().item()
        torch.testing.assert_close(gradient, gradients[1][key], rtol=1e-3, atol=1e-4 * max(scale, 1.0))


def test_layer_keeps_pairs_apart() -> None:
    layer = build("level4.0")
    x = torch.rand(3, 3, 7, 6, 4, generator=torch.Generator().manual_seed(12))
    mask = (torch.rand(3, 20, 20, generator=torch.Generator().manual_seed(13)) > 0.9).float()
    with torch.no_grad():
        together = layer(x, mask)
        alone = torch.cat([layer(x[p : p + 1], mask[p : p + 1]) for p in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_layer_treats_query_positions_alike() -> None:
    layer = build("level3.0")
    x = torch.rand(1, 6, 17, 18, 5, generator=torch.Generator().manual_seed(14))
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        torch.testing.assert_close(layer(x, None)[..., order], layer(x[..., order], None), rtol=0, atol=1e-5)


def test_group_norm_runs_over_support_and_query_positions_of_one_pair() -> None:
    x = torch.randn(2, 8, 3, 2, 5, generator=torch.Generator().manual_seed(15)) * 4 + 2
    out = GroupNorm(8)(x).view(2, 4, -1)
    torch.testing.assert_close(out.mean(dim=2), torch.zeros(2, 4), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.var(dim=2, unbiased=False), torch.ones(2, 4), rtol=0, atol=1e-4)


def test_only_a_layer_that_changes_nothing_has_an_identity_shortcut() -> None:
    assert {name for name in LAYERS if build(name).shortcut is None} == {"mix.0"}


@pytest.mark.parametrize("maps", [31, 32, 33])
def test_any_number_of_maps_can_be_squeezed(maps: int) -> None:
    layer = AttentiveSqueeze(maps, 32, 5, 4)
    with torch.no_grad():
        assert layer(torch.rand(1, maps, 9, 9, 2), None).shape == (1, 32, 3, 3, 2)


# ---- The layer without gradients ------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(seeds, st.sampled_from(list(LAYERS)), st.integers(1, 3), st.sampled_from(MASKS), st.integers(1, 40), st.data())
def test_inference_equals_the_plain_layer_at_any_shape(
    seed: int, name: str, pairs: int, kind: str, positions: int, data: st.DataObject
) -> None:
    layer = build(name)
    inputs, _, kernel, _, padding, *_ = LAYERS[name]
    height, width = data.draw(st.tuples(*[st.integers(max(1, kernel - 2 * padding), 14)] * 2), label="support sides")
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand(pairs, inputs, height, width, positions, generator=generator)
    keys = layer.key.output_side(height), layer.key.output_side(width)
    visible = visibility(kind, pairs, keys[0] * keys[1], generator)
    with pytest.MonkeyPatch.context() as patch:  # so that any key can be visible, whatever the grid
        patch.setattr(squeeze, "visible_keys", lambda *_, **__: visible)
        patch.setattr(kernels, "SCORES_AT_ONCE", data.draw(st.sampled_from([1, 100, 2**19]), label="scores at once"))
        mask = None if visible is None else torch.ones(pairs, 3, 3)
        plain = layer(x, mask).detach()
        with torch.inference_mode():
            fast = layer(x, mask)
    torch.testing.assert_close(fast, plain, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("factor", [30.0, 1000.0])
def test_inference_keeps_scores_that_are_far_apart(factor: float) -> None:
    """Weights of attention that are no normal numbers, or 0: beside the largest they count for nothing."""
    layer = build("level3.1")
    inputs, *_, height, width = LAYERS["level3.1"]
    with torch.no_grad():
        layer.target.weight.mul_(factor)
        x = torch.rand(1, inputs, height, width, 40, generator=torch.Generator().manual_seed(18))
        fast = layer(x, None)
    torch.testing.assert_close(fast, layer(x, None).detach(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
@torch.no_grad()
def test_inference_follows_weights_that_change(name: str) -> None:
    layer, other = build(name), build(name)
    inputs, *_, height, width = LAYERS[name]
    x = torch.rand(1, inputs, height, width, 6, generator=torch.Generator().manual_seed(19))
    layer(x, None)
    for mine, its in zip(layer.parameters(), other.parameters(), strict=True):
        its.mul_(0.7)
        mine.copy_(its)
    assert torch.equal(layer(x, None), other(x, None))


@pytest.mark.parametrize("name", LAYERS)
def test_inference_takes_any_memory_layout(name: str) -> None:
    layer = build(name)
    inputs, *_, height, width = LAYERS[name]
    x = torch.rand(2, inputs, height, width, 6, generator=torch.Generator().manual_seed(16))
    turned = x.permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4)
    with torch.no_grad():
        torch.testing.assert_close(layer(turned, None), layer(x, None), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", LAYERS)
def test_inference_keeps_no_value_and_changes_no_input(name: str) -> None:
    """Its memory is used again: an answer must neither lie in it nor depend on what was there."""
    layer = build(name)
    inputs, *_, height, width = LAYERS[name]
    x = torch.rand(1, inputs, height, width, 6, generator=torch.Generator().manual_seed(17))
    before = x.clone()
    with torch.no_grad():
        first = layer(x, None)
        copy = first.clone()
        layer(1000 * torch.ones_like(x), None)
        assert torch.equal(first, copy)
        assert torch.equal(x, before)
        assert torch.equal(layer(x, None), first)


def test_inference_in_many_threads_gives_each_its_own_answer() -> None:
    layer = build("level3.0")
    xs = [torch.rand(1, 6, 17, 18, 30, generator=torch.Generator().manual_seed(seed)) for seed in range(8)]

    def answer(x: Tensor) -> Tensor:
        with torch.inference_mode():
            return layer(x, None)

    expected = [answer(x) for x in xs]
    with ThreadPoolExecutor(4) as pool:
        for ours, wanted in zip(pool.map(answer, xs * 4), expected * 4, strict=True):
            assert torch.equal(ours, wanted)


def test_modes_of_inference_can_be_mixed() -> None:
    layer = build("mix.1")
    x = torch.rand(1, 128, 2, 2, 7, generator=torch.Generator().manual_seed(18))
    answers = []
    for mode in (torch.inference_mode, torch.no_grad, torch.inference_mode, torch.no_grad):
        with mode():
            answers.append(layer(x, None).clone())
    assert all(torch.equal(answer, answers[0]) for answer in answers)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["none", "box", "speck", "empty"])
@pytest.mark.parametrize("name", LAYERS)
def test_inference_rounds_products_only(name: str, kind: str, dtype: torch.dtype) -> None:
    layer = build(name)
    inputs, *_, height, width = LAYERS[name]
    x = torch.rand(2, inputs, height, width, 6, generator=torch.Generator().manual_seed(19))
    mask = layer_mask(kind)
    with torch.no_grad():
        full = layer(x, mask)
        with torch.autocast("cpu", dtype):
            rounded = layer(x, mask)
    assert rounded.dtype == torch.float32
    assert not torch.equal(rounded, full)
    torch.testing.assert_close(rounded, full, rtol=0, atol=0.15)
    assert (rounded - full).abs().mean() < 0.015


def test_gradients_take_the_plain_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(squeeze, "squeeze_for_inference", lambda *_, **__: pytest.fail("taken"))
    layer = build("mix.1")
    x = torch.rand(1, 128, 2, 2, 3)
    layer(x, None).sum().backward()
    assert layer.target.weight.grad is not None
    with torch.no_grad(), pytest.raises(pytest.fail.Exception):
        layer(x, None)


def test_touched_keys_are_seen_where_no_point_is() -> None:
    mask = torch.zeros(4, 40, 40)
    mask[0, 3:5, :] = 1  # between the points of 5 keys a side, which are 0, 9.75, 19.5 ...
    mask[1, 9:21, 9:21] = 1  # seen as it is
    mask[3, 4, 13] = 1  # a single pixel
    paper, touched = visible_keys(mask, 5, 5), visible_keys(mask, 5, 5, touched=True)
    assert not paper[0].any()
    assert touched[0].view(5, 5).nonzero()[:, 0].unique().tolist() == [0]
    assert torch.equal(paper[1], touched[1])
    assert paper[1].any()
    assert not touched[2].any()
    assert touched[3].view(5, 5).nonzero().tolist() == [[0, 1]]
    assert visible_keys(mask, 3, 7, touched=True).shape == (4, 21)


def test_only_a_head_that_says_so_sees_touched_keys() -> None:
    torch.manual_seed(0)
    paper, touching = ASNet((1, 1, 1)).eval(), ASNet((1, 1, 1), touched=True).eval()
    touching.load_state_dict(paper.state_dict())
    query = [torch.rand(1, 4, side, side) for side in (3, 6, 12)]
    support = [torch.rand(1, 4, side, side) for side in (9, 18, 18)]
    pyramid = [[feature] for feature in query], [[feature] for feature in support]
    mask = torch.zeros(1, 144, 144)
    for box, same in (((slice(10, 20), slice(None)), False), ((slice(None), slice(None)), True)):
        mask[0][box] = 1
        with torch.no_grad():
            ours, other = (head(*pyramid, mask) for head in (paper, touching))
        assert torch.equal(ours, other) is same
