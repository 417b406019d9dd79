from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from asyncstore.errors import ConfigurationError
from asyncstore.settings import (
    DatabaseSettings,
    Option,
    Settings,
    StateStoreSettings,
    TriggererSettings,
    list_options,
    load_model,
    load_settings,
    mask_password,
)

OPTIONS = {option.argument: option for option in list_options()}


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction]
    monkeypatch.chdir(tmp_path)


def write(text: str, name: str = "asyncstore.toml") -> Path:
    path = Path.cwd() / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(
    *,
    path: Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, object] | None = None,
) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path=path, environ=environ or {}, overrides=overrides)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    return str(caught.value).split("\n")


def get(settings: BaseModel, option: Option) -> object:
    value: object = settings
    for part in option.argument.split("."):
        value = getattr(value, part)
    return value


def to_toml(value: object) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower()


# The sources


def test_without_any_source_the_defaults_of_the_documentation_hold() -> None:
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.database.url == "sqlite+aiosqlite:///asyncstore.db"
    assert {name: get(settings, option) for name, option in OPTIONS.items() if name != "database.url"} == {
        "database.lock_timeout": 5.0,
        "database.durability": "full",
        "database.operation_timeout": 30.0,
        "database.pool_size": 10,
        "database.pooler": "none",
        "state_store.backend": None,
        "state_store.default_retention_days": 30.0,
        "state_store.clear_on_success": False,
        "state_store.state_cleanup_batch_size": 0,
        "state_store.max_value_storage_bytes": 65535,
        "state_store.asset_grace_days": 7.0,
        "state_store.keep_events_days": 0.0,
        "state_store.keep_events_count": 0,
        "workers.state_backend": None,
        "workers.state_store_backend": None,
        "common.io.state_store_objectstorage_path": None,
        "common.io.state_store_objectstorage_threshold": 0,
        "common.io.state_store_objectstorage_compression": None,
        "common.io.state_store_objectstorage_abandoned_days": 1.0,
        "consumers.lease": 60.0,
        "consumers.heartbeat": 15.0,
        "consumers.poll_interval": 0.3,
        "consumers.prefetch": 50,
        "consumers.max_attempts": 5,
        "consumers.on_exhausted": "keep",
        "consumers.retry_delay": 1.0,
        "consumers.retry_delay_max": 300.0,
        "triggerer.restart_delay": 1.0,
        "triggerer.restart_delay_max": 300.0,
        "triggerer.healthy_after": 60.0,
        "triggerer.drain_timeout": 4.0,
        "triggerer.capacity": 10_000,
        "triggerer.lease": 15.0,
        "triggerer.heartbeat_interval": 5.0,
        "triggerer.crash_loop_after": 5,
        "triggerer.block_warning": 1.0,
        "triggerer.cleanup_interval": 0.0,
        "triggerer.shared_stream_buffer": 1000,
        "triggerer.shared_stream_patience": 30.0,
    }


def test_the_file_of_the_working_directory_is_read() -> None:
    write("[database]\ndurability = 'normal'\n[state_store]\ndefault_retention_days = 0.5\n")
    settings = load_settings(environ={})
    assert settings == Settings(
        database=DatabaseSettings(durability="normal"),
        state_store=StateStoreSettings(default_retention_days=0.5),
    )


def test_the_environment_names_another_file() -> None:
    write("[database]\nlock_timeout = 1")
    other = write("[database]\nlock_timeout = 2", "other.toml")
    assert load_settings(environ={"ASYNCSTORE_CONFIG": str(other)}).database.lock_timeout == 2
    assert load_settings(environ={"ASYNCSTORE_CONFIG": "other.toml"}).database.lock_timeout == 2


def test_a_path_wins_over_the_file_that_the_environment_names() -> None:
    path = write("[database]\nlock_timeout = 2", "other.toml")
    assert load_settings(path=path, environ={"ASYNCSTORE_CONFIG": "missing"}).database.lock_timeout == 2


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE__TRIGGERER__DRAIN_TIMEOUT", "2.5")
    assert load_settings().triggerer.drain_timeout == 2.5
    assert load_settings(environ={}).triggerer.drain_timeout == 4.0


