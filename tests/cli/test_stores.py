"""`asyncstore asset-store` and `task-store`: state by hand."""

from __future__ import annotations

import asyncio
import io
import json
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from asyncstore import Asset, AssetStoreAccessor, TaskScope, connect
from asyncstore.browsing.browser import Browser
from asyncstore.cli import places, texts
from asyncstore.cli.running import writer
from tests.cli.support import URL, Done, call, expire, keep, on_terminal, spawn, start
from tests.cli.test_tables import HOSTILE

ORDERS = Asset("orders", uri="s3://warehouse/orders/")
LOAD = TaskScope("etl", "run 1", "load")
LOAD_ARGS = ("etl", "run 1", "load")
NO_ASSET = "error: no asset is registered under the name or URI 'ordrs'. Did you mean 'orders'?\n"


def objects(done: Done) -> list[dict[str, Any]]:
    assert (done.code, done.err) == (0, "")
    return [json.loads(line) for line in done.out.splitlines()]


@pytest.fixture(autouse=True)
def orders() -> None:
    with connect(URL) as store:
        store.register(ORDERS)


def put(**values: Any) -> None:
    with connect(URL) as store:
        store.asset_state[ORDERS].set_many(values)


# Reading


def test_get_prints_json_and_text() -> None:
    put(number=1.5, text="naïve\n\x1b[2J", thing={"a": [1, None]})
    assert call("asset-store", "get", "orders", "number").out == "1.5\n"
    assert call("asset-store", "get", ORDERS.uri, "thing").out == '{"a":[1,null]}\n'
    assert json.loads(call("asset-store", "get", "orders", "text").out) == "naïve\n\x1b[2J"
    assert call("asset-store", "get", "orders", "text", "--text").out == "naïve\n\x1b[2J\n"
    assert call("asset-store", "get", "orders", "number", "--text").out == "1.5\n"


def test_get_never_moves_the_cursor_of_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    put(text="a\n\x1b[2J")
    assert on_terminal(monkeypatch, "asset-store", "get", "orders", "text", "--text").out == "a\n\\x1b[2J\n"
    assert "\x1b" not in on_terminal(monkeypatch, "asset-store", "get", "orders", "text").out


def test_get_with_json_tells_what_is_known() -> None:
    call("task-store", "set", *LOAD_ARGS, "job", '"app"', "--retention", "never")
    (found,) = objects(call("task-store", "get", *LOAD_ARGS, "job", "--json"))
    assert list(found) == ["key", "value", "version", "updated_at", "expires_at", "updated_by"]
    assert (found["key"], found["value"], found["expires_at"], found["updated_by"]) == ("job", "app", None, writer())
    assert found["version"] > 0


def test_an_absent_key_is_code_1_and_names_what_was_probably_meant() -> None:
    put(watermark=1)
    done = call("asset-store", "get", "orders", "watermrk")
    assert (done.code, done.out) == (1, "")
    assert done.err == "error: asset 'orders' has no key 'watermrk'. Did you mean 'watermark'?\n"
    assert call("asset-store", "get", "orders", "zzz", "--json").err == "error: asset 'orders' has no key 'zzz'\n"
    expire(LOAD, "gone")
    assert call("task-store", "get", *LOAD_ARGS, "gone").code == 1


@pytest.mark.parametrize("args", [["list"], ["get", "k"], ["set", "k", "1"], ["delete", "k"], ["clear"]])
def test_an_unknown_asset_is_refused(args: list[str]) -> None:
    done = call("asset-store", args[0], "ordrs", *args[1:])
    assert done == Done(2, "", NO_ASSET)


# Listing


