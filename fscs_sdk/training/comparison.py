"""The paper's comparisons: every method and variant trained on the same pairs of the same folds, at the same cost.

A fold's heads see no photo of its five classes in any source, nor does the adapter that they share.
"""

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from fscs_sdk.checkpoints.tensors import write_tensors
from fscs_sdk.evaluation.datasets import BENCHMARKS
from fscs_sdk.model.adapter import Adapter
from fscs_sdk.model.backbone import Backbone
from fscs_sdk.training.config import TrainConfig
from fscs_sdk.training.contrastive import train_adapter
from fscs_sdk.training.corpus import canonical
from fscs_sdk.training.data import Catalogue
from fscs_sdk.training.packaging import export_head
from fscs_sdk.training.trainer import Trainer

logger = logging.getLogger(__name__)

#: What all runs have in common.
RECIPE = Path(__file__).parent / "recipes" / "comparison.json"
#: Run -> what sets it apart. PFENet scales its prior over the query, and eq. 6 is of the query: both need it whole.
RUNS: Mapping[str, Mapping[str, Any]] = {
    "asnet": {},
    "hsnet": {"head": "hsnet"},
    "pfenet": {"head": "pfenet", "whole_share": 1.0},
    "panet": {"head": "panet"},
    "asnet-local": {"head": "asnet-local"},
    "asnet-unmasked": {"head": "asnet-unmasked"},
    "asnet-unfused": {"head": "asnet-unfused"},
    "asnet-classification": {"loss": "classification"},
    "asnet-both": {"loss": "both"},
    "asnet-fs-s": {"task": "fs-s"},
}
#: Folds of VOC-animals with three classes that can be evaluated.
FOLDS = (1, 2)
CLASSES_PER_FOLD = 5


@dataclass(frozen=True)
class Comparison:
    """Where the runs are kept, and what they are made from.

    Attributes:
        folder: gets ``adapter-fold<k>.safetensors``, the runs' folders ``<name>-fold<k>`` and ``heads/``.
        data: the folder of the sources, ``voc`` among them.
        steps: of every run instead of the recipe's.
        adapter_steps: of every map of the adapters.
    """

    folder: Path
    data: Path
    steps: int | None = None
    adapter_steps: int = 2000

    def settings(self, name: str, fold: int) -> TrainConfig:
        """A run's settings.

        Raises:
            ValueError: no run of that name. OSError: the data cannot be read.
        """
        if name not in RUNS:
            raise ValueError(f"there is no run {name!r}; choose from {', '.join(RUNS)}")
        settings = dataclasses.replace(
            TrainConfig.load(RECIPE), excluded_classes=fold_classes(self.data, fold), **RUNS[name]
        )
        return settings if self.steps is None else dataclasses.replace(settings, steps=self.steps)

    def trainer(self, name: str, fold: int, backbone: Backbone) -> Trainer:
        """A run from where it stands; the fold's adapter is trained first, where it is not there yet."""
        settings = self.settings(name, fold)
        logger.info("%s, fold %d: without %s", name, fold, ", ".join(settings.excluded_classes))
        adapter = self._adapter(fold, settings, backbone)
        return Trainer(settings, backbone, Catalogue(self.data, settings), self.run(name, fold), adapter=adapter)

    def export(self, name: str, fold: int) -> Path:
        """Write a finished run's head in float16, for the tables."""
        path = self.folder / "heads" / f"{name}-fold{fold}.safetensors"
        path.parent.mkdir(exist_ok=True)
        export_head(self.run(name, fold), path)
        return path

    def run(self, name: str, fold: int) -> Path:
        """A run's folder."""
        return self.folder / f"{name}-fold{fold}"

    def _adapter(self, fold: int, settings: TrainConfig, backbone: Backbone) -> Adapter:
        path = self.folder / f"adapter-fold{fold}.safetensors"
        if not path.is_file():
            self.folder.mkdir(parents=True, exist_ok=True)
            trained = train_adapter(backbone, Catalogue(self.data, settings), steps=self.adapter_steps)
            write_tensors(path, trained.state_dict())
        adapter = Adapter(backbone.spec.channels)
        adapter.load_state_dict(load_file(path))
        return adapter


def fold_classes(data: Path, fold: int) -> tuple[str, ...]:
    """The canonical names of a Pascal-5i fold's five classes."""
    names = BENCHMARKS["voc-animals"].open(data / "voc", None).names
    first = CLASSES_PER_FOLD * fold + 1
    return tuple(canonical(names[number]) for number in range(first, first + CLASSES_PER_FOLD))