def test_variables_that_are_no_settings_are_left_alone() -> None:
    environ = {
        "ASYNCSTORE_CONN_S3": "{}",
        "ASYNCSTORE_TEST_POSTGRES_URL": "",
        "ASYNCSTORE_DATABASE__URL": "",
        "MY_ASYNCSTORE__DATABASE__URL": "",
        "asyncstore__database__url": "",
        "PATH": "",
    }
    assert load_settings(environ=environ) == Settings()


def test_a_byte_order_mark_and_windows_line_ends_are_accepted() -> None:
    Path("asyncstore.toml").write_bytes(b"\xef\xbb\xbf[database]\r\nlock_timeout = 2\r\n")
    assert load_settings(environ={}).database.lock_timeout == 2


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "database.url": st.text(st.characters(exclude_categories=["C"])).map(lambda text: f"sqlite://{text}"),
    "database.lock_timeout": st.floats(0.001, 2_147_483) | st.integers(1, 9),
    "database.durability": st.sampled_from(["full", "normal"]),
    "database.operation_timeout": st.floats(0.1, 2_147_483) | st.integers(1, 9),
    "database.pool_size": st.integers(1, 1000),
    "database.pooler": st.sampled_from(["none", "transaction"]),
    "state_store.backend": st.from_regex(r"[a-z_]+(\.[a-zé_]+)*", fullmatch=True),
    "state_store.default_retention_days": st.floats(0, 100_000) | st.integers(0, 100_000),
    "state_store.clear_on_success": st.booleans(),
    "state_store.state_cleanup_batch_size": st.integers(0, 2**63 - 1),
    "state_store.max_value_storage_bytes": st.integers(0, 2**63 - 1),
    "state_store.asset_grace_days": st.floats(0, 100_000) | st.integers(0, 100_000),
    "state_store.keep_events_days": st.floats(0, 100_000) | st.integers(0, 100_000),
    "state_store.keep_events_count": st.integers(0, 2**63 - 1),
    "workers.state_backend": st.just("package.module.Class"),
    "workers.state_store_backend": st.just("package.module.Class"),
    "common.io.state_store_objectstorage_path": st.sampled_from(["s3://lake@bucket/prefix/", "file:///var/lib"]),
    "common.io.state_store_objectstorage_threshold": st.integers(0, 2**63 - 1),
    "common.io.state_store_objectstorage_compression": st.sampled_from(["gzip", "bz2"]),
    "common.io.state_store_objectstorage_abandoned_days": st.floats(0, 100_000),
    "consumers.lease": st.floats(100, 86_400),
    "consumers.heartbeat": st.floats(0.01, 30),
    "consumers.poll_interval": st.floats(0.001, 3_600),
    "consumers.prefetch": st.integers(1, 10_000),
    "consumers.max_attempts": st.integers(0, 1_000_000),
    "consumers.on_exhausted": st.sampled_from(["keep", "skip"]),
    "consumers.retry_delay": st.floats(0.001, 10),
    "consumers.retry_delay_max": st.floats(10, 86_400) | st.integers(300, 500),
    "triggerer.restart_delay": st.floats(0, 300, exclude_min=True),
    "triggerer.restart_delay_max": st.floats(300, allow_infinity=False),
    "triggerer.healthy_after": st.floats(0, allow_infinity=False),
    "triggerer.drain_timeout": st.floats(0, allow_infinity=False),
    "triggerer.capacity": st.integers(1, 1_000_000),
    "triggerer.lease": st.floats(10, 86_400),
    "triggerer.heartbeat_interval": st.floats(0.01, 5),
    "triggerer.crash_loop_after": st.integers(1, 1000),
    "triggerer.block_warning": st.floats(0, allow_infinity=False),
    "triggerer.cleanup_interval": st.floats(0, allow_infinity=False) | st.integers(0, 10**9),
    "triggerer.shared_stream_buffer": st.integers(1, 2**63 - 1),
    "triggerer.shared_stream_patience": st.floats(0, allow_infinity=False),
}


