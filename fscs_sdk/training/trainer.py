"""One training run: batches -> a head, resumable at any step."""

import io
import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fscs_sdk.atomic import write_atomically
from fscs_sdk.checkpoints.fingerprint import differences, fingerprint
from fscs_sdk.checkpoints.head import ADAPTER_PREFIX, HeadConfig, head_metadata
from fscs_sdk.checkpoints.tensors import weights_of, write_tensors
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import Pyramid, query_pyramid, support_pyramid
from fscs_sdk.model.heads import build_head
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.data import UNKNOWN, Catalogue
from fscs_sdk.training.loader import BatchTensors, load_batches
from fscs_sdk.training.log import PHASES, Log, Stopwatch
from fscs_sdk.training.losses import TERMS, pair_losses
from fscs_sdk.training.resident import ResidentCatalogue
from fscs_sdk.weights.pickles import unpickle

logger = logging.getLogger(__name__)

#: What a run's folder holds.
CONFIG_FILE, CHECKPOINT_FILE, HEAD_FILE, LOG_FILE = "config.json", "checkpoint.pt", "head.safetensors", "log.csv"


@dataclass(frozen=True)
class Window:
    """A square of level-4 cells of the query: ``size`` cells from ``row`` and ``column`` on, of ``cells`` each way."""

    cells: int
    row: int
    column: int
    size: int

    def cut(self, x: Tensor) -> Tensor:
        """The window of a map (..., side, side) of any level; ``side`` is a multiple of ``cells``."""
        scale = x.shape[-1] // self.cells
        rows = slice(self.row * scale, (self.row + self.size) * scale)
        return x[..., rows, self.column * scale : (self.column + self.size) * scale]


