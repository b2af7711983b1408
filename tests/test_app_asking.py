"""The page's server at work: answers follow the workspace, equal those of the command line, and survive a kill."""

import copy
import json
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import fscs_sdk.app.asker
from app_server import running
from conftest import photo
from fscs_sdk import SupportSet
from fscs_sdk.app.outlining import suggest
from fscs_sdk.app.runlengths import decode_runs, encode_runs
from fscs_sdk.cli import main
from fscs_sdk.demo import PHOTOS, QUERIES, SUPPORTS
from fscs_sdk.images import read_image, read_mask
from fscs_sdk.prediction import Prediction
from fscs_sdk.references.folders import read_support_folder
from test_app_workspace import jpeg


@pytest.fixture
def server(tmp_path, model):
    with running(tmp_path / "work", model) as found:
        yield found


@pytest.fixture
def client(server):
    with server.client() as found:
        yield found


def by_name(workspace):
    return {photo["name"]: photo for photo in workspace["photos"]}


def upload(client, path, name=None):
    answer = client.post("/api/photos", params={"name": name or path.name}, content=path.read_bytes())
    return answer.raise_for_status().json()["id"]


def set_shot(client, identifier, name, mask):
    url = f"/api/photos/{identifier}/shot"
    client.put(url, params={"class": name}, content=encode_runs(mask)).raise_for_status()


def demo_mask(name):
    return read_mask(SUPPORTS[name][1], size=read_image(SUPPORTS[name][0]).shape[:2])


