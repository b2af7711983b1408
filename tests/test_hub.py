"""The real huggingface_hub client against a Hub on loopback: what arrives is what was published, or nothing is used."""

import json
import random
import shutil
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from huggingface_hub import scan_cache_dir

from conftest import box_mask, photo
from fscs_sdk import FewShotSegmenter
from fscs_sdk.weights import BACKBONE_FILE, HEAD_FILE, PACKAGE_FOLDER, manifest
from hub import Client, Hub, Repository, digest

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(200_000)
COMMIT = Repository({}).commit
EMBEDDED = PACKAGE_FOLDER / "assets" / "asnet-mini"


@pytest.fixture(scope="module")
def hub():
    with Hub() as server:
        yield server


@pytest.fixture(scope="module")
def client(hub, tmp_path_factory):
    process = Client(hub, tmp_path_factory.mktemp("client"))
    yield process
    process.close()


@pytest.fixture
def repository(hub):
    """A repository with one file, and a clean record of requests."""
    hub.repositories["org/repo"] = Repository({HEAD_FILE: CONTENT})
    hub.requests.clear()
    return hub.repositories["org/repo"]


def source(**changes):
    return {"type": "hub", "repo": "org/repo", "file": HEAD_FILE, "revision": COMMIT} | changes


def entry(*sources, content=CONTENT):
    """A file of the manifest."""
    return {"role": "head", "sha256": digest(content), "bytes": len(content), "sources": list(sources) or [source()]}


def url_entry(hub):
    return entry({"type": "url", "url": f"{hub.endpoint}/bytes/org/repo/{HEAD_FILE}?download=1"})


def files_below(folder, pattern):
    return [path for path in Path(folder).rglob(pattern) if path.is_file()]


def assert_arrived(answer, content=CONTENT):
    assert answer.text == ""
    assert Path(answer.value).read_bytes() == content


def assert_nothing_usable(folder):
    """No file in the cache could be taken for the one that was asked for."""
    assert not files_below(folder, HEAD_FILE)
    assert not [path for path in Path(folder).rglob("*") if path.name == digest(CONTENT)]


def partial(folder):
    return files_below(folder, "*.incomplete")


def wait_for(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_resumed(requests):
    first, second = requests
    assert first.range is None
    assert int(second.range.removeprefix("bytes=").rstrip("-")) > len(CONTENT) // 4


# ------------------------------------------------------------------------------------------------ what a user expects


def test_a_file_arrives_with_a_progress_bar_and_is_not_asked_for_again(hub, client, repository, tmp_path):
    first = client.call("fetch_file", entry(), cache_dir=str(tmp_path))
    assert_arrived(first)
    assert Path(first.value).is_relative_to(tmp_path)
    assert "head.safetensors: 100%" in client.errors.read_text().replace("|", " ")
    hub.requests.clear()
    assert client.call("fetch_file", entry(), cache_dir=str(tmp_path)) == first
    assert hub.requests == []
    scanned = scan_cache_dir(tmp_path)  # our stamps do not disturb the cache
    assert scanned.warnings == []
    assert [found.repo_id for found in scanned.repos] == ["org/repo"]


def test_a_file_without_a_pinned_commit_is_taken_from_the_cache_too(hub, client, repository, tmp_path):
    wanted = entry(source(revision=None))
    assert_arrived(client.call("fetch_file", wanted, cache_dir=str(tmp_path)))
    repository.fault = 500
    hub.requests.clear()
    assert_arrived(client.call("fetch_file", wanted, cache_dir=str(tmp_path)))
    assert hub.requests == []


def test_an_old_copy_of_an_unpinned_file_gives_way_to_the_new_one(client, repository, tmp_path):
    repository.files[HEAD_FILE], repository.commit = OTHER, "0" * 40
    wanted = entry(source(revision=None), content=OTHER)
    assert_arrived(client.call("fetch_file", wanted, cache_dir=str(tmp_path)), OTHER)
    repository.files[HEAD_FILE], repository.commit = CONTENT, COMMIT
    assert_arrived(client.call("fetch_file", entry(source(revision=None)), cache_dir=str(tmp_path)))


def test_without_a_cache_folder_files_go_where_hf_home_says(client, repository):
    path = client.call("fetch_file", entry()).value
    assert Path(path).is_relative_to(client.errors.parent / "home" / "hub")
    shutil.rmtree(client.errors.parent / "home" / "hub")


def test_another_revision_is_used_only_if_its_bytes_are_the_published_ones(client, repository, tmp_path):
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path), revision="main"))
    repository.files[HEAD_FILE], repository.commit = OTHER, "1" * 40
    answer = client.call("fetch_file", entry(), cache_dir=str(tmp_path), revision="1" * 40)
    assert "ValueError" in answer.kinds
    assert f"SHA-256 is {digest(OTHER)[:12]}, {digest(CONTENT)[:12]} was expected" in answer.text
    assert "another version: ask for no other revision, update fscs-sdk" in answer.text
    assert not files_below(tmp_path, "*.corrupt")  # the cache is shared: whole files of others stay
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path)))


