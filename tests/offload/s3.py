"""An S3 server in a process of its own, and a proxy before it that fails as asked."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from uuid import uuid4

import boto3

HOST = "127.0.0.1"
SECRET = "hunter2-and-some-more"


class Server:
    """Moto's server, with a bucket for each test."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"http://{HOST}:{self.port}"
        command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait()
        options: Any = {"aws_access_key_id": "key", "aws_secret_access_key": SECRET, "region_name": "us-east-1"}
        make = cast("Any", boto3).client
        self.client: Any = make("s3", endpoint_url=self.url, **options)

    def _wait(self) -> None:
        for _ in range(600):
            with suppress(OSError):
                urllib.request.urlopen(f"{self.url}/moto-api/", timeout=5).close()
                return
            assert self._process.poll() is None
            time.sleep(0.05)  # it says nothing when it is ready
        raise AssertionError("moto did not start")

    def bucket(self) -> str:
        name = f"bucket-{uuid4().hex}"
        self.client.create_bucket(Bucket=name)
        return name

    def objects(self, bucket: str) -> list[str]:
        found = self.client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return sorted(each["Key"] for each in found if "!asyncstore" not in each["Key"])

    def stop(self) -> None:
        self.client.close()
        self._process.kill()
        self._process.wait()


class Proxy:
    """Hand on requests to a server, and fail those that `faults` names: one fault for each request with its method.

    `unavailable` answers 503, `denied` 403; `silent` answers nothing; `cut` ends the connection in the middle of the
    body, the request's for a PUT and the answer's for a GET; `lost` does what is asked and ends it before the answer.
    """

    def __init__(self, port: int) -> None:
        self.faults: list[tuple[str, str]] = []
        self.requests: list[tuple[str, str]] = []
        self._released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                proxy.handle(self, port)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        for method in ("GET", "PUT", "POST", "DELETE", "HEAD"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{HOST}:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def fail(self, method: str, fault: str, times: int = 1) -> None:
        self.faults += [(method, fault)] * times

    def _fault(self, method: str) -> str | None:
        for each in self.faults:
            if each[0] == method:
                self.faults.remove(each)
                return each[1]
        return None

    def handle(self, request: BaseHTTPRequestHandler, port: int) -> None:
        self.requests.append((request.command, request.path))
        fault = self._fault(request.command)
        length = int(request.headers.get("Content-Length") or 0)
        if fault == "cut" and request.command == "PUT":
            request.rfile.read(length // 2)
            return self._hang_up(request)
        body = request.rfile.read(length)
        if fault == "silent":
            self._released.wait(30)
            return self._hang_up(request)
        if fault in {"unavailable", "denied"}:
            return self._refuse(request, fault)
        self._hand_on(request, port, body, fault)
        return None

    def _hang_up(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        with suppress(OSError):
            request.connection.shutdown(socket.SHUT_RDWR)

    def _refuse(self, request: BaseHTTPRequestHandler, fault: str) -> None:
        status, code = (503, "SlowDown") if fault == "unavailable" else (403, "InvalidAccessKeyId")
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no: {SECRET}</Message></Error>".encode()
        request.send_response(status)
        request.send_header("Content-Length", str(len(text)))
        request.end_headers()
        request.wfile.write(text)

    def _hand_on(self, request: BaseHTTPRequestHandler, port: int, body: bytes, fault: str | None) -> None:
        connection = http.client.HTTPConnection(HOST, port)
        try:
            connection.request(request.command, request.path, body, dict(request.headers.items()))
            answer = connection.getresponse()
            data = answer.read()
        finally:
            connection.close()
        if fault == "lost":
            return self._hang_up(request)
        request.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                request.send_header(name, value)
        whole = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(data))
        request.send_header("Content-Length", whole or "0")
        request.end_headers()
        request.wfile.write(data[: len(data) // 2] if fault == "cut" else data)
        if fault == "cut":
            self._hang_up(request)
        return None

    def connection(self, **more: Any) -> str:
        """Give the JSON of a connection that goes through here, and is impatient."""
        return json.dumps(
            {
                "key": "AKIA-visible",
                "secret": SECRET,
                "endpoint_url": self.url,
                "region": "us-east-1",
                "client_options": {"timeout": 2},
                "retry_config": {"max_retries": 1, "backoff": {"init_backoff": 0.001, "max_backoff": 0.002, "base": 2}},
                **more,
            }
        )

    def close(self) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def running_server() -> Generator[Server]:
    server = Server()
    try:
        yield server
    finally:
        server.stop()
