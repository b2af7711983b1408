"""An exported file answers as the SDK does in float32, for any model, ways and shots, without torch."""

import contextlib
import dataclasses
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter, Shot
from fscs_sdk.cli import main
from fscs_sdk.demo import PHOTOS
from fscs_sdk.export import export, metadata
from fscs_sdk.images import read_image, resize_image
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.fast.graph import SeenKeys, attend_to_seen, convolve_volume
from fscs_sdk.model.ifsl import Calibration
from fscs_sdk.model.network import FewShotNetwork
from fscs_sdk.model.squeeze import AttentiveSqueeze, attend_plainly, convolve_support, visible_keys

#: What is promised of scores and maps.
CLOSE = 1e-4
QUERIES = ("cat_query.jpg", "person_query.jpg", "coffee.jpg", "dog.jpg", "cat_query_closeup.jpg")


def check(outputs, model, supports, images):
    """Compare a graph's answers with what the SDK says of photos at the network's side."""
    scores, present, foreground, mask, *rest = (np.asarray(output) for output in outputs)
    predictions = [model.predict(image, supports) for image in images]
    maps = [model.infer(model.encode_query(image), supports).maps for image in images]
    np.testing.assert_allclose(scores, [list(one.scores.values()) for one in predictions], rtol=0, atol=CLOSE)
    np.testing.assert_array_equal(present, [list(one.present.values()) for one in predictions])
    small = np.stack([one.foreground[0].numpy() for one in maps])
    if model.edges:
        np.testing.assert_allclose(foreground, [one.foreground for one in predictions], rtol=0, atol=CLOSE)
        np.testing.assert_allclose(rest[0], small, rtol=0, atol=CLOSE)
        added = np.stack([one.edges.fit(one.foreground).coefficients.numpy() for one in maps])
        levels = np.array([255, 255, 255, 1])[:, None, None]  # what coefficients are multiplied by, at most
        np.testing.assert_allclose(rest[1] * levels, added * levels, rtol=1e-4, atol=10 * CLOSE)
    else:
        assert not rest
        np.testing.assert_allclose(foreground, small, rtol=0, atol=CLOSE)
    for ours, prediction in zip(mask, predictions, strict=True):
        decided = margin(prediction) > CLOSE
        assert (ours == prediction.mask)[decided].all()
        assert decided.mean() > 0.98  # random weights give several classes nearly the same map


def margin(prediction):
    """(H, W), by how much the winner at a pixel is ahead of the next."""
    shown = prediction.foreground[list(prediction.present.values())]
    ranked = np.sort(np.stack([prediction.background, *shown, np.full_like(prediction.background, -1)]), axis=0)
    return ranked[-1] - ranked[-2]