def test_list_as_rows_json_and_table(monkeypatch: pytest.MonkeyPatch) -> None:
    call("task-store", "set", *LOAD_ARGS, "job", '"app ✓"', "--retention", "7d")
    call("task-store", "set", *LOAD_ARGS, "n", "5", "--retention", "never")
    rows = [line.split("\t") for line in call("task-store", "list", *LOAD_ARGS).out.splitlines()]
    assert [(row[0], row[2], row[3], row[6]) for row in rows] == [
        ("job", "9", "store", writer()),
        ("n", "1", "store", writer()),
    ]
    assert rows[1][5] == "-"
    found = objects(call("task-store", "list", *LOAD_ARGS, "--json"))
    assert list(found[0]) == ["key", "version", "size", "kept", "updated_at", "expires_at", "updated_by"]
    assert [each["value"] for each in objects(call("task-store", "list", *LOAD_ARGS, "--values", "--json"))] == [
        *("app ✓", 5)
    ]
    shown = on_terminal(monkeypatch, "task-store", "list", *LOAD_ARGS, "--values").out.splitlines()
    assert "KEY  VERSION  SIZE  KEPT   UPDATED   EXPIRES" in shown[0]
    assert " ago  in 7d " in shown[1]
    assert max(map(len, shown[1:])) <= 80


def test_list_takes_a_prefix_and_a_limit() -> None:
    put(a=1, ab=2, abc=3, b=4)
    assert [
        line.split("\t")[0] for line in call("asset-store", "list", "orders", "--prefix", "ab").out.splitlines()
    ] == [*("ab", "abc")]
    assert len(call("asset-store", "list", "orders", "--limit", "3").out.splitlines()) == 3
    assert call("asset-store", "list", "orders", "--limit", "0").out == ""


def test_a_large_scope_is_read_in_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    put(**{f"k{number}": number for number in range(8)})
    sizes: list[int | None] = []
    read = Browser.alist_entries

    async def spy(self: Browser, *args: Any, limit: int | None = None, **options: Any) -> Any:
        sizes.append(limit)
        return await read(self, *args, limit=limit, **options)

    monkeypatch.setattr(Browser, "alist_entries", spy)
    monkeypatch.setattr(places, "PAGE", 3)
    assert [each["key"] for each in objects(call("asset-store", "list", "orders", "--json"))] == [
        f"k{number}" for number in range(8)
    ]
    assert sizes == [3, 3, 3]


def test_hostile_keys_stay_on_their_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    keys = sorted([HOSTILE, "表" * 60, "e\u0301", "🙂"])
    put(**dict.fromkeys(keys, HOSTILE))
    assert [each["key"] for each in objects(call("asset-store", "list", "orders", "--json"))] == keys
    rows = call("asset-store", "list", "orders", "--values").out
    assert len(rows.splitlines()) == 4
    assert all(line.count("\t") == 7 for line in rows.splitlines())
    shown = on_terminal(monkeypatch, "asset-store", "list", "orders", "--values").out
    assert all(line.isprintable() for line in shown.splitlines())
    done = call("asset-store", "delete", "orders", HOSTILE, "--yes")
    assert (done.code, done.out) == (0, "Deleted 1 key of asset 'orders'.\n")
    assert call("asset-store", "get", "orders", HOSTILE).err.count("\n") == 1


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_is_not_utf8_gets_what_it_can_show(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(**{"ключ": 1, "k" * 50: "x"})
    shown = on_terminal(monkeypatch, "asset-store", "list", "orders", columns=90, encoding=encoding).out
    assert r"\u043a\u043b\u044e\u0447" in shown.replace("\n", "")
    assert max(map(len, shown.splitlines()[1:])) <= 90


def test_a_reader_that_leaves_ends_it_without_a_word() -> None:
    put(**{f"k{number}" + "x" * 400: number for number in range(600)})
    with start("asset-store", "list", "orders", "--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


# Writing


def test_set_prints_the_version_and_takes_if_version(monkeypatch: pytest.MonkeyPatch) -> None:
    first = call("asset-store", "set", "orders", "k", '{"a": [1]}', "--if-version", "0")
    assert (first.code, first.err) == (0, "")
    version = int(first.out)
    again = call("asset-store", "set", "orders", "k", "2", "--if-version", "0")
    assert (again.code, again.out) == (1, "")
    assert f"expected no value (version 0), found version {version}" in again.err
    (second,) = objects(call("asset-store", "set", "orders", "k", "2", "--if-version", str(version), "--json"))
    assert second == {"key": "k", "version": version + 1}
    assert on_terminal(monkeypatch, "asset-store", "set", "orders", "k", "3").out == f"version {version + 2}\n"
    assert call("asset-store", "get", "orders", "k").out == "3\n"


@pytest.mark.parametrize(
    ("value", "options", "stored"),
    [
        ("-5", [], -5),
        ("-0.5e3", ["--if-version", "0"], -500.0),
        ('"quoted"', [], "quoted"),
        ("plain", ["--text"], "plain"),
        ("5", ["--text"], "5"),
        ("true", [], True),
        ("[]", [], []),
    ],
)
def test_a_value_is_json_unless_it_is_text(value: str, options: list[str], stored: Any) -> None:
    assert call("asset-store", "set", "orders", "k", value, *options).code == 0
    with connect(URL) as store:
        found = store.asset_state[ORDERS].get("k")
    assert (found, type(found)) == (stored, type(stored))


@pytest.mark.parametrize("command", [("asset-store", "set", "orders"), ("task-store", "set", *LOAD_ARGS)])
@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("plain", 'give --text to store it as a string, or quote it: "plain"'),
        ("{", "is no JSON"),
        ("null", "None cannot be stored"),
        ("NaN", "JSON cannot hold"),
        ("[" * 100_000, "is no JSON"),
    ],
)
def test_what_is_no_value_is_refused_with_a_hint(command: tuple[str, ...], value: str, says: str) -> None:
    done = call(*command, "k", value)
    assert (done.code, done.out) == (2, "")
    assert says in done.err
    assert len(done.err) < 400