def test_the_token_is_sent_to_the_hub(hub, client, repository, tmp_path):
    repository.token = "hf_secret"
    answer = client.call("fetch_file", entry(), cache_dir=str(tmp_path))
    assert "OSError" in answer.kinds
    assert "(401)" in answer.text
    assert "give a token" in answer.text
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path), token="hf_secret"))
    assert {request.token for request in hub.gets()} == {None}  # and to nobody else
    assert "hf_secret" not in client.errors.read_text()


def test_local_files_only_never_asks(hub, client, repository, tmp_path):
    for wanted in (entry(), url_entry(hub)):
        answer = client.call("fetch_file", wanted, cache_dir=str(tmp_path), local_files_only=True)
        assert "OSError" in answer.kinds
        assert "not in the cache and downloads are off; get it once without local_files_only" in answer.text
    assert hub.requests == []


def test_offline_mode_never_asks_and_takes_what_is_here(hub, client, repository, tmp_path):
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path / "cache")))
    hub.repositories["org/model"] = Repository({HEAD_FILE: CONTENT})
    client.call("locate", "org/model", cache_dir=str(tmp_path / "cache"))
    hub.requests.clear()
    offline = Client(hub, tmp_path / "offline", HF_HUB_OFFLINE="1")
    try:
        assert_arrived(offline.call("fetch_file", entry(), cache_dir=str(tmp_path / "cache")))
        assert offline.call("locate", "org/model", cache_dir=str(tmp_path / "cache")).text == ""
        for wanted in (entry(), url_entry(hub)):
            answer = offline.call("fetch_file", wanted, cache_dir=str(tmp_path / "empty"))
            assert "not in the cache and downloads are off; get it once without" in answer.text
    finally:
        offline.close()
    assert hub.requests == []


# ---------------------------------------------------------------------------------------------------- what goes wrong


def test_other_bytes_of_the_same_size_are_set_aside(client, repository, tmp_path):
    repository.fault = "other bytes"
    found = digest(repository.served(HEAD_FILE))
    answer = client.call("fetch_file", entry(), cache_dir=str(tmp_path))
    assert "ValueError" in answer.kinds
    assert f"is not the published file: its SHA-256 is {found[:12]}, {digest(CONTENT)[:12]} was expected" in answer.text
    assert HEAD_FILE in answer.text
    assert answer.text.endswith("; try again to get it anew from org/repo")
    assert_nothing_usable(tmp_path)
    assert [digest(path.read_bytes()) for path in files_below(tmp_path, "*.corrupt")] == [found]
    repository.fault = None
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path)))


@pytest.mark.parametrize("fault", ["cut", "short"])
def test_a_truncated_file_is_never_used(client, repository, tmp_path, fault):
    repository.fault = fault
    answer = client.call("fetch_file", entry(), cache_dir=str(tmp_path))
    assert "OSError" in answer.kinds
    assert answer.text.startswith(f"cannot get '{HEAD_FILE}' of org/repo: ")
    assert answer.text.endswith("try again")
    assert "\n" not in answer.text
    assert_nothing_usable(tmp_path)
    repository.fault = None
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path)))


