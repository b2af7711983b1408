"""Attacks on a page's server that runs: other sites, other names of this address, hostile uploads and paths."""

import base64
import http.client
import json
import struct
import zlib
from io import BytesIO

import httpx
import pytest
from PIL import Image

import fscs_sdk.app.workspace
from app_server import TOKEN, running
from conftest import photo
from fscs_sdk.app.guard import Guard
from fscs_sdk.app.marked import take_annotations
from fscs_sdk.app.server import address
from test_app_workspace import jpeg


@pytest.fixture(scope="module")
def server(tmp_path_factory, model):
    with running(tmp_path_factory.mktemp("page") / "work", model) as found:
        yield found


@pytest.fixture
def client(server):
    with server.client() as found:
        yield found


def ask(server, method="GET", path="/api/workspace", body=None, **headers):
    """A request with exactly these headers: status, headers, body."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.putrequest(method, path, skip_host="Host" in sent, skip_accept_encoding=True)
    for name, value in sent.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body)
    response = connection.getresponse()
    content = response.read()
    connection.close()
    return response.status, response.headers, content


def cookie(server):
    """What a browser keeps after opening the address that was printed."""
    status, headers, _ = ask(server, path=f"/?token={TOKEN}")
    assert status == 303
    assert headers["Location"] == "/"  # the token leaves the address
    return headers["Set-Cookie"]


def test_the_address_gives_a_cookie_that_no_script_reads_and_no_other_site_sends(server):
    given = cookie(server)
    assert given.startswith(f"fscs-{server.port}=")
    assert "HttpOnly" in given
    assert "SameSite=strict" in given
    status, _, page = ask(server, path="/", Cookie=given.split(";")[0])
    assert status == 200
    assert b'<script type="module" src="/static/main.js">' in page


@pytest.mark.parametrize(
    "path", ["/", "/api/workspace", "/api/events", "/static/main.js", "/take/supports.zip", "/nope"]
)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Cookie": "fscs=x"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer"},
        {"Cookie": "\x80;;=,"},
    ],
)
def test_without_the_token_there_is_nothing(server, path, headers):
    status, sent, body = ask(server, path=path, **headers)
    assert status == 401
    assert sent["Content-Security-Policy"].startswith("default-src 'none'")
    assert b"script" not in body


def test_a_wrong_token_in_the_address_sets_no_cookie(server):
    status, headers, _ = ask(server, path="/?token=wrong")
    assert status == 401
    assert "Set-Cookie" not in headers


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.7", "localhost.evil.example", "", "[::2]"],
)
def test_a_foreign_name_that_points_here_reaches_nothing(server, host):
    """DNS rebinding: the browser believes to talk to evil.example, and sends its Origin as the same site's."""
    given = cookie(server).split(";")[0]
    for path in ("/", "/api/workspace", f"/?token={TOKEN}", "/health"):
        status, headers, _ = ask(server, path=path, Host=host, Cookie=given, Origin=f"http://{host}")
        assert status == 403
        assert "Set-Cookie" not in headers


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "127.0.0.2"])
def test_this_machines_own_names_are_fine(server, host):
    given = cookie(server).split(";")[0]
    assert ask(server, Host=f"{host}:{server.port}", Cookie=given)[0] == 200


@pytest.mark.parametrize("origin", [None, "http://evil.example", "null", "http://127.0.0.1:1", "https://", "127.0.0.1"])
def test_another_sites_page_changes_nothing(server, client, origin):
    """Cross-site requests, if a browser sent the cookie along in spite of SameSite."""
    before = client.get("/api/workspace").json()
    given = {"Cookie": cookie(server).split(";")[0], **({} if origin is None else {"Origin": origin})}
    for method, path, body in (
        ("POST", "/api/photos?name=x.jpg", jpeg()),
        ("POST", "/api/demo", b""),
        ("PATCH", "/api/settings", b'{"calibrate": false}'),
        ("DELETE", "/api/photos/0000000000000000", None),
    ):
        assert ask(server, method, path, body, **given)[0] == 403
    assert client.get("/api/workspace").json() == before


def test_another_sites_page_reads_nothing(server):
    given = cookie(server).split(";")[0]
    for site in ("cross-site", "same-site"):
        for path in ("/api/workspace", "/static/main.js", "/take/supports.zip"):
            assert ask(server, path=path, Cookie=given, Sec_Fetch_Site=site)[0] == 403
    status, headers, _ = ask(server, Cookie=given, Origin="http://evil.example")
    assert "Access-Control-Allow-Origin" not in headers
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert status == 200  # the browser lets no other site see it


def test_the_page_itself_may_change_things(server):
    given = cookie(server).split(";")[0]
    origin = f"http://127.0.0.1:{server.port}"
    sent = {"Cookie": given, "Origin": origin, "Host": f"127.0.0.1:{server.port}", "Sec_Fetch_Site": "same-origin"}
    assert ask(server, "PATCH", "/api/settings", b'{"calibrate": true}', **sent)[0] == 200


