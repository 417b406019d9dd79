"""What the tests of the suite are given, and what a subclass says about its backend."""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, ClassVar, ParamSpec

import pytest

from ..abc import BaseStoreBackend, Capability
from ..accessors import AssetStoreAccessor, TaskStoreAccessor
from ..clock import ManualClock, from_microseconds
from ..errors import UnsupportedOperationError
from ..scopes import Asset, AssetScope, Scope, TaskScope
from ..settings import Settings, StateStoreSettings
from ..store import Store, connect
from .calling import Caller, Way

__all__ = ["TASK", "ConformanceBase", "Harness", "awaited", "requires"]

P = ParamSpec("P")
LetPass = Callable[[ManualClock, timedelta], Awaitable[None]]

#: The task instance that tests use where one is as good as another.
TASK = TaskScope("dag", "run", "task")

#: Marks a test that has only one way of calling.
awaited = pytest.mark.parametrize("way", [Way.AWAIT], ids=str)


class Harness:
    """Hold one backend, a store on it, and the way of calling.

    :param backend: the backend.
    :param clock: the clock of the store.
    :param call: calls operations.
    :param let_pass: moves time.
    :param retention: how long values are kept in tests of expiry.
    :param tick: the shortest time that matters.
    :param make_settings: gives the options of a store.
    """

    def __init__(
        self,
        backend: BaseStoreBackend,
        clock: ManualClock,
        call: Caller,
        *,
        let_pass: LetPass,
        retention: timedelta,
        tick: timedelta,
        make_settings: Callable[[StateStoreSettings], Settings],
    ) -> None:
        self._make_settings = make_settings
        self.backend = backend
        self.clock = clock
        self.call = call
        self.retention = retention
        self.tick = tick
        self._let_pass = let_pass
        self._store: Store | None = None

    @property
    def way(self) -> Way:
        """Return how operations are called."""
        return self.call.way

    @property
    def store(self) -> Store:
        """Return the store, which has the default settings."""
        assert self._store is not None
        return self._store

    @property
    def now(self) -> datetime:
        """Return where the clock stands."""
        return from_microseconds(self.clock.microseconds())

    async def let_pass(self, by: timedelta) -> None:
        """Move time.

        :param by: how far.
        """
        await self._let_pass(self.clock, by)

    def has(self, capability: Capability) -> bool:
        """Tell whether the backend declares capabilities.

        :param capability: all of these.
        """
        return capability in self.backend.capabilities

    @asynccontextmanager
    async def open_store(self, **options: Any) -> AsyncGenerator[Store]:
        """Open a store on the backend.

        :param options: of `[state_store]`; the defaults for the rest.
        """
        settings = self._make_settings(StateStoreSettings(**options))
        store = connect(backend=self.backend, settings=settings, clock=self.clock)
        await self.call(store.__aenter__)
        try:
            yield store
        finally:
            await self.call(store.__aexit__, None, None, None)

    @asynccontextmanager
    async def opened(self) -> AsyncGenerator[Harness]:
        """Open the store of the harness."""
        async with self.open_store() as self._store:
            yield self

    def task(self, scope: TaskScope = TASK) -> TaskStoreAccessor:
        """Give the state of a task instance.

        :param scope: the task instance.
        """
        return self.store.task_state(scope)

    def asset(self, name: str = "orders") -> AssetStoreAccessor:
        """Give the state of an asset, which is registered at the first operation.

        :param name: its name.
        """
        return self.store.asset_state[Asset(name)]

    async def asset_scope(self, name: str = "orders") -> AssetScope:
        """Register an asset and give its canonical scope, for calls of the bare backend.

        :param name: its name.
        """
        return await self.call(self.backend.aregister_asset, Asset(name))

    async def scopes(self) -> list[Scope]:
        """Give a scope of each kind, for calls of the bare backend."""
        return [TASK, await self.asset_scope()]


def requires(capability: Capability) -> Callable[[Callable[P, Awaitable[None]]], Callable[P, Awaitable[None]]]:
    """Make a test that holds where the backend declares capabilities, and that must be refused where it does not.

    :param capability: what the test needs.
    :return: a decorator of test methods that take a `harness`.
    """

    def decorate(test: Callable[P, Awaitable[None]]) -> Callable[P, Awaitable[None]]:
        @functools.wraps(test)
        async def run(*args: P.args, **kwargs: P.kwargs) -> None:
            harness = next(each for each in (*args, *kwargs.values()) if isinstance(each, Harness))
            if harness.has(capability):
                await test(*args, **kwargs)
                return
            with pytest.raises(UnsupportedOperationError, match=r"Capability\.[A-Z]") as refused:
                await test(*args, **kwargs)
            assert type(harness.backend).__name__ in str(refused.value)

        return run

    return decorate


class ConformanceBase:
    """Say what is tested, and how its time passes. Subclasses override `make_backend`, and the rest where needed."""

    #: How long values are kept in tests of expiry.
    retention: ClassVar[timedelta] = timedelta(hours=1)
    #: The shortest time that matters: a value is there this long before its expiry, and absent at it.
    tick: ClassVar[timedelta] = timedelta(microseconds=1)

    pytestmark: ClassVar[pytest.MarkDecorator] = pytest.mark.anyio

    def make_backend(self, clock: ManualClock) -> AbstractAsyncContextManager[BaseStoreBackend]:
        """Give an empty backend, opened on entry and closed on exit; called for each test.

        :param clock: tells the time; a backend that honours `expires_at` must read it, or `let_pass` be overridden.
        """
        raise NotImplementedError(f"{type(self).__name__} must override make_backend")

    def make_clock(self) -> ManualClock:
        """Give the clock of one test; override where the backend keeps a clock of its own, to begin at its time."""
        return ManualClock()

    def make_settings(self, state_store: StateStoreSettings) -> Settings:
        """Give the options of a store; override to have a worker-side backend around every operation.

        :param state_store: the options of that section.
        """
        return Settings(state_store=state_store)

    async def let_pass(self, clock: ManualClock, by: timedelta) -> None:
        """Move time; override to move the backend's own clock as well.

        :param clock: the store's clock.
        :param by: how far.
        """
        clock.advance(by)

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Give the event loop that the tests run on."""
        return "asyncio"

    @pytest.fixture(params=list(Way), ids=str)
    def way(self, request: pytest.FixtureRequest) -> Way:
        """Give each way of calling; override with fewer where a backend is slow."""
        way: Way = request.param
        return way

    @pytest.fixture
    async def harness(self, way: Way) -> AsyncGenerator[Harness]:
        """Give the backend with a store on it."""
        clock = self.make_clock()
        call = Caller(way)
        try:
            async with self.make_backend(clock) as backend:
                backend.watch_interval = min(backend.watch_interval, 0.001)
                harness = Harness(
                    backend,
                    clock,
                    call,
                    let_pass=self.let_pass,
                    retention=self.retention,
                    tick=self.tick,
                    make_settings=self.make_settings,
                )
                async with harness.opened():
                    yield harness
        finally:
            call.close()
