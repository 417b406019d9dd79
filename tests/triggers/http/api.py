"""An HTTP API on loopback, in a thread, that answers as asked and fails as asked."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

HOST = "127.0.0.1"


@dataclass
class Asked:
    """A request as it came."""

    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]

    def one(self, name: str, default: str = "") -> str:
        return self.query.get(name, [default])[-1]


@dataclass
class Reply:
    """An answer; `fault` is `silent`, `cut`, `refused`, `drip` or nothing."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict[str, str])
    fault: str = ""
    packed: bool = False

    def data(self) -> bytes:
        data = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        return gzip.compress(data) if self.packed else data


class _Quiet(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of clients that went away."""


class Api:
    """Answers by `answer`, or by the next of `replies` as long as there are any."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.replies: list[Reply] = []
        self.answer: Callable[[Asked], Reply] = lambda _: Reply([])
        self._released = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = 1 << 20  # in one piece: two would wait for each other

            def do_GET(self) -> None:
                with suppress(ConnectionError):
                    api.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Quiet((HOST, 0), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://{HOST}:{self.port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(request.path)
        headers = {name.lower(): value for name, value in request.headers.items()}
        asked = Asked(parts.path, parse_qs(parts.query, keep_blank_values=True), headers)
        self.asked.append(asked)
        reply = self.replies.pop(0) if self.replies else self.answer(asked)
        if reply.fault == "silent":
            self._released.wait(30)
        if reply.fault in {"silent", "refused"}:
            return hang_up(request)
        data = b"" if reply.status == 304 else reply.data()
        request.send_response_only(reply.status)
        packed = {"Content-Encoding": "gzip"} if reply.packed else {}
        for name, value in {"Content-Type": "application/json", **packed, **reply.headers}.items():
            request.send_header(name, value)
        if reply.status != 304 and "Content-Length" not in reply.headers:
            request.send_header("Content-Length", str(len(data)))
        request.end_headers()
        request.wfile.write(data[: len(data) // 2] if reply.fault == "cut" else data)
        if reply.fault == "cut":
            hang_up(request)
        return None

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


def hang_up(request: BaseHTTPRequestHandler) -> None:
    request.close_connection = True
    with suppress(OSError):
        request.wfile.flush()
        request.connection.shutdown(socket.SHUT_RDWR)


@contextmanager
def running_api() -> Generator[Api]:
    api = Api()
    try:
        yield api
    finally:
        api.close()


def link_pages(items: list[Any], size: int, url: str) -> Callable[[Asked], Reply]:
    """Answer page by page, each with a link to the next."""

    def answer(asked: Asked) -> Reply:
        at = int(asked.one("at", "0"))
        following = {"Link": f'<{url}?at={at + size}>; rel="next"'} if at + size < len(items) else {}
        return Reply(items[at : at + size], headers=following)

    return answer
