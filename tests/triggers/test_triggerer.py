from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar

import anyio
import pytest

from asyncstore import (
    Asset,
    BaseStoreBackend,
    ClaimedWatcher,
    Commit,
    Event,
    LeaseLostError,
    MemoryBackend,
    Store,
    StoreBusyError,
    UnsupportedOperationError,
    WatcherState,
    connect,
)
from triggers import (
    AssetWatcher,
    BaseEventTrigger,
    BaseTrigger,
    DiscoveryError,
    InvalidTriggerError,
    Triggerer,
    TriggerEvent,
)

from .support import QUICK, Recorder, patched, run_to_the_end, until, watched

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, anyio_backend: str) -> AsyncIterator[Store]:
    if request.param == "memory":
        opened = connect(backend=MemoryBackend(), settings=QUICK)
    else:
        opened = connect("sqlite+aiosqlite:///:memory:", settings=QUICK)
    async with opened as store:
        yield store


class Log(BaseEventTrigger):
    """Notes what happens to its instances."""

    notes: ClassVar[list[str]] = []

    async def cleanup(self) -> None:
        self.notes.append("cleanup")


@pytest.fixture(autouse=True)
def _forget_notes() -> None:
    Log.notes.clear()


class Count(Log):
    def __init__(self, upto: int, fail_at: Sequence[int] = ()) -> None:
        self.upto = upto
        self.fail_at = list(fail_at)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        at = await self.asset_state.aget("watermark", 0)
        while at < self.upto:
            at += 1
            yield TriggerEvent(at, checkpoint={"watermark": at})
            if at in self.fail_at:
                raise RuntimeError(f"failed at {at}")


