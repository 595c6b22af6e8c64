"""A local server of archives, with faults of real servers."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread

from segmnv2.preparation.published_archives import Archive


class Server:
    """Serves ``files``, and records the requests.

    Attributes:
        url: the folder's address.
        files: content by name.
        ranges: whether it honors ``Range``.
        checks: whether it honors ``If-Range``.
        marks: whether it sends an ``ETag``.
        script: what to do on the next requests, before it continues as it should: a status code to answer, or minus the
            number of bytes after which to hang up.
        stalls: number of requests in which it falls silent instead of hanging up, until ``released``.
        ranges_asked: the ``Range`` header of each request.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.files: dict[str, bytes] = {}
        self.ranges = self.checks = self.marks = True
        self.script: list[int] = []
        self.stalls = 0
        self.released = Event()
        self.ranges_asked: list[str | None] = []

    @property
    def requests(self) -> int:
        return len(self.ranges_asked)

    def archive(self, name: str, content: bytes) -> Archive:
        """Offer a file; return its entry in a catalog."""
        self.files[name] = content
        return Archive(name, f"{self.url}/{name}", len(content), hashlib.sha256(content).hexdigest())


@contextmanager
def listening(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Serve on this machine, on a free port, and yield the address."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}"
    finally:
        http.shutdown()
        thread.join()
        http.server_close()


@contextmanager
def serve() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self, server)

        def log_message(self, *arguments: object) -> None:
            pass

    with listening(Handler) as url:
        server = Server(url)
        try:
            yield server
        finally:
            server.released.set()


def answer(request: BaseHTTPRequestHandler, server: Server) -> None:
    server.ranges_asked.append(request.headers.get("Range"))
    fault = server.script.pop(0) if server.script else 0
    content = server.files.get(request.path.removeprefix("/"))
    if fault > 0 or content is None:
        request.send_error(fault or 404)
        return
    etag = f'"{hashlib.sha256(content).hexdigest()[:8]}"'
    first = 0
    asked = request.headers.get("Range")
    fresh = not server.checks or request.headers.get("If-Range") in (None, etag)
    if asked and server.ranges and fresh:
        first = int(asked.removeprefix("bytes=").rstrip("-"))
        if first >= len(content):
            request.send_error(416)
            return
        request.send_response(206)
        request.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
    else:
        request.send_response(200)
    if server.marks:
        request.send_header("ETag", etag)
    request.send_header("Content-Length", str(len(content) - first))
    request.end_headers()
    body = content[first:]
    with suppress(ConnectionError):  # the client may have seen enough
        request.wfile.write(body[: -fault or None])
    if fault and server.stalls:
        server.stalls -= 1
        request.wfile.flush()
        server.released.wait(10)
