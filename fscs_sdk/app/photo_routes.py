"""Photos in, and as the page shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from fscs_sdk.app.handling import Handlers, read_body, read_json
from fscs_sdk.app.views import areas, photo_view
from fscs_sdk.app.workspace import MOST_BYTES, UnknownPhotoError, photo_size
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.images import read_mask


class PhotoRoutes(Handlers):
    """Photos: sent, picked, removed, looked at."""

    def routes(self) -> list[BaseRoute]:
        """Path and method of each."""
        photo = "/api/photos/{id}"
        return [
            Route("/api/photos", self.upload, methods=["POST"]),
            Route("/api/demo", self.add_demo, methods=["POST"]),
            Route("/api/folder", self.pick, methods=["POST"]),
            Route(photo, self.remove, methods=["DELETE"]),
            Route(photo, self.describe),
            Route(f"{photo}/view", self.view),
            Route(f"{photo}/maps", self.maps),
            Route(f"{photo}/areas", self.areas),
        ]

    async def upload(self, request: Request) -> Response:
        data = await read_body(request, MOST_BYTES)
        photo = await run_in_threadpool(self.workspace.add, request.query_params.get("name", "photo.jpg"), data)
        self.changed()
        return JSONResponse({"id": photo.id, "name": photo.name})

    def add_demo(self, request: Request) -> Response:
        """The photos that ship: two marked ones, and seven to ask."""
        for query in QUERIES:
            self.workspace.add(query, (PHOTOS / query).read_bytes())
        for name, (photo, mask) in SUPPORTS.items():
            added = self.workspace.add(photo.name, photo.read_bytes())
            self.workspace.set_shot(added, name, read_mask(mask, size=photo_size(photo)))
        self.changed()
        return JSONResponse({})

    async def pick(self, request: Request) -> Response:
        chosen = set(_list_of_texts(await read_json(request), "ids"))

        def add() -> None:
            for photo in self.workspace.pickable():
                if photo.id in chosen:
                    self.workspace.add(photo.name, photo.path.read_bytes())
                    self.changed()

        await run_in_threadpool(add)
        return JSONResponse({})

    def remove(self, request: Request) -> Response:
        photo = self.photo(request)
        if photo.place != "queries":
            raise ValueError("only a photo that is asked can be removed here; take shots out of their class")
        self.workspace.remove(photo)
        self.changed()
        return JSONResponse({})

    def describe(self, request: Request) -> Response:
        """Size, and for which classes there is a mask, a draft or a tag."""
        photo = self.photo(request)
        height, width = photo_size(photo.path)
        shots = {name: self.workspace.shot(photo, name) for name in self.workspace.shots()}
        masks = {name: not shot.is_tag for name, shot in shots.items() if shot is not None}
        self.asker.want(photo.id)
        return JSONResponse(
            {"id": photo.id, "name": photo.name, "width": width, "height": height, "shots": masks,
             "drafts": self.workspace.drafts().get(photo.id, [])}
        )  # fmt: skip

    def view(self, request: Request) -> Response:
        side = request.query_params.get("side", "2048")
        if not side.isdecimal():
            raise ValueError("side must be a number of pixels")
        data = photo_view(self.photo(request), int(side), self.workspace.root / ".views")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    def maps(self, request: Request) -> Response:
        photo = self.photo(request)
        return _png_file(self.workspace.root / "answers" / f"{photo.name}.maps.png")

    def areas(self, request: Request) -> Response:
        """What lies over the photo: the answer of a query, or the mask of a shot."""
        photo, side = self.photo(request), 1024 if request.query_params.get("side") == "1024" else 320
        if photo.place == "supports":
            mask = self.workspace.mask(photo)
            names = tuple(self.workspace.shots())
            label = np.zeros(photo_size(photo.path), np.uint8)
            if mask is not None and photo.class_name is not None:
                label[mask] = names.index(photo.class_name) + 1
        else:
            label, names = self.asker.answered_mask(photo)
        data = areas(label, names, side)
        return Response(data, media_type="image/png", headers={"Cache-Control": "private, max-age=3600"})


def _list_of_texts(asked: Mapping[str, Any], key: str) -> list[str]:
    value = asked.get(key)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"{key} must be a list of texts")
    return value


def _png_file(path: Path) -> Response:
    try:
        return Response(path.read_bytes(), media_type="image/png")
    except FileNotFoundError:
        raise UnknownPhotoError("this photo has no answer yet; wait a moment") from None
