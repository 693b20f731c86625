"""A real HTTP server that serves a folder's files as badly as the tests ask it to."""

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Web:
    """What it serves, how, and what it was asked."""

    folder: Path
    port: int = 0
    cuts: list[int] = field(default_factory=list)
    """After so many bytes of the body the connection ends: one for each request, in their order."""
    failures: list[int] = field(default_factory=list)
    """Status codes that come first, one for each request."""
    retry_after: str = ""
    """The Retry-After header of these; empty for none."""
    ranges: bool = True
    etag: str | None = '"one"'
    modified: str | None = None
    login: str = ""
    """The Authorization that is asked for; empty for none."""
    redirects: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/octet-stream"
    hold: threading.Event | None = None
    """In the middle of a body it waits for this."""
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Path and headers of every request."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def headers(self, name: str) -> list[str]:
        """What each request said in this header; empty where it did not."""
        return [headers.get(name, "") for _, headers in self.asked]


@contextmanager
def serving(folder: Path) -> Iterator[Web]:
    web = Web(folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            web.asked.append((self.path, dict(self.headers.items())))
            self.close_connection = True
            path = urlsplit(self.path).path  # of an absolute URL, too, which is what a proxy is asked for
            file = web.folder / path.lstrip("/")
            if web.failures:
                self._end(web.failures.pop(0), {"Retry-After": web.retry_after} if web.retry_after else {})
            elif path in web.redirects:
                self._end(302, {"Location": web.redirects[path]})
            elif web.login and self.headers.get("Authorization") != web.login:
                self._end(401)
            elif not file.is_file():
                self._end(404)
            elif web.etag and self.headers.get("If-None-Match") == web.etag:
                self._end(304)
            else:
                self._file(file.read_bytes())

        def do_CONNECT(self) -> None:
            web.asked.append((f"CONNECT {self.path}", dict(self.headers.items())))
            self._end(403)

        def _file(self, data: bytes) -> None:
            validators = {"ETag": web.etag, "Last-Modified": web.modified}
            headers = {name: value for name, value in validators.items() if value}
            wanted = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
            condition = self.headers.get("If-Range")
            if wanted and web.ranges and (condition is None or condition in headers.values()):
                start = int(wanted[1])
                if start >= len(data):
                    return self._end(416, {"Content-Range": f"bytes */{len(data)}"})
                headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
                return self._body(206, data[start:], headers)
            return self._body(200, data, headers)

        def _body(self, status: int, data: bytes, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Type": web.content_type}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Connection", "close")
            self.end_headers()
            if web.hold is not None:
                self.wfile.write(data[: len(data) // 2])
                web.hold.wait(60)
                return
            self.wfile.write(data[: web.cuts.pop(0)] if web.cuts else data)

        def _end(self, status: int, headers: dict[str, Any] | None = None) -> None:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.send_header("Connection", "close")
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        web.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield web
        server.shutdown()
        thread.join()
