"""Training runs: what a step learns from, what a run leaves behind, and that it can be stopped anywhere."""

import csv
import dataclasses
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from fscs_sdk import FewShotSegmenter
from fscs_sdk.checkpoints.head import training_settings
from fscs_sdk.checkpoints.tensors import weights_of
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.training.__main__ import main
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.curves import draw_curves
from fscs_sdk.training.data import UNKNOWN, Catalogue
from fscs_sdk.training.loader import BatchTensors, collate, load_batches
from fscs_sdk.training.log import COLUMNS, PHASES, Log, Stopwatch
from fscs_sdk.training.losses import TERMS
from fscs_sdk.training.trainer import Trainer, Window
from training_stub import CHEAP, NAME, SMALL, SPEC, tiny_backbone, write_sources

CPU = torch.device("cpu")
#: Columns of the log that do not depend on how fast the machine is.
CURVES = ("step", "loss", *TERMS, "learning_rate")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sources(tmp_path_factory.mktemp("data"))


@pytest.fixture
def backbone() -> Backbone:
    return tiny_backbone()


def trainer(data: Path, folder: Path, config: TrainConfig = CHEAP, **options: Any) -> Trainer:
    return Trainer(config, tiny_backbone(), Catalogue(data, config), folder, **options)


def changed(config: TrainConfig, **changes: Any) -> TrainConfig:
    return dataclasses.replace(config, **changes)


def curves(folder: Path) -> list[list[str]]:
    with (folder / "log.csv").open() as file:
        return [[row[name] for name in CURVES] for row in csv.DictReader(file)]


class Recorder:
    """A head in whose place it is called: keeps what comes in, and answers with fixed logits."""

    def __init__(self, head: Any) -> None:
        self.head, self.masks, self.logits = head, [], []

    def __call__(self, query: Any, support: Any, mask: Tensor) -> Tensor:
        self.masks.append(mask)
        self.logits.append(self.head(query, support, mask))
        return self.logits[-1]


def test_window_cuts_the_same_part_of_every_level() -> None:
    window = Window(cells=9, row=2, column=3, size=4)
    positions = torch.arange(36 * 36).view(36, 36)
    fine = window.cut(positions)
    assert fine.shape == (16, 16)
    assert fine[0, 0] == positions[8, 12]
    assert window.cut(torch.zeros(5, 9, 9)).shape == (5, 4, 4)