def test_another_program_uses_the_token_as_a_password(server):
    basic = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    assert ask(server, Authorization=f"Basic {basic}")[0] == 200
    assert ask(server, Authorization=f"Token {TOKEN}")[0] == 200


def test_every_answer_forbids_what_was_not_meant(client):
    for path in ("/", "/static/main.js", "/api/workspace", "/nope"):
        headers = client.get(path).headers
        policy = headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "/static/../server.py",
        "/static/..%2fserver.py",
        "/static/%2e%2e/%2e%2e/supports.py",
        "/static//etc/passwd",
        "/static/..\\server.py",
        "/api/photos/..%2f..%2fsettings.json/view",
        "/api/photos/%2fetc%2fpasswd",
        "/api/photos/queries%2fa.jpg/view",
        "/.token",
        "/static/%00",
    ],
)
def test_no_path_leads_out(server, path):
    status, _, body = ask(server, path=path, Authorization=f"Bearer {TOKEN}")
    assert status in (404, 405)
    assert b"import" not in body
    assert b"root:" not in body


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.jpg",
        "/etc/evil.jpg",
        "..\\evil.jpg",
        "a/b/evil.jpg",
        "evil.html",
        "evil.svg",
        ".htaccess",
        "\x00.jpg",
    ],
)
def test_an_uploads_name_never_becomes_a_path(server, client, name):
    added = client.post("/api/photos", params={"name": name}, content=jpeg(hash(name) % 1000)).raise_for_status().json()
    assert not set(added["name"]) & set("/\\\x00")
    assert (server.root / "queries" / added["name"]).is_file()
    assert {path.split("/")[0] for path in files_of(server)} <= {
        "queries",
        "answers",
        ".views",
        "settings.json",
        "supports.safetensors",
    }
    client.delete(f"/api/photos/{added['id']}").raise_for_status()


def files_of(server):
    return [path.relative_to(server.root).as_posix() for path in server.root.rglob("*") if path.is_file()]


@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "/etc", "con", "\x00", "."])
def test_a_classs_name_never_becomes_a_path(server, client, name):
    added = client.post("/api/photos", params={"name": "rex.jpg"}, content=jpeg(5)).raise_for_status().json()
    for method, path in (("PUT", "shot"), ("PUT", "draft"), ("DELETE", "shot"), ("GET", "mask")):
        sent = struct.pack("<II", 0, 4800) if method == "PUT" else b""
        response = client.request(method, f"/api/photos/{added['id']}/{path}", params={"class": name}, content=sent)
        assert response.status_code == 400
        assert "class" in response.json()["error"] or "folder" in response.json()["error"]
    assert list((server.root / "supports").iterdir()) == []
    assert list((server.root / "drafts").iterdir()) == []
    client.delete(f"/api/photos/{added['id']}").raise_for_status()


SVG = b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>"
HTML = b"<!doctype html><script>alert(1)</script>"


@pytest.mark.parametrize("content", [SVG, HTML, b"", b"\xff\xd8\xff", b"GIF89a", jpeg()[:400]])
def test_what_is_no_photo_is_refused_and_kept_nowhere(server, client, content):
    response = client.post("/api/photos", params={"name": "x.jpg"}, content=content)
    assert response.status_code == 400
    assert response.json()["error"].startswith("'x.jpg'")
    assert not list((server.root / "queries").iterdir())


def test_a_photo_with_a_page_inside_comes_back_as_a_picture_drawn_anew(client):
    buffer = BytesIO()
    Image.fromarray(photo(7)).save(buffer, "JPEG", comment=HTML)
    added = client.post("/api/photos", params={"name": "x.html"}, content=buffer.getvalue() + HTML).json()
    for side in (320, 2048, 6000):
        view = client.get(f"/api/photos/{added['id']}/view", params={"side": side})
        assert view.headers["Content-Type"] == "image/jpeg"
        assert b"script" not in view.content
        assert Image.open(BytesIO(view.content)).format == "JPEG"
    client.delete(f"/api/photos/{added['id']}").raise_for_status()


