from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import click
import pytest

from asyncstore import AssetNotFoundError, ConfigurationError, StoreBusyError, ValueTooLargeError
from asyncstore.cli import main, plugins
from asyncstore.cli.failures import Failure, Interrupted, Misuse
from asyncstore.cli.running import run
from tests.cli.support import PROGRAM, call, environment, spawn, start


def install(folder: Path, name: str, source: str, *commands: str) -> None:
    """Lay out an installed package whose module has a command of each name."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = [f"{command} = {name}:{command.replace('-', '_')}" for command in commands]
    (info / "entry_points.txt").write_text("\n".join(["[asyncstore.commands]", *lines, ""]))
    (folder / f"{name}.py").write_text(source)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = tmp_path / "packages"
    found.mkdir()
    monkeypatch.setattr(sys, "path", [str(found), *sys.path])
    return found


# Help


def test_help_fits_one_screen_and_tells_commands_and_exit_codes() -> None:
    done = call("--help")
    assert done.code == 0
    lines = done.out.splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 80
    for word in ("--database", "--config", "--version", "db ", "events ", "state-store ", "watch ", "triggerer "):
        assert word in done.out
    told = " ".join(done.out.split())
    assert "0 done, 1 failed, 2 wrong usage or configuration, 130 interrupted" in told


def test_version() -> None:
    assert call("--version").out == f"asyncstore {version('asyncstore')}\n"


def test_help_is_light_and_leaves_nothing_behind(folder: Path) -> None:
    code = (
        "import sys\nfrom asyncstore.cli import main\n"
        "assert main(['--help'], standalone_mode=False) == 0\n"
        "heavy = {'sqlalchemy', 'alembic', 'aiosqlite', 'sqlite3', 'triggers'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
    assert "state-store" in done.stdout
    assert list(folder.iterdir()) == []


def test_the_list_of_commands_says_what_they_say_themselves() -> None:
    for name in plugins.names():
        listed, loaded = plugins.listed(name), plugins.load(name)
        assert listed is not None
        assert loaded is not None
        assert (listed.short_help, listed.hidden) == (loaded.short_help, loaded.hidden)
    assert plugins.listed("nothing") is None


def test_the_program_is_installed_under_its_name() -> None:
    program = Path(sys.executable).parent / "asyncstore"
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"asyncstore {version('asyncstore')}\n"


# Wrong usage and errors


@pytest.mark.parametrize(
    "args", [["nope"], ["--nope"], ["events", "list", "--limit", "-1"], ["events", "list", "--after", str(2**63)]]
)
def test_wrong_usage_is_told_on_stderr_with_code_2(args: list[str], folder: Path) -> None:
    done = call(*args)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Usage: asyncstore ")
    assert done.err.splitlines()[-1].startswith("error: ")
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "meant"),
    [
        (["asets"], "assets"),
        (["asset-stor", "get"], "asset-store"),
        (["trigers"], "triggers"),
        (["assets", "lst"], "list"),
        (["task-store", "scope"], "scopes"),
        (["triggers", "pase"], "pause"),
        (["events", "lits"], "list"),
        (["config", "shw"], "show"),
        (["assets", "list", "--jsn"], "--json"),
        (["--databse", "x"], "--database"),
    ],
)
def test_a_mistyped_word_names_what_was_probably_meant(args: list[str], meant: str) -> None:
    done = call(*args)
    assert (done.code, done.out) == (2, "")
    told = done.err.splitlines()[-1]
    assert meant in told.replace("'", " ").replace("?", " ").split()
    assert told.lower().count("did you mean") == 1


@pytest.mark.parametrize("group", [[], ["db"], ["events"], ["state-store"], ["assets"], ["config"]])
def test_a_group_alone_gives_its_help(group: list[str]) -> None:
    done = call(*group)
    assert ("Commands:" if group else "Care ") in done.out + done.err
    assert "error:" not in done.err


def command(raised: BaseException) -> Callable[..., object]:
    async def fail() -> None:
        raise raised

    @click.command("failing")
    @click.pass_context
    def failing(ctx: click.Context) -> None:
        run(ctx, fail)

    return failing


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (StoreBusyError("it is busy"), 1, "error: it is busy\n"),
        (ValueTooLargeError("too large"), 1, "error: too large\n"),
        (ConfigurationError("[a] b\n[a] c"), 2, "error: [a] b\nerror: [a] c\n"),
        (AssetNotFoundError("no asset"), 2, "error: no asset\n"),
        (ValueError("a \x1b[2J value"), 2, "error: a \\x1b[2J value\n"),
        (TypeError("a type"), 2, "error: a type\n"),
        (RuntimeError("a bug"), 1, "error: RuntimeError: a bug (`asyncstore --debug ...` shows where)\n"),
        (BrokenPipeError(32, "Broken pipe"), 1, "error: BrokenPipeError: [Errno 32] Broken pipe"),
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ExceptionGroup("", [ExceptionGroup("", [StoreBusyError("it is busy")])]), 1, "error: it is busy\n"),
        (ExceptionGroup("", [ValueError("x"), click.exceptions.Exit(5)]), 5, ""),
        (click.ClickException("of a package"), 1, "error: of a package\n"),
        (click.exceptions.Exit(4), 4, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_an_error_of_a_command_is_a_line_and_a_code(
    raised: BaseException, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(main.commands, "failing", command(raised))  # pyright: ignore[reportArgumentType]
    done = call("failing")
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith(told)
    assert done.err.count("\n") == told.count("\n") or not told.endswith("\n")
    assert "Traceback" not in done.err


@pytest.mark.parametrize("how", ["--debug", "environment"])
def test_debug_shows_the_traceback_and_changes_nothing_else(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(main.commands, "failing", command(StoreBusyError("it is busy")))  # pyright: ignore
    if how == "environment":
        monkeypatch.setenv("ASYNCSTORE_DEBUG", "1")
    done = call(*([how] if how == "--debug" else []), "failing")
    assert done.code == 1
    assert done.err.startswith("Traceback (most recent call last):\n")
    assert done.err.count("Traceback") == 1
    assert "raise raised" in done.err
    assert done.err.endswith("error: it is busy\n")


# The helper


@pytest.mark.parametrize(
    ("raised", "kind"),
    [(StoreBusyError("x"), Failure), (ValueError("x"), Misuse), (KeyboardInterrupt(), Interrupted)],
)
def test_run_turns_errors_into_clicks_also_without_the_program(
    raised: BaseException, kind: type[click.ClickException]
) -> None:
    async def fail() -> None:
        raise raised

    with pytest.raises(kind):
        run(click.Context(click.Command("alone")), fail)


def test_run_passes_arguments_and_gives_the_result() -> None:
    async def add(a: int, *, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    assert run(click.Context(click.Command("alone")), add, 1, b=2) == 3


@pytest.mark.skipif(sys.platform == "win32", reason="the loop does it by itself there")
def test_run_has_signals_wake_the_loop_and_leaves_nothing_of_it() -> None:
    # Else a Ctrl-C that comes when the loop is about to wait is heard only when the next thing happens.
    async def look() -> int:
        found = signal.set_wakeup_fd(-1)
        signal.set_wakeup_fd(found, warn_on_full_buffer=False)
        return found

    assert run(click.Context(click.Command("alone")), look) != -1
    assert signal.set_wakeup_fd(-1) == -1


def test_run_works_in_a_thread() -> None:
    async def answer() -> int:
        return threading.get_ident()

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(run, click.Context(click.Command("alone")), answer).result()
    assert other != threading.get_ident()


# Commands of other packages


def test_a_command_of_another_package_is_listed_and_called(packages: Path) -> None:
    source = (
        "import click\n@click.command(short_help='Say it.')\n@click.argument('word')\n"
        "def say_it(word):\n    click.echo(word)\n"
    )
    install(packages, "asyncstore_saying", source, "say-it")
    assert "say-it       Say it.\n" in call("--help").out
    assert call("say-it", "hello").out == "hello\n"
    assert call("say-it").code == 2


def test_other_packages_are_imported_only_when_asked_for(packages: Path) -> None:
    marker = packages / "imported"
    install(packages, "asyncstore_lazy", f"open({str(marker)!r}, 'w').close()\nlazy = None\n", "lazy")
    assert call("db", "check").code == 1
    assert not marker.exists()
    assert call("lazy").code == 1
    assert marker.exists()


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import nowhere_to_be_found\n", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("raise SystemExit(0)\n", "SystemExit: 0"),
        ("def other(): ...\n", "AttributeError"),
        ("def broken(): ...\n", "it is a function, not a click command"),
    ],
)
def test_a_broken_package_says_so_and_breaks_nothing_else(packages: Path, source: str, reason: str) -> None:
    name = f"asyncstore_broken_{abs(hash(reason))}"
    install(packages, name, source, "broken")
    listed = call("--help")
    assert listed.code == 0
    assert "broken       (broken: call it to see why)\n" in listed.out
    assert len(listed.out.splitlines()) <= 24
    assert "watch" in listed.out
    for args in (["broken"], ["broken", "--help"], ["broken", "word", "--option", "3"]):
        done = call(*args)
        assert (done.code, done.out) == (1, "")
        assert done.err.startswith("error: the command 'broken' of the package")
        assert reason in done.err
        assert name in done.err
        assert "Traceback" not in done.err
    assert call("db", "check").err.startswith("error: the database file")


def test_no_package_takes_the_place_of_a_command_of_the_program(packages: Path) -> None:
    install(packages, "asyncstore_usurper", "import click\n@click.command()\ndef events(): ...\n", "events")
    assert "Read the log of events." in call("events", "--help").out
    assert call("--help").out.count("  events ") == 1


# Streams


def test_a_reader_that_has_gone_ends_help_without_a_word() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = spawn("--help", stdout=writer)
    finally:
        os.close(writer)
    assert (done.code, done.err) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_an_error() -> None:
    spawn("db", "upgrade")
    with Path("/dev/full").open("wb") as full:
        done = spawn("db", "current", stdout=full)
    assert done.code == 1
    assert done.err == "error: standard output cannot be written: No space left on device\n"


def on_a_terminal(*args: str, **env: str) -> tuple[int, bytes]:
    """Give the code, and what a terminal got on stderr."""
    terminal, stderr = os.openpty()
    with start(*args, stderr=stderr, env=env) as process:
        os.close(stderr)
        told = b""
        try:
            while more := os.read(terminal, 4096):
                told += more
        except OSError:  # Linux's word for the end of it
            pass
        os.close(terminal)
    return process.returncode, told


def test_colour_is_for_terminals_only_and_never_with_no_color() -> None:
    assert spawn("db", "check").err.startswith("error: ")
    assert spawn("db", "check", env={"FORCE_COLOR": "1"}).err.startswith("error: ")
    assert on_a_terminal("db", "check")[1].startswith(b"\x1b[31m\x1b[1merror:\x1b[0m ")
    for env in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        code, told = on_a_terminal("db", "check", **env)
        assert code == 1
        assert told.startswith(b"error: ")
        assert b"\x1b" not in told


def test_the_module_is_the_program() -> None:
    done = subprocess.run([*PROGRAM, "--version"], env=environment(), capture_output=True, text=True, check=True)
    assert done.stdout.endswith(f"{version('asyncstore')}\n")
    assert done.stderr == ""