def test_every_option_takes_part_in_the_precedence_test() -> None:
    assert VALUES.keys() == OPTIONS.keys()


some_options = st.fixed_dictionaries({}, optional=VALUES)


@given(in_file=some_options, in_environment=some_options, in_arguments=some_options)
def test_arguments_win_over_the_environment_which_wins_over_the_file(
    in_file: dict[str, Any], in_environment: dict[str, Any], in_arguments: dict[str, Any]
) -> None:
    expected = {name: option.default for name, option in OPTIONS.items()}
    expected |= in_file | in_environment | in_arguments
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "settings.toml"
        path.write_text("\n".join(f"{name} = {to_toml(value)}" for name, value in in_file.items()), encoding="utf-8")
        environ = {OPTIONS[name].environment_variable: str(value) for name, value in in_environment.items()}
        settings = load_settings(path=path, environ=environ, overrides=in_arguments)
    assert {name: get(settings, option) for name, option in OPTIONS.items()} == expected
    for name, option in OPTIONS.items():
        if option.kind == "number":
            assert type(get(settings, option)) is float, name


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("1", True), ("false", False), ("0", False)]
)
def test_flags_of_the_environment(text: str, value: bool) -> None:
    settings = load_settings(environ={"ASYNCSTORE__STATE_STORE__CLEAR_ON_SUCCESS": text})
    assert settings.state_store.clear_on_success is value


# What is refused

NUMBER = "state_store.default_retention_days"
INTEGER = "state_store.state_cleanup_batch_size"
FLAG = "state_store.clear_on_success"
BACKEND = "state_store.backend"
URL = "database.url"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *((NUMBER, text) for text in ("true", "'30'", "nan", "inf", "-inf", "-1", "-0.001", "100_000.5", "[30]")),
        *((INTEGER, text) for text in ("true", "'yes'", "'5'", "5.0", "-1", "9223372036854775808", "[]")),
        *((FLAG, text) for text in ("1", "0", "'true'", "{}", "2026-11-20")),
        *((BACKEND, text) for text in ("''", "' '", "'a.b c'", "3")),
        *((URL, text) for text in ("''", "'asyncstore.db'", "3", "' sqlite://'", "'1x://'", '"sqlite:///a\\n"')),
        *(("database.durability", text) for text in ("'fast'", "''", "'FULL'", "true")),
        *(("database.lock_timeout", text) for text in ("0", "-1", "0.0009", "2147484", "true", "nan")),
        *(("state_store.asset_grace_days", text) for text in ("-1", "100001", "false")),
        *(("consumers.lease", text) for text in ("0", "86401", "true")),
        *(("consumers.heartbeat", text) for text in ("0", "31", "nan")),
        *(("consumers.prefetch", text) for text in ("0", "1.5")),
        *(("consumers.on_exhausted", text) for text in ("'drop'", "true")),
        *(("consumers.retry_delay_max", text) for text in ("0", "0.5")),
        *(("triggerer.restart_delay", text) for text in ("0", "-1", "inf", "true")),
        *(("triggerer.restart_delay_max", text) for text in ("0", "-1", "inf", "0.5")),
        *(("triggerer.healthy_after", text) for text in ("-1", "inf")),
        *(("triggerer.drain_timeout", text) for text in ("-1", "inf")),
        *(("triggerer.capacity", text) for text in ("0", "1000001", "1.0")),
        *(("triggerer.lease", text) for text in ("0", "86401", "nan")),
        *(("triggerer.heartbeat_interval", text) for text in ("0", "7.6", "inf")),
        *(("triggerer.crash_loop_after", text) for text in ("0", "1.5")),
        *(("triggerer.block_warning", text) for text in ("-1", "nan")),
        *(("triggerer.cleanup_interval", text) for text in ("-1", "nan")),
        *(("triggerer.shared_stream_buffer", text) for text in ("0", "-1", "1.0")),
        *(("triggerer.shared_stream_patience", text) for text in ("-1", "inf")),
    ],
)
def test_bad_values_in_the_file(name: str, text: str) -> None:
    option = OPTIONS[name]
    path = write(f"{name} = {text}")
    [problem] = problems()
    assert problem.startswith(f"{option} = ")
    assert f" (file {path}): allowed is " in problem