@pytest.mark.parametrize(
    "args",
    [
        *(("asset-store", "list", "orders", "--prefix"), ("task-store", "scopes", "--dag")),
        *(("asset-store", "get", "orders"), ("asset-store", "list"), ("assets", "register")),
    ],
)
def test_a_byte_that_is_no_text_is_called_so(args: tuple[str, ...]) -> None:
    put(a=1)
    done = call(*args, "\udcff")
    assert (done.code, done.out) == (2, "")
    assert r"'\udcff'" in done.err
    assert "text" in done.err
    assert "codec" not in done.err


def test_a_value_from_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    def pipe(data: bytes, *options: str) -> Done:
        monkeypatch.setattr(texts, "sys", SimpleNamespace(stdin=io.TextIOWrapper(io.BytesIO(data))))
        return call("asset-store", "set", "orders", "k", "-", *options)

    for data, options, stored in (
        (b'{"a":\n1}\n', (), {"a": 1}),
        (b"two\nlines\n\n", ("--text",), "two\nlines\n"),
        ("naïve".encode(), ("--text",), "naïve"),
    ):
        assert pipe(data, *options).code == 0
        assert json.loads(call("asset-store", "get", "orders", "k").out) == stored
    assert "stdin is no UTF-8 text" in pipe(b"\xff").err
    assert "stdin is no JSON" in pipe(b"").err
    monkeypatch.setattr(texts, "sys", SimpleNamespace(stdin=None))
    assert "standard input is closed" in call("asset-store", "set", "orders", "k", "-").err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1.5h", 5400), ("7d", 604_800), ("2w", 1_209_600)]
)
def test_retention(text: str, seconds: float) -> None:
    call("task-store", "set", *LOAD_ARGS, "k", "1", "--retention", text)
    with connect(URL) as store:
        entry = store.task_state(LOAD).get_entry("k")
        assert entry is not None
        assert entry.expires_at is not None
        assert abs((entry.expires_at - entry.updated_at).total_seconds() - seconds) < 60


@pytest.mark.parametrize("text", ["7", "d", "-1d", "soon", "0s", "9" * 400 + "w"])
def test_what_is_no_retention_is_refused(text: str) -> None:
    done = call("task-store", "set", *LOAD_ARGS, "k", "1", f"--retention={text}")
    assert (done.code, done.out) == (2, "")


def test_map_indices_are_apart() -> None:
    for index in ("0", "1"):
        call("task-store", "set", *LOAD_ARGS, "k", index, "--map-index", index)
    call("task-store", "set", *LOAD_ARGS, "k", "-1")
    assert call("task-store", "get", *LOAD_ARGS, "k", "--map-index", "1").out == "1\n"
    assert (
        call("task-store", "clear", *LOAD_ARGS, "--map-index", "0", "--yes").out
        == "Deleted 1 key of task etl/run%201/load/0.\n"
    )
    done = call("task-store", "clear", *LOAD_ARGS, "--all-map-indices", "--yes", "--json")
    assert objects(done) == [{"deleted": 2}]
    assert call("task-store", "scopes").out == ""
    assert call("task-store", "get", *LOAD_ARGS, "k", "--map-index", "-2").code == 2


