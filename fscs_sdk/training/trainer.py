"""One training run: batches -> a head, resumable at any step."""

import csv
import logging
import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from fscs_sdk.model.asnet import ASNet
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.model.correlation import Pyramid, query_pyramid, support_pyramid
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.data import UNKNOWN, Batch, Catalogue
from fscs_sdk.training.losses import pair_loss

logger = logging.getLogger(__name__)

LOG_EVERY = 50


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

    Args:
        initial: a head's tensors to start from, in the names of :class:`ASNet`; ignored when a checkpoint is resumed.
    """

    def __init__(
        self,
        config: TrainConfig,
        backbone: Backbone,
        catalogue: Catalogue,
        folder: Path,
        *,
        initial: dict[str, Tensor] | None = None,
        device: torch.device | None = None,
        bfloat16: bool = True,
    ) -> None:
        """Load the run's checkpoint where there is one.

        Raises:
            ValueError: an input side that 32 does not divide.
        """
        if config.side % 32:
            raise ValueError(f"training windows need an input side that 32 divides, not {config.side}")
        self.config, self.catalogue, self.folder = config, catalogue, folder
        self.device = device or torch.device("cpu")
        self.bfloat16 = bfloat16
        self.backbone = backbone.to(self.device)
        torch.manual_seed(config.seed)
        self.head = ASNet(backbone.spec.maps).to(self.device)
        if initial is not None:
            self.head.load_state_dict(initial)
        self.averaged = {name: tensor.detach().clone() for name, tensor in self.head.state_dict().items()}
        self.optimizer = torch.optim.AdamW(_parameter_groups(self.head, config), fused=True)
        self.step = 0
        if (folder / "checkpoint.pt").is_file():
            self._resume()

    def run(self, *, checkpoint_every: float = 240.0) -> None:
        """Train to the last step; a checkpoint every so many seconds and at the end, also when interrupted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.config.save(self.folder / "config.json")
        saved = started = time.monotonic()
        losses: list[float] = []
        try:
            with ThreadPoolExecutor(1) as loader:
                upcoming = loader.submit(self.catalogue.batch, self.step)
                while self.step < self.config.steps:
                    batch = upcoming.result()
                    upcoming = loader.submit(self.catalogue.batch, self.step + 1)
                    losses.append(self._train_on(batch))
                    self.step += 1
                    if self.step % LOG_EVERY == 0:
                        self._log(float(np.mean(losses)), (time.monotonic() - started) / len(losses))
                        losses, started = [], time.monotonic()
                    if time.monotonic() - saved > checkpoint_every:
                        self.save()
                        saved = time.monotonic()
        finally:
            self.save()

    def save(self) -> None:
        """Write the checkpoint and the averaged head, each in one atomic step."""
        state = {
            "step": self.step,
            "head": self.head.state_dict(),
            "averaged": self.averaged,
            "optimizer": self.optimizer.state_dict(),
        }
        temporary = self.folder / "checkpoint.pt.new"
        torch.save(state, temporary)
        temporary.replace(self.folder / "checkpoint.pt")
        temporary = self.folder / "head.safetensors.new"
        save_file({name: tensor.cpu() for name, tensor in self.averaged.items()}, temporary)
        temporary.replace(self.folder / "head.safetensors")

    def _resume(self) -> None:
        state = torch.load(self.folder / "checkpoint.pt", map_location=self.device, weights_only=True)
        self.step = state["step"]
        self.head.load_state_dict(state["head"])
        self.averaged = state["averaged"]
        self.optimizer.load_state_dict(state["optimizer"])
        logger.info("resumed at step %d of %d", self.step, self.config.steps)

    def _train_on(self, batch: Batch) -> float:
        rate = _learning_rate(self.config, self.step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        loss = 0.0
        for part in self.losses(batch):
            part.backward()  # type: ignore[no-untyped-call]
            loss += float(part.detach())
        torch.nn.utils.clip_grad_norm_(self.head.parameters(), self.config.clip)
        self.optimizer.step()
        decay = min(self.config.ema, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for name, tensor in self.head.state_dict().items():
                self.averaged[name].lerp_(tensor, 1 - decay)
        return loss

    def losses(self, batch: Batch) -> Iterator[Tensor]:
        """Loss of one batch as a sum of parts, a few pairs each, so that a part's tensors stay close to the processor.

        Over all query positions or, by the step's own draw, over a window of them.
        """
        photos = np.stack([sample.image for sample in batch.samples]).transpose(0, 3, 1, 2)
        with torch.no_grad():
            features = self.backbone(torch.from_numpy(photos).to(self.device))
            query, support = query_pyramid(features), support_pyramid(features)
        labels = torch.from_numpy(np.stack([sample.labels for sample in batch.samples])).to(self.device)
        if self._is_coarse():
            query, support = query[:2], support[:2]
        window = self._window(query[0][0].shape[-1])
        for start in range(0, len(batch.pairs), self.config.pairs_at_once):
            pairs = batch.pairs[start : start + self.config.pairs_at_once]
            yield self._pair_losses(query, support, labels, pairs, window).sum() / len(batch.pairs)

    def _pair_losses(
        self,
        query: Pyramid,
        support: Pyramid,
        labels: Tensor,
        pairs: Sequence[tuple[int, int, int, bool]],
        window: Window,
    ) -> Tensor:
        queries, supports, classes, given = (
            torch.tensor(column, device=self.device) for column in zip(*pairs, strict=True)
        )
        masks = (labels[supports] == classes[:, None, None]) | ~given[:, None, None]
        target = labels[queries]
        valid, target = (target != UNKNOWN).float(), (target == classes[:, None, None]).float()
        query_maps = [[window.cut(feature[queries]) for feature in level] for level in query]
        support_maps = [[feature[supports] for feature in level] for level in support]
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            logits = self.head(query_maps, support_maps, masks.float())
        side = 2 * query[-1][0].shape[-1]
        target, valid = window.cut(_at_decoder(target, side)), window.cut(_at_decoder(valid, side)) > 0.99
        return pair_loss(logits, target, valid, dice=self.config.dice, presence=self.config.presence)

    def _is_coarse(self) -> bool:
        rng = np.random.default_rng((self.config.seed, self.step, 2))
        return self.step < self.config.coarse_until * self.config.steps and rng.random() < self.config.coarse_share

    def _window(self, cells: int) -> Window:
        rng = np.random.default_rng((self.config.seed, self.step, 1))
        last = self.step >= (1 - self.config.final_whole) * self.config.steps
        if last or self._is_coarse() or rng.random() < self.config.whole_share:
            return Window(cells, 0, 0, cells)
        row, column = (int(start) for start in rng.integers(cells - self.config.window + 1, size=2))
        return Window(cells, row, column, self.config.window)

    def _log(self, loss: float, seconds: float) -> None:
        rate = self.config.pairs / seconds
        logger.info("step %d/%d  loss %.4f  %.1f pairs/s", self.step, self.config.steps, loss, rate)
        path = self.folder / "log.csv"
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "loss", "pairs_per_second", "learning_rate"])
            writer.writerow([self.step, f"{loss:.5f}", f"{rate:.2f}", f"{_learning_rate(self.config, self.step):.3g}"])


def _parameter_groups(head: ASNet, config: TrainConfig) -> list[dict[str, object]]:
    """Weight decay on convolution kernels only."""
    kernels = [p for p in head.parameters() if p.dim() > 1]
    others = [p for p in head.parameters() if p.dim() == 1]
    return [
        {"params": kernels, "weight_decay": config.weight_decay, "lr": config.learning_rate},
        {"params": others, "weight_decay": 0.0, "lr": config.learning_rate},
    ]


def _learning_rate(config: TrainConfig, step: int) -> float:
    warm = min(1.0, (step + 1) / config.warmup)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * min(1.0, step / config.steps)))


def _at_decoder(x: Tensor, side: int) -> Tensor:
    """Sample (P, H, W) at the points of the decoder's grid (corners aligned): means of 5 x 5 pixels around them."""
    smooth = F.avg_pool2d(x[:, None], 5, stride=1, padding=2, count_include_pad=False)
    return F.interpolate(smooth, (side, side), mode="bilinear", align_corners=True)[:, 0]