def test_a_problem_names_the_option_the_value_the_source_and_what_is_allowed() -> None:
    path = write("[state_store]\ndefault_retention_days = true")
    assert problems() == [
        f"[state_store] default_retention_days = true (file {path}): allowed is a finite number from 0 to 100000"
    ]
    assert problems(environ={"ASYNCSTORE__STATE_STORE__DEFAULT_RETENTION_DAYS": "nan"}) == [
        (
            "[state_store] default_retention_days = 'nan' "
            "(environment variable ASYNCSTORE__STATE_STORE__DEFAULT_RETENTION_DAYS): "
            "allowed is a finite number from 0 to 100000"
        )
    ]
    assert problems(overrides={"state_store.default_retention_days": -1}) == [
        "[state_store] default_retention_days = -1 (argument): allowed is a finite number from 0 to 100000"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(
            (NUMBER, text)
            for text in ("", " ", "30 ", "3O", "1_0", "٣", "true", "nan", "inf", "1e999", "0x1", "9" * 5000)
        ),
        *((INTEGER, text) for text in ("", "yes", "1.0", "1e3", "+", "1_0", "٣", "true", "-1", "9" * 5000)),
        *((FLAG, text) for text in ("", "yes", "on", "2", "true ", "null")),
        *((BACKEND, text) for text in ("", " ")),
        *((URL, text) for text in ("", "asyncstore.db", "\udcff://")),
        ("database.durability", ""),
    ],
)
def test_bad_texts_in_the_environment(name: str, text: str) -> None:
    option = OPTIONS[name]
    [problem] = problems(environ={option.environment_variable: text})
    assert problem.startswith(f"{option} = {text!r:.200}")
    assert f"(environment variable {option.environment_variable}): allowed is {option.allowed}" in problem


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (NUMBER, None),
        (NUMBER, "30"),
        (NUMBER, True),
        (NUMBER, float("nan")),
        (NUMBER, 10**400),
        pytest.param(NUMBER, 10**5000, id="too long to print"),
        (INTEGER, True),
        (INTEGER, 3.0),
        (FLAG, 1),
        (FLAG, "true"),
        (URL, None),
        (URL, b"sqlite://"),
        (BACKEND, int),
    ],
)
def test_bad_arguments(name: str, value: object) -> None:
    [problem] = problems(overrides={name: value})
    assert problem.startswith(f"{OPTIONS[name]} = ")
    assert problem.endswith(f" (argument): allowed is {OPTIONS[name].allowed}")


def test_none_is_an_argument_where_it_is_a_value() -> None:
    write("state_store.backend = 'a.B'")
    assert load_settings(environ={}, overrides={BACKEND: None}).state_store.backend is None


def test_a_value_that_another_source_overrides_is_not_judged() -> None:
    write("[state_store]\nclear_on_success = 3\nstate_cleanup_batch_size = 'x'")
    environ = {"ASYNCSTORE__STATE_STORE__STATE_CLEANUP_BATCH_SIZE": "y"}
    settings = load_settings(environ=environ, overrides={FLAG: True, INTEGER: 3})
    assert settings.state_store == StateStoreSettings(clear_on_success=True, state_cleanup_batch_size=3)


class Verbose:
    def __repr__(self) -> str:
        return "<Verbose\n\x1b>"


def test_a_value_is_shown_on_one_line() -> None:
    [problem] = problems(overrides={NUMBER: Verbose()})
    assert problem.startswith("[state_store] default_retention_days = <Verbose\\n\\x1b> (argument)")


def test_long_values_are_shortened() -> None:
    [problem] = problems(environ={"ASYNCSTORE__DATABASE__DURABILITY": "x" * 10_000})
    assert len(problem) < 500


# The order of the two delays


