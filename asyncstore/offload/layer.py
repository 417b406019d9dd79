"""The accessors' way to a backend where values stay with the worker: kept before a commit, loaded after a read.

The row decides. It is written after the object, so that whatever happens in between, the old row still leads to the old
value; and what the commit replaced goes after it.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from ..abc import BaseStoreBackend, Capability
from ..blocking import inline
from ..changes import Change, Clear, Commit, CommitResult, Delete, Put
from ..core import Core
from ..errors import (
    AssetInactiveError,
    AssetNotFoundError,
    BrokenReferenceError,
    StoreError,
    UnsupportedOperationError,
    WorkerBackendError,
)
from ..records import StoredEntry
from ..registration import carried
from ..scopes import AssetScope, Scope, TaskScope
from ..values import JsonValue, check_size, decode, encode
from .abandoned import Tell, remove_abandoned
from .abc import Keeper, Place
from .collecting import Collector
from .in_place import InPlaceKeeper
from .outcomes import surely_failed
from .stored import Loaded, Pending, is_reference
from .telling import InlineTeller
from .together import together
from .weighing import is_small

__all__ = ["OffloadingCore"]

T = TypeVar("T")
_log = logging.getLogger(__name__)

#: How the writer of a checkpoint begins.
_WATCHER = "watcher:"


class OffloadingCore(Core):
    """Call a backend, and around it the backend that stays with the worker.

    :param backend: the backend of the rows.
    :param worker: the worker-side backend.
    :param grace: how old an object without a row is before it counts as abandoned; None where none ever does.
    :param options: as for `Core`.
    """

    def __init__(
        self, backend: BaseStoreBackend, worker: BaseStoreBackend, *, grace: timedelta | None, **options: Any
    ) -> None:
        super().__init__(backend, **options)
        self._grace = grace
        self.worker = worker
        self.keeper: Keeper = worker if isinstance(worker, Keeper) else InPlaceKeeper(worker)
        self.collector = Collector(self, self.keeper)
        self._teller = InlineTeller(self.keeper)
        self._names: dict[int, str] = {}

    async def aopen(self) -> None:
        """Open the worker-side backend."""
        await self.work(self.worker.aopen)
        if self.keeper.immutable:
            self.keeper.identity = await self._identity()

    async def _identity(self) -> str | None:
        if self.can(Capability.LEFTOVERS):
            return await self.call(lambda: self.backend.leftovers.aidentity())
        return await carried.identify(self._read, self._write) if self._carries else None

    async def aclose(self) -> None:
        """Remove what is due, and close the worker-side backend."""
        try:
            await self.collector.aclose()
        finally:
            await self.work(self.worker.aclose)

    async def collect(self, known: Sequence[str], *, dry_run: bool, tell: Tell) -> tuple[int, str | None]:
        """Remove what rows let go of, and what no row ever referred to."""
        told = set(known)

        def note(paths: Sequence[str]) -> None:
            if dry_run:  # else it is gone, and not found again
                told.update(paths)
            tell(paths)

        count = await self.collector.drain(note, dry_run=dry_run)
        if self._grace is None:
            return count, None
        more, skipped = await remove_abandoned(self, self._grace, told, dry_run=dry_run, tell=tell)
        return count + more, skipped

    async def removed(self) -> None:
        """Remove what went with rows that were deleted just now."""
        await self.collector.try_to_drain()

    async def work(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await a coroutine of the worker-side backend; from sync code, in the way it offers."""
        if inline():
            return self.worker.run_blocking(function)
        return await function()

    # What is on its way.

    keeps = True

    def encode(self, key: str, value: object) -> str:
        """Hold a value until it is kept: as it is now, but what is large, which is judged off the event loop."""
        return Pending.of(decode(encode(value)) if is_small(value) else value)

    def decode(self, text: str) -> JsonValue:
        """Read a value from what `get` gave."""
        return text.value if isinstance(text, Loaded) else decode(text)

    def check_allows(self, operation: str, *, of_task: bool) -> None:
        """Refuse what an overwriting backend cannot do.

        :raises UnsupportedOperationError: it cannot.
        """
        if not self.keeper.immutable and ("task" if of_task else "asset") in self.keeper.kinds:
            raise self._overwrites(operation)

    def _overwrites(self, operation: str) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{operation} is not possible where {self.keeper.name} keeps the value: it overwrites in place, so that "
            "what fails could not be undone; ObjectStorageBackend can"
        )

    def _is_kept(self, change: Change) -> bool:
        return self.keeper.keeps(change.scope, None if isinstance(change, Clear) else change.key)

    async def _place(self, scope: Scope, key: str) -> Place:
        if isinstance(scope, TaskScope):
            return Place("task", scope.ti_id, key)
        if scope.name is not None:
            return Place("asset", scope.name, key)
        name = None if scope.asset_id is None else self._names.get(scope.asset_id)
        if name is None:
            name = (await self.call(lambda: self.backend.aget_asset(scope))).name
            if scope.asset_id is not None:  # a URI may be another asset's one day, an id never is
                self._names[scope.asset_id] = name
        return Place("asset", name, key)

    # Writes.

    async def prepare(self, commit: Commit) -> Commit:
        """Keep the checkpoint of an event, so that what is wrong with it shows before anything is written."""
        if self.keeper.immutable:
            return (await self._keep(commit, None))[0]
        changes = [self._in_line(change) for change in commit.changes]
        for change in commit.changes:
            self._teller.knows(change)
        return replace(commit, changes=tuple(changes))

    def _in_line(self, change: Change) -> Change:
        if not isinstance(change, Put) or not isinstance(change.value, Pending):
            return change
        return replace(change, value=self.encode_inline(change.key, change.value.value))

    async def _keep(self, commit: Commit, session: Any) -> tuple[Commit, list[str]]:
        """Keep the values of a commit; gives the commit with references, and those that are new."""
        changes = [each if self._is_kept(each) else self._in_line(each) for each in commit.changes]
        puts = [each for each in changes if isinstance(each, Put) and isinstance(each.value, Pending)]
        if not puts:
            return (replace(commit, changes=tuple(changes)) if changes else commit), []
        for put in puts:
            if not self.keeper.immutable and (put.if_version is not None or session is not None):
                raise self._overwrites("if_version" if session is None else "session=")
        pairs = [(await self._place(put.scope, put.key), put.value) for put in puts]
        texts = await self.work(partial(self._keep_all, pairs))
        made = [text for text in texts if is_reference(text)]
        kept = dict(zip(map(id, puts), texts, strict=True))
        try:
            for put, text in zip(puts, texts, strict=True):
                check_size(text, self._max_value_bytes, put.key)
        except ValueError:
            await self.discard(made)
            raise
        changed = tuple(
            replace(each, value=kept[id(each)]) if isinstance(each, Put) and id(each) in kept else each
            for each in changes
        )
        return replace(commit, changes=changed), made

    async def _keep_all(self, pairs: Sequence[tuple[Place, str]]) -> list[str]:
        found = await together([partial(self._keep_one, place, text) for place, text in pairs])
        errors = [each for each in found if isinstance(each, BaseException)]
        texts = [each for each in found if isinstance(each, str)]
        if errors:
            await self._try_to(partial(self.keeper.adiscard, [text for text in texts if is_reference(text)]))
            raise errors[0]
        return texts

    async def _keep_one(self, place: Place, text: str) -> str:
        assert isinstance(text, Pending)  # noqa: S101 - only those come here
        try:
            return await self.keeper.akeep(place, text.value)
        except RuntimeError as error:  # what Python says of a dict that changes while it is gone through
            raise WorkerBackendError(
                f"the value of key {place.key!r} could not be kept: {error}; it must not be changed until it is"
            ) from error

    async def _try_to(self, function: Callable[[], Awaitable[object]]) -> None:
        # What cannot be removed now is removed by garbage collection.
        try:
            await function()
        except StoreError as error:
            _log.warning("objects that no row refers to were left behind: %s", error)

    async def discard(self, texts: Sequence[str]) -> None:
        """Remove what was kept for a write that surely failed, or that another replaced; logs what cannot be."""
        if texts:
            await self._try_to(lambda: self.work(lambda: self.keeper.adiscard(texts)))

    async def commit(self, commit: Commit, session: Any = None) -> CommitResult:
        """Keep the values, make changes and record events in one transaction, and remove what that replaced."""
        removing = [each for each in commit.changes if isinstance(each, Delete | Clear) and self._is_kept(each)]
        if removing and session is not None and not self.keeper.immutable:
            raise self._overwrites("session=")
        replaced = await self.collector.before(commit.changes, session)
        commit, made = await self._keep(commit, session)
        try:
            result = await super().commit(commit, session)
        except BaseException as error:
            if surely_failed(error):
                await self.discard(made)
            raise
        await self._after(commit.changes, removing, replaced, session)
        return result

    async def _after(
        self, changes: Sequence[Change], removing: Sequence[Delete | Clear], replaced: Sequence[str], session: Any
    ) -> None:
        if not self.keeper.immutable:
            for change in removing:
                await self._try_to(partial(self.work, partial(self._remove, change)))
        else:
            await self.discard(replaced)
            await self.collector.after(changes, session)

    async def _remove(self, change: Delete | Clear) -> None:
        if isinstance(change, Delete):
            await self.keeper.aremove(change.scope, change.key)
        else:
            await self.keeper.aremove(change.scope, None, all_map_indices=change.all_map_indices)

    # Writes to a backend that cannot commit.

    async def set(self, scope: Scope, key: str, text: str, expires_at: datetime | None, session: Any = None) -> None:
        """Keep the value and write one key."""
        put = Put(scope, key, text, expires_at)
        replaced = await self.collector.before((put,), session)
        commit, made = await self._keep(Commit((put,)), session)
        kept = commit.changes[0]
        assert isinstance(kept, Put)  # noqa: S101 - as it was
        try:
            await super().set(scope, key, kept.value, expires_at, session)
        except BaseException as error:
            if surely_failed(error):
                await self.discard(made)
            raise
        await self._after(commit.changes, (), replaced, session)

    async def delete(self, scope: Scope, key: str, session: Any = None) -> None:
        """Remove one key, and then what was kept of it."""
        await self._without(Delete(scope, key), partial(super().delete, scope, key, session), session)

    async def clear(self, scope: Scope, all_map_indices: bool, session: Any = None) -> None:
        """Remove every key of a scope, and then what was kept of them."""
        change = Clear(scope, all_map_indices)
        await self._without(change, partial(super().clear, scope, all_map_indices, session), session)

    async def _without(self, change: Delete | Clear, remove: Callable[[], Awaitable[None]], session: Any) -> None:
        replaced = await self.collector.before((change,), session)
        await remove()
        await self._after((change,), [change] if self._is_kept(change) else [], replaced, session)

    # Reads.

    async def read_row(self, scope: Scope, key: str) -> str | None:
        """Read what the store holds of a key, not its value."""
        return await super().get(scope, key)

    async def has_row(self, scope: Scope, key: str) -> bool:
        """Tell whether the store holds anything of a key, if only for later."""
        try:
            return await self.read_row(scope, key) is not None
        except AssetNotFoundError:
            return False
        except AssetInactiveError:
            return True

    async def get(self, scope: Scope, key: str, session: Any = None) -> str | None:
        """Read one key and load its value, None where it is absent or expired."""
        return await self._load(scope, key, await super().get(scope, key, session), session)

    async def _load(self, scope: Scope, key: str, text: str | None, session: Any) -> str | None:
        while text is not None and not isinstance(text, Loaded):
            if not is_reference(text):
                if self._teller.is_due(scope, key, text):
                    await self._tell(scope, key, session)
                return text
            try:
                return await self.work(partial(self._load_one, scope, key, text))
            except BrokenReferenceError:
                before, text = text, await super().get(scope, key, session)
                if text == before:
                    raise
        return text

    async def _tell(self, scope: Scope, key: str, session: Any) -> None:
        # Checkpoints of watchers stay in the store where what is kept is overwritten; `prepare` says so.
        if not self.keeper.immutable and isinstance(scope, AssetScope) and self.commits:
            entry = await super().get_entry(scope, key, session)
            if entry is not None and (entry.updated_by or "").startswith(_WATCHER):
                return
        self._teller.tell(scope, key)

    async def _load_one(self, scope: Scope, key: str, text: str) -> str:
        place = Place("task", scope.ti_id, key) if isinstance(scope, TaskScope) else _asset_place(scope, key)
        self.collector.saw(scope, key)
        return Loaded.of(text, await self.keeper.aload(place, text))

    async def get_entry(self, scope: Scope, key: str, session: Any = None) -> StoredEntry | None:
        """Read one key with its version and times, and load its value."""
        entry = await super().get_entry(scope, key, session)
        while entry is not None:
            if not is_reference(entry.text):
                if self._teller.is_due(scope, key, entry.text):
                    await self._tell(scope, key, session)
                break
            try:
                return replace(entry, text=await self.work(partial(self._load_one, scope, key, entry.text)))
            except BrokenReferenceError:
                before, entry = entry, await super().get_entry(scope, key, session)
                if entry is not None and entry.text == before.text:
                    raise
        return entry

    async def get_many(self, scope: Scope, keys: list[str], session: Any = None) -> dict[str, str]:
        """Read several keys and load their values, several at once, as of one moment where the backend can."""
        texts = await super().get_many(scope, keys, session)
        while True:
            kept = {key: text for key, text in texts.items() if is_reference(text)}
            loads = [partial(self._load_one, scope, key, text) for key, text in kept.items()]
            loaded = await self.work(partial(together, loads)) if loads else []
            found = dict(zip(kept, loaded, strict=True))
            errors = {key: each for key, each in found.items() if isinstance(each, BaseException)}
            if not errors:
                break
            texts = await self._read_anew(scope, keys, kept, errors, session)
        for key in texts.keys() - kept.keys():
            if self._teller.is_due(scope, key, texts[key]):
                await self._tell(scope, key, session)
        return texts | {key: each for key, each in found.items() if isinstance(each, str)}

    async def _read_anew(
        self, scope: Scope, keys: list[str], kept: dict[str, str], errors: dict[str, BaseException], session: Any
    ) -> dict[str, str]:
        # All of them, so that they are of one moment, unless one is broken indeed.
        for error in errors.values():
            if not isinstance(error, BrokenReferenceError):
                raise error
        texts = await super().get_many(scope, keys, session)
        for key, error in errors.items():
            if texts.get(key) == kept[key]:
                raise error
        return texts

    async def watch(self, scope: Scope, key: str) -> AsyncIterator[str | None]:
        """Follow one key, each value loaded."""
        texts = super().watch(scope, key)
        try:
            async for text in texts:
                yield await self._load(scope, key, text, None)
        finally:
            close = getattr(texts, "aclose", None)
            if close is not None:
                await close()


def _asset_place(scope: AssetScope, key: str) -> Place:
    return Place("asset", scope.name or "", key)  # for messages only
