"""The page itself, what it needs to draw itself, and what happens meanwhile; thresholds and calibration."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from fscs_sdk.app.asker import Asker
from fscs_sdk.app.handling import Handlers, read_json
from fscs_sdk.app.workspace import Photo, mask_version
from fscs_sdk.formats import WRITERS, class_colors

STATIC = Path(__file__).parent / "static"


class PageRoutes(Handlers):
    """The page, and the classes that it is about."""

    def routes(self) -> list[BaseRoute]:
        """Path and method of each."""
        return [
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/", self.page),
            Route("/api/workspace", self.snapshot),
            Route("/api/events", self.listen),
            Route("/api/classes", self.change_class, methods=["PATCH"]),
            Route("/api/settings", self.change_settings, methods=["PATCH"]),
            Route("/api/asking", self.steer, methods=["PATCH"]),
        ]

    def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    def listen(self, request: Request) -> Response:
        return StreamingResponse(self.events.stream(), media_type="text/event-stream")

    def snapshot(self, request: Request) -> Response:
        """Everything that a page needs to draw itself, but for pixels."""
        workspace, asker = self.workspace, self.asker
        settings, drafts = workspace.settings(), workspace.drafts()
        problem = asker.problem
        try:
            shots, state = workspace.shots(), workspace.state()
        except ValueError as error:
            shots, state, problem = {}, asker.state, str(error)
        negatives = {photo.name: photo for photo in workspace.negatives()}
        labels: dict[str, list[str]] = {}
        for name, photos in shots.items():
            for shot in photos:
                labels.setdefault(shot.name, []).append(name)
        examined, suspects = _examined(asker)
        classes = [
            {
                "examined": examined.get(name),
                "name": name,
                "color": "#{:02x}{:02x}{:02x}".format(*color),
                "threshold": settings.thresholds.get(name, asker.own_thresholds.get(name)),
                "own_threshold": asker.own_thresholds.get(name),
                "shots": [
                    {
                        "id": shot.id,
                        "name": shot.name,
                        "mask": mask_version(shot.shot),
                        "suspect": suspects.get((name, number)),
                        "drafted": name in drafts.get(shot.id, []),
                    }
                    for number, shot in enumerate(photos, start=1)
                ],
            }
            for (name, photos), color in zip(shots.items(), class_colors(list(shots)), strict=True)
        ]
        queries = [
            {
                "id": query.id,
                "name": query.name,
                "labels": labels.get(query.name, []),
                "negative": query.name in negatives,
                "drafts": drafts.get(query.id, []),
                "confirmed": settings.confirmed.get(query.name),
                "answer": _answered(asker, query),
            }
            for query in workspace.queries()
        ]
        return JSONResponse(
            {
                "name": workspace.root.name,
                "path": str(workspace.root),
                "model": self.asker.model.identity,
                "state": state,
                "problem": problem,
                "progress": asker.progress,
                "calibrate": settings.calibrate,
                "edges": settings.edges,
                "remarks": [] if asker.examination is None else asker.examination.remarks,
                "classes": classes,
                "negatives": [{"id": photo.id, "name": photo.name} for photo in negatives.values()],
                "photos": queries,
                "pickable": [{"id": photo.id, "name": photo.name} for photo in workspace.pickable()],
                "formats": [{"name": name, "contents": format.contents} for name, format in WRITERS.items()],
            }
        )

    async def change_class(self, request: Request) -> Response:
        """``{"name": "cat"}`` with ``threshold`` (a number, or null for the model's own), or a new name, ``rename``."""
        asked = await read_json(request)
        name = str(asked.get("name", ""))
        if "rename" in asked:
            await run_in_threadpool(self.workspace.rename_class, name, str(asked["rename"]))
        if "threshold" in asked:
            thresholds = dict(self.workspace.settings().thresholds)
            value = asked["threshold"]
            if value is None:
                thresholds.pop(name, None)
            elif isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1:
                thresholds[name] = float(value)
            else:
                raise ValueError(f"the threshold {value!r} is no number from 0 to 1")
            self.workspace.change_settings(thresholds=thresholds)
        self.changed()
        return JSONResponse({})

    async def change_settings(self, request: Request) -> Response:
        """``{"calibrate": true}``, ``{"edges": true}``, or both."""
        asked = await read_json(request)
        given = {name: asked[name] for name in ("calibrate", "edges") if name in asked}
        if not given or not all(isinstance(value, bool) for value in given.values()):
            raise ValueError("give calibrate or edges, true or false")
        self.workspace.change_settings(**given)
        self.changed()
        return JSONResponse({})

    async def steer(self, request: Request) -> Response:
        """``{"run": false}`` cancels what is being asked, ``{"run": true}`` goes on."""
        if (await read_json(request)).get("run"):
            self.asker.changed()
        else:
            self.asker.cancel()
        return JSONResponse({})


def _examined(asker: Asker) -> tuple[dict[str, dict[str, Any]], dict[tuple[str, int], str]]:
    """What the examples say of each other: by class, and why an example, by class and number, is a suspect."""
    if asker.examination is None:
        return {}, {}
    classes = {one.name: asdict(one) for one in asker.examination.classes}
    suspects: dict[tuple[str, int], str] = {}
    for suspect in asker.examination.suspects:  # the surest first
        told = f"{suspect.reason} (sure to {suspect.sureness:.0%})"
        suspects.setdefault((suspect.name, suspect.shot), told)
    return classes, suspects


def _answered(asker: Asker, query: Photo) -> dict[str, Any] | None:
    answer = asker.answers.get(query.id)
    return None if answer is None else {**asdict(answer), "doubt": answer.doubt()}