class Trainer:
    """Trains a head in ``folder``: ``config.json``, ``checkpoint.pt``, ``log.csv`` and ``head.safetensors`` (averaged).

    The last is float32 and complete: ``FewShotSegmenter.from_pretrained(folder / "head.safetensors")`` reads it.

    Args:
        backbone: with its weights, frozen.
        catalogue: where batches come from; a ``ResidentCatalogue`` must be on ``device``.
        initial: a head's tensors to start from, in the names of that head; ignored when a checkpoint is resumed.
        adapter: what the backbone's maps pass, frozen too unless ``config.adapter_rate`` is above 0; it is saved with
            the head.
    """

    def __init__(
        self,
        config: TrainConfig,
        backbone: Backbone,
        catalogue: Catalogue | ResidentCatalogue,
        folder: Path,
        *,
        initial: Mapping[str, Tensor] | None = None,
        adapter: Adapter | None = None,
        device: torch.device | None = None,
    ) -> None:
        """Load the run's checkpoint where there is one.

        Raises:
            ValueError: an unknown head, or a checkpoint that was trained on other weights, or another adapter.
        """
        self.config, self.catalogue, self.folder = config, catalogue, folder
        self.device = device or torch.device("cpu")
        weights = weights_of(backbone.network)
        self.fingerprint = fingerprint(weights)
        self.backbone = backbone.to(self.device)
        if self.device.type == "cuda":
            self.backbone.network.to(memory_format=torch.channels_last)
        self._given_adapter = None if adapter is None else fingerprint(adapter.state_dict())
        self.adapter = None if adapter is None else adapter.to(self.device).requires_grad_(config.adapter_rate > 0)
        torch.manual_seed(config.seed)
        self.head = build_head(config.head, backbone.spec).to(self.device)
        if initial is not None:
            self.head.load_state_dict(initial)
        self.averaged = {name: tensor.detach().clone() for name, tensor in self._trained().items()}
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.head, self.adapter, config), fused=True)
        self._compiled = torch.compile(self.head) if config.compile else self.head
        self.log = Log(folder / LOG_FILE)
        self.step = 0
        self._elapsed, self._resumed = 0.0, time.monotonic()  # seconds up to the last checkpoint, and since when
        self._terms = torch.zeros(len(TERMS), device=self.device)  # sums over the steps since the last row of the log
        self._summed = self._pairs = 0
        self._spent: dict[str, float] = {}  # seconds since that row, as of the last checkpoint
        self._stopwatch = Stopwatch(self.device)
        self._stopping = False
        if (folder / CHECKPOINT_FILE).is_file():
            self._resume(weights)

    def stop(self) -> None:
        """End :meth:`run` after the step that is being made. For signal handlers and other threads."""
        self._stopping = True

    def run(self, *, checkpoint_every: float = 240.0) -> None:
        """Train to the last step; a checkpoint every so many seconds and at the end, also when interrupted.

        Raises:
            ValueError: the loss is not finite any more.
            OSError: a file cannot be read or written.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.save(self.folder / CONFIG_FILE)
        self.log.rewind(self.step)
        self._stopwatch = Stopwatch(self.device, self._spent)
        self._resumed = saved = time.monotonic()
        between_steps = True
        try:
            with closing(self._batches(range(self.step, self.config.steps))) as batches:
                while self._progress() < 1 and not self._stopping:
                    with self._stopwatch.waiting("data"):
                        batch = next(batches).to(self.device)
                    between_steps = False
                    self.train_on(batch)
                    if self.step % self.config.log_every == 0:
                        self._log_row()
                    between_steps = True
                    if time.monotonic() - saved > checkpoint_every:
                        self.save()
                        saved = time.monotonic()
        finally:
            if between_steps:  # what half a step has left behind is worth less than the last checkpoint
                self.save()

    def _batches(self, steps: range) -> Generator[BatchTensors, None, None]:
        if isinstance(self.catalogue, ResidentCatalogue):
            return (self.catalogue.batch(step) for step in steps)
        return load_batches(self.catalogue, steps, pin=self.device.type == "cuda")

    def _progress(self) -> float:
        """Share of the run that is done: of its steps, or of its time where that is limited."""
        steps = self.step / self.config.steps
        if not self.config.minutes:
            return steps
        return max(steps, (self._elapsed + time.monotonic() - self._resumed) / (60 * self.config.minutes))

    def save(self) -> None:
        """Write the checkpoint and the averaged head, each in one atomic step."""
        seconds = self._stopwatch.read()
        self._spent, self._stopwatch = seconds, Stopwatch(self.device, seconds)
        state = {
            "step": self.step,
            "elapsed": self._elapsed + time.monotonic() - self._resumed,
            "head": self._trained(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
            "backbone": self.fingerprint,
            "adapter": self._given_adapter,
            "terms": self._terms,
            "summed": self._summed,
            "pairs": self._pairs,
            "seconds": seconds,
        }
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(self.folder / CHECKPOINT_FILE, content.getvalue())
        self._save_head()

    def train_on(self, batch: BatchTensors) -> None:
        """One optimiser step. Nothing waits for the device."""
        rate = _learning_rate(self.config, self.step, self._progress())
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("share", 1.0)
        self.optimizer.zero_grad()
        for terms in self.losses(batch):
            with self._stopwatch.computing("head"):
                terms.sum().backward()  # type: ignore[no-untyped-call]
                self._terms += terms.detach()
        with self._stopwatch.computing("head"), torch.no_grad():
            torch.nn.utils.clip_grad_norm_(
                [p for group in self.optimizer.param_groups for p in group["params"]], self.config.clip
            )
            self.optimizer.step()
            decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(list(self.averaged.values()), list(self._trained().values()), 1 - decay)
        self.step += 1
        self._summed += 1
        self._pairs += len(batch.queries)

    def losses(self, batch: BatchTensors) -> Iterator[Tensor]:
        """The terms of a batch's loss as a sum of parts (4,), so that a part's tensors stay close to the processor.

        Over all query positions or, by the step's own draw, over a window of them.
        """
        with self._stopwatch.computing("backbone"):
            features = self._features(batch)
            adapted = query_pyramid(features), support_pyramid(features)
            learns = self.adapter is not None and self.config.adapter_rate > 0
            # the parts' gradients are gathered at the maps, and pass the adapter once
            query, support = ([[x.detach().requires_grad_(learns) for x in y] for y in side] for side in adapted)
        levels = slice(0, 2 if self._is_coarse() else 3)
        window = self._window(query[0][0].shape[-1])
        shots = batch.supports.shape[1]
        at_once = max(1, self.config.pairs_at_once * self.config.shots // shots)
        for start in range(0, len(batch.queries), at_once):
            part = slice(start, start + at_once)
            with self._stopwatch.computing("head"):
                terms = self._pair_losses(query[levels], support[levels], batch, part, window).sum(dim=1)
            yield terms / len(batch.queries)
        if learns:
            with self._stopwatch.computing("backbone"):
                pairs = [
                    (whole, leaf.grad)
                    for sides in zip(adapted, (query, support), strict=True)
                    for level in zip(*sides, strict=True)
                    for whole, leaf in zip(*level, strict=True)
                    if leaf.grad is not None
                ]
                torch.autograd.backward([whole for whole, _ in pairs], [grad for _, grad in pairs])

    def _features(self, batch: BatchTensors) -> Pyramid:
        """Maps of every photo of a batch, in float32."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.backbone_bfloat16):
            with torch.no_grad():
                features: Pyramid = self.backbone(batch.photos)
            if self.adapter is not None:
                features = self.adapter(features)
        return [[feature.float() for feature in level] for level in features]

    def _trained(self) -> dict[str, Tensor]:
        """All that the optimiser changes, under the names that it has in a head's file."""
        tensors = dict(self.head.state_dict())
        if self.adapter is not None and self.config.adapter_rate > 0:
            tensors |= self.adapter.state_dict(prefix=ADAPTER_PREFIX)
        return tensors

    def _pair_losses(
        self, query: Pyramid, support: Pyramid, batch: BatchTensors, part: slice, window: Window | None
    ) -> Tensor:
        """(4, p) of some pairs of a batch; ``window`` None = all query positions."""

        def cut(x: Tensor) -> Tensor:
            return x if window is None else window.cut(x)

        queries, supports, classes = batch.queries[part], batch.supports[part], batch.classes[part, None, None]
        shots = supports.shape[1]
        masks = (batch.labels[supports] == classes[..., None]) | ~batch.masked[part, None, None, None]
        repeated = queries.repeat_interleave(shots)
        query_maps = [[cut(feature.index_select(0, repeated)) for feature in level] for level in query]
        support_maps = [[feature.index_select(0, supports.flatten()) for feature in level] for level in support]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.bfloat16):
            logits = self._compiled(query_maps, support_maps, masks.flatten(0, 1).float())
        logits = logits.float().unflatten(0, (-1, shots)).mean(dim=1)
        labels, side = batch.labels[queries], 2 * query[-1][0].shape[-1]
        target = cut(_at_decoder((labels == classes).float(), side))
        valid = cut(_at_decoder((labels != UNKNOWN).float(), side)) > 0.99
        return pair_losses(
            logits,
            target,
            valid,
            present=batch.present[part],
            strong=batch.strong[part],
            loss=self.config.loss,
            dice=self.config.dice,
            presence=self.config.presence if self.config.task == "fs-cs" else 0.0,
        )

    def _is_coarse(self) -> bool:
        rng = np.random.default_rng((self.config.seed, self.step, 2))
        return self.step < self.config.coarse_until * self.config.steps and rng.random() < self.config.coarse_share

    def _window(self, cells: int) -> Window | None:
        rng = np.random.default_rng((self.config.seed, self.step, 1))
        last = self.step >= (1 - self.config.final_whole) * self.config.steps
        fits = self.config.uses_windows and self.config.window < cells
        if not fits or last or self._is_coarse() or rng.random() < self.config.whole_share:
            return None
        row, column = (int(start) for start in rng.integers(cells - self.config.window + 1, size=2))
        return Window(cells, row, column, self.config.window)

    def _log_row(self) -> None:
        """Write a row for the steps since the last one, and begin the next. Waits for the device."""
        seconds = self._stopwatch.read()
        self._stopwatch = Stopwatch(self.device)
        terms = (self._terms / self._summed).tolist()
        loss, rate = sum(terms), self._pairs / seconds["all"]
        self._terms.zero_()
        self._summed = self._pairs = 0
        if not math.isfinite(loss):
            raise ValueError(
                f"the loss is {loss} at step {self.step}; lower the learning rate, and begin again in another folder"
            )
        shares = ", ".join(f"{phase} {100 * seconds[phase] / seconds['all']:.0f} %" for phase in PHASES)
        logger.info("step %d/%d  loss %.4f  %.1f pairs/s (%s)", self.step, self.config.steps, loss, rate, shares)
        self.log.add(
            {
                "step": str(self.step),
                "loss": f"{loss:.6g}",
                **{name: f"{value:.6g}" for name, value in zip(TERMS, terms, strict=True)},
                "learning_rate": f"{_learning_rate(self.config, self.step, self._progress()):.3g}",
                "pairs_per_second": f"{rate:.2f}",
                "seconds": f"{seconds['all']:.3f}",
                **{f"{phase}_seconds": f"{seconds[phase]:.3f}" for phase in PHASES},
            }
        )

    def _save_head(self) -> None:
        """The averaged head, with what inference needs to know of it, and the settings of the run."""
        tensors = {name: tensor.float().cpu() for name, tensor in self.averaged.items()}
        if self.adapter is not None and not self.config.adapter_rate:
            stored = self.adapter.state_dict(prefix=ADAPTER_PREFIX)
            tensors |= {name: tensor.float().cpu() for name, tensor in stored.items()}
        described = head_config(self.config, adapter=self.adapter is not None)
        metadata = head_metadata(described, self.fingerprint, training=self.config.to_json())
        write_tensors(self.folder / HEAD_FILE, tensors, metadata)

    def _resume(self, backbone: Mapping[str, Tensor]) -> None:
        path = self.folder / CHECKPOINT_FILE
        state = cast("dict[str, Any]", unpickle(path))
        if "backbone" in state and differences(state["backbone"], backbone):
            raise ValueError(
                f"'{path}' was trained on other weights of {self.config.backbone} than these; give the ones that it "
                "began with, or begin in another folder"
            )
        self._check_adapter(state.get("adapter"))
        self.step, self._elapsed = state["step"], state.get("elapsed", 0.0)
        stored = {n.removeprefix(ADAPTER_PREFIX): t for n, t in state["head"].items() if n.startswith(ADAPTER_PREFIX)}
        self.head.load_state_dict({n: t for n, t in state["head"].items() if not n.startswith(ADAPTER_PREFIX)})
        if self.adapter is not None and stored:
            self.adapter.load_state_dict(stored)
        self.averaged = {name: tensor.to(self.device) for name, tensor in state["averaged"].items()}
        self.optimizer.load_state_dict(state["optimizer"])
        if "terms" in state:  # checkpoints of older versions lack them
            self._terms, self._summed, self._pairs = state["terms"], state["summed"], state.get("pairs", 0)
            self._spent = state["seconds"]
        logger.info("resumed at step %d of %d", self.step, self.config.steps)

    def _check_adapter(self, recorded: str | None) -> None:
        now = None if self.adapter is None else self.adapter.state_dict()
        if (recorded is None) != (now is None) or (recorded and now and differences(recorded, now)):
            raise ValueError(
                f"'{self.folder / CHECKPOINT_FILE}' was trained {'without an' if recorded is None else 'with another'} "
                "adapter; give what it began with (--adapter), or begin in another folder"
            )


