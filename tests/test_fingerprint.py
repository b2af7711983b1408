"""The fingerprint of a backbone: what may differ passes, what is another net does not."""

import time
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from fscs_sdk.checkpoints.fingerprint import TOLERANCE, check_fingerprint, differences, fingerprint
from fscs_sdk.weights import PACKAGE_FOLDER

SHARED = Path(__file__).parents[2] / "shared" / "weights" / "densenet169_imagenet_features.safetensors"
#: Of ``{"a": 0, 1, ..., 9; "b": -0.5}``: heads that exist hold this, so it must never change for version 1.
GOLDEN = "1:AAA0QjgOh0EgRgG+AAAAvwAAAD9QQcS+"


@st.composite
def weights(draw):
    """A few named tensors of about a net's values, none of them constant."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shapes = draw(st.lists(st.lists(st.integers(1, 6), max_size=4), min_size=1, max_size=4))
    scale = draw(st.sampled_from([1e-6, 0.02, 1.0, 1e3]))
    offset = draw(st.sampled_from([0.0, 1.0])) * scale
    return {
        f"layer{number}.weight": torch.randn(shape, generator=generator) * scale + offset
        for number, shape in enumerate(shapes)
    }


def test_the_numbers_of_version_1_never_change():
    assert fingerprint({"b": torch.tensor(-0.5), "a": torch.arange(10.0)}) == GOLDEN


@given(weights())
def test_the_same_weights_have_the_same_fingerprint_whatever_their_order_and_layout(tensors):
    recorded = fingerprint(tensors)
    again = {name: tensors[name].clone().requires_grad_() for name in reversed(tensors)}
    strided = {
        name: tensor.unsqueeze(-1).expand(*tensor.shape, 3)[..., 0] if tensor.dim() else tensor
        for name, tensor in again.items()
    }
    assert fingerprint(again) == fingerprint(strided) == recorded
    assert differences(recorded, again) == []
    check_fingerprint(recorded)


@given(weights())
def test_storage_that_loses_nothing_passes(tensors):
    rounded = {name: tensor.clamp(-6e4, 6e4).half() for name, tensor in tensors.items()}
    recorded = fingerprint({name: tensor.float() for name, tensor in rounded.items()})
    assert differences(recorded, rounded) == []
    assert differences(recorded, {name: tensor.double() for name, tensor in rounded.items()}) == []


@given(weights(), st.integers(0, 2**31))
def test_another_order_of_summation_passes(tensors, seed):
    """Noise of float64's rounding, a thousand times over."""
    generator = torch.Generator().manual_seed(seed)
    noisy = {
        name: t.double() * (1 + 1e-12 * torch.randn(t.shape, generator=generator, dtype=torch.float64))
        for name, t in tensors.items()
    }
    assert differences(fingerprint(tensors), noisy) == []


def test_numbers_that_are_flushed_to_zero_pass():
    tensor = torch.tensor([1e-40, -3e-42, 0.0])
    assert tensor[0] != 0
    assert differences(fingerprint({"w": tensor}), {"w": torch.zeros(3)}) == []


@given(weights(), st.data())
def test_one_wrong_value_is_found(tensors, data):
    name = data.draw(st.sampled_from(sorted(tensors)))
    values = tensors[name].double().flatten()
    index = data.draw(st.integers(0, values.numel() - 1))
    size = max(float(values.norm()), abs(float(values.sum())))
    values[index] += data.draw(st.sampled_from([-1, 1])) * size * 3 * TOLERANCE
    changed = {**tensors, name: values.view(tensors[name].shape)}
    assert differences(fingerprint(tensors), changed) == [name]


@given(weights(), st.sampled_from([0.0, 0.999, 1.001, -1.0, 2.0]))
def test_another_scale_is_found_in_every_tensor(tensors, factor):
    assert differences(fingerprint(tensors), {name: t * factor for name, t in tensors.items()}) == sorted(tensors)


def test_another_order_of_values_is_found():
    """Sum and norm stay: the projection tells, for a shuffle, a transposition, two channels and two values."""
    kernel = torch.randn(64, 32, 3, 3, generator=torch.Generator().manual_seed(0))
    recorded = fingerprint({"w": kernel})
    shuffled = kernel.flatten()[torch.randperm(kernel.numel(), generator=torch.Generator().manual_seed(1))]
    swapped_channels = kernel[[1, 0, *range(2, 64)]]
    swapped_values = kernel.clone()
    swapped_values.view(-1)[[7, 9000]] = kernel.view(-1)[[9000, 7]]
    for other in (shuffled.view_as(kernel), kernel.transpose(2, 3), swapped_channels, swapped_values):
        assert differences(recorded, {"w": other}) == ["w"]


def test_two_tensors_of_one_shape_that_were_exchanged_are_found():
    first, second = torch.randn(2, 40, generator=torch.Generator().manual_seed(0))
    assert differences(fingerprint({"a": first, "b": second}), {"a": second, "b": first}) == ["a", "b"]


def test_another_training_and_another_precision_are_found():
    generator = torch.Generator().manual_seed(0)
    net = {f"conv{index}.weight": torch.randn(32, 16, 3, 3, generator=generator) for index in range(20)}
    other = {name: torch.randn(32, 16, 3, 3, generator=generator) for name in net}
    tuned = {name: t + 1e-3 * torch.randn(t.shape, generator=generator) for name, t in net.items()}
    rounded = {name: t.half().float() for name, t in net.items()}
    for changed in (other, tuned, rounded):
        assert differences(fingerprint(net), changed) == sorted(net)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_a_number_is_found(value):
    recorded = fingerprint({"w": torch.ones(3)})
    with np.errstate(invalid="ignore"):
        assert differences(recorded, {"w": torch.tensor([1.0, value, 1.0])}) == ["w"]


def test_another_number_of_tensors_is_no_match():
    recorded = fingerprint({"a": torch.ones(3)})
    assert differences(recorded, {"b": torch.ones(3), "a": torch.ones(3)}) == ["a", "b"]
    assert differences(fingerprint({}), {}) == []


@settings(max_examples=200)
@given(st.text(max_size=60) | st.builds("1:{}".format, st.text("ABab01+/=", max_size=60)))
def test_any_text_is_a_fingerprint_or_is_refused(text):
    try:
        check_fingerprint(text)
    except ValueError as error:
        assert "the fingerprint is" in str(error)  # noqa: PT017 (either outcome is right)
    else:
        assert text.startswith("1:")
        assert (len(text) - 2) % 16 == 0


def test_a_later_version_is_named():
    with pytest.raises(ValueError, match="the fingerprint is of version '2', which this fscs-sdk does not know"):
        differences("2:AAAA", {})


def test_the_packaged_backbone_is_read_in_no_time():
    tensors = load_file(PACKAGE_FOLDER / "assets" / "asnet-mini" / "backbone.safetensors")
    began = time.perf_counter()
    recorded = fingerprint(tensors)
    assert time.perf_counter() - began < 5
    assert len(recorded) == len("1:") + 16 * len(tensors)


@pytest.mark.skipif(not SHARED.is_file(), reason="needs the shared weights")
def test_a_real_net_knows_itself_and_not_its_float16_copy():
    tensors = load_file(SHARED)
    recorded = fingerprint(tensors)
    assert differences(recorded, tensors) == []
    rounded = differences(recorded, {name: tensor.half().float() for name, tensor in tensors.items()})
    assert len(rounded) > 0.9 * len(tensors)
    name = "features.denseblock3.denselayer7.conv2.weight"
    assert differences(recorded, {**tensors, name: tensors[name].flip(0)}) == [name]