def test_killed_and_resumed_is_the_same_as_never_stopped(data: Path, tmp_path: Path) -> None:
    """Bit for bit, curves too: stopped after step 3, killed after step 5 without a checkpoint, then on to the end."""
    config = changed(CHEAP, steps=6, log_every=2, swap=True, labels="mixed", loss="both")
    trainer(data, tmp_path / "whole", config).run()

    gentle = trainer(data, tmp_path / "parts", config)
    stopping(gentle, after=3, how=gentle.stop)
    gentle.run()
    assert gentle.step == 3
    killed = trainer(data, tmp_path / "parts", config)
    assert killed.step == 3
    before = (tmp_path / "parts" / "checkpoint.pt").read_bytes()
    killed.save = lambda: None  # type: ignore[method-assign]
    stopping(killed, after=5, how=killed.stop)
    killed.run()
    assert (tmp_path / "parts" / "checkpoint.pt").read_bytes() == before
    assert [row[0] for row in curves(tmp_path / "parts")] == ["2", "4"]
    resumed = trainer(data, tmp_path / "parts", config)
    assert resumed.step == 3
    resumed.run()

    assert curves(tmp_path / "parts") == curves(tmp_path / "whole")
    expected, found = (load_file(tmp_path / run / "head.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    states = [torch.load(tmp_path / run / "checkpoint.pt", weights_only=True) for run in ("whole", "parts")]
    moments = [state["optimizer"]["state"][0]["exp_avg_sq"] for state in states]
    assert torch.equal(*moments)


def stopping(run: Trainer, *, after: int, how: Any) -> None:
    """Call ``how`` when a step is done."""
    original = run.train_on

    def watched(batch: BatchTensors) -> None:
        original(batch)
        if run.step == after:
            how()

    run.train_on = watched  # type: ignore[method-assign]


def test_asnet_with_windows_resumes_bit_for_bit(data: Path, tmp_path: Path) -> None:
    config = changed(SMALL, steps=3, pairs=2, pairs_at_once=2, mosaics=0)
    trainer(data, tmp_path / "whole", config).run()
    first = trainer(data, tmp_path / "parts", config)
    stopping(first, after=1, how=first.stop)
    first.run()
    trainer(data, tmp_path / "parts", config).run()
    assert curves(tmp_path / "parts") == curves(tmp_path / "whole")
    expected, found = (load_file(tmp_path / run / "head.safetensors") for run in ("whole", "parts"))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize("moment", ["waiting", "in the step"])
def test_an_interrupt_never_saves_half_a_step(data: Path, tmp_path: Path, moment: str) -> None:
    run = trainer(data, tmp_path)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "waiting":
        original = run.catalogue.batch
        run.catalogue.batch = lambda step: interrupt() if step == 2 else original(step)  # type: ignore
    else:
        run.optimizer.register_step_post_hook(lambda *_: interrupt() if run.step == 2 else None)
    with pytest.raises(KeyboardInterrupt):
        run.run()
    assert (tmp_path / "checkpoint.pt").exists() == (moment == "waiting")
    if moment == "waiting":
        assert trainer(data, tmp_path).step == 2


def test_a_checkpoint_of_other_backbone_weights_is_refused(data: Path, tmp_path: Path) -> None:
    trainer(data, tmp_path, changed(CHEAP, steps=1)).run()
    other = tiny_backbone()
    other.network.fine.weight.mul_(1.5)
    with pytest.raises(ValueError, match=re.escape(f"'{tmp_path / 'checkpoint.pt'}' was trained on other weights")):
        Trainer(CHEAP, other, Catalogue(data, CHEAP), tmp_path)


def test_a_checkpoint_goes_on_with_the_adapter_that_it_had(data: Path, tmp_path: Path) -> None:
    adapter, other = (Adapter(SPEC.channels) for _ in range(2))
    with torch.no_grad():
        other.affines[0].weight.mul_(1.5)
    config = changed(CHEAP, steps=1)
    trainer(data, tmp_path / "with", config, adapter=adapter).run()
    trainer(data, tmp_path / "without", config).run()
    assert trainer(data, tmp_path / "with", config, adapter=adapter).step == 1
    for folder, given, words in (
        ("with", other, "with another"),
        ("with", None, "with another"),
        ("without", adapter, "without an"),
    ):
        with pytest.raises(ValueError, match=f"was trained {words} adapter"):
            trainer(data, tmp_path / folder, config, adapter=given)


def test_a_checkpoint_of_an_older_version_is_resumed(data: Path, tmp_path: Path) -> None:
    config = changed(CHEAP, steps=2)
    trainer(data, tmp_path, config).run()
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    kept = {name: state[name] for name in ("step", "head", "averaged", "optimizer")}
    torch.save(kept, tmp_path / "checkpoint.pt")
    old = "step,loss,pairs_per_second,learning_rate\n1,2.5,7.00,0.001\n2,2.25,7.00,0.001\n"
    (tmp_path / "log.csv").write_text(old)
    trainer(data, tmp_path, changed(config, steps=3)).run()
    rows = curves(tmp_path)
    assert [row[:2] for row in rows[:2]] == [["1", "2.5"], ["2", "2.25"]]
    assert rows[0][2] == ""
    assert float(rows[2][1]) > 0


def test_pairs_at_once_changes_no_gradient(data: Path, tmp_path: Path) -> None:
    batch = collate(Catalogue(data, SMALL).batch(0))
    gradients = []
    for at_once in (1, 4):
        run = trainer(data, tmp_path, changed(SMALL, pairs_at_once=at_once))
        for part in run.losses(batch):
            part.sum().backward()
        gradients.append([p.grad for p in run.head.parameters()])
    for first, second in zip(*gradients, strict=True):
        assert (first - second).abs().max() <= 1e-4 * (1 + first.abs().max())


@pytest.mark.parametrize(("head", "share"), [("asnet", 0.8), ("panet", 0.9)])
def test_a_head_learns_to_fit_one_batch(data: Path, tmp_path: Path, head: str, share: float) -> None:
    config = changed(SMALL, head=head, steps=1000, warmup=1, whole_share=1.0, pairs=2, mosaics=0, ema=0.0)
    run = trainer(data, tmp_path, config)
    batch = collate(run.catalogue.batch(0))
    losses = []
    for _ in range(8):
        run._terms.zero_()
        run.train_on(batch)
        losses.append(float(run._terms.sum()))
    assert losses[-1] < share * losses[0]


def test_coarse_batches_leave_out_level_2(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, changed(SMALL, coarse_share=1.0, pairs=2, mosaics=0))
    recorder = run._compiled = Recorder(run.head)
    sum(terms.sum() for terms in run.losses(collate(run.catalogue.batch(0)))).backward()
    assert recorder.logits[0].shape == (2, 2, 36, 36)
    assert isinstance(run.head, ASNet)
    assert run.head.level3[0].target.weight.grad is not None
    assert run.head.level2[0].target.weight.grad is None


def test_sides_that_32_does_not_divide_are_trained_whole(data: Path, tmp_path: Path) -> None:
    """As the paper's 400: sides 9, 18 and 37 at 300 pixels."""
    run = trainer(data, tmp_path, changed(CHEAP, side=300))
    assert run._window(9) is None
    parts = list(run.losses(collate(run.catalogue.batch(0))))
    assert all(terms.isfinite().all() for terms in parts)


def test_masks_are_given_to_strong_pairs_only(data: Path, tmp_path: Path) -> None:
    config = changed(CHEAP, labels="mixed", pairs=12, pairs_at_once=12, withheld_share=0.0)
    run = trainer(data, tmp_path, config)
    batch = collate(run.catalogue.batch(0))
    assert 0 < batch.masked.sum() < 12
    recorder = run._compiled = Recorder(run.head)
    list(run.losses(batch))
    for mask, support, label, given in zip(
        recorder.masks[0], batch.supports[:, 0], batch.classes, batch.masked, strict=True
    ):
        expected = (batch.labels[support] == label).float() if given else torch.ones(288, 288)
        assert torch.equal(mask, expected)


def test_weak_training_needs_no_mask_and_has_one_loss(data: Path, tmp_path: Path) -> None:
    """Eq. 6 of the logits that the head gave, by hand; other labels change nothing."""
    run = trainer(data, tmp_path, changed(CHEAP, labels="weak", pairs_at_once=4))
    batch = collate(run.catalogue.batch(0))
    assert (batch.labels == UNKNOWN).all()
    recorder = run._compiled = Recorder(run.head)
    terms = next(run.losses(batch)).detach()
    log_maps = recorder.logits[0].log_softmax(dim=1).mean(dim=(2, 3))
    chosen = [row[int(present)] for row, present in zip(log_maps.detach(), batch.present, strict=True)]
    assert terms[:3].tolist() == [0, 0, 0]
    assert float(terms[3]) == pytest.approx(-float(torch.stack(chosen).mean()), rel=1e-5)
    again = next(run.losses(dataclasses.replace(batch, labels=torch.zeros_like(batch.labels))))
    assert torch.equal(again, terms)


def test_fs_s_has_no_presence_loss(data: Path, tmp_path: Path) -> None:
    for task, learned in (("fs-cs", True), ("fs-s", False)):
        run = trainer(data, tmp_path, changed(CHEAP, task=task))
        terms = sum(part.detach() for part in run.losses(collate(run.catalogue.batch(0))))
        assert (float(terms[TERMS.index("presence")]) > 0) == learned


def test_logits_of_shots_are_averaged_before_the_loss(data: Path, tmp_path: Path) -> None:
    config = changed(CHEAP, shots=2, photos_per_class=3, pairs_at_once=4, dice=0.0, presence=0.0, withheld_share=0.0)
    run = trainer(data, tmp_path, config)
    batch = collate(run.catalogue.batch(0))
    recorder = run._compiled = Recorder(run.head)
    (terms,) = run.losses(batch)
    assert recorder.logits[0].shape == (8, 2, 72, 72)
    alone = []
    for shot in range(2):
        run._compiled = Recorder(run.head)
        list(run.losses(dataclasses.replace(batch, supports=batch.supports[:, shot : shot + 1])))
        alone.append(run._compiled.logits[0])
    torch.testing.assert_close(recorder.logits[0].unflatten(0, (4, 2)).mean(dim=1), (alone[0] + alone[1]) / 2)
    run._compiled = lambda *_: ((alone[0] + alone[1]) / 2).repeat_interleave(2, dim=0)  # type: ignore
    (averaged,) = run.losses(batch)
    torch.testing.assert_close(averaged, terms)


def test_a_step_learns_whatever_the_workers(data: Path) -> None:
    catalogue = Catalogue(data, CHEAP)
    steps = range(3, 9)
    expected = [collate(catalogue.batch(step)).photos for step in steps]
    for workers in (1, 3, 20):
        found = [batch.photos for batch in load_batches(catalogue, steps, workers=workers)]
        assert all(torch.equal(*photos) for photos in zip(expected, found, strict=True))


def test_no_batch_is_prepared_that_nobody_needs(data: Path) -> None:
    catalogue = Catalogue(data, CHEAP)
    made: list[int] = []
    original = catalogue.batch
    catalogue.batch = lambda step: (made.append(step), original(step))[1]  # type: ignore
    batches = load_batches(catalogue, range(3, 50), workers=2)
    next(batches)
    batches.close()
    assert set(made) <= {3, 4, 5}
    list(load_batches(catalogue, range(48, 50), workers=4))
    assert max(made) == 49


def test_averaged_weights_are_what_is_kept(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, changed(CHEAP, ema=0.5))
    expected = {name: tensor.clone() for name, tensor in run.head.state_dict().items()}
    for step in range(3):
        run.train_on(collate(run.catalogue.batch(step)))
        decay = min(0.5, (step + 1) / (step + 10))
        for name, tensor in run.head.state_dict().items():
            expected[name] = decay * expected[name] + (1 - decay) * tensor
    run.save()
    found = load_file(tmp_path / "head.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor)


def test_a_run_leaves_a_head_that_loads_with_its_settings(data: Path, tmp_path: Path, backbone: Backbone) -> None:
    config = changed(CHEAP, steps=1)
    adapter = Adapter(SPEC.channels)
    with torch.no_grad():
        adapter.affines[0].weight.mul_(0.5)
    trainer(data, tmp_path, config, adapter=adapter).run()
    save_file(weights_of(backbone.network), tmp_path / "backbone.safetensors")
    model = FewShotSegmenter.from_pretrained(tmp_path, device="cpu")
    assert model.network.input_side == 288
    loaded = model.network.adapter
    assert loaded is not None
    assert torch.equal(loaded.affines[0].weight, adapter.affines[0].weight)
    recorded = training_settings(tmp_path / "head.safetensors")
    assert TrainConfig.parse(recorded) == config == TrainConfig.load(tmp_path / "config.json")
    with torch.no_grad():
        backbone.network.fine.weight.mul_(1.5)
    save_file(weights_of(backbone.network), tmp_path / "backbone.safetensors")
    with pytest.raises(ValueError, match="another training"):
        FewShotSegmenter.from_pretrained(tmp_path, device="cpu")


def test_the_adapter_comes_before_the_cosines(data: Path, tmp_path: Path) -> None:
    adapter = Adapter(SPEC.channels)
    with torch.no_grad():
        for affine in adapter.affines:
            affine.weight.mul_(-2)
    run = trainer(data, tmp_path, adapter=adapter)
    batch = collate(run.catalogue.batch(0))
    with torch.no_grad():
        found, plain = run._features(batch), run.backbone(batch.photos)
    for level, expected in zip(found, plain, strict=True):
        torch.testing.assert_close(level[0], -2 * expected[0], rtol=1e-4, atol=1e-5)
    assert not any(parameter.requires_grad for parameter in adapter.parameters())


def test_a_loss_that_is_not_finite_ends_the_run_without_a_checkpoint(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path)
    with torch.no_grad():
        next(run.head.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="the loss is nan at step 1; lower the learning rate"):
        run.run()
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_log_tells_terms_and_time(data: Path, tmp_path: Path) -> None:
    trainer(data, tmp_path, changed(CHEAP, steps=4, log_every=2)).run()
    rows = Log(tmp_path / "log.csv").rows()
    assert [row["step"] for row in rows] == ["2", "4"]
    for row in rows:
        assert tuple(row) == COLUMNS
        values = {name: float(value) for name, value in row.items()}
        assert values["loss"] == pytest.approx(sum(values[term] for term in TERMS), rel=1e-4)
        assert 0 < sum(values[f"{phase}_seconds"] for phase in PHASES) <= values["seconds"] + 0.01
        assert values["pairs_per_second"] == pytest.approx(2 * CHEAP.pairs / values["seconds"], rel=0.05)


def test_rewinding_drops_later_and_broken_rows(tmp_path: Path) -> None:
    log = Log(tmp_path / "log.csv")
    log.rewind(0)
    assert log.rows() == []
    for step in (10, 20, 30):
        log.add({name: str(step) for name in COLUMNS})
    with log.path.open("a") as file:
        file.write("40,1.5")
    log.rewind(20)
    assert [row["step"] for row in log.rows()] == ["10", "20"]


def test_a_stopwatch_goes_on_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Iterator[float] = iter([0.0, 1.0, 3.0, 10.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    watch = Stopwatch(CPU, {"data": 5.0, "all": 7.0})
    with watch.computing("head"):
        pass
    assert watch.read() == {"data": 5.0, "backbone": 0.0, "head": 2.0, "all": 17.0}


def test_curves_are_drawn_from_logs_of_today_and_of_before(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    log = Log(tmp_path / "log.csv")
    log.rewind(0)
    with pytest.raises(ValueError, match="has no row yet"):
        draw_curves(log.path, tmp_path / "curves.png")
    for step in (10, 20, 30):
        log.add({name: str(step) for name in COLUMNS})
    old = tmp_path / "old.csv"
    old.write_text("step,loss,pairs_per_second,learning_rate\n50,2.5,7.00,0.001\n100,2.25,7.00,0.001\n")
    for path in (log.path, old):
        draw_curves(path, path.with_suffix(".png"))
        with Image.open(path.with_suffix(".png")) as picture:
            assert len(picture.convert("L").histogram()) - picture.convert("L").histogram().count(0) > 10
    with pytest.raises(FileNotFoundError, match="give the folder of a training run"):
        draw_curves(tmp_path / "none.csv", tmp_path / "none.png")


def test_the_commands_train_resume_and_draw(data: Path, tmp_path: Path, backbone: Backbone) -> None:
    pytest.importorskip("matplotlib")
    weights, settings = tmp_path / "weights.safetensors", tmp_path / "settings.json"
    save_file(weights_of(backbone.network), weights)
    changed(CHEAP, steps=9).save(settings)
    command = ["train", str(tmp_path / "run"), "--data", str(data), "--config", str(settings), "--device", "cpu"]
    for steps in ("1", "2"):
        result = CliRunner().invoke(main, [*command, "--backbone", str(weights), "--steps", steps])
        assert result.exit_code == 0, result.output
    assert [row[0] for row in curves(tmp_path / "run")] == ["1", "2"]
    assert TrainConfig.load(tmp_path / "run" / "config.json") == changed(CHEAP, steps=2)
    result = CliRunner().invoke(main, ["curves", str(tmp_path / "run")])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "curves.png").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--config", "{settings}"], "no source of tiny is known; give its weights"),
        (["--config", "{broken}"], "there is no setting 'epochs'"),
        (["--config", "{settings}", "--backbone", "{broken}"], "is not a safetensors file or is damaged"),
        (["--config", "{settings}", "--backbone", "{other}"], f"does not fit the backbone {NAME}"),
    ],
)
def test_what_a_user_gets_wrong_is_one_sentence(data: Path, tmp_path: Path, options: list[str], words: str) -> None:
    tiny_backbone()
    files = {name: tmp_path / name for name in ("settings", "broken", "other")}
    CHEAP.save(files["settings"])
    files["broken"].write_text('{"epochs": 1}')
    save_file({"fine.weight": torch.zeros(2)}, files["other"])
    command = ["train", str(tmp_path / "run"), "--data", str(data), *(option.format(**files) for option in options)]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 1
    assert words in " ".join(result.output.split())
    assert "Traceback" not in result.output
    assert not (tmp_path / "run").exists()


def test_the_learning_rate_warms_up_and_falls_to_zero(data: Path, tmp_path: Path) -> None:
    run = trainer(data, tmp_path, changed(CHEAP, warmup=2, steps=5))
    run.run()
    rates = [float(row["learning_rate"]) for row in Log(tmp_path / "log.csv").rows()]
    assert rates[-1] == 0
    assert all(later < earlier for earlier, later in pairwise(rates))
