"""A folder run whose photos are answered by Ray's actors: the same files, journal and resuming as on one machine.

The driver plans and writes the journal; every actor decodes, answers and writes files for some photos at a time, so all
machines must see the inputs and the output folder under the same paths.
"""

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
from fscs_sdk.folder.plan import Plan, Work
from fscs_sdk.folder.run import answer_here

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
            processors, less one for what else Ray does.
    """

    address: str | None = None
    actors: int | None = None

    def __call__(self, work: Work, plan: Plan, output: OutputFolder) -> Generator[Record, None, None]:
        """Hand out the records as photos are answered, in no order. What an actor held when it died is done again.

        Raises:
            OSError: the output folder is full or gone.
            ConnectionError: there is no cluster at the address.
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
        processors = ray.cluster_resources().get("CPU", 2)  # type: ignore[no-untyped-call]
        actors = self.actors or max(1, int(processors) - 1)
        rest = replace(
            plan, inputs=Inputs(()), photos=(), places={}, done={}, todo=(), earlier={}, kept={}, recorded={}
        )
        parts = [plan.todo[start : start + PHOTOS_AT_ONCE] for start in range(0, len(plan.todo), PHOTOS_AT_ONCE)]
        rows = [{"part": pickle.dumps(_part(rest, plan, photos))} for photos in parts]
        records = ray.data.from_items(rows, override_num_blocks=min(len(rows), MOST_BLOCKS)).map_batches(
            _Actor,
            fn_constructor_args=(ray.put(work), str(output.path)),
            batch_size=1,
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


class _Actor:
    """One model, and the way from a part of a plan to records."""

    def __init__(self, work: Any, folder: str) -> None:
        self._work: Work = ray.get(work)
        self._output = OutputFolder(folder)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        lines = [
            record.line()
            for part in batch["part"]
            for record in answer_here(self._work, pickle.loads(part), self._output)
        ]
        return {"record": np.array(lines, dtype=object)}