def test_a_connection_that_breaks_once_goes_on_where_it_broke(hub, client, repository, tmp_path):
    repository.fault = "cut once"
    assert_arrived(client.call("fetch_file", entry(), cache_dir=str(tmp_path)))
    assert_resumed(hub.gets())


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (401, "access was refused (401): it is private, or the name is wrong; check the name, log in with"),
        (403, "access was refused (403): it is private, or the name is wrong; check the name, log in with"),
        (404, "there is no such repository, revision or file (404); check the names"),
        (500, "the server answered 500; try again later"),
    ],
)
@pytest.mark.parametrize("kind", ["file", "url", "model"])
def test_an_answer_that_is_an_error_is_one_sentence(hub, client, repository, tmp_path, status, reason, kind):
    repository.fault = status
    if kind == "model":
        answer = client.call("locate", "org/repo", cache_dir=str(tmp_path))
    else:
        answer = client.call("fetch_file", entry() if kind == "file" else url_entry(hub), cache_dir=str(tmp_path))
    assert "OSError" in answer.kinds
    assert answer.text.startswith("cannot get ")
    assert reason in answer.text
    assert "\n" not in answer.text
    assert_nothing_usable(tmp_path)


def test_a_stall_ends_in_time(client, repository, tmp_path):
    repository.fault = "stall"
    answer = client.call("fetch_file", entry(), cache_dir=str(tmp_path))
    assert "OSError" in answer.kinds
    assert answer.text.endswith("no answer in time; check the connection and try again")
    assert_nothing_usable(tmp_path)


def test_a_hub_that_is_not_there_is_one_sentence(client, hub, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        wanted = entry({"type": "url", "url": f"http://127.0.0.1:{unused.getsockname()[1]}/x.safetensors"})
        answer = client.call("fetch_file", wanted, cache_dir=str(tmp_path))
    assert "OSError" in answer.kinds
    assert "the connection failed (Connection refused); check it and try again" in answer.text


@pytest.mark.parametrize("kind", ["file", "url", "model"])
def test_a_cache_that_cannot_be_written_is_named(hub, client, repository, tmp_path, kind):
    blocked = tmp_path / "cache"
    blocked.write_text("a file where a folder should be")
    if kind == "model":
        answer = client.call("locate", "org/repo", cache_dir=str(blocked))
    else:
        answer = client.call("fetch_file", entry() if kind == "file" else url_entry(hub), cache_dir=str(blocked))
    assert "OSError" in answer.kinds
    assert f"the cache folder '{blocked}' cannot be written" in answer.text
    assert "make it writable, or give another (cache_dir or HF_HOME)" in answer.text


@pytest.mark.parametrize("kind", ["file", "url"])
def test_a_full_disk_is_named_and_leaves_nothing_that_could_be_used(hub, client, repository, tmp_path, kind):
    wanted = entry() if kind == "file" else url_entry(hub)
    answer = client.call("fetch_limited", wanted, len(CONTENT) // 3, cache_dir=str(tmp_path))
    assert "OSError" in answer.kinds
    assert "no space is left" in answer.text
    assert "free some, or give another cache folder (cache_dir or HF_HOME)" in answer.text
    assert_nothing_usable(tmp_path)
    assert_arrived(client.call("fetch_file", wanted, cache_dir=str(tmp_path)))


@pytest.mark.parametrize("kind", ["file", "url"])
def test_two_at_once_and_one_killed_in_the_middle(hub, client, repository, tmp_path, kind):
    wanted = entry() if kind == "file" else url_entry(hub)
    other = Client(hub, tmp_path / "other")
    try:
        repository.fault = "slow"
        other.begin("fetch_file", wanted, cache_dir=str(tmp_path / "shared"))
        client.begin("fetch_file", wanted, cache_dir=str(tmp_path / "shared"))
        first, second = client.end(), other.end()
        assert_arrived(first)
        assert first == second
        assert not partial(tmp_path / "shared")

        hub.requests.clear()
        repository.fault = "trickle"
        other.begin("fetch_file", wanted, cache_dir=str(tmp_path / "cut"))
        wait_for(lambda: any(part.stat().st_size > len(CONTENT) // 4 for part in partial(tmp_path / "cut")))
    finally:
        other.close()
    repository.fault = None
    assert_nothing_usable(tmp_path / "cut" / "models--org--repo" / "snapshots")
    assert_arrived(client.call("fetch_file", wanted, cache_dir=str(tmp_path / "cut")))
    if kind == "url":
        assert_resumed(hub.gets())
    else:  # the Hub's client starts anew
        assert [request.range for request in hub.gets()] == [None, None]


# ------------------------------------------------------------------------------------------------- several sources


def test_sources_are_tried_in_order(hub, client, repository, tmp_path):
    hub.repositories["org/wrong"] = Repository({HEAD_FILE: CONTENT}, fault="other bytes")
    gone, wrong = source(repo="org/gone"), source(repo="org/wrong")
    package = {"type": "package", "path": "assets/asnet-mini/NOTICE"}
    other_place = url_entry(hub)["sources"][0]
    answer = client.call("fetch_file", entry(package, gone, wrong, other_place, source()), cache_dir=str(tmp_path))
    assert_arrived(answer)
    assert [request.path.split("/")[3] for request in hub.gets()] == ["wrong", "repo"]
    assert Path(answer.value).is_relative_to(tmp_path / "fscs-sdk")
    hub.requests.clear()
    repository.fault = 500
    assert client.call("fetch_file", entry(gone, wrong, other_place), cache_dir=str(tmp_path)) == answer
    assert hub.requests == []  # what is here comes first


def test_if_no_source_has_it_the_error_names_them_all(hub, client, repository, tmp_path):
    hub.repositories["org/wrong"] = Repository({HEAD_FILE: CONTENT}, fault="other bytes")
    sources = source(repo="org/gone"), source(repo="org/wrong")
    answer = client.call("fetch_file", entry(*sources), cache_dir=str(tmp_path))
    assert "ValueError" in answer.kinds
    assert "cannot get 'head.safetensors' of org/gone: there is no such" in answer.text
    assert "; and '" in answer.text
    assert "is not the published file" in answer.text


# ------------------------------------------------------------------------------------------------------ files from URLs


def test_a_file_from_a_url_arrives_resumes_and_is_not_asked_for_again(hub, client, repository, tmp_path):
    repository.fault = "cut once"
    answer = client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path))
    assert_arrived(answer)
    assert_resumed(hub.gets())
    assert client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path)) == answer
    assert len(hub.gets()) == 2
    assert all(request.token is None for request in hub.requests)


