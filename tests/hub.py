"""A Hub on loopback: what the real huggingface_hub client asks of huggingface.co, and the ways in which that fails.

Large files are handed out as the Hub does it: ``resolve`` announces SHA-256 and size and redirects to another address,
which knows ranges. :class:`Client` is a process of its own with the real client in it.
"""

import base64
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

HEX_DIGITS = 40


def digest(content):
    return sha256(content).hexdigest()


@dataclass
class Repository:
    """What a repository holds, and how it fails.

    ``fault``: a status that answers everything; or of the files' bytes: ``other bytes`` of the same size, ``cut`` (the
    connection ends in the middle, each time), ``cut once``, ``short`` (a whole answer that is too small), ``stall``
    (nothing more after the middle), ``slow`` (half a second more after the middle), ``trickle`` (a byte at a time after
    the middle).
    """

    files: dict
    commit: str = "c0ffee" + "0" * 34
    fault: object = None
    token: str | None = None

    def served(self, name):
        content = self.files[name]
        if self.fault == "other bytes":
            return content[:-1] + bytes([content[-1] ^ 1])
        return content[: len(content) // 2] if self.fault == "short" else content


@dataclass
class Request:
    method: str
    path: str
    range: str | None
    token: str | None


@dataclass
class Hub:
    """The server; ``repositories`` may be changed at any time, ``requests`` is what was asked, in order."""

    repositories: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    uploads: dict = field(default_factory=dict)
    closing: threading.Event = field(default_factory=threading.Event)

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        self.elsewhere = f"http://localhost:{self.server.server_port}"  # the Hub keeps large files on another host
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def gets(self):
        """The downloads of files' bytes that were asked for."""
        return [request for request in self.requests if request.method == "GET" and request.path.startswith("/bytes/")]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle(self):
        with suppress(ConnectionError):  # a client that was killed, or had enough
            super().handle()

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_PUT(self):
        self.answer()

    def answer(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
        self.hub.requests.append(Request(self.command, path, self.headers.get("Range"), token))
        parts = path.strip("/").split("/")
        if parts[:2] == ["repos", "create"] or parts[:3] == ["api", "repos", "create"]:
            return self.create()
        if parts[:2] == ["api", "validate-yaml"]:
            return self.json({"errors": [], "warnings": []})
        if parts[0] == "uploads":
            self.hub.uploads[parts[1]] = self.body
            return self.json({})
        name = "/".join(parts[2:4] if parts[0] == "api" else parts[1:3] if parts[0] == "bytes" else parts[:2])
        repository = self.hub.repositories.get(name.removesuffix(".git"))
        if repository is None:
            return self.fail(404, "RepoNotFound")
        if isinstance(repository.fault, int):
            return self.fail(repository.fault, "")
        if parts[0] == "bytes":
            return self.bytes(repository, "/".join(parts[3:]))
        if repository.token is not None and token != repository.token:
            return self.fail(401, "")
        if parts[0] == "api":
            return self.api(name, repository, parts[4:])
        if parts[2] == "resolve":
            return self.resolve(name, repository, parts[3], "/".join(parts[4:]))
        return self.batch()

    def resolve(self, name, repository, revision, file):
        if revision not in (repository.commit, "main"):
            return self.fail(404, "RevisionNotFound")
        if file not in repository.files:
            return self.fail(404, "EntryNotFound", {"X-Repo-Commit": repository.commit})
        content = repository.files[file]
        location = f"{self.hub.elsewhere}/bytes/{name}/{file}"
        return self.send(
            302,
            b"",
            {
                "Location": location,
                "X-Repo-Commit": repository.commit,
                "X-Linked-Etag": f'"{digest(content)}"',
                "X-Linked-Size": str(len(content)),
                "ETag": f'"{"e" * HEX_DIGITS}"',
            },
        )

    def bytes(self, repository, file):
        content = repository.served(file)
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        if start and start >= len(content):
            return self.fail(416, "")
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        half = max(start, len(content) // 2)
        if repository.fault in ("cut", "cut once", "stall"):
            self.wfile.write(content[start:half])
            self.wfile.flush()
            if repository.fault == "cut once":
                repository.fault = None
            if repository.fault == "stall":
                self.hub.closing.wait(20)
            self.close_connection = True
            return None
        self.wfile.write(content[start:half])
        step, pause = {"slow": (len(content) // 50, 0.02), "trickle": (1, 0.2)}.get(repository.fault, (len(content), 0))
        for position in range(half, len(content), step):
            self.wfile.write(content[position : position + step])
            self.wfile.flush()
            if pause and self.hub.closing.wait(pause):
                break
        return None

    def api(self, name, repository, parts):
        if parts[:1] == ["preupload"]:
            asked = json.loads(self.body)["files"]
            modes = {file["path"]: "lfs" if file["path"].endswith(".safetensors") else "regular" for file in asked}
            return self.json(
                {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in modes.items()]}
            )
        if parts[:1] == ["commit"]:
            return self.commit(name, repository)
        if parts[:1] == ["tree"]:
            return self.json([self.describe(path, content) for path, content in repository.files.items()])
        if parts[:1] == ["paths-info"]:
            asked = parse_qs(self.body.decode())["paths"]
            return self.json([self.describe(path, repository.files[path]) for path in asked])
        siblings = [{"rfilename": path} for path in repository.files]
        return self.json({"id": name, "modelId": name, "sha": repository.commit, "siblings": siblings, "tags": []})

    def describe(self, path, content):
        described = {"type": "file", "path": path, "size": len(content), "oid": sha1(content).hexdigest()}
        if path.endswith(".safetensors"):
            described["lfs"] = {"oid": digest(content), "size": len(content), "pointerSize": 130}
        return described

    def create(self):
        asked = json.loads(self.body)
        name = f"{asked['organization']}/{asked['name']}"
        if self.headers.get("Authorization") is None:
            return self.fail(401, "")
        self.hub.repositories.setdefault(name, Repository({}))
        return self.json({"url": f"{self.hub.endpoint}/{name}", "name": name, "id": name})

    def batch(self):
        objects = [
            {**asked, "actions": {"upload": {"href": f"{self.hub.endpoint}/uploads/{asked['oid']}"}}}
            for asked in json.loads(self.body)["objects"]
        ]
        return self.json({"transfer": "basic", "objects": objects})

    def commit(self, name, repository):
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                repository.files[value["path"]] = self.hub.uploads[value["oid"]]
        repository.commit = sha1(self.body).hexdigest()
        url = f"{self.hub.endpoint}/{name}/commit/{repository.commit}"
        return self.json({"success": True, "commitOid": repository.commit, "commitUrl": url})

    def json(self, content):
        return self.send(200, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def fail(self, status, code, headers=()):
        return self.send(status, b"", {"X-Error-Code": code, **dict(headers)})

    def send(self, status, body, headers):
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


@dataclass
class Answer:
    """What a call in a :class:`Client` gave: a value, or an exception's kinds and text."""

    value: object = None
    kinds: tuple = ()
    text: str = ""


class Client:
    """A process with ``fscs_sdk.weights`` and the real huggingface_hub in it, and no torch.

    The pauses between the client's attempts are cut short, its timeouts are those of its environment variables.
    """

    def __init__(self, hub, folder, **environment):
        clean = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        settings = {
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(folder / "home"),
            "HF_HUB_DOWNLOAD_TIMEOUT": "1",
            "HF_HUB_ETAG_TIMEOUT": "1",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "TQDM_POSITION": "-1",  # progress bars although nobody looks
            "NO_PROXY": "127.0.0.1,localhost",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH")])),
        }
        folder.mkdir(parents=True, exist_ok=True)
        self.errors = folder / "stderr.txt"
        with self.errors.open("w") as errors:
            self.process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("hub_client.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=clean | settings | environment,
            )

    def begin(self, do, *arguments, **options):
        """Start a call."""
        self.process.stdin.write(json.dumps({"do": do, "arguments": arguments, "options": options}) + "\n")
        self.process.stdin.flush()

    def end(self):
        """The answer to the call that was started."""
        line = self.process.stdout.readline()
        assert line, self.errors.read_text()
        return Answer(**json.loads(line))

    def call(self, do, *arguments, **options):
        self.begin(do, *arguments, **options)
        return self.end()

    def close(self):
        self.process.kill()
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()