def test_the_demo_is_answered_as_people_see_it_and_as_the_command_line_does(server, client, capsys):
    client.post("/api/demo").raise_for_status()
    photos = by_name(server.settled(client))
    for query, truth in QUERIES.items():
        answer = photos[query]["answer"]
        assert {name for name, there in zip(answer["names"], answer["present"], strict=True) if there} == set(truth)
        assert answer["seconds"] > 0
    (line,) = [client.get("/take/commands?formats=mask,csv").json()["shell"]]
    words = [word for word in line.split() if word != "fscs"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    for name, shown in photos.items():
        kept = server.root / "answers" / f"{name}.mask.png"
        assert (server.root / "results" / f"{name}.mask.png").read_bytes() == kept.read_bytes()
        found = client.get(f"/api/photos/{shown['id']}/mask", params={"class": "cat", "from": "answer"}).content
        size = shown["answer"]["height"], shown["answer"]["width"]
        assert np.array_equal(decode_runs(found, size), np.array(Image.open(kept)) == 1)
    script = client.get("/take/commands?formats=mask").json()["python"]
    exec(compile(script, "script", "exec"), {})
    assert "cat_query.jpg {'cat': True, 'person': False}" in capsys.readouterr().out


def test_the_maps_say_what_the_answer_says(server, client):
    client.post("/api/demo").raise_for_status()
    shown = by_name(server.settled(client))["cat_query.jpg"]
    stacked = np.array(Image.open(BytesIO(client.get(f"/api/photos/{shown['id']}/maps").content)))
    height, width = shown["answer"]["map_size"]
    maps = stacked.reshape(3, height, width)
    mask = np.array(Image.open(server.root / "answers" / "cat_query.jpg.mask.png").resize((width, height), 0))
    assert ((maps[0] > maps[2]) == (mask == 1)).mean() > 0.98
    areas = Image.open(BytesIO(client.get(f"/api/photos/{shown['id']}/areas").content))
    assert areas.mode == "RGBA"
    assert ((np.array(areas)[:, :, 3] > 0).mean() - (mask == 1).mean()) ** 2 < 1e-4


def test_a_correction_renews_the_answers_of_all_others(server, client):
    cat = upload(client, SUPPORTS["cat"][0])
    queries = {name: upload(client, PHOTOS / name) for name in ("dog.jpg", "cat_query.jpg")}
    set_shot(client, cat, "cat", demo_mask("cat"))
    first = server.settled(client)
    dog = read_mask(PHOTOS / "dog_mask.png", size=(480, 640))
    set_shot(client, queries["dog.jpg"], "dog", dog)
    second = server.settled(client)
    assert second["state"] != first["state"]
    assert by_name(second)["dog.jpg"]["labels"] == ["dog"]
    assert by_name(second)["cat_query.jpg"]["answer"]["names"] == ["cat", "dog"]
    assert dict(zip(*[by_name(second)["dog.jpg"]["answer"][key] for key in ("names", "present")], strict=True))["dog"]
    client.delete(f"/api/photos/{queries['dog.jpg']}/shot", params={"class": "dog"}).raise_for_status()
    third = server.settled(client)
    assert third["state"] == first["state"]
    assert by_name(third)["cat_query.jpg"]["answer"]["scores"] == by_name(first)["cat_query.jpg"]["answer"]["scores"]


def test_a_threshold_decides_and_can_be_taken_back(server, client):
    set_shot(client, upload(client, SUPPORTS["cat"][0]), "cat", demo_mask("cat"))
    upload(client, PHOTOS / "dog.jpg")
    own = server.settled(client)
    assert not by_name(own)["dog.jpg"]["answer"]["present"][0]
    client.patch("/api/classes", json={"name": "cat", "threshold": 0.3}).raise_for_status()
    low = server.settled(client)
    assert by_name(low)["dog.jpg"]["answer"]["present"][0]
    assert low["classes"][0]["threshold"] == 0.3
    client.get("/take/commands?formats=mask").raise_for_status()
    assert SupportSet.load(server.root / "supports.safetensors").thresholds.tolist() == pytest.approx([0.3])
    client.patch("/api/classes", json={"name": "cat", "threshold": None}).raise_for_status()
    assert server.settled(client)["state"] == own["state"]


def test_what_was_called_right_is_kept_and_what_is_not_there_is_a_negative(server, client):
    set_shot(client, upload(client, SUPPORTS["cat"][0]), "cat", demo_mask("cat"))
    for name in ("cat_query.jpg", "coffee.jpg"):
        upload(client, PHOTOS / name)
    photos = by_name(server.settled(client))
    client.put(f"/api/photos/{photos['cat_query.jpg']['id']}/confirmed").raise_for_status()
    client.put(f"/api/photos/{photos['coffee.jpg']['id']}/negative").raise_for_status()
    found = server.settled(client)
    assert by_name(found)["cat_query.jpg"]["confirmed"] == {"cat": True}
    assert by_name(found)["coffee.jpg"]["negative"]
    assert (server.root / "negatives" / "coffee.jpg").read_bytes() == (PHOTOS / "coffee.jpg").read_bytes()
    client.delete(f"/api/photos/{photos['cat_query.jpg']['id']}/confirmed").raise_for_status()
    client.delete(f"/api/photos/{photos['coffee.jpg']['id']}/negative").raise_for_status()
    found = server.settled(client)
    assert by_name(found)["cat_query.jpg"]["confirmed"] is None
    assert found["negatives"] == []


def test_the_supports_leave_as_a_folder_and_as_a_file(server, client, tmp_path, model):
    client.post("/api/demo").raise_for_status()
    server.settled(client)
    with zipfile.ZipFile(BytesIO(client.get("/take/supports.zip").content)) as archive:
        archive.extractall(tmp_path / "taken")
    assert list(read_support_folder(tmp_path / "taken" / "supports")) == ["cat", "person"]
    (tmp_path / "pets.safetensors").write_bytes(client.get("/take/supports.safetensors").content)
    model.check(SupportSet.load(tmp_path / "pets.safetensors"))
    with zipfile.ZipFile(BytesIO(client.get("/take/answers.zip?formats=mask,csv,labelme").content)) as archive:
        names = archive.namelist()
    assert {"cat_query.jpg.mask.png", "dog.jpg.labelme.json", "presence.csv", "journal.jsonl"} <= set(names)


def test_a_bad_photo_is_named_and_the_others_are_answered(server, client):
    client.post("/api/demo").raise_for_status()
    (server.root / "queries" / "broken.jpg").write_bytes(jpeg()[:500])
    upload(client, PHOTOS / "coffee.jpg", "again.jpg")
    photos = by_name(server.settled(client))
    assert "broken.jpg" in photos["broken.jpg"]["answer"]["error"]
    assert photos["coffee.jpg"]["answer"]["error"] is None


def test_supports_that_cannot_be_used_are_told_until_they_are_mended(server, client):
    client.post("/api/demo").raise_for_status()
    server.settled(client)
    mask = server.root / "supports" / "cat" / "cat_support_mask.png"
    kept = mask.read_bytes()
    Image.fromarray(np.full((3, 3), 255, np.uint8)).save(mask)
    client.patch("/api/asking", json={"run": True})
    found = wait_for(client, lambda found: found["problem"])
    assert "cat_support_mask.png" in found["problem"]
    mask.write_bytes(kept)
    client.patch("/api/asking", json={"run": True})
    assert wait_for(client, lambda found: not found["problem"])


def test_masks_of_other_tools_come_in(server, client, model):
    truth = demo_mask("cat")
    area = truth.astype(np.uint8)
    known = Prediction(
        ("cat",), {"cat": 1.0}, {"cat": True}, truth[None].astype(np.float32), 1 - truth.astype(np.float32), area,
        read_image(SUPPORTS["cat"][0]),
    )  # fmt: skip
    upload(client, SUPPORTS["cat"][0])
    upload(client, PHOTOS / "coffee.jpg")
    for name, content in {
        "labelme.json": known.to_labelme(photo="cat_support.jpg", embed=False),
        "coco.json": known.to_coco(photo="folder/cat_support.jpg"),
        "inside.json": known.to_labelme(photo="elsewhere.jpg", embed=True),
    }.items():
        taken = client.post("/api/annotations", params={"name": name}, json=content)
        assert taken.status_code == 200, taken.text
        assert taken.json()["shots"] == 1
        shots = client.get("/api/workspace").json()["classes"][0]["shots"]
        for shot in shots:
            runs = client.get(f"/api/photos/{shot['id']}/mask", params={"class": "cat", "from": "shot"}).content
            found = decode_runs(runs, truth.shape)
            assert (found & truth).sum() / (found | truth).sum() > 0.98
            client.delete(f"/api/photos/{shot['id']}/shot", params={"class": "cat"}).raise_for_status()
    identifier = upload(client, SUPPORTS["cat"][0])
    url = f"/api/photos/{identifier}/annotation"
    png = client.post(url, params={"class": "cat", "name": "m.png"}, content=SUPPORTS["cat"][1].read_bytes())
    assert png.content == encode_runs(truth)
    for name, content in {"x.json": b"{}", "x.xml": b"<a/>", "x.exe": b"", "y.json": b"{", "z.xml": b"<"}.items():
        refused = client.post("/api/annotations", params={"name": name}, content=content)
        assert refused.status_code == 400
        assert str(server.root) not in refused.text
        assert "annotations." not in refused.json()["error"].replace("annotations.json", "")


def test_a_bad_example_is_named_and_calibration_can_be_turned_off(server, client):
    again = BytesIO()
    Image.open(SUPPORTS["cat"][0]).save(again, "PNG")
    set_shot(client, upload(client, SUPPORTS["cat"][0]), "cat", demo_mask("cat"))
    copied = client.post("/api/photos", params={"name": "copy.png"}, content=again.getvalue()).json()["id"]
    set_shot(client, copied, "cat", demo_mask("cat"))
    client.put(f"/api/photos/{upload(client, PHOTOS / 'coffee.jpg')}/negative").raise_for_status()
    found = server.settled(client)
    (cat,) = found["classes"]
    assert [shot["name"] for shot in cat["shots"] if shot["suspect"]] == ["copy.png"]
    assert "is the same photo as shot 1 (sure to 100%)" in cat["shots"][1]["suspect"]
    assert cat["examined"]["advice"]
    assert cat["examined"]["negatives"] == 1
    assert cat["examined"]["calibrated"]
    client.patch("/api/settings", json={"calibrate": False}).raise_for_status()
    plain = server.settled(client)
    assert plain["state"] != found["state"]
    assert plain["classes"][0]["own_threshold"] == pytest.approx(0.65)  # the model's own
    assert [shot["name"] for shot in plain["classes"][0]["shots"] if shot["suspect"]] == ["copy.png"]


def test_areas_follow_the_photos_edges_unless_that_is_chosen_otherwise(server, client, model):
    set_shot(client, upload(client, SUPPORTS["cat"][0]), "cat", demo_mask("cat"))
    upload(client, PHOTOS / "cat_query.jpg")
    client.patch("/api/settings", json={"calibrate": False}).raise_for_status()
    answers = {photo["name"]: photo["answer"] for photo in server.settled(client)["photos"]}
    paper = copy.copy(model)
    paper.edges = False
    supports = model.encode({"cat": SUPPORTS["cat"]})
    found = np.array(Image.open(server.root / "answers" / "cat_query.jpg.mask.png"))
    assert np.array_equal(found, model.predict(PHOTOS / "cat_query.jpg", supports).mask)
    assert not np.array_equal(found, paper.predict(PHOTOS / "cat_query.jpg", supports).mask)
    commands = client.get("/take/commands").json()
    assert "edges" not in commands["shell"] + commands["python"]

    client.patch("/api/settings", json={"edges": False}).raise_for_status()
    plain = {photo["name"]: photo["answer"] for photo in server.settled(client)["photos"]}
    assert plain["cat_query.jpg"]["scores"] == answers["cat_query.jpg"]["scores"]
    found = np.array(Image.open(server.root / "answers" / "cat_query.jpg.mask.png"))
    assert np.array_equal(found, paper.predict(PHOTOS / "cat_query.jpg", supports).mask)
    commands = client.get("/take/commands").json()
    assert "--no-edges" in commands["shell"].split()
    assert "edges=False" in commands["python"]


def wait_for(client, holds, seconds=30):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = client.get("/api/workspace").json()
        if holds(found):
            return found
        time.sleep(0.05)
    raise TimeoutError("it never came about")


def test_asking_can_be_cancelled_and_goes_on(server, client, monkeypatch):
    client.post("/api/demo").raise_for_status()
    wait_for(client, lambda found: any(photo["answer"] for photo in found["photos"]))
    client.patch("/api/asking", json={"run": False}).raise_for_status()
    stopped = wait_for(client, lambda found: not found["progress"]["running"])
    assert stopped["progress"]["cancelled"]
    count = sum(photo["answer"] is not None for photo in stopped["photos"])
    assert 0 < count < len(stopped["photos"])
    client.patch("/api/asking", json={"run": True}).raise_for_status()
    assert len(server.settled(client)["photos"]) == 9


def test_a_request_that_is_given_up_stops_its_work(server, client):
    client.post("/api/demo").raise_for_status()
    server.settled(client)
    with server.client() as other, other.stream("GET", "/api/events") as events:
        heard = (json.loads(line.removeprefix("data: ")) for line in events.iter_lines() if "data: " in line)
        with server.client() as impatient, pytest.raises(httpx.ReadTimeout):
            impatient.get("/take/answers.zip?formats=mask,overlay,npz,labelme,csv", timeout=0.2)
        client.get("/take/commands?formats=mask", timeout=60).raise_for_status()  # waits for the model's thread
        client.patch("/api/asking", json={"run": True})
        exported = []
        for event in heard:
            if event["kind"] == "export":
                exported.append(event["done"])
            if event["kind"] == "progress":
                break
    assert len(exported) < 10
    assert 9 not in exported
    assert not list(Path(tempfile.gettempdir()).glob("fscs-*.zip"))


def test_photos_of_a_folder_are_picked_and_the_folder_stays_as_it_is(tmp_path, model):
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name in ("coffee.jpg", "dog.jpg"):
        (folder / name).write_bytes((PHOTOS / name).read_bytes())
    with running(tmp_path / "work", model, folder=folder) as server, server.client() as client:
        offered = client.get("/api/workspace").json()["pickable"]
        assert [photo["name"] for photo in offered] == ["coffee.jpg", "dog.jpg"]
        assert client.get(f"/api/photos/{offered[1]['id']}/view?side=320").headers["Content-Type"] == "image/jpeg"
        client.post("/api/folder", json={"ids": [offered[1]["id"], "nothing"]}).raise_for_status()
        assert [photo["name"] for photo in client.get("/api/workspace").json()["photos"]] == ["dog.jpg"]
        assert client.delete(f"/api/photos/{offered[0]['id']}").status_code == 400
    assert sorted(path.name for path in folder.iterdir()) == ["coffee.jpg", "dog.jpg"]


def test_maps_that_would_not_fit_are_refused_before_they_are_made(server, client, monkeypatch):
    monkeypatch.setattr(fscs_sdk.app.asker, "BYTES_PER_VALUE", 10**6)
    client.post("/api/demo").raise_for_status()
    for shown in server.settled(client)["photos"]:
        assert "GB are allowed" in shown["answer"]["error"]


def test_everyone_who_listens_is_told(server, client):
    with server.client() as other, other.stream("GET", "/api/events") as events:
        lines = events.iter_lines()
        assert next(lines) == "retry: 1000"
        client.post("/api/demo").raise_for_status()
        kinds, answered = set(), set()
        for line in lines:
            if line.startswith("data: "):
                event = json.loads(line.removeprefix("data: "))
                kinds.add(event["kind"])
                answered |= {event["id"]} if event["kind"] == "answer" else set()
            if len(answered) == 9 and "progress" in kinds and event["kind"] == "progress" and not event["running"]:
                break
    assert kinds >= {"workspace", "progress", "answer"}


def test_twenty_clients_at_once_get_what_one_after_the_other_gets(server, model, capsys):
    supports = model.encode(SUPPORTS)
    with server.client() as client:
        for name in SUPPORTS:
            set_shot(client, upload(client, SUPPORTS[name][0]), name, demo_mask(name))
    crops = {}
    names = list(QUERIES)
    for number in range(20):
        image = Image.open(PHOTOS / names[number % 7])
        buffer = BytesIO()
        image.crop((number, number, image.width, image.height)).save(buffer, "PNG")
        crops[f"crop-{number}.png"] = buffer.getvalue()

    def one(name):
        with server.client() as mine:
            begun = time.monotonic()
            with mine.stream("GET", "/api/events") as events:
                added = mine.post("/api/photos", params={"name": name}, content=crops[name]).raise_for_status().json()
                heard = (json.loads(line.removeprefix("data: ")) for line in events.iter_lines() if "data: " in line)
                answer = next(event["answer"] for event in heard if event.get("id") == added["id"])
            runs = mine.get(f"/api/photos/{added['id']}/mask", params={"class": "cat", "from": "answer"}).content
            return name, answer, runs, time.monotonic() - begun

    begun = time.monotonic()
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(one, crops))
    took = time.monotonic() - begun
    for name, answer, runs, _ in answers:
        alone = model.predict(crops[name], supports)
        assert answer["scores"] == pytest.approx(list(alone.scores.values()), abs=1e-6)
        assert np.array_equal(decode_runs(runs, alone.mask.shape), alone.class_mask("cat"))
    slowest = max(seconds for *_, seconds in answers)
    rate = f"{20 / took:.1f} photos a second, slowest {slowest:.1f} s"
    with capsys.disabled():
        sys.stdout.write(f"\n20 clients at once: all answered in {took:.1f} s, {rate}\n")