@pytest.mark.parametrize("fault", ["other bytes", "short"])
def test_a_wrong_file_from_a_url_is_set_aside(hub, client, repository, tmp_path, fault):
    repository.fault = fault
    answer = client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path))
    assert "ValueError" in answer.kinds
    assert "is not the published file" in answer.text
    assert_nothing_usable(tmp_path)
    repository.fault = None
    assert_arrived(client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path)))


def test_a_part_that_is_larger_than_the_file_is_dropped(hub, client, repository, tmp_path):
    path = Path(client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path)).value)
    path.rename(path.with_name(f"{path.name}.incomplete")).write_bytes(CONTENT + b"more")
    assert_arrived(client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path)))


def test_a_part_that_is_whole_is_not_asked_for(hub, client, repository, tmp_path):
    path = Path(client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path)).value)
    path.rename(path.with_name(f"{path.name}.incomplete"))
    hub.requests.clear()
    assert_arrived(client.call("fetch_file", url_entry(hub), cache_dir=str(tmp_path)))
    assert hub.requests == []


# ------------------------------------------------------------------------------------------ what happens in the cache


@pytest.mark.parametrize("kind", ["file", "url", "model"])
def test_a_file_that_changed_in_the_cache_is_set_aside_and_comes_anew(hub, client, repository, tmp_path, kind):
    def get():
        if kind == "model":
            answer = client.call("locate", "org/repo", cache_dir=str(tmp_path))
            answer.value = answer.value and answer.value[0]
            return answer
        return client.call("fetch_file", entry() if kind == "file" else url_entry(hub), cache_dir=str(tmp_path))

    path = Path(get().value)
    changed = CONTENT[:-1] + b"?"
    path.write_bytes(changed)
    answer = get()
    assert "ValueError" in answer.kinds
    assert f"its SHA-256 is {digest(changed)[:12]}, {digest(CONTENT)[:12]} was expected" in answer.text
    assert not path.exists()
    assert not path.is_symlink()
    assert_arrived(get())
    assert path.read_bytes() == CONTENT