def test_the_largest_delay_is_compared_with_the_first_one_of_another_source() -> None:
    path = write("[triggerer]\nrestart_delay = 20")
    variable = "ASYNCSTORE__TRIGGERER__RESTART_DELAY_MAX"
    assert problems(environ={variable: "10"}) == [
        (
            f"[triggerer] restart_delay_max = '10' (environment variable {variable}): "
            f"allowed is at least [triggerer] restart_delay, which is 20 (file {path})"
        )
    ]
    assert load_settings(environ={variable: "20"}).triggerer.restart_delay_max == 20


def test_the_default_of_the_largest_delay_is_compared_too() -> None:
    assert problems(overrides={"triggerer.restart_delay": 301}) == [
        (
            "[triggerer] restart_delay_max = 300.0 (default): "
            "allowed is at least [triggerer] restart_delay, which is 301 (argument)"
        )
    ]


def test_a_bad_first_delay_is_reported_alone() -> None:
    [problem] = problems(overrides={"triggerer.restart_delay": "x", "triggerer.restart_delay_max": 0.5})
    assert problem.startswith("[triggerer] restart_delay = 'x'")


def test_an_unreadable_file_leads_to_no_guesses_about_the_delays() -> None:
    write("[triggerer")
    [problem] = problems(overrides={"triggerer.restart_delay": 301})
    assert "is not valid TOML" in problem


# Unknown names


@pytest.mark.parametrize(
    ("text", "label", "meant"),
    [
        ("[databse]\nurl = 'x'", "[databse]", "[database]"),
        ("[Database]\nurl = 'x'", "[Database]", "[database]"),
        ("[DATABASE]\nurl = 'x'", "[DATABASE]", "[database]"),
        ("[state]\nbackend = 'x'", "[state]", "[state_store]"),
        ("[database]\nulr = 'x'", "[database] ulr = 'x'", "[database] url"),
        ("[database]\nURL = 'x'", "[database] URL = 'x'", "[database] url"),
        ("[database]\nclear_on_success = 3", "[database] clear_on_success = 3", "[state_store] clear_on_success"),
        ("clear_on_sucess = true", "clear_on_sucess = True", None),
        ("clear_on_success = 1", "clear_on_success = 1", "[state_store] clear_on_success"),
        ("[state_store.database]\nurl = 1", "[state_store] database = {...}", None),
        ("[zebra]", "[zebra]", None),
        ("[triggerer]\nzigzag = [1, 'a']", "[triggerer] zigzag = [1, 'a']", None),
        ('[triggerer]\n"ze\\nbra" = 1', "[triggerer] ze\\nbra = 1", None),
    ],
)
def test_unknown_names_in_the_file(text: str, label: str, meant: str | None) -> None:
    path = write(text)
    [problem] = problems()
    what = "section" if label.endswith("]") and " = " not in label else "option"
    assert problem.startswith(f"{label} (file {path}): unknown {what}")
    assert f"(did you mean {meant}?)" in problem if meant else "did you mean" not in problem
    assert "[database]" in problem or "allowed in [" in problem


@pytest.mark.parametrize(
    ("rest", "meant"),
    [
        ("DATABASE__ULR", "DATABASE__URL"),
        ("DATABSE__URL", "DATABASE__URL"),
        ("DATABSE__ULR", "DATABASE__URL"),
        ("database__url", "DATABASE__URL"),
        ("STATE_STORE__RETENTION_DAYS", "STATE_STORE__DEFAULT_RETENTION_DAYS"),
        ("STATE_STORE_CLEAR_ON_SUCCESS", "STATE_STORE__CLEAR_ON_SUCCESS"),
        ("STATE__STORE__CLEAR_ON_SUCCESS", "STATE_STORE__CLEAR_ON_SUCCESS"),
        ("DATABASE__URL__X", "DATABASE__URL"),
        ("DATABASE__ZEBRA", None),
        ("ZEBRA", None),
        ("", None),
        ("__", None),
    ],
)
def test_unknown_variables(rest: str, meant: str | None) -> None:
    [problem] = problems(environ={f"ASYNCSTORE__{rest}": "x"})
    assert problem.startswith(f"environment variable ASYNCSTORE__{rest} = 'x': unknown ")
    assert f"(did you mean ASYNCSTORE__{meant}?)" in problem if meant else "did you mean" not in problem


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("database.ulr", "database.url"),
        ("databse.url", "database.url"),
        ("url", "database.url"),
        ("state_store.backend.x", "state_store.backend"),
        ("", None),
    ],
)
def test_unknown_arguments(key: str, meant: str | None) -> None:
    [problem] = problems(overrides={key: 3})
    assert problem.startswith(f"argument {key} = 3: unknown ")
    assert f"(did you mean {meant}?)" in problem if meant else "did you mean" not in problem


