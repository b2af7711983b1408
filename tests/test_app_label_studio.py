"""The page's server as Label Studio's machine learning backend."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from app_server import TOKEN, running
from fscs_sdk.app.ml_backend import LabelConfig, brush_rle, task_photo
from fscs_sdk.app.workspace import Workspace
from fscs_sdk.demo import PHOTOS, SUPPORTS
from fscs_sdk.references import read_supports
from fscs_sdk.references.shots import read_shot
from test_app_workspace import jpeg

CONFIG = """<View><Image name="photo" value="$image"/>
<BrushLabels name="tag" toName="photo"><Label value="Cat"/><Label value="person"/></BrushLabels>
<Choices name="there" toName="photo" choice="multiple"><Choice value="cat"/><Choice value="person"/></Choices></View>"""


def decode(rle):
    """The documented decoder, bit by bit."""
    bits = "".join(f"{byte:08b}" for byte in rle)
    at = 0

    def read(count):
        nonlocal at
        at += count
        return int(bits[at - count : at], 2)

    length, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    values = []
    while len(values) < length:
        run, size = read(1), sizes[read(2)]
        count = read(size) + 1
        values += [read(word)] * count if run else [read(word) for _ in range(count)]
    assert len(values) == length
    assert len(bits) - at < 8
    return np.array(values, np.uint8)


@given(hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40)))
def test_the_brush_is_what_label_studio_decodes(mask):
    assert np.array_equal(decode(brush_rle(mask)).reshape(*mask.shape, 4), np.repeat(mask[:, :, None] * 255, 4, axis=2))


@pytest.mark.parametrize("shape", [(1, 1), (200, 400), (129, 128)])
@pytest.mark.parametrize("value", [False, True])
def test_runs_longer_than_a_code_holds(shape, value):
    assert (decode(brush_rle(np.full(shape, value))) == 255 * value).all()


@pytest.fixture(scope="module")
def server(tmp_path_factory, model):
    with running(tmp_path_factory.mktemp("studio") / "work", model) as found:
        with found.client() as client:
            client.post("/api/demo").raise_for_status()
            found.settled(client)
        yield found


@pytest.fixture
def client(server):
    """As Label Studio does it: the token is the password of basic authentication, from whatever name it has for us."""
    with server.client() as found:
        found.headers["Authorization"] = "Basic " + base64.b64encode(f"label-studio:{TOKEN}".encode()).decode()
        found.headers["Host"] = "host.docker.internal:8765"
        yield found


def test_health_needs_no_token_and_the_rest_does(server, client):
    import httpx

    assert httpx.get(f"{server.url}/health").json() == {"status": "UP", "model_class": "FewShotSegmenter"}
    for path in ("/predict", "/setup", "/webhook"):
        assert httpx.post(f"{server.url}{path}", json={}).status_code == 401
    assert client.post("/webhook", json={"action": "ANNOTATION_CREATED"}).status_code == 200


def test_setup_says_the_version_that_predictions_have(client):
    asked = {"project": "1.1700000000", "schema": CONFIG, "hostname": "http://localhost:8080", "access_token": "x"}
    version = client.post("/setup", json=asked).raise_for_status().json()["model_version"]
    answer = client.post("/predict", json=question("/data/upload/1/0a1b2c3d-coffee.jpg")).raise_for_status().json()
    assert answer["results"][0]["model_version"] == version


def question(*images):
    tasks = [{"id": number, "data": {"image": image}} for number, image in enumerate(images)]
    return {"tasks": tasks, "project": "1.1700000000", "label_config": CONFIG, "params": {"context": None}}


def test_tasks_get_areas_and_presences_that_come_back_as_supports(client, model, tmp_path):
    inside = "data:image/jpeg;base64," + base64.b64encode((PHOTOS / "person_query.jpg").read_bytes()).decode()
    asked = question("/data/upload/1/0a1b2c3d-cat_query.jpg", "/data/local-files/?d=some/coffee.jpg", inside)
    results = client.post("/predict", json=asked).raise_for_status().json()["results"]
    assert [region["type"] for region in results[0]["result"]] == ["brushlabels", "choices"]
    area, presence = results[0]["result"]
    assert (area["from_name"], area["to_name"], area["value"]["brushlabels"]) == ("tag", "photo", ["Cat"])
    assert (area["original_width"], area["original_height"], area["image_rotation"]) == (640, 480, 0)
    assert presence["value"] == {"choices": ["cat"]}
    assert results[1]["result"] == []
    assert results[2]["result"][-1]["value"] == {"choices": ["person"]}
    assert all(0 <= result["score"] <= 1 for result in results)
    alone = model.predict(PHOTOS / "cat_query.jpg", model.encode(SUPPORTS, calibrate=True))
    assert np.array_equal(decode(area["value"]["rle"]).reshape(480, 640, 4)[:, :, 3] > 0, alone.class_mask("cat"))

    (tmp_path / "cat_query.jpg").write_bytes((PHOTOS / "cat_query.jpg").read_bytes())
    task = {**asked["tasks"][0], "annotations": [{"result": results[0]["result"]}]}
    (tmp_path / "export.json").write_text(json.dumps([task]))
    (shot,) = read_supports(tmp_path / "export.json")["Cat"]
    assert np.array_equal(read_shot(shot, "Cat", label="the shot")[1], alone.class_mask("cat"))


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ("", "is no XML"),
        ("<View/>", "neither BrushLabels nor Choices"),
        ('<View><Image name="a" value="$b"/><Choices name="c" toName="other"/></View>', "neither"),
        ("<!DOCTYPE x [<!ENTITY a 'b'>]><View>&a;&nope;</View>", "is no XML"),
    ],
)
def test_an_interface_that_cannot_be_answered_is_one_sentence(client, config, sentence):
    for path, asked in (("/setup", {"schema": config}), ("/predict", {"label_config": config, "tasks": []})):
        response = client.post(path, json=asked)
        assert response.status_code == 400
        assert sentence in response.json()["error"]


def test_the_field_is_the_images_own():
    config = LabelConfig.parse('<View><Image name="a" value="$url"/><Choices name="c" toName="a"/></View>')
    assert (config.field, config.brush) == ("url", None)


@pytest.mark.parametrize(
    "task",
    [None, {}, {"data": 3}, {"data": {}}, {"data": {"image": ""}}, {"data": {"image": "data:image/png;base64,!"}}],
)
def test_a_task_without_a_photo_is_one_sentence(client, task):
    response = client.post("/predict", json={**question(), "tasks": [task]})
    assert response.status_code == 400
    assert "photo" in response.json()["error"]


def test_no_address_is_fetched_that_nobody_named(client, tmp_path):
    for address in ("http://169.254.169.254/latest/x.jpg", "file:///etc/passwd", "/data/upload/1/nowhere.jpg"):
        response = client.post("/predict", json=question(address))
        assert response.status_code == 400
        assert "is not in the workspace" in response.json()["error"]


@pytest.fixture
def studio():
    """As much of Label Studio as gives photos away."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers.get("Authorization")))
            moved = self.path.startswith("/data/moved")
            self.send_response(302 if moved else 200 if self.path.endswith("rex.jpg") else 404)
            if moved:
                self.send_header("Location", "http://127.0.0.1:1/elsewhere.jpg")
            self.end_headers()
            self.wfile.write(b"" if moved else jpeg())

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_photos_come_from_the_label_studio_that_was_named_and_from_no_other(studio, tmp_path):
    url, asked = studio
    workspace = Workspace(tmp_path / "work")

    def fetch(address):
        return task_photo({"data": {"image": address}}, "image", workspace, studio=url, key="secret")

    assert fetch("/data/upload/1/0a1b2c3d-rex.jpg") == jpeg()
    assert fetch(f"{url}/data/rex.jpg") == jpeg()
    assert asked[0] == ("/data/upload/1/0a1b2c3d-rex.jpg", "Token secret")
    for address in (
        "http://evil.example/rex.jpg",
        "file:///etc/rex.jpg",
        "@evil.example/rex.jpg",
        "http://127.0.0.1:1/rex.jpg",
    ):
        with pytest.raises((ValueError, OSError)):
            fetch(address)
    for address in ("/data/moved.jpg", "/data/nothing.jpg"):
        with pytest.raises(OSError, match="did not give the photo"):
            fetch(address)
    assert fetch("//evil.example/rex.jpg") == jpeg()  # a path of the one that was named
    assert len(asked) == 5


@given(st.text(max_size=40))
def test_any_text_as_an_interface_is_read_or_refused(text):
    try:
        LabelConfig.parse(text)
    except ValueError:
        return