def test_a_read_only_cache_with_the_file_in_it_works(client, repository, tmp_path):
    path = Path(client.call("fetch_file", entry(), cache_dir=str(tmp_path)).value)
    stamps = tmp_path / "models--org--repo" / ".fscs-sdk"
    assert stamps.is_dir()
    shutil.rmtree(stamps)
    stamps.write_text("no stamp can be written here")
    assert client.call("fetch_file", entry(), cache_dir=str(tmp_path)).value == str(path)


def test_verify_hashes_whatever_the_stamps_say(hub, client, repository, tmp_path):
    own = tmp_path / "manifest.json"
    model = {"files": [entry()], "backbone": "none"}
    own.write_text(json.dumps({"models": {"mine": model}, "backbones": {}}))
    client.call("use_manifest", str(own))
    try:
        assert client.call("verify", "mine", cache_dir=str(tmp_path)).value == [["head", "None", None]]
        code, output, _ = client.call("command", "weights", "verify", "mine", "--cache-dir", str(tmp_path)).value
        assert (code, output) == (1, "absent  mine head: not here\n")
        assert client.call("command", "weights", "verify", "--cache-dir", str(tmp_path)).value[:2] == [0, ""]
        path = Path(client.call("locate", "mine", cache_dir=str(tmp_path)).value[0])
        code, output, _ = client.call("command", "weights", "verify", "--cache-dir", str(tmp_path)).value
        assert (code, output) == (0, f"ok      mine head: {path}\n")
        path.write_bytes(CONTENT[:-1] + b"?")
        (stamp,) = (tmp_path / "models--org--repo" / ".fscs-sdk").iterdir()
        status = path.stat()
        stamp.write_text(
            json.dumps([str(path.resolve()), status.st_size, status.st_mtime_ns, status.st_ctime_ns])
        )  # a stamp that lies
        code, output, _ = client.call("command", "weights", "verify", "--cache-dir", str(tmp_path)).value
        assert code == 1
        assert output.startswith("wrong   mine head: ")
        assert "was expected" in output
        assert not path.exists()
    finally:
        client.call("use_manifest", str(manifest.MANIFEST_PLACES[1]))


# ------------------------------------------------------------------------------------ a repository on the Hub, whole


def test_a_model_of_the_hub_is_held_against_what_the_hub_announced(client, repository, tmp_path):
    repository.files[BACKBONE_FILE] = OTHER
    repository.files["README.md"] = b"not asked for"
    repository.fault = "other bytes"
    answer = client.call("locate", "org/repo", cache_dir=str(tmp_path))
    assert "ValueError" in answer.kinds
    assert "is not the published file" in answer.text
    assert_nothing_usable(tmp_path)
    repository.fault = None
    head = Path(client.call("locate", "org/repo", cache_dir=str(tmp_path)).value[0])
    assert head.read_bytes() == CONTENT
    assert not files_below(tmp_path, "README.md")


def test_without_links_the_list_of_files_tells_what_the_hub_announced(client, repository, tmp_path):
    path = Path(client.call("locate", "org/repo", cache_dir=str(tmp_path)).value[0])
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)  # as on a file system without links
    assert client.call("locate", "org/repo", cache_dir=str(tmp_path)).value[0] == str(path)
    path.write_bytes(content[:-1] + b"?")
    answer = client.call("locate", "org/repo", cache_dir=str(tmp_path))
    assert "ValueError" in answer.kinds
    assert f"{digest(CONTENT)[:12]} was expected" in answer.text


@pytest.fixture
def no_sockets(monkeypatch):
    def refuse(*_, **__):
        raise OSError("sockets are forbidden")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.mark.parametrize("kind", ["org/asnet", "of-the-manifest"])