def test_a_section_that_is_no_table() -> None:
    path = write("state_store = 3")
    assert problems() == [f"[state_store] = 3 (file {path}): allowed is a table of options"]


def test_an_option_that_is_a_table() -> None:
    path = write("[database.url]\nhost = 'x'")
    [problem] = problems()
    assert problem.startswith(f"[database] url = {{...}} (file {path}): allowed is a URL")


def test_all_problems_are_reported_together_one_per_line() -> None:
    write("zebra = 1\n[database]\nulr = 'x'\ndurability = 'fast'\n'a\\nb' = '''\n\n'''")
    environ = {
        "ASYNCSTORE__ZEBRA__X\n": "\n",
        "ASYNCSTORE__A": "",
        "ASYNCSTORE__TRIGGERER__DRAIN_TIMEOUT": "a\nb\u2028c",
    }
    found = problems(environ=environ, overrides={"x\r.y": "z", INTEGER: -1})
    assert [line.split(" = ")[0] for line in found] == [
        "zebra",
        "[database] ulr",
        "[database] a\\nb",
        "environment variable ASYNCSTORE__A",
        "environment variable ASYNCSTORE__ZEBRA__X\\n",
        "argument x\\r.y",
        "[database] durability",
        "[state_store] state_cleanup_batch_size",
        "[triggerer] drain_timeout",
    ]
    assert all(line.isprintable() for line in found)


# Files that cannot be read


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"[database", "(at end of document)"),
        (b"x = [\n\n]]", "line 3"),
        (b"\xff", "utf-8"),
        (b"x = 1\nx = 2\ny = 3", "line 2"),
        (b"x = " + b"[" * 100_000, ""),
        (b"x = " + b"9" * 5000, "digits"),
    ],
    ids=lambda value: str(value[:20]),
)
def test_malformed_files(content: bytes, text: str) -> None:
    path = Path.cwd() / "asyncstore.toml"
    path.write_bytes(content)
    [first, second] = problems(overrides={FLAG: 1})
    assert first.startswith(f"file {path}: is not valid TOML: ")
    assert text in first
    assert second.startswith(str(OPTIONS[FLAG]))


def test_a_file_that_somebody_named_must_exist(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert problems(path=missing) == [f"file {missing}: cannot be read: No such file or directory"]
    assert problems(environ={"ASYNCSTORE_CONFIG": "missing.toml"}) == [
        f"file {missing}, named by ASYNCSTORE_CONFIG: cannot be read: No such file or directory"
    ]


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    (tmp_path / "asyncstore.toml").mkdir()
    assert problems() == [f"file {tmp_path / 'asyncstore.toml'}: cannot be read: Is a directory"]
    [problem] = problems(path=Path("a\0b"))
    assert problem.startswith(f"file {tmp_path}/a\\x00b: cannot be read: ")


def test_the_name_of_the_file_must_not_be_empty() -> None:
    write("[database]\nlock_timeout = 2")
    assert problems(environ={"ASYNCSTORE_CONFIG": ""}) == [
        "environment variable ASYNCSTORE_CONFIG = '': allowed is the path of a TOML file"
    ]


def test_a_working_directory_that_was_deleted_has_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert load_settings(environ={}) == Settings()


# Passwords

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql:/user:hunter2@host/db",
        "user:hunter2@host/db",
        "postgresql+asyncpg//user:hunter2@host",
        "post gresql://user:hunter2@host/db",
        "post gresql://user:hunter2/db",
        "postgresql://user:hunter2@host/\ndb",
        "post-gresql://host/db?user=me&password=hunter2&x=1",
        "host=localhost password=hunter2",
        "postgresql:/user:a@b/c?d#hunter2@host",
    ],
)
def test_no_message_holds_the_password_of_a_url(url: str) -> None:
    text = to_toml(url)
    write(f"top = {text}\n[database]\nulr = {text}\nurl = [[{text}], {text}]\n[triggerer]\nurl = {{ x = {text} }}")
    messages = [
        problems(),
        problems(environ={"ASYNCSTORE__DATABASE__URL": url, "ASYNCSTORE__DATABASE__X": url}),
        problems(overrides={"database.url": url, "state_store.url": [url], "url": url.encode()}),
        problems(environ={"ASYNCSTORE_CONFIG": url}),
    ]
    assert SECRET not in str(messages)
    assert [len(lines) for lines in messages] == [4, 5, 6, 1]