COMMAND = [sys.executable, "-m", "fscs_sdk.cli", "app", "--no-browser", "--device", "cpu", "--port", "0"]


def start(root):
    process = subprocess.Popen([*COMMAND, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in process.stdout:
        if "http://" in line:
            return process, line.split()[-1]
    raise AssertionError(process.stderr.read())


def test_a_kill_costs_nothing_that_was_saved_and_the_same_token_opens_it_again(tmp_path):

    root = tmp_path / "work"
    process, address = start(root)
    token = address.partition("token=")[2]
    headers = {"Authorization": f"Bearer {token}"}
    base = address.partition("/?")[0]
    with process, httpx.Client(base_url=base, headers=headers, timeout=30) as client:
        client.post("/api/demo").raise_for_status()
        wait_for(client, lambda found: sum(bool(photo["answer"]) for photo in found["photos"]) >= 2)
        dog = by_name(client.get("/api/workspace").json())["dog.jpg"]["id"]
        draft = encode_runs(read_mask(PHOTOS / "dog_mask.png", size=(480, 640)))
        client.put(f"/api/photos/{dog}/draft", params={"class": "dog"}, content=draft).raise_for_status()
        other = CliRunner().invoke(main, ["app", "--no-browser", str(root)])
        assert other.exit_code == 1
        assert "another run" in other.output
        assert other.output.count("\n") == 1
        process.kill()
        process.wait()
    moving = Image.open(PHOTOS / "coffee.jpg").convert("P")
    moving.save(root / "queries" / "moving.gif", save_all=True, append_images=[moving.rotate(90)])
    process, address = start(root)
    assert address.partition("token=")[2] == token
    with process, httpx.Client(base_url=address.partition("/?")[0], headers=headers, timeout=30) as client:
        found = wait_for(client, lambda found: all(photo["answer"] for photo in found["photos"]))
        assert len(found["photos"]) == 10
        kept = client.get(f"/api/photos/{dog}/mask", params={"class": "dog", "from": "draft"})
        assert kept.content == draft
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) in (0, -signal.SIGTERM, 143)
        remark = process.stderr.read().splitlines()[0]
    assert remark.startswith("fscs: warning: ")
    assert "moving.gif" in remark
    assert remark.endswith("holds several pictures, of which only the first is used")
    assert not [path for path in root.rglob("*.tmp")]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--host", "0.0.0.0", "WORK"], "lets other machines in; say with --token"),
        (["--token", "short", "WORK"], "the token has 5 characters"),
        (["FILE"], "is a file"),
        (["--photos", "nowhere", "WORK"], "is not a folder"),
    ],
)
def test_misuse_of_the_command_is_one_sentence(tmp_path, arguments, sentence):
    (tmp_path / "file").write_text("x")
    places = {"WORK": str(tmp_path / "work"), "FILE": str(tmp_path / "file")}
    result = CliRunner().invoke(main, ["app", *(places.get(word, word) for word in arguments)])
    assert result.exit_code == 2
    assert sentence in result.output
    assert not (tmp_path / "work" / "queries").exists() or "--photos" in arguments