def session(path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime runs what is exported")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def quiet():
    """Without the hundred thousand lines that PyTorch logs for its own use, which pytest would keep."""
    logging.disable()
    yield
    logging.disable(logging.NOTSET)


def at_side(name, side):
    return resize_image(read_image(PHOTOS / name), side)


# ---- The layer's other form ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(2, 16, 25, 25, 7), (3, 64, 4, 9, 5), (1, 16, 3, 1, 4)])
@pytest.mark.parametrize("masked", [True, False])
def test_attention_in_a_graph_equals_the_plain_one(shape, masked):
    pairs, channels, targets, keys, positions = shape
    generator = torch.Generator().manual_seed(keys)
    target = torch.randn(pairs, channels, targets, positions, generator=generator)
    key, value = (torch.randn(pairs, channels, keys, positions, generator=generator) for _ in range(2))
    visible = torch.rand(pairs, keys, generator=generator) > 0.5 if masked else None
    if visible is not None:
        visible[0] = False
    expected = attend_plainly(target, key, value, visible)
    torch.testing.assert_close(attend_to_seen(target, key, value, visible, 8), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(5, 4, 2), (3, 2, 1), (2, 1, 0)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_of_three_dimensions_equals_the_windows(kernel, stride, padding, bias):
    x, weight = torch.randn(2, 3, 9, 7, 5), torch.randn(6, 3, kernel, kernel)
    offsets = torch.randn(6) if bias else None
    expected = convolve_support(x, weight, offsets, stride=stride, padding=padding)
    found = convolve_volume(x, weight, offsets, stride=stride, padding=padding)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_keys_that_are_seen_are_chosen_and_rows_are_filled_up():
    keys = SeenKeys.of(torch.tensor([[False, True, False, True], [False, False, True, False]]))
    assert keys.places[0].tolist() == [1, 3]
    assert keys.places[1].tolist()[0] == 2
    assert keys.seen.tolist() == [[True, True], [True, False]]
    everywhere = SeenKeys.of(torch.tensor([[False, False, False], [True, False, False]]))
    assert everywhere.seen.tolist() == [[False, False, False], [True, False, False]]
    assert sorted(everywhere.places[0].tolist()) == [0, 1, 2]


@pytest.mark.parametrize("mask", ["box", "empty", "full"])
@torch.no_grad()
def test_a_layer_takes_the_keys_that_are_seen_for_a_mask(mask):
    torch.manual_seed(0)
    layer = AttentiveSqueeze(3, 32, 5, 4, pool_key_value=True).eval()
    correlation, masks = torch.randn(1, 3, 18, 18, 6), torch.zeros(1, 60, 60)
    if mask != "empty":
        masks[:, : 60 if mask == "full" else 30, 10:40] = 1
    seen = {(5, 5): SeenKeys.of(visible_keys(masks, 5, 5))}
    torch.testing.assert_close(layer(correlation, seen), layer(correlation, masks), rtol=0, atol=1e-5)


# ---- The file ------------------------------------------------------------------------------------------------------


def test_the_exported_file_answers_as_the_sdk(exported, model32):
    path, supports = exported
    images = [at_side(name, model32.network.input_side) for name in QUERIES]
    runtime = session(path)
    check(runtime.run(None, {"photos": np.stack(images)}), model32, supports, images)
    for image in images[:2]:
        check(runtime.run(None, {"photos": image[None]}), model32, supports, [image])


def test_the_file_says_what_is_needed_to_use_it(exported, model32):
    path, supports = exported
    runtime = session(path)
    about = {key: json.loads(value) for key, value in runtime.get_modelmeta().custom_metadata_map.items()}
    assert about["names"] == list(supports.names)
    assert about["thresholds"] == pytest.approx(dict(zip(supports.names, supports.thresholds.tolist(), strict=True)))
    assert about["side"] == model32.network.input_side
    assert about["model"] == model32.identity
    assert [value.name for value in runtime.get_inputs()] == ["photos"]
    names = ["scores", "present", "foreground", "mask", "maps", "edges"]
    assert [value.name for value in runtime.get_outputs()] == names
    assert about["edges"] == about["side"] / runtime.get_outputs()[-1].shape[-1]
    assert runtime.get_inputs()[0].type == "tensor(uint8)"
    assert runtime.get_inputs()[0].shape[1:] == [about["side"], about["side"], 3]


def calibrated(supports):
    """As if examined: maps that are raised or lowered, scores of another scale."""
    ways = len(supports)
    numbers = torch.linspace(-1, 1, ways), torch.linspace(-0.5, 0.5, ways), torch.linspace(0.5, 2, ways)
    pooled = torch.arange(ways) % 2 == 0
    return dataclasses.replace(supports, calibration=Calibration(*numbers, pooled))


def test_a_program_of_torch_answers_as_the_sdk_calibrated(model32, tmp_path):
    cat = [PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png"]
    person = [PHOTOS / "person_support.jpg", PHOTOS / "person_support_mask.png"]
    supports = calibrated(model32.encode({"cat": cat, "person": person}))
    with quiet():
        assert export(model32, supports, tmp_path / "cat.pt2") == [tmp_path / "cat.pt2"]
    files = {"fscs.json": ""}
    program = torch.export.load(tmp_path / "cat.pt2", extra_files=files).module()
    assert json.loads(files["fscs.json"]) == metadata(model32, supports)
    images = [at_side(name, model32.network.input_side) for name in QUERIES[:3]]
    check(program(torch.from_numpy(np.stack(images))), model32, supports, images)


def test_without_edges_a_graph_gives_the_papers_maps(tmp_path):
    model = FewShotSegmenter.from_pretrained(device="cpu", dtype="float32", edges=False)
    supports = model.encode({"cat": [PHOTOS / "cat_support.jpg", PHOTOS / "cat_support_mask.png"]})
    with quiet():
        export(model, supports, tmp_path / "cat.pt2")
    assert json.loads(metadata(model, supports)["edges"]) == 0
    images = [at_side(name, model.network.input_side) for name in QUERIES[:2]]
    check(torch.export.load(tmp_path / "cat.pt2").module()(torch.from_numpy(np.stack(images))), model, supports, images)


def random_model(backbone, side=272):
    """A model whose weights say nothing, with answers that differ: no norm at its default, no bias at 0."""
    torch.manual_seed(0)
    trunk = Backbone(backbone)
    head = ASNet(trunk.spec.maps)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(2) if parameter.dim() > 1 else parameter.add_(0.2 * torch.randn_like(parameter))
    return FewShotSegmenter(FewShotNetwork(trunk, head, side), name=backbone, device="cpu", dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize("backbone", ["resnet50", "resnet101", "vgg16", "efficientnet_lite0"])
@pytest.mark.parametrize(("ways", "shots"), [(1, 1), (5, 1), (1, 5), (5, 5), (20, 1), (20, 5)])
def test_every_backbone_with_any_ways_and_shots(backbone, ways, shots, tmp_path):
    model = random_model(backbone)
    side = model.network.input_side
    numbers = iter(range(ways * shots))
    drawn = {
        f"class {way}": [Shot(photo(next(numbers), side, side), box_mask(side, side)) for _ in range(shots)]
        for way in range(ways)
    }
    supports = model.encode(drawn)
    images = [photo(1000 + seed, side, side) for seed in range(2)]
    scores = np.array([list(model.predict(image, supports).scores.values()) for image in images])
    supports = supports.with_thresholds(float(np.clip(np.median(scores), 0.01, 0.99)))
    with quiet():
        paths = export(model, supports, tmp_path / "model.onnx")
    check(session(paths[0]).run(None, {"photos": np.stack(images)}), model, supports, images)
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_numbers_beyond_a_protobuf_are_a_second_file(model32, monkeypatch, tmp_path):
    monkeypatch.setattr("fscs_sdk.export.LARGEST_FILE", 1)
    tags = {"cat": Shot(PHOTOS / "cat_support.jpg"), "dog": Shot(PHOTOS / "dog.jpg")}  # no mask anywhere
    supports = calibrated(model32.encode(tags))
    with quiet():
        paths = export(model32, supports, tmp_path / "cat.onnx")
    assert paths == [tmp_path / "cat.onnx", tmp_path / "cat.onnx.data"]
    assert sorted(tmp_path.iterdir()) == paths
    images = [at_side("cat_query.jpg", model32.network.input_side)]
    check(session(paths[0]).run(None, {"photos": np.stack(images)}), model32, supports, images)


# ---- What cannot be exported -----------------------------------------------------------------------------------------


def test_what_cannot_be_exported_is_said(model32, tmp_path):
    supports = model32.encode({"cat": Shot(photo(0))})
    with pytest.raises(ValueError, match=r"must end in \.onnx or \.pt2"):
        export(model32, supports, tmp_path / "x.pt")
    other = FewShotSegmenter(model32.network, name="x", device="cpu", protocol="authors")
    with pytest.raises(ValueError, match="protocol"):
        export(other, supports, tmp_path / "x.onnx")
    tiles = dataclasses.replace(calibrated(supports), scales=("tiles",))
    with pytest.raises(ValueError, match="'cat' is looked for in tiles; encode with scales='whole'"):
        export(model32, tiles, tmp_path / "x.onnx")
    with pytest.raises(ValueError, match="were encoded by model"):
        export(random_model("vgg16"), supports, tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_with_its_cure(model32, monkeypatch, tmp_path):
    monkeypatch.setattr("fscs_sdk.formats.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"ONNX export needs onnx; install it with: pip install 'fscs-sdk\[export\]'"):
        export(model32, model32.encode({"cat": Shot(photo(0))}), tmp_path / "x.onnx")


def test_the_command_refuses_what_it_cannot_write(tmp_path):
    result = CliRunner().invoke(main, ["export", str(tmp_path), str(tmp_path / "x.tflite")])
    assert result.exit_code == 2
    assert "must end in .onnx or .pt2" in result.output
    result = CliRunner().invoke(main, ["export", str(tmp_path), str(tmp_path / "x.onnx")])
    assert result.exit_code == 2
    assert "holds no classes" in result.output