def test_an_unknown_option_that_is_called_a_secret_is_not_shown() -> None:
    write(f"[database]\npassword = '{SECRET}'")
    found = problems(environ={"ASYNCSTORE__DATABASE__SECRET_TOKEN": SECRET}, overrides={"database.passwd": SECRET})
    assert [line.split(":")[0].split("(")[0].strip() for line in found] == [
        "[database] password = '***'",
        "environment variable ASYNCSTORE__DATABASE__SECRET_TOKEN = '***'",
        "argument database.passwd = '***'",
    ]


def test_the_representation_of_settings_hides_the_password() -> None:
    settings = load_settings(environ={"ASYNCSTORE__DATABASE__URL": f"postgresql+asyncpg://user:{SECRET}@host/db"})
    assert SECRET in settings.database.url
    for text in (repr(settings), str(settings), repr(settings.database), f"{settings.database}"):
        assert "postgresql+asyncpg://user:***@host/db" in text
        assert SECRET not in text


def test_the_errors_of_the_models_hide_their_input() -> None:
    with pytest.raises(ValidationError) as caught:
        DatabaseSettings(url=f"user:{SECRET}@host")
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("sqlite+aiosqlite:///asyncstore.db", None),
        ("sqlite+aiosqlite:///C:/data/asyncstore.db", None),
        ("postgresql://host:5432/db", None),
        ("postgresql://[::1]:5432/db?ssl=require", None),
        ("postgresql://user@host:5432/db", None),
        ("postgresql://host:5432", None),
        ("package.module:Class", None),
        ("", None),
        ("postgresql://user:secret@host:5432/db", "postgresql://user:***@host:5432/db"),
        ("postgresql://user:p@ss:w/o?r#d@host/db", "postgresql://user:***@host/db"),
        ("postgresql://:secret@host/db", "postgresql://:***@host/db"),
        ("postgresql://user:@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:secret/db", "postgresql://user:***/db"),
        ("postgresql://user:12-34/db", "postgresql://user:***/db"),
        ("postgresql://user:secret/db?password=x", "postgresql://user:***/db?password=***"),
        ("postgresql://user:a?token=b&c@host", "postgresql://user:***@host"),
        ("postgresql://host/db?a=1&password=x&b=2", "postgresql://host/db?a=1&password=***&b=2"),
        ("postgresql://user:x@host/db?password=y", "postgresql://user:***@host/db?password=***"),
        ("postgresql://user:x@host/db?sslpassword=y@z&b=2", "postgresql://user:***&b=2"),
    ],
)
def test_masking(url: str, masked: str | None) -> None:
    assert mask_password(url) == (url if masked is None else masked)


@given(st.text(), st.sampled_from(["user", "", "us%3Aer"]), st.sampled_from(["@host/db", "@h:1", "@"]))
def test_no_password_of_any_text_is_left(password: str, user: str, rest: str) -> None:
    masked = mask_password(f"postgresql://{user}:{password}{rest}")
    # A password that looks like a query's secret takes what follows with it.
    assert masked in {f"postgresql://{user}:***{rest}", f"postgresql://{user}:***"}