def head_config(config: TrainConfig, *, adapter: bool) -> HeadConfig:
    """What the file of a run's head says of it."""
    return HeadConfig(
        config.head, config.backbone, config.side, adapter, threshold=config.threshold, close_up=config.close_up
    )


def _parameter_groups(head: nn.Module, adapter: nn.Module | None, config: TrainConfig) -> list[dict[str, object]]:
    """Weight decay on a head's convolution kernels only; ``share``: of the learning rate."""
    kernels = [p for p in head.parameters() if p.dim() > 1]
    others = [p for p in head.parameters() if p.dim() == 1]
    groups = [
        {"params": kernels, "weight_decay": config.weight_decay, "lr": config.learning_rate, "share": 1.0},
        {"params": others, "weight_decay": 0.0, "lr": config.learning_rate, "share": 1.0},
    ]
    if adapter is not None and config.adapter_rate:
        rate = config.learning_rate * config.adapter_rate
        groups.append(
            {"params": list(adapter.parameters()), "weight_decay": 0.0, "lr": rate, "share": config.adapter_rate}
        )
    return groups


def _learning_rate(config: TrainConfig, step: int, progress: float) -> float:
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))


def _at_decoder(x: Tensor, side: int) -> Tensor:
    """Sample (P, H, W) at the points of the decoder's grid (corners aligned): means of 5 x 5 pixels around them."""
    smooth = F.avg_pool2d(x[:, None], 5, stride=1, padding=2, count_include_pad=False)
    return F.interpolate(smooth, (side, side), mode="bilinear", align_corners=True)[:, 0]
