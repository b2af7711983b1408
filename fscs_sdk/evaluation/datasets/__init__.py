"""The data sets to measure on: one module for each layout, behind one contract."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from fscs_sdk.evaluation.datasets import voc_animals
from fscs_sdk.evaluation.datasets.coco20i import Coco20i
from fscs_sdk.evaluation.datasets.contract import Dataset
from fscs_sdk.evaluation.datasets.domains import MINIMUM_PHOTOS, Domains
from fscs_sdk.evaluation.datasets.fss import FSS1000
from fscs_sdk.evaluation.datasets.masked_folder import LabelFolder
from fscs_sdk.evaluation.datasets.pascal5i import Pascal5i

__all__ = ["BENCHMARKS", "Benchmark", "Dataset"]


@dataclass(frozen=True)
class Benchmark:
    """A data set and how it is measured unless something else is asked for.

    Attributes:
        open: the folder of the data, and where the lists are (None: beside the data, or derived) -> the data set.
        folds: those that are measured; None: all that there are.
        minimum_photos: classes with fewer photos in a list are not asked for.
    """

    open: Callable[[Path, Path | None], Dataset]
    folds: tuple[int, ...] | None = None
    minimum_photos: int = 1


BENCHMARKS: Mapping[str, Benchmark] = MappingProxyType(
    {
        "voc-animals": Benchmark(voc_animals.open_voc_animals, voc_animals.FOLDS, voc_animals.MINIMUM_PHOTOS),
        "pascal-5i": Benchmark(Pascal5i),
        "coco-20i": Benchmark(Coco20i),
        "fss-1000": Benchmark(FSS1000),
        "folder": Benchmark(LabelFolder),
        "domains": Benchmark(Domains, minimum_photos=MINIMUM_PHOTOS),
    }
)