# Sections inside sections


class IoSettings(BaseModel):
    model_config = ConfigDict(strict=True)

    threshold: int = Field(default=0, ge=0)
    path: str | None = None


class CommonSettings(BaseModel):
    io: IoSettings = Field(default_factory=IoSettings)


class LaterSettings(BaseModel):
    database: DatabaseSettings = Field(default_factory=DatabaseSettings)
    common: CommonSettings = Field(default_factory=CommonSettings)


def test_a_dotted_section_has_its_three_spellings() -> None:
    option = list_options(LaterSettings)[-2]
    assert str(option) == "[common.io] threshold"
    assert option.argument == "common.io.threshold"
    assert option.environment_variable == "ASYNCSTORE__COMMON_IO__THRESHOLD"


def test_a_dotted_section_is_read_from_all_sources() -> None:
    write("[common.io]\nthreshold = 3\npath = 'a'")
    environ = {"ASYNCSTORE__COMMON_IO__PATH": "b"}
    assert load_model(LaterSettings, environ={}).common.io == IoSettings(threshold=3, path="a")
    assert load_model(LaterSettings, environ=environ).common.io == IoSettings(threshold=3, path="b")
    overrides = {"common.io.path": "c"}
    settings = load_model(LaterSettings, environ=environ, overrides=overrides)
    assert settings.common.io == IoSettings(threshold=3, path="c")


def test_problems_in_dotted_sections() -> None:
    write("[common]\nx = 1\n[common.oi]\ny = 2\n[common.io]\npaht = 'a'\nthreshold = -1")
    environ = {"ASYNCSTORE__COMMON_IO__PAHT": "b", "ASYNCSTORE__COMMON__IO__PATH": "b"}
    with pytest.raises(ConfigurationError) as caught:
        load_model(LaterSettings, environ=environ, overrides={"common.path": 1})
    where = f"(file {Path.cwd() / 'asyncstore.toml'})"
    inside = "allowed in [common.io]: threshold, path"
    sections = "the sections are [database], [common.io]"
    assert str(caught.value).split("\n") == [
        f"[common] x = 1 {where}: unknown section; {sections}",
        f"[common.oi] {where}: unknown section (did you mean [common.io]?); {sections}",
        f"[common.io] paht = 'a' {where}: unknown option (did you mean [common.io] path?); {inside}",
        (
            "environment variable ASYNCSTORE__COMMON_IO__PAHT = 'b': "
            f"unknown option (did you mean ASYNCSTORE__COMMON_IO__PATH?); {inside}"
        ),
        (
            "environment variable ASYNCSTORE__COMMON__IO__PATH = 'b': "
            f"unknown section (did you mean ASYNCSTORE__COMMON_IO__PATH?); {sections}"
        ),
        f"argument common.path = 1: unknown section (did you mean common.io.path?); {sections}",
        f"[common.io] threshold = -1 {where}: allowed is a whole number of at least 0",
    ]


class AmbiguousSettings(BaseModel):
    common: CommonSettings = Field(default_factory=CommonSettings)
    common_io: IoSettings = Field(default_factory=IoSettings)


def test_two_options_never_share_an_environment_variable() -> None:
    with pytest.raises(TypeError, match="same environment variable"):
        load_model(AmbiguousSettings, environ={})


# The models


@pytest.mark.parametrize("model", [Settings, DatabaseSettings, StateStoreSettings, TriggererSettings])
def test_settings_are_frozen_hashable_and_closed(model: type[BaseModel]) -> None:
    settings = model()
    name = next(iter(model.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))
    assert hash(settings) == hash(model())
    with pytest.raises(ValidationError, match="zebra"):
        model.model_validate({"zebra": 1})


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_described_with_its_unit(name: str) -> None:
    option = OPTIONS[name]
    assert option.description.endswith(".")
    if option.kind in ("number", "integer"):
        units = {"Seconds", "Days", "Rows", "Bytes", "Connections", "Events", "Failures", "Watchers"}
        assert option.description.split()[0] in units
        assert "number" in option.allowed
