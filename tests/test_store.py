"""The front door: `connect`, what a store owns, and what it makes of a backend that can do little."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from asyncstore import (
    NEVER_EXPIRE,
    Asset,
    AssetScope,
    BaseStoreBackend,
    Capability,
    CleanupReport,
    ConfigurationError,
    ManualClock,
    MemoryBackend,
    MetastoreBackend,
    Scope,
    Settings,
    StateStoreSettings,
    Store,
    StoreClosedError,
    StoreError,
    TaskScope,
    UnsupportedOperationError,
    connect,
)

pytestmark = pytest.mark.anyio

TASK = TaskScope("dag", "run", "task")
ORDERS = Asset("orders", uri="s3://bucket/orders")


class Four(BaseStoreBackend):
    """A backend with the four operations only, that notes when it is opened and closed."""

    made: list[Four] = []  # noqa: RUF012 - emptied by a fixture

    def __init__(self) -> None:
        self.kept: dict[tuple[Scope, str], str] = {}
        self.life: list[str] = []
        Four.made.append(self)

    async def aopen(self) -> None:
        self.life.append("open")

    async def aclose(self) -> None:
        self.life.append("close")

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        return self.kept.get((scope, key))

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        self.kept[scope, key] = value

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        self.kept.pop((scope, key), None)

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        self.kept = {place: text for place, text in self.kept.items() if place[0] != scope}


class Failing(Four):
    async def aopen(self) -> None:
        await super().aopen()
        raise StoreError("cannot be opened")


class Stubborn(Four):
    """A backend that needs a few turns of the loop to close."""

    async def aclose(self) -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        await super().aclose()


class Timed(Four):
    def __init__(self, clock: Any) -> None:
        super().__init__()
        self.clock = clock


class Broken(Four):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


class Unfinished(BaseStoreBackend):
    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        return None


HERE = __name__


@pytest.fixture(autouse=True)
def nothing_configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ASYNCSTORE_CONFIG", raising=False)
    monkeypatch.setattr(Four, "made", [])


def with_backend(path: str) -> Settings:
    return Settings(state_store=StateStoreSettings(backend=path))


# connect.


async def test_without_arguments_a_file_in_the_working_directory(tmp_path: Path) -> None:
    async with connect() as store:
        await store.task_state(TASK).aset("key", 1)
        assert repr(store) == f"<Store on <MetastoreBackend on the database file '{tmp_path}/asyncstore.db'>>"
        assert isinstance(store.backend, MetastoreBackend)
    assert (tmp_path / "asyncstore.db").exists()
    assert repr(store) == "<Store, closed>"


async def test_the_example_of_the_contract() -> None:
    async with connect() as store:
        state = store.asset_state[ORDERS]
        assert await state.aget("watermark", default="1970-01-01T00:00:00Z") == "1970-01-01T00:00:00Z"
        await state.aset("watermark", "2026-11-20T00:00:00Z")
        job = store.task_state(TaskScope("spark", "run-1", "submit"))
        await job.aset("job_id", "app_1234", retention=NEVER_EXPIRE)
    async with connect() as store:
        assert await store.asset_state[ORDERS].aget("watermark") == "2026-11-20T00:00:00Z"
        entry = await store.task_state(TaskScope("spark", "run-1", "submit")).aget_entry("job_id")
        assert entry is not None
        assert entry.expires_at is None


async def test_nothing_happens_before_a_store_is_entered(tmp_path: Path) -> None:
    store = connect()
    assert list(tmp_path.iterdir()) == []
    uses: list[Callable[[], Any]] = [
        lambda: store.backend,
        lambda: store.core,
        lambda: store.settings,
        lambda: store.asset_state,
        lambda: store.task_state(TASK),
        lambda: store.task_context(TASK),
        lambda: store.events(),
    ]
    for use in uses:
        with pytest.raises(StoreClosedError, match="not open"):
            use()
    operations: list[Callable[[], Any]] = [
        lambda: store.aregister(ORDERS),
        lambda: store.acleanup(),
        lambda: store.adelete_run("dag", "run"),
        lambda: store.alist_watchers(),
        lambda: store.aclaim_watcher(ORDERS, "name", owner="me"),
        lambda: store.asweep_assets(),
        lambda: store.adeactivate(ORDERS),
    ]
    for operation in operations:
        with pytest.raises(StoreClosedError, match="async with connect"):
            await operation()
    assert list(tmp_path.iterdir()) == []


async def test_the_file_the_environment_and_the_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "asyncstore.toml").write_text(f'[state_store]\nbackend = "{HERE}.Four"\n')
    async with connect() as store:
        assert isinstance(store.backend, Four)
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__BACKEND", f"{HERE}.Stubborn")
    async with connect() as store:
        assert isinstance(store.backend, Stubborn)
    async with connect("sqlite://") as store:  # the argument asks for the metastore, whatever is configured
        assert isinstance(store.backend, MetastoreBackend)
        assert store.settings.database.url == "sqlite://"
        assert store.settings.state_store.backend is None
    async with connect(backend=f"{HERE}.Four") as store:
        assert type(store.backend) is Four
    async with connect(backend=MemoryBackend()) as store:
        assert isinstance(store.backend, MemoryBackend)
    async with connect(settings=with_backend("asyncstore.MemoryBackend")) as store:
        assert isinstance(store.backend, MemoryBackend)
    assert not list(tmp_path.glob("*.db"))


async def test_bad_settings_fail_on_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASYNCSTORE__STATE_STORE__DEFAULT_RETENTION_DAYS", "soon")
    with pytest.raises(ConfigurationError, match="default_retention_days"):
        await connect().__aenter__()
    monkeypatch.delenv("ASYNCSTORE__STATE_STORE__DEFAULT_RETENTION_DAYS")
    with pytest.raises(ConfigurationError, match="url and backend exclude each other"):
        await connect("sqlite://", backend=MemoryBackend()).__aenter__()


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("Four", "'Four' is no dotted path of a class, such as 'package.module.Class'"),
        ("nowhere.Four", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        (f"{HERE}.Nothing", "cannot be imported: AttributeError"),
        (f"{HERE}.TASK", "is no subclass of asyncstore.BaseStoreBackend"),
        ("datetime.datetime", "is no subclass of asyncstore.BaseStoreBackend"),
        (f"{HERE}.Unfinished", "does not define aclear, adelete, aset"),
        ("asyncstore.BaseStoreBackend", "does not define aclear, adelete, aget, aset"),
        (f"{HERE}.Broken", "could not be made: RuntimeError: no licence"),
    ],
)
async def test_a_dotted_path_that_leads_to_no_backend(path: str, text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        await connect(settings=with_backend(path)).__aenter__()
    assert str(caught.value).startswith(f"[state_store] backend: {path!r}")
    assert text in str(caught.value)
    if "Error:" in text:
        assert caught.value.__cause__ is not None


async def test_a_backend_that_takes_a_clock_gets_the_stores() -> None:
    clock = ManualClock()
    async with connect(backend=f"{HERE}.Timed", clock=clock) as store:
        assert isinstance(store.backend, Timed)
        assert store.backend.clock is clock


def test_under_trio_it_says_that_asyncio_is_needed() -> None:
    # trio runs no asyncio loop; neither does a coroutine that somebody sends into by hand.
    with pytest.raises(StoreError, match="asyncio is needed"):
        connect("sqlite://").__aenter__().send(None)


# Life.


async def test_a_store_closes_only_what_it_opened() -> None:
    mine = Four()
    async with connect(backend=mine):
        pass
    assert mine.life == []
    async with connect(backend=f"{HERE}.Four") as store:
        theirs = store.backend
    assert isinstance(theirs, Four)
    assert theirs.life == ["open", "close"]


def test_a_store_closes_only_what_it_opened_without_a_loop() -> None:
    mine = Four()
    with connect(backend=mine):
        pass
    assert mine.life == []
    Four.made.clear()
    with connect(backend=f"{HERE}.Stubborn") as store:
        store.task_state(TASK).set("key", 1)
    (made,) = Four.made
    assert made.life == ["open", "close"]


async def test_what_cannot_be_opened_is_closed() -> None:
    store = connect(backend=f"{HERE}.Failing")
    with pytest.raises(StoreError, match="cannot be opened"):
        await store.__aenter__()
    assert [each.life for each in Four.made] == [["open", "close"]]
    assert repr(store) == "<Store, closed>"
    await store.__aexit__(None, None, None)
    assert Four.made[0].life == ["open", "close"]


async def test_an_error_in_the_block_closes_and_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        async with connect(backend=f"{HERE}.Four"):
            raise ZeroDivisionError
    assert Four.made[0].life == ["open", "close"]


async def test_a_slow_backend_is_closed_when_its_scope_is_cancelled() -> None:
    with anyio.CancelScope() as scope:
        async with connect(backend=f"{HERE}.Stubborn"):
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert Four.made[0].life == ["open", "close"]


async def test_a_store_is_entered_once_at_a_time() -> None:
    store = connect("sqlite://")
    async with store:
        with pytest.raises(StoreError, match="open already; enter it once, or connect anew"):
            await store.__aenter__()
        await store.task_state(TASK).aset("key", 1)
    async with store:  # after it was closed it may be entered again; memory has forgotten
        assert await store.task_state(TASK).aget("key") is None


# Retention by default.


@pytest.mark.parametrize(("days", "seconds"), [(30.0, 2_592_000.0), (0.5, 43_200.0), (1e-20, 1e-6)])
async def test_the_default_retention(days: float, seconds: float) -> None:
    clock = ManualClock()
    settings = Settings(state_store=StateStoreSettings(default_retention_days=days))
    async with connect("sqlite://", settings=settings, clock=clock) as store:
        state = store.task_state(TASK)
        await state.aset("key", 1)
        await store.asset_state[ORDERS].aset("key", 1)
        clock.advance(timedelta(seconds=seconds) - timedelta(microseconds=1))
        assert await state.aget("key") == 1
        clock.advance(timedelta(microseconds=1))
        assert await state.aget("key") is None
        assert await store.asset_state[ORDERS].aget("key") == 1


async def test_no_default_retention() -> None:
    settings = Settings(state_store=StateStoreSettings(default_retention_days=0))
    async with connect("sqlite://", settings=settings) as store:
        await store.task_state(TASK).aset("key", 1)
        entry = await store.task_state(TASK).aget_entry("key")
        assert entry is not None
        assert entry.expires_at is None


# What a backend of one's own cannot do.


async def test_what_the_four_operations_do_not_offer() -> None:
    async with connect(backend=Four()) as store:
        state = store.task_state(TASK)
        uses: list[Callable[[], Any]] = [
            lambda: state.aget_entry("key"),
            lambda: state.akeys(),
            lambda: state.aset("key", 1, if_version=0),
            lambda: state.aset_many({"key": 1}),
            lambda: state.aupdate("key", lambda _: 1),
            lambda: state.aadvance("key", 1),
            lambda: store.adeactivate(ORDERS),
            lambda: store.aactivate(ORDERS),
            lambda: store.adelete_asset(ORDERS),
            lambda: store.adelete_run("dag", "run"),
            lambda: store.aclaim_watcher(ORDERS, "watcher", owner="me"),
            lambda: store.alist_watchers(),
            lambda: store.events().alist(),
        ]
        for use in uses:
            with pytest.raises(UnsupportedOperationError, match=r"Four.*Capability|Capability.*Four"):
                await use()


async def test_the_cleanup_and_sweep_of_a_backend_without_them() -> None:
    async with connect(backend=Four()) as store:
        report = await store.acleanup()
        assert (report.backend, report.deleted, report.skipped) == ("Four", None, "Four has no cleanup of its own")
        swept = await store.asweep_assets(dry_run=True)
        assert (swept.backend, swept.deleted, swept.dry_run) == ("Four", 0, True)
        assert swept.skipped == "Four does not deactivate assets"


class Cleaning(Four):
    def __init__(self, result: Any = None) -> None:
        super().__init__()
        self.result = result
        self.cleaned: list[bool] = []

    def cleanup(self) -> Any:
        self.cleaned.append(_on_loop())
        return self.result


class CleaningAsync(Cleaning):
    async def acleanup(self) -> Any:  # type: ignore[override]  # as somebody may write it
        await asyncio.sleep(0)
        self.cleaned.append(_on_loop())
        return self.result


def _on_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


OWN = CleanupReport("Own", 5, False)


@pytest.mark.parametrize(
    ("result", "deleted"), [(None, None), (3, 3), (OWN, 5), ("many", None)], ids=["nothing", "number", "report", "text"]
)
@pytest.mark.parametrize("kind", [Cleaning, CleaningAsync])
def test_a_cleanup_of_the_backends_own(kind: type[Cleaning], result: Any, deleted: int | None) -> None:
    async def run(store: Store) -> CleanupReport:
        return await store.acleanup()

    backend = kind(result)
    with connect(backend=backend) as store:
        for found in (store.cleanup(), asyncio.run(run(store))):
            assert found == (OWN if result is OWN else CleanupReport(kind.__name__, deleted, False))
        assert len(backend.cleaned) == 2
        dry = store.cleanup(dry_run=True)
        assert dry.skipped == f"the cleanup of {kind.__name__} cannot be tried without deleting"
        assert len(backend.cleaned) == 2
    assert backend.cleaned == ([False, False] if kind is Cleaning else [True, True])


# Arguments.


async def test_what_is_no_scope_and_no_asset() -> None:
    async with connect("sqlite://") as store:
        wrong: list[Callable[[], Any]] = [
            lambda: store.task_state("task"),  # type: ignore[arg-type]
            lambda: store.task_state(AssetScope(1)),  # type: ignore[arg-type]
            lambda: store.asset_state["orders"],  # type: ignore[index]
            lambda: store.asset_state[TASK],  # type: ignore[index]
            lambda: store.task_context(TASK, inlets=["orders"]),  # type: ignore[list-item]
        ]
        for use in wrong:
            with pytest.raises(TypeError):
                use()
        awaited: list[Callable[[], Any]] = [
            lambda: store.adeactivate("orders"),  # type: ignore[arg-type]
            lambda: store.aactivate(TASK),  # type: ignore[arg-type]
            lambda: store.adelete_asset(1),  # type: ignore[arg-type]
            lambda: store.adelete_run(1, "run"),  # type: ignore[arg-type]
        ]
        for use in awaited:
            with pytest.raises(TypeError):
                await use()
        for dag_id, run_id in (("", "run"), ("dag", ""), ("dag", "a\0b")):
            with pytest.raises(ValueError, match="_id"):
                await store.adelete_run(dag_id, run_id)


async def test_deleting_a_run() -> None:
    async with connect("sqlite://") as store:
        for dag, run, task in (("dag", "run", "a"), ("dag", "run", "b"), ("dag", "other", "a"), ("other", "run", "a")):
            await store.task_state(TaskScope(dag, run, task, 3)).aset_many({"x": 1, "y": 2})
        assert await store.adelete_run("dag", "run") == 4
        assert await store.adelete_run("dag", "run") == 0
        assert store.core.can(Capability.CLEANUP)
        assert await store.task_state(TaskScope("dag", "other", "a", 3)).akeys() == ["x", "y"]
        assert await store.task_state(TaskScope("other", "run", "a", 3)).akeys() == ["x", "y"]


def test_a_first_import_is_light() -> None:
    script = "import asyncstore, sys; print(sorted({'sqlalchemy', 'alembic', 'aiosqlite'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
