"""A real HTTP server that keeps what is POSTed to it, and answers as a test says."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

SECRET = "T000-B000-secret"


@dataclass
class Webhook:
    port: int = 0
    answers: list[int] = field(default_factory=list)
    """Status codes that come first, one for each request; then 200."""
    taken: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/{SECRET}"


@contextmanager
def listening() -> Iterator[Webhook]:
    webhook = Webhook()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            return

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            webhook.taken.append(json.loads(body))
            webhook.headers.append(dict(self.headers.items()))
            code = webhook.answers.pop(0) if webhook.answers else 200
            self.send_response(code)
            if code == 302:
                self.send_header("Location", f"http://127.0.0.1:{webhook.port}/elsewhere")
            self.end_headers()

        def do_GET(self) -> None:
            webhook.taken.append({"followed": self.path})
            self.send_response(200)
            self.end_headers()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        webhook.port = server.server_port
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield webhook
        server.shutdown()