# ---------------------------------------------------------------------------------------------------------- outlining


@pytest.mark.parametrize(
    ("name", "mask", "least"),
    [("cat_support", "cat_support_mask", 0.9), ("cat_query_closeup", "cat_query_closeup_mask", 0.85)],
)
def test_a_box_gives_the_objects_outline(name, mask, least):
    image = read_image(PHOTOS / f"{name}.jpg")
    truth = read_mask(PHOTOS / f"{mask}.png", size=image.shape[:2])
    found = suggest(image, box=around(truth))
    assert (found & truth).sum() / (found | truth).sum() > least
    assert np.array_equal(found, suggest(image, box=around(truth)))


def around(mask, margin=4):
    rows, columns = np.nonzero(mask)
    return (
        int(columns.min()) - margin, int(rows.min()) - margin, int(columns.max()) + margin, int(rows.max()) + margin
    )  # fmt: skip


def test_strokes_are_kept_and_correct_the_proposal():
    image = read_image(PHOTOS / "cat_query.jpg")
    truth = read_mask(PHOTOS / "cat_query_mask.png", size=image.shape[:2])
    first = suggest(image, box=around(truth))
    inside, outside = np.zeros_like(truth), np.zeros_like(truth)
    missed, extra = truth & ~first, first & ~truth
    for marks, wrong in ((inside, missed), (outside, extra)):
        row, column = np.argwhere(wrong)[len(np.argwhere(wrong)) // 2]
        marks[max(0, row - 6) : row + 6, max(0, column - 6) : column + 6] = True
    inside &= truth
    outside &= ~truth
    second = suggest(image, box=around(truth), inside=inside, outside=outside)
    assert second[inside].all()
    assert not second[outside].any()
    iou = lambda found: (found & truth).sum() / (found | truth).sum()  # noqa: E731
    assert iou(second) > iou(first)


def test_strokes_alone_are_enough():
    image = read_image(PHOTOS / "cat_support.jpg")
    truth = read_mask(PHOTOS / "cat_support_mask.png", size=image.shape[:2])
    rows, columns = np.nonzero(truth)
    inside = np.zeros_like(truth)
    inside[int(rows.mean()) - 70 : int(rows.mean()) + 70, int(columns.mean()) - 8 : int(columns.mean()) + 8] = True
    found = suggest(image, box=None, inside=inside & truth)
    assert (found & truth).sum() / truth.sum() > 0.6


@pytest.mark.parametrize("size", [(8, 8), (9, 400), (400, 9), (64, 64)])
def test_any_box_in_any_photo_gives_a_mask_inside_it(size):
    image = photo(3, *size)
    for box in ((0, 0, size[1], size[0]), (2, 2, 6, 6), (-50, -50, 4, 4)):
        found = suggest(image, box=box)
        assert found.shape == size
        outside = np.ones(size, np.bool_)
        outside[max(0, box[1]) : max(0, box[3]), max(0, box[0]) : max(0, box[2])] = False
        assert not found[outside].any()


def test_twelve_megapixels_take_less_than_a_second(capsys):
    image = np.array(Image.open(PHOTOS / "cat_support.jpg").resize((4096, 2304), Image.Resampling.BICUBIC))
    image = np.pad(image, ((0, 768), (0, 0), (0, 0)), mode="edge")
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        found = suggest(image, box=(1300, 400, 2780, 2140))
        times.append(time.perf_counter() - begun)
    assert 0.1 < found[400:2140, 1300:2780].mean() < 0.9
    with capsys.disabled():
        sys.stdout.write(f"\na suggestion at {image.shape[1]} x {image.shape[0]}: {min(times):.2f} s\n")
    assert min(times) < 1.0