def test_after_fetch_everything_works_with_sockets_forbidden(hub, client, model, tmp_path, kind, request, monkeypatch):
    files = {name: (EMBEDDED / name).read_bytes() for name in (HEAD_FILE, BACKBONE_FILE)}
    hub.repositories["org/asnet"] = Repository(files)
    known = json.loads(manifest.MANIFEST_PLACES[1].read_text(encoding="utf-8"))
    mine = known["models"]["of-the-manifest"] = dict(known["models"]["asnet-mini"])
    mine["files"] = [
        {
            "role": role,
            "sha256": digest(files[name]),
            "bytes": len(files[name]),
            "sources": [{"type": "hub", "repo": "org/asnet", "file": name, "revision": COMMIT}],
        }
        for role, name in (("head", HEAD_FILE), ("backbone", BACKBONE_FILE))
    ]
    own = tmp_path / "manifest.json"
    own.write_text(json.dumps(known), encoding="utf-8")
    cache = str(tmp_path / "cache")
    client.call("use_manifest", str(own))
    try:
        listed = client.call("command", "weights", "list", "--cache-dir", cache).value[1]
        assert "to be fetched" in listed
        code, output, _ = client.call("command", "weights", "fetch", kind, "--cache-dir", cache).value
        assert code == 0, client.errors.read_text()
        assert [digest(Path(line).read_bytes()) for line in output.splitlines()] == [
            digest(content) for content in files.values()
        ]
        assert client.call("command", "weights", "path", kind, "--cache-dir", cache).value[:2] == [0, output]
        assert "cached" in client.call("command", "weights", "list", "--cache-dir", cache).value[1]
        assert client.call("command", "weights", "verify", kind, "--cache-dir", cache).value[0] == 0
    finally:
        client.call("use_manifest", str(manifest.MANIFEST_PLACES[1]))
    request.getfixturevalue("no_sockets")
    monkeypatch.setattr(manifest, "MANIFEST_PLACES", (own,))
    segmenter = FewShotSegmenter.from_pretrained(kind, cache_dir=cache, device="cpu")
    supports = {"dog": [photo(1), box_mask()]}
    answer, expected = segmenter.predict(photo(5), supports), model.predict(photo(5), supports)
    assert answer.scores == expected.scores
    assert np.array_equal(answer.foreground, expected.foreground)


# ------------------------------------------------------------------------------------------------------------- publish


def test_a_published_model_is_what_is_here_and_loads(hub, client, tmp_path):
    code, _, output = client.call("command", "weights", "publish", "asnet-mini", "org/new").value
    assert code == 1
    assert "cannot write org/new: access was refused (401)" in output
    assert "org/new" not in hub.repositories
    code, output, _ = client.call("command", "weights", "publish", "asnet-mini", "org/new", "--token", "hf_write").value
    assert code == 0, client.errors.read_text()
    new = hub.repositories["org/new"]
    assert set(new.files) == {HEAD_FILE, BACKBONE_FILE, "config.json", "README.md", "LICENSE", "NOTICE"}
    for name in (HEAD_FILE, BACKBONE_FILE):
        assert new.files[name] == (EMBEDDED / name).read_bytes()
    sources = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert [item["file"] for item in sources] == [HEAD_FILE, BACKBONE_FILE]
    assert {item["revision"] for item in sources} == {new.commit}
    for item, name in zip(sources, (HEAD_FILE, BACKBONE_FILE), strict=True):
        wanted = entry(item, content=new.files[name])
        assert_arrived(client.call("fetch_file", wanted, cache_dir=str(tmp_path)), new.files[name])


def test_a_hub_that_stores_other_bytes_is_found_out(hub, client, monkeypatch):
    monkeypatch.setattr(hub, "uploads", _Damaging())
    code, _, output = client.call("command", "weights", "publish", "asnet-mini", "org/bad", "--token", "hf_write").value
    assert code == 1
    assert "org/bad has another head.safetensors than was sent; publish again" in output


class _Damaging(dict):
    def __getitem__(self, key):
        return super().__getitem__(key)[:-1] + b"?"
