"""A class for Ray Data: ``ds.map_batches(Predictor, fn_constructor_kwargs={"supports": ...})``.

It loads model and supports once for each actor and needs nothing of Ray: Spark's ``mapInPandas`` and Dask's
``map_partitions`` can call it as well.
"""

import json
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fscs_sdk.formats.coco import run_lengths
from fscs_sdk.formats.regions import regions
from fscs_sdk.prediction import Prediction
from fscs_sdk.segmenter import FewShotSegmenter
from fscs_sdk.supports import SupportSet

#: Columns that photos are taken from, in this order: contents of a file, a decoded photo, a path.
SOURCES = ("bytes", "image", "path")


class Predictor:
    """Answers batches of photos, dict of arrays in, dict of arrays out."""

    def __init__(
        self,
        *,
        supports: SupportSet | str | os.PathLike[str],
        model: str = "asnet-mini",
        device: str = "auto",
        dtype: str = "auto",
        edges: bool = True,
    ) -> None:
        """Load the model, on the actor that makes this.

        Args:
            supports: encoded by this model, or a file of ``fscs encode`` that every machine can read.
            model, device, dtype, edges: as for :meth:`fscs_sdk.FewShotSegmenter.from_pretrained`.

        Raises:
            ValueError, OSError: the model or the supports cannot be used.
        """
        self._model = FewShotSegmenter.from_pretrained(model, device=device, dtype=dtype, edges=edges)
        self._supports = supports if isinstance(supports, SupportSet) else SupportSet.load(supports)
        self._model.check(self._supports)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Answer B photos.

        Args:
            batch: a column ``bytes`` (as ``ray.data.read_binary_files`` has), ``image`` (``read_images``) or ``path``;
                the first of them that is there is read. Other columns are kept.

        Returns:
            The columns but ``bytes`` and ``image``, and: ``present`` bool (B, N) and ``scores`` float32 (B, N) in the
            order of the supports' names; ``masks``, JSON for each photo: class name -> COCO's run lengths, for the
            classes that have pixels; ``error``, empty, or why a photo has no answer (then present is all False, scores
            NaN, masks empty): one bad photo stops no run.

        Raises:
            ValueError: there is none of the columns.
        """
        source = next((name for name in SOURCES if name in batch), None)
        if source is None:
            raise ValueError(
                f"a batch needs a column {' or '.join(SOURCES)}; this one has {', '.join(batch) or 'none'}"
            )
        names = self._supports.names
        rows = len(batch[source])
        present = np.zeros((rows, len(names)), dtype=np.bool_)
        scores = np.full((rows, len(names)), np.nan, dtype=np.float32)
        masks, errors = np.full(rows, "", dtype=object), np.full(rows, "", dtype=object)
        for row, photo in enumerate(batch[source]):
            try:
                prediction = self._model.predict(photo if source != "path" else str(photo), self._supports)
            except (ValueError, OSError) as error:  # the photo's
                errors[row] = str(error)
                continue
            present[row], scores[row] = [*prediction.present.values()], [*prediction.scores.values()]
            masks[row] = json.dumps(_run_lengths(prediction), ensure_ascii=False)
        kept = {name: column for name, column in batch.items() if name not in ("bytes", "image")}
        return kept | {"present": present, "scores": scores, "masks": masks, "error": errors}


def _run_lengths(prediction: Prediction) -> dict[str, dict[str, Any]]:
    height, width = prediction.mask.shape
    return {prediction.names[r.number - 1]: run_lengths(r, height, width) for r in regions(prediction)}
