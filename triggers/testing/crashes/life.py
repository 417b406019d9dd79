"""One life of a process that runs a watcher: until it ends by itself, is idle, or is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

from asyncstore import Asset, OutcomeUnknownError, Store, StoreBusyError, connect

from ...harness import Triggerer
from ..following import follow_time
from ..observing import Operation, around_operations, heard, listening
from ..recording import RecordedCommit, Recording
from ..watching import watched_asset
from .freezing import FreezableLoop, Killed
from .points import CrashPoint, Place, Places
from .story import Blow, Fault, Story, World

__all__ = ["Life"]

#: Seconds of virtual time that whoever runs the watcher gets to note that it is done, and to stop.
_AFTERWARDS, _STOPPING = 1.0, 60.0


class Life:
    """Run a watcher once, in a loop of its own, and see where it stands.

    :param story: what is run.
    :param world: what was left by the life before, and is left to the next.
    :param blow: what goes wrong, and when.
    :ivar points: how often the watcher was suspended.
    :ivar eventful: its `points` at its latest event.
    :ivar operations: its operations on the store.
    :ivar commits: those of them that write.
    :ivar struck: where the blow fell; None where it did not come to that.
    :ivar ending: how it ended.
    :ivar plain_writes: where the watcher made commits without an event.
    """

    def __init__(self, story: Story, world: World, blow: Blow) -> None:
        self._story = story
        self._world = world
        self._blow = blow
        asset, watcher = watched_asset(story.make(), story.asset)
        self._asset, self._kind = asset, type(watcher.trigger)
        self._places = Places(self._kind)
        self._loop = FreezableLoop(world.clock, self._suspended)
        self._over = asyncio.Event()
        self._doing: dict[Any, str] = {}
        self._events: Any = None
        self._runs_in: Any = None
        self._told: set[int] = set()
        self._patience = story.idle // (10 if story.is_all(world.told) else 1)
        self.recording = Recording(self._loop, asset.name, watcher.name)
        self.points = self.eventful = self.operations = self.commits = 0
        self.struck: CrashPoint | None = None
        self.ending = ""
        self.plain_writes: list[Place | None] = []

    def run(self) -> None:
        """Live. Leaves nothing that runs, and no task, thread or socket."""
        world, loop = self._world, self._loop
        with ExitStack() as stack:
            stack.enter_context(follow_time(world.clock, self._kind.__module__, *self._story.follow))
            store = connect(backend=world.backend, settings=self._story.settings, clock=world.clock)
            stack.enter_context(store)
            stack.enter_context(around_operations(world.backend, self._around))
            stack.enter_context(heard(self._kind))
            main = loop.create_task(self._main(store, self._asset), name="life", context=listening(self))
            try:
                loop.run_until_complete(main)
            except Killed:
                loop.bury()
                self.ending = "killed"
            finally:
                self._close()

    async def _main(self, store: Store, asset: Asset) -> None:
        triggerer = Triggerer(store, [asset], begin_anew=True)
        running = asyncio.create_task(triggerer.run(), name="triggerer")
        running.add_done_callback(lambda _: self._end("done"))
        while not self._over.is_set():
            before = self.eventful
            try:
                async with asyncio.timeout(self._story.quiet):
                    await self._over.wait()
            except TimeoutError:
                if self.eventful == before:
                    self._end("quiet")
        triggerer.stop()
        await asyncio.wait([running], timeout=_STOPPING)
        if not running.done():
            raise TimeoutError(f"the triggerer did not stop within {_STOPPING:g} s of virtual time")
        running.result()

    def _close(self) -> None:
        loop = self._loop
        if loop.is_closed():
            return
        left = asyncio.all_tasks(loop)
        for task in left:
            task.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()

    def _end(self, how: str) -> None:
        if not self._over.is_set():
            self.ending = how
            self._over.set()

    # What the watcher does.

    def _suspended(self) -> None:
        if self._over.is_set():
            return
        self.points += 1
        if self._blow == Blow(Fault.KILL, self.points):
            self._strike(self.points)
            raise Killed
        waits = self._blow.fault is Fault.KILL and self.struck is None and self._blow.at > 0
        if not waits and self.points - self.eventful >= self._patience:
            self._end("idle")

    def _strike(self, number: int) -> None:
        task = asyncio.current_task(self._loop)
        place, called = self._places.suspended(getattr(task and task.get_coro(), "inner", None))
        self.struck = self._point(number, place, self._doing.get(task), called)

    def _point(self, number: int, place: Place | None, doing: str | None, called: str = "") -> CrashPoint:
        if place is not None:
            return CrashPoint(number, place, doing or f"awaiting {called or 'something'}")
        if self._events is None:
            return CrashPoint(number, None, f"before run(), {doing}")
        place, _ = self._places.suspended(self._events)
        if place is None:
            return CrashPoint(number, None, f"run() was over, {doing or 'not yet noted'}")
        if doing is None and asyncio.current_task(self._loop) is not self._runs_in:
            return CrashPoint(number, place, "while another of its tasks waits")
        return CrashPoint(number, place, doing or "not yet resumed")  # it stands at its `yield`

    def run_prepared(self) -> None:
        """Watch the task that opens a shared stream, and with it those that read it."""
        self._loop.watch_task()

    def run_started(self, events: AsyncIterator[Any]) -> None:
        """Note an attempt; see `RunListener`."""
        self._events = events
        self.recording.run_started(events)

    def run_entered(self) -> None:
        """Watch whatever task the watcher runs in."""
        self._loop.watch_task()
        self._runs_in = asyncio.current_task(self._loop)

    def run_left(self, error: Exception | None) -> None:
        """Note how the watcher left."""
        self.recording.run_left(error)
        if self.recording.done:
            self._loop.call_later(_AFTERWARDS, self._end, "done")

    async def _around(self, operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        commit = operation.commit
        concerned = commit is not None and self.recording.concerns(commit)
        if operation.blocking or not (concerned or self._loop.is_watched()):
            return await self._made(operation, call)
        self._loop.watch_task()  # whoever commits for the watcher dies with it
        self.operations += 1
        self.commits += commit is not None
        what = _describe(operation)
        await self._pause(f"{what}: not yet made")
        result = await self._struck(operation, call)
        await self._pause(f"{what}: made, its answer on the way")
        return result

    async def _pause(self, doing: str) -> None:
        # Operations in memory never suspend; those of a database do, before they are made and after.
        task = asyncio.current_task()
        self._doing[task] = doing
        await asyncio.sleep(0)
        self._doing.pop(task, None)

    async def _struck(self, operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        fault, at = self._blow.fault, self._blow.at
        number = self.operations if fault is Fault.BUSY else self.commits if operation.commit is not None else 0
        if fault is Fault.KILL or at == 0 or number != at or self.struck is not None:
            return await self._made(operation, call)
        self.struck = self._point(number, self._places.now(), f"{_describe(operation)}: {fault}")
        if fault is Fault.BUSY:
            raise StoreBusyError("the test kit: the database is busy, nothing was written")
        if fault is Fault.UNKNOWN_MADE:
            await self._made(operation, call)
        raise OutcomeUnknownError("the test kit: the connection was lost, nobody knows whether it was written")

    async def _made(self, operation: Operation, call: Callable[[], Awaitable[Any]]) -> Any:
        seen = len(self.recording.commits)
        commit = operation.commit
        if commit is not None and not commit.events and self.recording.concerns(commit):
            self.plain_writes.append(self._places.now())
        result = await self.recording.around(operation, call)
        told = self.recording.commits[seen:]
        if any(each.event is not None and each.event.id not in self._told for each in told):
            self._eventful(told)
        return result

    def _eventful(self, told: list[RecordedCommit]) -> None:
        # One that was recorded in an earlier life counts, too, once: a watcher may tell everything again by its key.
        self._told.update(each.event.id for each in told if each.event is not None)
        identify = self._story.identify
        new = [each.event for each in told if each.event is not None and not each.duplicate]
        self._world.told += [identify(event.payload) for event in new]
        self.eventful = self.points
        self._patience = self._story.idle // (10 if self._story.is_all(self._world.told) else 1)
        if self._story.is_enough(self._world.told):
            self._end("enough")
        elif self._story.is_too_much(self._world.told):
            self._end("endless")


def _describe(operation: Operation) -> str:
    commit = operation.commit
    if commit is None:
        key = next((f" of {each!r}" for each in operation.arguments if type(each) is str), "")
        return f"{operation.name}{key}"
    named = [repr(getattr(change, "key", "everything")) for change in commit.changes]
    keys = ", ".join(named[:3]) + (f" and {len(named) - 3} more" if len(named) > 3 else "")
    if commit.events:
        return f"the commit of the event and its checkpoint ({keys})" if keys else "the commit of the event"
    return f"a write of {keys} by itself"