# Deleting


def test_delete_asks_says_how_many_and_deletes_all_or_none(monkeypatch: pytest.MonkeyPatch) -> None:
    put(a=1, b=2, c=3)
    refused = call("asset-store", "delete", "orders", "a", "b", "none")
    assert refused == Done(
        2, "", "error: Delete 2 keys of asset 'orders'? There is no terminal to ask on; give --yes if so\n"
    )
    no = on_terminal(monkeypatch, "asset-store", "delete", "orders", "a", answer="n\n")
    assert no == Done(1, "", "Delete key 'a' of asset 'orders'? [y/N] error: not confirmed; nothing was done\n")
    yes = on_terminal(monkeypatch, "asset-store", "delete", "orders", "a", answer="yes\n")
    assert (yes.code, yes.out) == (0, "Deleted 1 key of asset 'orders'.\n")
    assert objects(call("asset-store", "delete", "orders", "a", "b", "--yes", "--json")) == [{"deleted": 1}]
    assert call("asset-store", "delete", "orders", "none").out == "Deleted 0 keys of asset 'orders'.\n"
    assert [each["key"] for each in objects(call("asset-store", "list", "orders", "--json"))] == ["c"]


def test_clear_asks_with_the_number_of_keys() -> None:
    put(a=1, b=2)
    assert "Delete 2 keys of asset 'orders'? There is no terminal" in call("asset-store", "clear", "orders").err
    assert call("asset-store", "clear", "orders", "-y").out == "Deleted 2 keys of asset 'orders'.\n"
    assert call("asset-store", "clear", "orders").out == "Deleted 0 keys of asset 'orders'.\n"


