"""A folder run whose photos are answered by Ray's actors: the same files, journal and resuming as on one machine.

The driver plans and writes the journal; every actor decodes, answers and writes files for some photos at a time, so all
machines must see the inputs and the output folder under the same paths.
"""

import copy
import logging
import pickle
from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ray
import ray.data
from numpy.typing import NDArray

from fscs_sdk.folder.inputs import Inputs, Photo
from fscs_sdk.folder.journal import Record, parse_line
from fscs_sdk.folder.output import OutputFolder
from fscs_sdk.folder.plan import Plan, Segmenter, Work
from fscs_sdk.folder.run import answer_here
from fscs_sdk.segmenter import FewShotSegmenter

#: Photos that an actor is given at a time: few enough to lose little with an actor, enough to decode ahead.
PHOTOS_AT_ONCE = 8
#: Of a run's parts, into which Ray puts them: a block's records come together.
MOST_BLOCKS = 1000


@dataclass(frozen=True)
class RayAnswers:
    """What :func:`fscs_sdk.folder.predict_folder` takes as ``answering``.

    Attributes:
        address: of a cluster, ``auto`` for the one that this machine belongs to, or None to start Ray here for the run.
        actors: how many models there are; each has a processor of its own. By default as many as the cluster has
            processors, less one for what else Ray does, or as its GPUs are enough for.
        gpus: of the cluster's GPUs, what each model has, such as 1 or 0.5, and computes on. With 0 models compute on
            processors, whatever device the driver's model is on: Ray shows its other actors no GPU.
        dtype: as for ``from_pretrained``, of models whose device is not that of the driver's; else it is the driver's.
    """

    address: str | None = None
    actors: int | None = None
    gpus: float = 0
    dtype: str = "auto"

    def __call__(self, work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
        """Hand out the records as photos are answered, in no order. What an actor held when it died is done again.

        Raises:
            OSError: the output folder is full or gone.
            ConnectionError: there is no cluster at the address.
            ValueError: the cluster has fewer GPUs than a model is to have.
        """
        own = not ray.is_initialized()
        if own:
            processors = None if self.address or self.actors is None else self.actors + 1  # one for what else Ray does
            ray.init(self.address, num_cpus=processors, log_to_driver=False, logging_level=logging.ERROR)
        logging.getLogger("ray.data").setLevel(logging.ERROR)  # the run has a progress bar of its own
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = context.print_on_execution_start = False
        try:
            yield from self._answers(work, plan, output)
        finally:
            if own:
                ray.shutdown()

    def _answers(self, work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
        there = ray.cluster_resources()  # type: ignore[no-untyped-call]
        if there.get("GPU", 0) < self.gpus:  # Ray would wait for them for ever
            raise ValueError(
                f"each model is to have {self.gpus:g} GPUs, and the cluster has {there.get('GPU', 0):g}; lower --gpus"
            )
        models = there["GPU"] / self.gpus if self.gpus else there.get("CPU", 2) - 1
        actors = self.actors or max(1, int(models))
        shipped = copy.copy(work)
        shipped.model = _on("cpu", work.model, self.dtype)
        rest = replace(
            plan, inputs=Inputs(()), photos=(), places={}, done={}, todo=(), earlier={}, kept={}, recorded={}
        )
        parts = [plan.todo[start : start + PHOTOS_AT_ONCE] for start in range(0, len(plan.todo), PHOTOS_AT_ONCE)]
        rows = [{"part": pickle.dumps(_part(rest, plan, photos))} for photos in parts]
        records = ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map_batches(
            _Actor,
            fn_constructor_args=(ray.put(shipped), str(output.path), "cuda" if self.gpus else "cpu", self.dtype),
            batch_size=1,
            num_gpus=self.gpus,
            compute=ray.data.ActorPoolStrategy(size=min(actors, len(rows))),
        )
        try:
            for row in records.iter_rows():
                record = parse_line(row["record"])
                if record is not None:
                    yield record
        except Exception as error:
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, OSError):
                cause = getattr(cause, "cause", None) or cause.__cause__
            if cause is None:
                raise
            raise cause from None


def _part(rest: Plan, plan: Plan, photos: tuple[Photo, ...]) -> Plan:
    paths = [photo.path for photo in photos]
    return replace(
        rest, todo=photos, places={p: plan.places[p] for p in paths}, earlier={p: plan.earlier[p] for p in paths}
    )


def _on(device: str, model: Segmenter, dtype: str) -> Segmenter:
    """A model on a kind of device: the same one if it is there already."""
    if not isinstance(model, FewShotSegmenter) or model.device.type == device:
        return model
    return FewShotSegmenter(
        copy.deepcopy(model.network),
        name=model.identity.rpartition("@")[0],
        device=device,
        dtype=dtype,
        protocol=model.protocol,
        max_memory=model.max_memory,
        edges=model.edges,
    )


class _Actor:
    """One model, and the way from a part of a plan to records."""

    def __init__(self, work: Any, folder: str, device: str, dtype: str) -> None:
        self._work: Work = ray.get(work)
        self._work.model = _on(device, self._work.model, dtype)
        self._output = OutputFolder(folder)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        lines = [
            record.line()
            for part in batch["part"]
            for record in answer_here(self._work, pickle.loads(part), self._output)
        ]
        return {"record": np.array(lines, dtype=object)}
