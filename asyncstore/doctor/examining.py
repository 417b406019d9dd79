"""The examination: from the configuration to the events that nobody reads, each check after what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from ..abc import BaseStoreBackend, Capability
from ..backends.choice import choose, choose_worker
from ..errors import ConfigurationError, SchemaError, StoreError
from ..settings import Settings, WorkersSettings
from ..store import Store, connect
from .records import Finding, Status, failed, ok, skipped
from .standing import examine_standing
from .worker import examine_worker

__all__ = ["examine"]


async def examine(read: Callable[[], Settings]) -> AsyncIterator[Finding]:
    """Look at everything around a store; changes nothing that stays.

    :param read: reads the settings.
    """
    try:
        settings = read()
    except ConfigurationError as error:
        for line in str(error).split("\n"):
            yield failed("configuration", line, "correct it where it was set; `asyncstore config show` tells the rest")
        return
    yield ok("configuration", "every option is known and has an allowed value")
    try:
        backend = choose(settings, None)()
    except ConfigurationError as error:
        yield failed("database", str(error), "correct [state_store] backend or [database] url")
        return
    broken = False
    async for finding in _examine_backend(backend):
        broken |= finding.check in {"database", "schema"} and finding.status in {Status.FAILED, Status.WARNING}
        yield finding
    yield await _examine_worker(settings)
    if broken:
        yield skipped("watchers", "leases, consumers and garbage can be looked at once the database is there")
        return
    async for finding in _examine_store(settings):
        yield finding


async def _examine_backend(backend: BaseStoreBackend) -> AsyncIterator[Finding]:
    examine_metastore = getattr(backend, "examine", None)
    if examine_metastore is None:
        yield skipped("database", f"no metastore is in use: [state_store] backend is {type(backend).__name__}")
        return
    found: AsyncIterator[Finding] = examine_metastore()
    try:
        async for finding in found:
            yield finding
    except SchemaError as error:
        yield failed("schema", str(error), "run `asyncstore db upgrade`, or install the release that wrote it")
    except StoreError as error:
        yield failed("database", str(error), "see what the message says, and try again")
    finally:
        await backend.aclose()


async def _examine_worker(settings: Settings) -> Finding:
    try:
        make = choose_worker(settings, None)
        if make is None:
            return ok("worker", "no worker-side backend is configured; values are in the store")
        return await examine_worker(make())
    except ConfigurationError as error:
        fix = "correct [workers] state_backend and [common.io]; ours needs: pip install 'asyncstore[objectstore]'"
        return failed("worker", str(error), fix)


async def _examine_store(settings: Settings) -> AsyncIterator[Finding]:
    settings = settings.model_copy(update={"workers": WorkersSettings()})  # which was looked at by itself
    try:
        async with connect(settings=settings) as store:
            async for finding in _standing(store):
                yield finding
    except StoreError as error:
        yield failed("store", str(error), "see what the message says; `asyncstore --debug doctor` shows where")


async def _standing(store: Store) -> AsyncIterator[Finding]:
    if not store.core.can(Capability.COMMIT | Capability.CONSUMERS | Capability.CLEANUP):
        name = type(store.backend).__name__
        yield skipped("watchers", f"{name} runs no watchers, and keeps no events that could lag")
        return
    async for finding in examine_standing(store):
        yield finding
