"""`asyncstore watch` for tables and schedules, each in a process of its own."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from asyncstore.cli import main
from tests.postgres.databases import Databases
from tests.triggers.table.support import PostgresDatabase, SqliteFile
from tests.triggers.test_commands import call, lines, logged, started


@pytest.fixture
def shop(tmp_path: Path) -> SqliteFile:
    shop = SqliteFile(tmp_path / "shop.db")
    shop.make()
    shop.insert(1, 2, 3)
    return shop


def test_a_table_killed_and_started_again(tmp_path: Path, shop: SqliteFile) -> None:
    command = ["watch", "sqlite:///shop.db", "--table", "orders", "--interval", "0.05"]
    with started(tmp_path, *command) as process:
        assert [line["payload"]["id"] for line in lines(process, 3)] == [1, 2, 3]
        process.kill()
    shop.insert(4)
    done = call(tmp_path, *command, "--once")
    assert [json.loads(line)["payload"]["id"] for line in done.stdout.splitlines()] == [4]
    assert (done.returncode, done.stderr) == (0, "")
    assert {event["asset"] for event in logged(tmp_path)} == {f"sqlite:///{tmp_path}/shop.db?table=orders"}


def test_a_table_of_a_server_ends_on_a_signal(tmp_path: Path, postgres: Databases, database_url: str) -> None:
    shop = PostgresDatabase(postgres, database_url)
    shop.make()
    shop.insert(1)
    with started(tmp_path, "watch", database_url, "--table", "public.orders", "--interval", "0.05") as process:
        lines(process, 1)
        shop.insert(2)
        lines(process, 1)
        process.send_signal(signal.SIGTERM)
        assert process.communicate(timeout=30) == ("", "")
        assert process.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["sqlite:///shop.db"], "Missing option '--table'"),
        (["sqlite:///shop.db", "--table", "nothing"], "there is no table 'nothing'; there is orders"),
        (["sqlite:///shop.db", "--table", "no.orders"], "there is no schema 'no'; there is main, temp"),
        (["sqlite:///shop.db", "--table", "orders", "--column", "no"], "it has id, at, what"),
        (["sqlite:///shop.db", "--table", "orders", "--interval", "0"], "interval"),
        (["postgresql+psycopg2://u:secret@h/d", "--table", "orders"], "not asynchronous"),
        (["cron:61 * * * *"], "Bad minute"),
        (["every:never"], "is no distance"),
        (["every:365000d"], "longer than ten years"),
        (["every:1s", "--jitter", "1e18"], "from 0 to 86,400"),
        ([""], "SOURCE is empty"),
        ([".", "--pattern", "/inbox/*"], "pattern is a glob"),
        ([".", "--pattern", ""], "pattern is a glob"),
        (["every:1s", "--timezone", "Nowhere"], "time zone 'Nowhere'"),
        (["every:1s", "--catch-up", "some"], "'some' is not one of"),
    ],
)
def test_bad_input_is_refused_before_anything_runs(
    tmp_path: Path, shop: SqliteFile, arguments: list[str], says: str
) -> None:
    done = call(tmp_path, "watch", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert "secret" not in done.stderr


def test_a_schedule(tmp_path: Path) -> None:
    with started(tmp_path, "watch", "cron:* * * * * *", "--timezone", "Europe/Berlin") as process:
        first, second = lines(process, 2)
        process.terminate()
        assert process.communicate(timeout=30) == ("", "")
    assert first["asset"] == "cron:* * * * * *?timezone=Europe/Berlin"
    assert second["payload"]["previous_at"] == first["payload"]["scheduled_at"]
    past = ["--start", "2020-01-01T00:30", "--end", "2020-01-01T03:00", "--catch-up", "all"]
    done = call(tmp_path, "watch", "every:1h", *past)
    assert [json.loads(line)["payload"]["scheduled_at"][11:16] for line in done.stdout.splitlines()] == [
        "00:30",
        "01:30",
        "02:30",
    ]


@pytest.mark.parametrize("source", ["sqlite:///shop.db", "every:30s"])
def test_the_help_fits(source: str) -> None:
    shown = CliRunner().invoke(main, ["watch", source, "--help"], terminal_width=80)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.splitlines())) <= 80