def bomb(side):
    """A PNG of some hundred kilobytes that unpacks to side * side pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side // 8)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_from_its_header(client):
    response = client.post("/api/photos", params={"name": "bomb.png"}, content=bomb(20_000))
    assert response.status_code == 400
    assert "400000000 pixels and the limit is 100000000" in response.json()["error"]


def test_an_upload_that_is_too_long_is_cut_off(server, client, monkeypatch):
    monkeypatch.setattr("fscs_sdk.app.photo_routes.MOST_BYTES", 1_000_000)
    response = client.post("/api/photos", params={"name": "x.jpg"}, content=bytes(1_000_001))
    assert response.status_code == 413
    assert "1 MB" in response.json()["error"]
    status, _, _ = ask(server, "POST", "/api/photos", b"", Authorization=f"Bearer {TOKEN}")
    assert status == 400  # the server lives

    def pieces():  # without a length in its head
        for _ in range(20):
            yield bytes(100_000)

    with pytest.raises((httpx.WriteError, httpx.ReadError, AssertionError)):
        assert client.post("/api/photos", content=pieces()).status_code != 413


def test_a_workspace_that_is_full_says_so(client, monkeypatch):
    monkeypatch.setattr(fscs_sdk.app.workspace, "MOST_PHOTOS", 0)
    response = client.post("/api/photos", params={"name": "x.jpg"}, content=jpeg())
    assert response.status_code == 400
    assert "which is the most" in response.json()["error"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PATCH", "/api/settings", b""),
        ("PATCH", "/api/settings", b"[" * 100_000),
        ("PATCH", "/api/settings", b'{"calibrate": 3}'),
        ("PATCH", "/api/settings", b'{"edges": "yes"}'),
        ("PATCH", "/api/settings", b"{}"),
        ("PATCH", "/api/classes", b'{"name": "a", "threshold": NaN}'),
        ("PATCH", "/api/classes", b'{"name": "a", "threshold": 2}'),
        ("PATCH", "/api/classes", b'{"name": "a", "rename": "b"}'),
        ("PATCH", "/api/asking", b"\xff"),
        ("POST", "/api/folder", b'{"ids": [1]}'),
        ("GET", "/take/answers.zip?formats=nope", None),
        ("GET", "/take/answers.zip?formats=mask", None),
        ("GET", "/take/supports.safetensors", None),
    ],
)
def test_a_request_that_makes_no_sense_is_one_sentence(client, method, path, body):
    response = client.request(method, path, content=body)
    assert response.status_code == 400
    assert set(response.json()) == {"error"}
    assert "\n" not in response.json()["error"]


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"box": [1, 2, 3]},
        {"box": [1, 2, 3, "x"]},
        {"box": [5, 5, 5, 5]},
        {"box": [10**12, 0, 10**13, 9]},
        {"inside": [1]},
        {"inside": "x"},
        {"inside": [-4800]},
        {"inside": [2**40]},
        {"inside": [4800]},
    ],
)
def test_a_suggestion_that_makes_no_sense_is_one_sentence(client, asked):
    added = client.post("/api/photos", params={"name": "rex.jpg"}, content=jpeg(5)).json()
    response = client.post(f"/api/photos/{added['id']}/suggestion", json=asked)
    assert response.status_code == 400
    assert set(response.json()) == {"error"}


def test_nothing_is_written_but_in_the_workspace(server, client):
    around = server.root.parent
    before = set(around.rglob("*")) - set(server.root.rglob("*"))
    client.post("/api/demo").raise_for_status()
    server.settled(client)
    for path in ("/take/supports.zip", "/take/supports.safetensors", "/take/answers.zip?formats=mask"):
        assert client.get(path).raise_for_status().content
    assert set(around.rglob("*")) - set(server.root.rglob("*")) == before
    for photo_ in client.get("/api/workspace").json()["photos"]:
        client.delete(f"/api/photos/{photo_['id']}")


async def _never(scope, receive, send):
    raise AssertionError("the guard let it through")


def test_a_server_for_other_machines_takes_addresses_but_no_foreign_name():
    guard = Guard(_never, token=TOKEN, port=1, exposed=True)
    assert guard._is_own_host("192.168.1.20:8765")
    assert guard._is_own_host("[fe80::1]:8765")
    assert not guard._is_own_host("evil.example:8765")
    assert address("0.0.0.0", 8765, "t") == "http://127.0.0.1:8765/?token=t"
    assert address("::1", 8765, "t") == "http://[::1]:8765/?token=t"


@pytest.mark.parametrize("shape", ["labelme", "coco"])
def test_an_annotation_file_reaches_no_photo_outside_the_workspace(tmp_path, shape):
    """An uploaded file names a photo of this machine; nothing of it is read, and nothing becomes an example."""
    outside = tmp_path / "private.jpg"
    Image.fromarray(photo(3)).save(outside)
    workspace = fscs_sdk.app.workspace.Workspace(tmp_path / "work")
    corners = [[10, 10], [50, 10], [50, 40], [10, 40]]
    if shape == "labelme":
        content = {
            "imagePath": str(outside),
            "imageWidth": 80,
            "imageHeight": 60,
            "imageData": None,
            "shapes": [{"label": "cat", "shape_type": "polygon", "points": corners}],
        }
    else:
        content = {
            "images": [{"id": 1, "file_name": str(outside), "width": 80, "height": 60}],
            "categories": [{"id": 1, "name": "cat"}],
            "annotations": [
                {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[10, 10, 50, 10, 50, 40, 10, 40]]}
            ],
        }
    with pytest.raises(ValueError, match=r"not in the workspace|no photo|cannot|not there|missing"):
        take_annotations(workspace, "mine.json", json.dumps(content).encode())
    assert not list((tmp_path / "work").rglob("private*"))