def test_an_interrupt_in_the_middle_of_a_clear_says_what_became_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    put(**{f"k{number}": number for number in range(3)})
    clear = AssetStoreAccessor.aclear

    async def interrupted(self: AssetStoreAccessor, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        for _ in range(5):
            await asyncio.sleep(0)
        await clear(self, **options)

    monkeypatch.setattr(AssetStoreAccessor, "aclear", interrupted)
    done = call("asset-store", "clear", "orders", "--yes")
    assert (done.code, done.out) == (130, "")
    assert done.err.splitlines() == [
        "ending with what has begun; Ctrl-C again does not wait for it",
        "interrupted, but 3 keys were deleted before",
    ]
    assert call("asset-store", "list", "orders").out == ""


# Scopes


def test_scopes_as_rows_json_and_table(monkeypatch: pytest.MonkeyPatch) -> None:
    keep(LOAD, "a", "b")
    keep(TaskScope("etl", "run 2", "load", 3), "a")
    expire(TaskScope("etl", "run 0", "load"), "gone")
    rows = [line.split("\t") for line in call("task-store", "scopes").out.splitlines()]
    assert [row[:5] for row in rows] == [["etl", "run 1", "load", "-1", "2"], ["etl", "run 2", "load", "3", "1"]]
    (found,) = objects(call("task-store", "scopes", "--run", "run 2", "--json"))
    assert list(found) == ["dag", "run", "task", "map_index", "keys", "updated_at"]
    assert call("task-store", "scopes", "--dag", "other").out == ""
    assert len(call("task-store", "scopes", "--limit", "1").out.splitlines()) == 1
    head = on_terminal(monkeypatch, "task-store", "scopes").out.splitlines()[0]
    assert "DAG  RUN    TASK  MAP  KEYS  UPDATED" in head


def test_delete_run_takes_every_task_of_it() -> None:
    keep(LOAD, "a", "b")
    keep(TaskScope("etl", "run 1", "other"), "a")
    keep(TaskScope("etl", "run 2", "load"), "a")
    asked = call("task-store", "delete-run", "etl", "run 1")
    assert (asked.code, asked.out) == (2, "")
    assert "Delete the state of run 'run 1' of 'etl': 3 keys of 2 task instances?" in asked.err
    assert objects(call("task-store", "delete-run", "etl", "run 1", "--yes", "--json")) == [{"deleted": 3}]
    assert call("task-store", "scopes").out.startswith("etl\trun 2\t")
    assert call("task-store", "delete-run", "etl", "run 1", "--yes").out == "Deleted 0 keys.\n"


# Backends


def offload(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("ASYNCSTORE__WORKERS__STATE_BACKEND", "asyncstore.ObjectStorageBackend")
    monkeypatch.setenv("ASYNCSTORE__COMMON_IO__STATE_STORE_OBJECTSTORAGE_PATH", folder.as_uri())
    monkeypatch.setenv("ASYNCSTORE__COMMON_IO__STATE_STORE_OBJECTSTORAGE_THRESHOLD", "100")


def test_values_that_stay_with_the_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as configured:
        offload(configured, tmp_path / "objects")
        call("asset-store", "set", "orders", "large", "x" * 500, "--text")
        call("asset-store", "set", "orders", "small", "1")
        assert call("asset-store", "get", "orders", "large").out == json.dumps("x" * 500) + "\n"
        found = objects(call("asset-store", "list", "orders", "--values", "--json"))
        assert [(each["kept"], each["size"], each["value"]) for each in found] == [
            ("worker", 502, None),
            ("store", 1, 1),
        ]
    assert [each["size"] for each in objects(call("asset-store", "list", "orders", "--json"))] == [502, 1]
    without = call("asset-store", "get", "orders", "large")
    assert (without.code, without.out) == (2, "")
    assert "[workers] state_backend" in without.err
    offload(monkeypatch, tmp_path / "objects")
    assert call("asset-store", "delete", "orders", "large", "--yes").code == 0
    assert not [path for path in (tmp_path / "objects").rglob("*") if path.is_file() and path.name != "!asyncstore"]


def test_a_backend_of_four_operations_does_what_it_can(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = """
import json, pathlib
from asyncstore import BaseStoreBackend
FILE = pathlib.Path("state.json")
class Plain(BaseStoreBackend):
    def _rows(self):
        return json.loads(FILE.read_text()) if FILE.exists() else {}
    async def aget(self, scope, key, *, session=None):
        return self._rows().get(f"{scope}/{key}")
    async def aset(self, scope, key, value, *, expires_at=None, session=None):
        FILE.write_text(json.dumps({**self._rows(), f"{scope}/{key}": value}))
    async def adelete(self, scope, key, *, session=None):
        rows = self._rows(); rows.pop(f"{scope}/{key}", None); FILE.write_text(json.dumps(rows))
    async def aclear(self, scope, *, all_map_indices=False, session=None):
        FILE.write_text("{}")
"""
    (folder / "plain_state.py").write_text(source)
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", "plain_state.Plain")
    monkeypatch.setattr("sys.path", [str(folder), *__import__("sys").path])
    assert objects(call("task-store", "set", *LOAD_ARGS, "k", "5", "--json")) == [{"key": "k", "version": None}]
    assert call("task-store", "get", *LOAD_ARGS, "k").out == "5\n"
    assert objects(call("task-store", "get", *LOAD_ARGS, "k", "--json"))[0]["version"] is None
    assert "Plain cannot list what is there" in call("task-store", "list", *LOAD_ARGS).err
    assert call("task-store", "set", *LOAD_ARGS, "k", "6", "--if-version", "1").code == 1
    assert call("task-store", "delete", *LOAD_ARGS, "k", "--yes").out.startswith("Deleted 1 key")
    assert call("task-store", "clear", *LOAD_ARGS, "--yes").out == "Cleared task etl/run%201/load/-1.\n"
    assert call("assets", "register", "a").code == 0
    assert "Plain cannot list what is there" in call("assets", "list").err


@pytest.mark.parametrize(
    "path",
    [
        *(("asset-store", name) for name in ("list", "get", "set", "delete", "clear")),
        *(("task-store", name) for name in ("list", "get", "set", "delete", "clear", "scopes", "delete-run")),
    ],
)
def test_help_fits_80_columns(path: tuple[str, ...]) -> None:
    done = call(*path, "--help")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith(f"Usage: asyncstore {' '.join(path)} ")
    assert max(map(len, done.out.splitlines())) <= 80
    assert "--json" in done.out


def test_a_process_tells_what_it_wrote() -> None:
    done = spawn("asset-store", "set", "orders", "k", "1")
    assert (done.code, done.err, done.out.strip().isdigit()) == (0, "", True)
