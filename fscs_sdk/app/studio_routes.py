"""The routes that Label Studio asks of a machine learning backend."""

import os
import threading
from functools import partial
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fscs_sdk.app.asker import Asker
from fscs_sdk.app.events import Events
from fscs_sdk.app.handling import Handlers, read_json
from fscs_sdk.app.ml_backend import LabelConfig, task_photo, task_result
from fscs_sdk.app.workspace import Workspace
from fscs_sdk.prediction import Prediction


class StudioRoutes(Handlers):
    """Health, set-up and predictions, as Label Studio documents them."""

    def __init__(self, workspace: Workspace, asker: Asker, events: Events, *, studio: str | None) -> None:
        """Handlers for a workspace.

        Args:
            studio: address of the Label Studio that photos of tasks may be fetched from.
        """
        super().__init__(workspace, asker, events)
        self.studio = studio

    def routes(self) -> list[BaseRoute]:
        """Path and method of each."""
        return [
            Route("/health", self.studio_health),
            Route("/setup", self.studio_setup, methods=["POST"]),
            Route("/predict", self.studio_predict, methods=["POST"]),
            Route("/webhook", self.studio_webhook, methods=["POST"]),
        ]

    def studio_health(self, request: Request) -> Response:
        return JSONResponse({"status": "UP", "model_class": "FewShotSegmenter"})

    async def studio_setup(self, request: Request) -> Response:
        asked = await read_json(request)
        LabelConfig.parse(str(asked.get("schema", "")))
        return JSONResponse({"model_version": self._version()})

    async def studio_predict(self, request: Request) -> Response:
        asked = await read_json(request)
        config = LabelConfig.parse(str(asked.get("label_config", "")))
        tasks = asked.get("tasks")
        if not isinstance(tasks, list):
            raise ValueError("tasks must be a list")
        results = []
        for task in tasks:
            photo = await run_in_threadpool(self._task_photo, task, config.field)
            prediction = await self.ask(request, partial(self._predict, photo))
            results.append(await run_in_threadpool(task_result, prediction, config, self._version()))
        return JSONResponse({"results": results})

    async def studio_webhook(self, request: Request) -> Response:
        """What is annotated there is exported and taken in here; nothing is learnt in between."""
        await read_json(request)
        return JSONResponse({})

    def _predict(self, photo: Path | bytes, gone: threading.Event) -> Prediction:
        return self.asker.model.predict(photo, self.asker.encoded())

    def _task_photo(self, task: Any, field: str) -> Path | bytes:
        return task_photo(task, field, self.workspace, studio=self.studio, key=os.environ.get("LABEL_STUDIO_API_KEY"))

    def _version(self) -> str:
        return f"{self.asker.model.identity}-{self.workspace.state()}"
