import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import authors_program
from fscs_sdk.checkpoints.authors import learner_from_authors
from fscs_sdk.model.asnet import ASNet

LAYER = "learner.encoder_layer4.0."
A_NAME = st.lists(
    st.sampled_from(
        [
            "learner",
            "backbone",
            "encoder_layer4",
            "encoder_layer4to3",
            "encoder_layer5",
            "decoder1",
            "decoder2",
            "attn",
            "ff",
            "qhead",
            "khead",
            "short_cut",
            "agg",
            "out_norm",
            "0",
            "1",
            "2",
            "3",
            "weight",
            "bias",
            "running_mean",
        ]
    ),
    max_size=7,
).map(".".join)


def test_every_name_of_a_real_learner_is_known() -> None:
    state = authors_program.learner_state()
    renamed = learner_from_authors(state)
    assert len(renamed) == len(state)
    learner = ASNet((3, 6, 4))
    learner.load_state_dict(renamed, strict=True)
    assert sum(tensor.numel() for tensor in renamed.values()) == sum(tensor.numel() for tensor in state.values())


NAMES = {
    "encoder_layer4.0.attn.qhead.weight": "level4.0.target.weight",
    "encoder_layer3.1.attn.khead.bias": "level3.1.key.bias",
    "encoder_layer3.1.attn.vhead.bias": "level3.1.value.bias",
    "encoder_layer2.0.attn.short_cut.0.weight": "level2.0.shortcut.conv.weight",
    "encoder_layer2.0.attn.short_cut.1.weight": "level2.0.shortcut.norm.weight",
    "encoder_layer4to3.0.attn.agg.0.weight": "mix43.0.aggregate_norm.weight",
    "encoder_layer4to3.0.attn.agg.2.weight": "mix43.0.aggregate.conv.weight",
    "encoder_layer4to3.0.attn.agg.3.weight": "mix43.0.aggregate.norm.weight",
    "encoder_layer3to2.1.attn.out_norm.bias": "mix32.1.attention_norm.bias",
    "encoder_layer3to2.1.ff.ff.0.weight": "mix32.1.feed_forward.conv.weight",
    "encoder_layer3to2.1.ff.ff.1.bias": "mix32.1.feed_forward.norm.bias",
    "encoder_layer3to2.1.ff.ff.3.weight": "mix32.1.feed_forward_out.weight",
    "encoder_layer3to2.1.ff.out_norm.bias": "mix32.1.output_norm.bias",
    "decoder1.0.weight": "decoder.0.weight",
    "decoder1.2.weight": "decoder.1.weight",
    "decoder2.0.bias": "decoder.2.bias",
    "decoder2.2.bias": "decoder.3.bias",
}


def test_every_tensor_gets_its_own_name_and_keeps_its_values() -> None:
    state = {f"learner.{theirs}": torch.tensor([float(index)]) for index, theirs in enumerate(NAMES)}
    renamed = learner_from_authors(state)
    assert {ours: tensor.item() for ours, tensor in renamed.items()} == dict(
        zip(NAMES.values(), range(99), strict=False)
    )
    assert set(NAMES.values()) <= ASNet((3, 6, 4)).state_dict().keys()


def test_conv3d_kernels_lose_their_first_dimension() -> None:
    kernel = torch.arange(2 * 3 * 25, dtype=torch.float32).view(2, 3, 1, 5, 5)
    renamed = learner_from_authors({f"{LAYER}attn.qhead.weight": kernel})
    assert torch.equal(renamed["level4.0.target.weight"], kernel[:, :, 0])


def test_conv2d_kernels_keep_their_shape() -> None:
    kernel = torch.zeros(2, 3, 1, 1)
    assert learner_from_authors({"learner.decoder1.0.weight": kernel})["decoder.0.weight"].shape == (2, 3, 1, 1)


def test_what_is_not_of_the_learner_is_left_out() -> None:
    assert learner_from_authors({"backbone.conv1.weight": torch.zeros(1), "learner": torch.zeros(1)}) == {}


@pytest.mark.parametrize(
    "name",
    [
        "learner.",
        "learner.weight",
        "learner.encoder_layer5.0.attn.qhead.weight",
        "learner.encoder_layer4.0.attn.qhead",
        f"{LAYER}attn.qhead.weight.extra",
        f"{LAYER}attn.nothead.weight",
        f"{LAYER}attn.qhead.running_mean",
        "learner.encoder_layer4.two.attn.qhead.weight",
        "learner.decoder3.0.weight",
        "learner.decoder1.1.weight",
        "learner.HSNet.conv.weight",
        f"{LAYER}attn.qhead.weight\n",
        # Close to the layout, but in no checkpoint of it.
        "learner.encoder_layer4.7.attn.qhead.weight",
        "learner.encoder_layer4.\u0661.attn.qhead.weight",
        "learner.decoder1.0.running_mean",
        "learner.decoder1.0.",
    ],
)
def test_unknown_names_are_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not a tensor of the authors' ASNet learner") as refusal:
        learner_from_authors({name: torch.zeros(1)})
    assert name.strip() in str(refusal.value)


@settings(deadline=None, max_examples=300)
@given(st.one_of(A_NAME, A_NAME.map("learner.".__add__), st.text().map("learner.".__add__), st.text()))
def test_made_up_names_are_renamed_dropped_or_refused(name: str) -> None:
    known = {"target", "key", "value", "shortcut", "aggregate_norm", "attention_norm", "feed_forward", "aggregate"}
    known |= {"feed_forward_out", "output_norm"}
    try:
        renamed = learner_from_authors({name: torch.zeros(1, 1, 1, 1, 1)})
    except ValueError:
        assert name.startswith("learner.")
        return
    if not name.startswith("learner."):
        assert renamed == {}
        return
    (ours,) = renamed
    assert ours.startswith("decoder.") or ours.split(".")[2] in known
