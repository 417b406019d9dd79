"""`asyncstore watch` of an HTTP API and of a bucket, as a user calls it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.offload.conftest import bucket, proxy, s3
from tests.offload.s3 import SECRET, Proxy, Server
from tests.triggers.http.api import Api, Reply, link_pages
from tests.triggers.http.conftest import api

from .test_commands import ENVIRON, PROGRAM, call, lines, logged, started

__all__ = ["api", "bucket", "proxy", "s3"]


@pytest.mark.parametrize("source", ["https://host/", "s3://bucket/"])
def test_help_fits_a_terminal_and_needs_no_extra(tmp_path: Path, source: str) -> None:
    code = (
        "import sys; sys.modules['httpx'] = sys.modules['obstore'] = None; "
        "from asyncstore.cli import main; sys.argv = ['asyncstore', 'watch', *sys.argv[1:]]; main()"
    )
    for arguments in ([source, "--help"], ["--help"]):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=tmp_path,
            env=ENVIRON,
            capture_output=True,
            text=True,
            check=True,
        )
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert "Watch " in done.stdout


def test_an_api_is_watched_and_a_kill_loses_and_doubles_nothing(tmp_path: Path, api: Api) -> None:
    items: list[Any] = [{"id": number} for number in range(50)]
    api.answer = link_pages(items, 10, "/v1")
    url = f"{api.url.replace('//', '//joe:hunter2@')}/v1?api_key=hunter3"
    options = [url, "--id", "id", "--interval", "0.01", "--header", "X-Tenant: ${TENANT}"]
    ENVIRON["TENANT"] = "hunter4"
    try:
        with started(tmp_path, "watch", *options) as process:
            printed = lines(process, 20)
        items.append({"id": "new"})
        done = call(tmp_path, "watch", *options, "--once")
    finally:
        del ENVIRON["TENANT"]
    assert (done.returncode, done.stderr) == (0, "")
    events = logged(tmp_path)
    assert [event["payload"] for event in events] == items
    assert events[:20] == printed
    assert events[0]["asset"] == f"{api.url}/v1?api_key=***"
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"hunter" not in stored
    assert api.asked[0].headers["x-tenant"] == "hunter4"


def test_a_bucket_is_watched(tmp_path: Path, s3: Server, bucket: str, proxy: Proxy) -> None:
    s3.client.put_object(Bucket=bucket, Key="in/a.csv", Body=b"x")
    environ = {**ENVIRON, "ASYNCSTORE_CONN_LAKE": os.environ["ASYNCSTORE_CONN_LAKE"]}
    command = [*PROGRAM, "watch", f"s3://lake@{bucket}/in/", "--once"]
    for expected in (["a.csv"], []):
        done = subprocess.run(
            command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60, check=True
        )
        assert [json.loads(line)["payload"]["path"] for line in done.stdout.splitlines()] == expected
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in stored


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["http://a b/"], "has no host, or holds blanks"),
        (["https://host/", "--page", "p", "--offset", "o"], "follow each other in one way"),
        (["https://host/", "--header", "X"], "written as 'Name: value'"),
        (["https://host/", "--header", "Authorization: hunter2"], "holds a secret"),
        (["https://host/", "--connection", "nowhere"], "ASYNCSTORE_CONN_NOWHERE"),
        (["s3://bucket/", "--interval", "0"], "interval"),
        (["s3://nowhere@bucket/"], "ASYNCSTORE_CONN_NOWHERE"),
        (["s3://key:hunter2@bucket/"], "the id of a connection"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(tmp_path: Path, arguments: list[str], says: str) -> None:
    done = call(tmp_path, "watch", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "hunter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_an_api_that_is_away_is_told_and_waited_for(tmp_path: Path, api: Api) -> None:
    api.replies = [Reply(status=503), Reply([1])]
    done = call(tmp_path, "watch", api.url, "--once")
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    assert "HTTP 503; looking again in" in done.stderr