@pytest.mark.filterwarnings("ignore::asyncstore.BlockingCallWarning")
async def test_each_event_is_in_the_log_with_its_checkpoint_when_the_generator_is_resumed(store: Store) -> None:
    counts = Asset("counts")

    class Look(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            for number in range(3):
                yield TriggerEvent(number, checkpoint={"watermark": number})
                log = await store.events(counts).alist()
                assert [event.payload for event in log] == list(range(number + 1))
                assert await self.asset_state.aget("watermark") == number
                assert await self.asset_state[counts].aget("watermark") == number
                assert self.asset_state[counts].get("watermark") == number

    recorder = await run_to_the_end(store, Asset("counts", watchers=[AssetWatcher("look", Look())]))
    assert recorder.payloads == [0, 1, 2]
    assert [event.id for event in recorder.events] == [event.id for event in await store.events(counts).alist()]
    entry = await store.asset_state[counts].aget_entry("watermark")
    assert entry is not None
    assert entry.updated_by == "watcher:counts/look"


async def test_a_watcher_that_raises_starts_again_from_its_watermark_and_its_siblings_go_on(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    calm, flaky = watched("calm", Count(5)), watched("flaky", Count(7, fail_at=[2, 4]))
    recorder = await run_to_the_end(store, calm, flaky)
    flaky_numbers: list[Any] = [event.payload for event in recorder.events if event.asset == "flaky"]
    assert flaky_numbers == list(range(1, 8))
    records = {record.asset: record for record in await store.alist_watchers()}
    assert (records["flaky"].state, records["flaky"].restarts) == (WatcherState.DONE, 2)
    assert "RuntimeError: failed at 4" in str(records["flaky"].last_error)
    assert records["flaky"].last_error_at is not None
    assert (records["calm"].restarts, records["calm"].last_error) == (0, None)
    assert "failed at 2" in caplog.text
    assert Log.notes == ["cleanup"] * 4


async def test_every_attempt_gets_a_fresh_trigger(store: Store) -> None:
    class Stateful(BaseEventTrigger):
        def __init__(self, names: list[str]) -> None:
            self.names = names

        async def run(self) -> AsyncIterator[TriggerEvent]:
            assert self.names == ["a"]
            self.names.append("b")
            if not await self.asset_state.aget("tried", False):
                await self.asset_state.aset("tried", True)
                raise RuntimeError("once")
            yield TriggerEvent("second attempt")

    names = ["a"]
    recorder = await run_to_the_end(store, watched("a", Stateful(names)))
    assert recorder.payloads == ["second attempt"]
    assert names == ["a"]


@pytest.mark.parametrize(
    ("event", "error"),
    [
        (TriggerEvent(object()), TypeError),
        (TriggerEvent(float("nan")), ValueError),
        (TriggerEvent("x" * 70_000), ValueError),
        (TriggerEvent(1, checkpoint={"watermark": None}), ValueError),
        (TriggerEvent(1, checkpoint={"watermark": {1}}), TypeError),
        (TriggerEvent(1, checkpoint={"": 1}), ValueError),
        (TriggerEvent(1, checkpoint=[("watermark", 1)]), TypeError),  # type: ignore[arg-type]
        (TriggerEvent(1, checkpoint={Asset("a"): 1}), TypeError),  # type: ignore[arg-type]
        (TriggerEvent(1, checkpoint={Asset("a"): {"k": 1}, "k": 1}), TypeError),  # type: ignore[arg-type]
        (TriggerEvent(1, key=""), ValueError),
        (TriggerEvent(1, key=3), TypeError),  # type: ignore[arg-type]
        ("no event", InvalidTriggerError),
    ],
)
async def test_what_is_not_valid_raises_at_the_yield_and_nothing_is_written(
    store: Store, event: Any, error: type[Exception]
) -> None:
    caught: list[Exception] = []

    class Yields(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            try:
                yield event
            except (TypeError, ValueError) as raised:
                caught.append(raised)
            yield TriggerEvent("after")

    recorder = await run_to_the_end(store, watched("a", Yields()))
    assert isinstance(caught[0], error)
    assert recorder.payloads == ["after"]
    assert await store.asset_state[Asset("a")].akeys() == []


async def test_a_checkpoint_may_name_several_assets(store: Store) -> None:
    other = Asset("other", uri="s3://other")

    class Both(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent(1, checkpoint={Asset("a"): {"k": 1}, other: {"k": 2}})
            await self.asset_state[other].aset("l", 3)

    await run_to_the_end(store, watched("a", Both()))
    assert await store.asset_state[Asset("a")].aget("k") == 1
    assert await store.asset_state[other].aget_many(["k", "l"]) == {"k": 2, "l": 3}


async def test_an_event_of_a_known_key_is_not_recorded_again_but_its_checkpoint_is(store: Store) -> None:
    class Twice(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent("first", key="k", checkpoint={"n": 1})
            yield TriggerEvent("second", key="k", checkpoint={"n": 2})

    recorder = await run_to_the_end(store, watched("a", Twice()))
    assert recorder.payloads == ["first"]
    assert await store.asset_state[Asset("a")].aget("n") == 2


async def test_a_busy_database_is_tried_again_without_resuming_the_generator(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[Commit] = []
    acommit = ClaimedWatcher.acommit

    async def busy_at_first(self: ClaimedWatcher, commit: Commit) -> Any:
        commits.append(commit)
        if len(commits) in {1, 2, 4}:
            raise StoreBusyError("locked")
        return await acommit(self, commit)

    def no_delay(*_: object) -> float:
        return 0.0

    monkeypatch.setattr(ClaimedWatcher, "acommit", busy_at_first)
    monkeypatch.setattr("triggers.harness.supervisor.Backoff.next", no_delay)
    recorder = await run_to_the_end(store, watched("a", Count(2)))
    assert recorder.payloads == [1, 2]
    assert len(commits) == 5
    assert Log.notes == ["cleanup"]


@pytest.mark.parametrize("error", [ValueError("bad"), StoreBusyError("locked")])
async def test_what_follows_a_commit_is_never_a_reason_to_commit_again(store: Store, error: Exception) -> None:
    thrown: list[Exception] = []

    class Careful(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            at = await self.asset_state.aget("at", 0)
            try:
                if at == 0:
                    yield TriggerEvent("once", checkpoint={"at": 1})
            except Exception as raised:
                thrown.append(raised)

    async def fails(event: Event) -> None:
        raise error

    with anyio.fail_after(20):
        await Triggerer(store, [watched("a", Careful())], on_event=fails).run()
    assert thrown == []
    assert len(await store.events().alist()) == 1
    assert "bad" in str((await store.alist_watchers())[0].last_error) or isinstance(error, StoreBusyError)


async def test_a_watcher_claimed_elsewhere_stops_and_writes_nothing_more(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Intruded(Log):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent("mine", checkpoint={"n": 1})
            await store.aclaim_watcher(Asset("a"), "w0", owner="somebody else")
            with pytest.raises(LeaseLostError, match="claimed by another process"):
                await self.asset_state.aset("n", 2)
            with pytest.raises(LeaseLostError):
                await self.asset_state[Asset("b")].aadvance("n", 2)
            yield TriggerEvent("not mine", checkpoint={"n": 3})
            self.notes.append("resumed")

    triggerer = Triggerer(store, [watched("a", Intruded())])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(triggerer.run)
        await until(lambda: Log.notes == ["cleanup"])
        await until(lambda: "nothing to run here: 1 watchers" in caplog.text)
        triggerer.stop()
    assert Log.notes == ["cleanup"]
    assert await store.asset_state[Asset("a")].aget("n") == 1
    assert [event.payload for event in await store.events().alist()] == ["mine"]
    assert (await store.alist_watchers())[0].state is WatcherState.RUNNING  # as the other one has it
    assert "claimed by another process" in caplog.text


class Forever(Log):
    async def run(self) -> AsyncIterator[TriggerEvent]:
        try:
            yield TriggerEvent("up")
            await anyio.sleep_forever()
        finally:
            self.notes.append("finally")


async def test_stop_cancels_cleans_up_and_says_so(store: Store) -> None:
    recorder = Recorder()
    triggerer = Triggerer(store, [watched("a", Forever(), Forever())], on_event=recorder)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(triggerer.run)
        await until(lambda: len(recorder.events) == 2)
        assert triggerer.states == {WatcherState.RUNNING: 2}
        triggerer.stop()
    assert sorted(Log.notes) == ["cleanup", "cleanup", "finally", "finally"]
    assert {record.state for record in await store.alist_watchers()} == {WatcherState.WAITING}


async def test_stop_finishes_the_commit_in_hand(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    acommit = ClaimedWatcher.acommit
    recorder = Recorder()
    triggerer = Triggerer(store, [watched("a", Count(1000))], on_event=recorder)

    async def slow(self: ClaimedWatcher, commit: Commit) -> Any:
        if recorder.payloads == [1, 2]:
            triggerer.stop()
            await anyio.sleep(0.01)
        return await acommit(self, commit)

    monkeypatch.setattr(ClaimedWatcher, "acommit", slow)
    with anyio.fail_after(20):
        await triggerer.run()
    assert recorder.payloads == [1, 2, 3]
    assert [event.payload for event in await store.events().alist()] == [1, 2, 3]
    assert await store.asset_state[Asset("a")].aget("watermark") == 3


async def test_a_commit_that_hangs_does_not_hold_up_the_drain(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    hangs = anyio.Event()

    async def hang(*_: object) -> Any:
        hangs.set()
        await anyio.sleep_forever()

    monkeypatch.setattr(ClaimedWatcher, "acommit", hang)
    quick = QUICK.triggerer.model_copy(update={"drain_timeout": 0.05})
    with patched(store, "_settings", QUICK.model_copy(update={"triggerer": quick})):
        triggerer = Triggerer(store, [watched("a", Count(1))])
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            await hangs.wait()
            triggerer.stop()
    assert Log.notes == ["cleanup"]


async def test_a_cleanup_that_hangs_does_not_hold_up_the_drain(store: Store) -> None:
    class Hanging(Forever):
        async def cleanup(self) -> None:
            await anyio.sleep_forever()

    recorder = Recorder()
    quick = QUICK.triggerer.model_copy(update={"drain_timeout": 0.05})
    with patched(store, "_settings", QUICK.model_copy(update={"triggerer": quick})):
        triggerer = Triggerer(store, [watched("a", Hanging())], on_event=recorder)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            await until(lambda: len(recorder.events) == 1)
            tasks.cancel_scope.cancel()  # as a caller does who does not know of `stop`


async def test_an_asset_that_is_deleted_meanwhile_is_claimed_anew(store: Store) -> None:
    class Deletes(BaseEventTrigger):
        async def run(self) -> AsyncIterator[TriggerEvent]:
            yield TriggerEvent("before", checkpoint={"n": 1})
            if not await self.asset_state[Asset("memory")].aget("deleted", False):
                await self.asset_state[Asset("memory")].aset("deleted", True)
                await store.adelete_asset(Asset("a"))
                yield TriggerEvent("into nothing")

    recorder = await run_to_the_end(store, watched("a", Deletes()))
    assert recorder.payloads == ["before", "before"]
    assert len(await store.events(Asset("a")).alist()) == 1


async def test_a_deactivated_asset_backs_off_until_it_is_active_again(store: Store) -> None:
    await store.aregister(Asset("a"))
    await store.adeactivate(Asset("a"))
    recorder = Recorder()
    triggerer = Triggerer(store, [watched("a", Count(2))], on_event=recorder)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(triggerer.run)
            await anyio.sleep(0.01)
            assert recorder.events == []
            await store.aactivate(Asset("a"))
    assert recorder.payloads == [1, 2]


class NoGenerator(BaseEventTrigger):
    async def run(self) -> Any:  # type: ignore[override]  # the mistake that is tested
        return None


class NotAsync(BaseEventTrigger):
    def run(self) -> Any:
        yield TriggerEvent(None)


class Panic(BaseException):
    """As libraries in other languages raise it."""


class Panics(BaseEventTrigger):
    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield await self.fail()

    async def fail(self) -> TriggerEvent:
        raise BaseExceptionGroup("of a task group", [Panic("out of order")])


async def test_what_is_no_exception_is_an_error_of_the_watcher_all_the_same(store: Store) -> None:
    async with anyio.create_task_group() as tasks:
        triggerer = Triggerer(store, [watched("a", Panics())])
        tasks.start_soon(triggerer.run)

        async def is_restarted() -> bool:
            return any(each.restarts >= 2 for each in await store.alist_watchers())

        await until(is_restarted)
        triggerer.stop()
    assert "Panic: out of order" in ((await store.alist_watchers())[0].last_error or "")


class Renames(BaseEventTrigger):
    def __init__(self, table: str) -> None:
        if table == "gone":
            raise LookupError("no such table")

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "somewhere.Else", {"table": "gone"}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        yield TriggerEvent(None)


@pytest.mark.parametrize(
    ("trigger", "says"),
    [
        (NoGenerator(), "no async generator: it holds no `yield`"),
        (NotAsync(), "no async generator: write `async def`"),
        (Count(object()), "argument 'upto' is not JSON"),  # type: ignore[arg-type]
        (Renames("t"), "cannot be made from its own arguments .table.: LookupError: no such table"),
    ],
)
async def test_a_trigger_that_cannot_run_is_refused_before_anything_runs(
    store: Store, trigger: BaseTrigger, says: str
) -> None:
    with pytest.raises(InvalidTriggerError, match=says):
        Triggerer(store, [watched("fine", Count(1)), watched("a", trigger)])
    assert await store.alist_watchers() == []


async def test_nothing_to_run_and_names_that_collide_are_refused(store: Store) -> None:
    with pytest.raises(DiscoveryError, match="no asset has a watcher"):
        Triggerer(store, [Asset("a")])
    with pytest.raises(InvalidTriggerError, match="two watchers of asset 'a' are named 'w0'"):
        Triggerer(store, [watched("a", Count(1)), watched("a", Count(2))])


async def test_a_backend_that_cannot_commit_is_refused() -> None:
    class Four(BaseStoreBackend):
        async def aget(self, *_: Any, **__: Any) -> None: ...
        async def aset(self, *_: Any, **__: Any) -> None: ...
        async def adelete(self, *_: Any, **__: Any) -> None: ...
        async def aclear(self, *_: Any, **__: Any) -> None: ...

    async with connect(backend=Four(), settings=QUICK) as store:
        with pytest.raises(UnsupportedOperationError, match="Four cannot run watchers"):
            Triggerer(store, [watched("a", Count(1))])


async def test_garbage_is_collected_while_watchers_run(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "triggers")
    settings = QUICK.triggerer.model_copy(update={"cleanup_interval": 0.001})
    with patched(store, "_settings", QUICK.model_copy(update={"triggerer": settings})):
        triggerer = Triggerer(store, [watched("a", Forever())])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(triggerer.run)
        await until(lambda: "garbage collection: 0 task rows" in caplog.text)
        triggerer.stop()
