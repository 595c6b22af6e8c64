"""The Hugging Face Hub's protocol on this machine, as far as its client needs it to write and read repositories."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.preparation.loopback import listening


class Hub:
    """Repositories in memory.

    Attributes:
        url: the endpoint.
        commits: repository -> its commits, newest last: (sha, path -> content).
        objects: large files by SHA-256.
        requests: method and path of each request.
        ranges: the ``Range`` header of each download.
        cuts: numbers of bytes after which the next downloads hang up.
        tamper: what large files are changed by on their way.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.commits: dict[str, list[tuple[str, dict[str, bytes]]]] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.ranges: list[str | None] = []
        self.cuts: list[int] = []
        self.tamper = False

    def add(self, name: str, files: dict[str, bytes]) -> str:
        """Add a commit; return its sha."""
        before = self.commits.setdefault(name, [])
        whole = {**(before[-1][1] if before else {}), **files}
        sha = hashlib.sha1(repr((name, len(before), sorted(whole))).encode()).hexdigest()
        before.append((sha, whole))
        return sha

    def find(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.commits.get(name, [])
        if revision == "main":
            return commits[-1] if commits else None
        return next((each for each in commits if each[0] == revision), None)


@contextmanager
def serve_hub() -> Iterator[Hub]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            resolve(self, hub)

        do_HEAD = do_GET  # noqa: N815 - the standard library's name

        def do_POST(self) -> None:
            write(self, hub)

        do_PUT = do_POST  # noqa: N815

        def log_message(self, *arguments: object) -> None:
            pass

    with listening(Handler) as url:
        hub = Hub(url)
        yield hub


def refuse(request: BaseHTTPRequestHandler, code: str) -> None:
    request.send_response(404)
    request.send_header("X-Error-Code", code)
    request.send_header("X-Error-Message", code)
    request.send_header("Content-Length", "0")
    request.end_headers()


def resolve(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    """Answer ``/owner/name/resolve/revision/path``."""
    hub.requests.append(f"{request.command} {request.path}")
    asked_for = request.path.split("?")[0].removeprefix("/api/models/").split("/revision/")
    if len(asked_for) == 2 and asked_for[0] in hub.commits:  # older clients ask before they write
        answer(request, {"id": asked_for[0], "xetEnabled": False})
        return
    owner, name, verb, revision, *rest = request.path.strip("/").split("/") + [""] * 4
    repository, path = f"{owner}/{name}", "/".join(part for part in rest if part)
    if verb != "resolve" or repository not in hub.commits:
        refuse(request, "RepoNotFound")
        return
    found = hub.find(repository, revision)
    if found is None or path not in found[1]:
        refuse(request, "RevisionNotFound" if found is None else "EntryNotFound")
        return
    sha, files = found
    content = files[path]
    large = path.endswith((".safetensors", ".bin"))
    git = hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()
    etag = hashlib.sha256(content).hexdigest() if large else git
    if hub.tamper and large:
        content = content[:-1] + bytes([content[-1] ^ 1])
    asked, first = request.headers.get("Range"), 0
    if request.command == "GET":
        hub.ranges.append(asked)
    if asked:
        first = int(asked.removeprefix("bytes=").split("-")[0])
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    headers = {"ETag": f'"{etag}"', "X-Repo-Commit": sha, "Accept-Ranges": "bytes"}
    for key, value in {**headers, "Content-Length": str(len(content) - first)}.items():
        request.send_header(key, value)
    request.end_headers()
    if request.command == "GET":
        cut = hub.cuts.pop(0) if hub.cuts and large else None
        with suppress(ConnectionError):
            request.wfile.write(content[first:][:cut])


def write(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    """Answer what a client sends that makes a repository and a commit."""
    hub.requests.append(f"{request.command} {request.path}")
    body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
    path = request.path.split("?")[0].strip("/")
    if request.command == "PUT":
        hub.objects[path.removeprefix("lfs/")] = body
        answer(request, {})
    elif request.headers.get("Authorization") is None:
        request.send_response(401)
        request.send_header("Content-Length", "0")
        request.end_headers()
    elif path == "api/repos/create":
        values = json.loads(body)
        name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
        hub.commits.setdefault(name, [])
        answer(request, {"url": f"{hub.url}/{name}", "name": name, "id": "1"})
    elif path == "api/validate-yaml":
        answer(request, {"errors": [], "warnings": []})
    elif "/preupload/" in path:
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular"}
            for f in json.loads(body)["files"]
        ]
        answer(request, {"files": [{**mode, "shouldIgnore": False} for mode in modes]})
    elif path.endswith("objects/batch"):
        objects = [
            {**each, "actions": {"upload": {"href": f"{hub.url}/lfs/{each['oid']}"}}}
            for each in json.loads(body)["objects"]
        ]
        answer(request, {"transfer": "basic", "objects": objects}, "application/vnd.git-lfs+json")
    else:
        repository = path.removeprefix("api/models/").split("/commit/")[0]
        sha = hub.add(repository, dict(committed(hub, body)))
        answer(request, {"commitUrl": f"{hub.url}/{repository}/commit/{sha}", "commitOid": sha, "success": True})


def committed(hub: Hub, body: bytes) -> Iterator[tuple[str, bytes]]:
    for line in body.splitlines():
        entry: dict[str, Any] = json.loads(line)
        value = entry["value"]
        if entry["key"] == "file":
            yield value["path"], base64.b64decode(value["content"])
        elif entry["key"] == "lfsFile":
            yield value["path"], hub.objects[value["oid"]]


def answer(request: BaseHTTPRequestHandler, values: dict[str, Any], kind: str = "application/json") -> None:
    content = json.dumps(values).encode()
    request.send_response(200)
    request.send_header("Content-Type", kind)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content)
