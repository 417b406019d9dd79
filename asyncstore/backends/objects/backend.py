"""`ObjectStorageBackend`: values in object storage, in immutable objects that the rows of the store choose."""

from __future__ import annotations

import io
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Any, ClassVar, final

from ...abc import BaseStoreBackend, Capability
from ...clock import Clock, SystemClock
from ...errors import BrokenReferenceError, ConfigurationError, StoreCorruptError, WorkerBackendError
from ...offload.abc import Keeper, Kept, Place
from ...offload.hooks import Kind, in_worker_thread
from ...offload.stored import IMMUTABLE, Reference
from ...records import CleanupBatch, CleanupReport, OnBatch
from ...scopes import Scope, TaskScope
from ...settings import Settings, load_settings
from ...values import JsonValue, decode, encode
from .compression import check_compression
from .connections import parse_url
from .content import MAX_WHOLE, WHOLE, Mismatch, Written, read, read_header, write
from .places import MARKER, parse, reference_of
from .standing import StandingObjects, place_of
from .storage import Missing, Objects, TooLarge

__all__ = ["ObjectStorageBackend"]

_log = logging.getLogger(__name__)


@final
class ObjectStorageBackend(BaseStoreBackend, Keeper):
    """Keep values in S3, Google Cloud Storage, Azure, a folder or memory.

    As `[workers] state_backend` each write is an object of its own, `<reference>/<digest>`, and the row in the store
    says which one counts. As `[state_store] backend`, without any database, each key is one object,
    `<reference>/value`, which is overwritten; its expiry stands in it. So it is with the four hooks by themselves.

    :param url: the base URL; default: `[common.io] state_store_objectstorage_path`.
    :param threshold: bytes of JSON from which a value is kept here; default: that of `[common.io]`.
    :param compression: a name that fsspec knows; default: that of `[common.io]`.
    :param settings: where the defaults come from; default: `asyncstore.toml` and the environment.
    :param clock: tells when values expire that stand without a row.
    :raises ConfigurationError: the URL, its connection or the compression cannot be used.
    """

    capabilities: ClassVar[Capability] = Capability.EXPIRY | Capability.LISTING | Capability.CLEANUP
    immutable = True
    kinds: frozenset[Kind] = frozenset(("task", "asset"))

    def __init__(
        self,
        url: str | None = None,
        *,
        threshold: int | None = None,
        compression: str | None = None,
        settings: Settings | None = None,
        clock: Clock | None = None,
    ) -> None:
        if settings is None:
            settings = Settings() if url is not None else load_settings()
        options = settings.common.io
        url = url or options.state_store_objectstorage_path
        if url is None:
            raise ConfigurationError(
                "ObjectStorageBackend needs a base URL: set [common.io] state_store_objectstorage_path"
            )
        self.name = type(self).__name__
        self.threshold = options.state_store_objectstorage_threshold if threshold is None else threshold
        self._compression = compression or options.state_store_objectstorage_compression
        check_compression(self._compression)
        self._objects = Objects(parse_url(url))
        self._known = False
        self._standing = StandingObjects(self._objects, self._compression, clock or SystemClock())

    def __str__(self) -> str:
        return str(self._objects)

    def __repr__(self) -> str:
        return f"<ObjectStorageBackend on {self._objects}>"

    async def aopen(self) -> None:
        """Look at the folder, where it is one; object storage is first asked when there is something to keep."""
        await in_worker_thread(self._objects.check_case)

    # Values, for the accessors.

    async def akeep(self, place: Place, value: object) -> str:
        """Write a value to an object of its own."""
        text, made = await in_worker_thread(lambda: self._make(place, value))
        if made is not None and made.whole is not None:
            await self._objects.put(_path(Reference.parse(text)), made.whole)
        if text.startswith(IMMUTABLE):
            await self._leave_identity()
        return text

    def _make(self, place: Place, value: object) -> tuple[str, Written | None]:
        # Gives what is still to be put: only a request over the network is worth another turn of the event loop.
        made = write(place, value, self.threshold, self._compression)
        if isinstance(made, str):
            return made, None
        reference = Reference(reference_of(place), made.size, made.digest)
        if made.whole is None:
            self._objects.put_pieces(_path(reference), made.pieces())
        elif self._objects.is_local:
            self._objects.put_now(_path(reference), made.whole)
        else:
            return reference.text, made
        return reference.text, None

    async def _leave_identity(self) -> None:
        if self.identity is None or self._known:
            return
        self._known = True
        try:
            owner = await self._claim(self.identity)
        except WorkerBackendError as error:  # the value is there all the same
            _log.warning("it could not be left in %s whose it is; the next process tries again: %s", self, error)
            return
        except BaseException:
            self._known = False
            raise
        if owner != self.identity:
            _log.warning(
                "%s belongs to another store: both keep their values there, but abandoned objects are removed for "
                "that one only; give every store a path of its own",
                self,
            )

    async def _claim(self, identity: str) -> str | None:
        try:
            if await self._objects.put(MARKER, identity.encode(), only_new=True):
                return identity
        except WorkerBackendError:  # not every S3 knows conditional puts
            if await self.aowner() is None:
                await self._objects.put(MARKER, identity.encode())
        return await self.aowner()

    async def aowner(self) -> str | None:
        """Give the identity of the store that kept something there first."""
        try:
            return (await self._objects.get(MARKER)).decode(errors="replace")
        except Missing:
            return None

    async def pages(self) -> AsyncIterator[list[Kept]]:
        """List every immutable object, page by page."""
        async for page in self._objects.list():
            found = [(parse(path), written_at) for path, written_at in page]
            yield [
                Kept(each.at, each.name, each.place, written_at)
                for each, written_at in found
                if each is not None and each.is_immutable
            ]

    async def aplace(self, kept: Kept) -> Place | None:
        """Give what the first line of an object says of it, None where it says that it belongs elsewhere."""
        try:
            line = await self._objects.get_head(f"{kept.at}/{kept.digest}")
            place = read_header(io.BytesIO(line)).place
        except (Missing, Mismatch, StoreCorruptError):
            return None
        return place if reference_of(place) == kept.at else None

    async def aload(self, place: Place, text: str) -> JsonValue:
        """Read the object that a row chose, and hold it against the row."""
        if not text.startswith(IMMUTABLE):
            kept_by = Reference.parse(text).kept_by
            raise ConfigurationError(
                f"the value of key {place.key!r} is kept by {kept_by}, and [workers] state_backend is "
                "ObjectStorageBackend; configure the one that wrote it, or write the key anew"
            )
        reference = Reference.parse(text)
        path = _path(reference)
        try:
            if reference.size > WHOLE:
                return await in_worker_thread(lambda: self._read_large(path, reference), abandon=True)
            if self._objects.is_local:
                return await in_worker_thread(lambda: self._read_local(path, reference), abandon=True)
            data = await self._objects.get(path, MAX_WHOLE)
            return await in_worker_thread(lambda: read(io.BytesIO(data), reference.size, reference.digest))
        except Missing:
            problem = "is gone"
        except (Mismatch, TooLarge) as error:
            problem = f"is not what its row says was written: {error}"
        raise BrokenReferenceError(
            f"the object of key {place.key!r}, {path} in {self._objects}, {problem}; the next set of the key repairs it"
        )

    def _read_local(self, path: str, reference: Reference) -> JsonValue:
        return read(io.BytesIO(self._objects.get_now(path, MAX_WHOLE)), reference.size, reference.digest)

    def _read_large(self, path: str, reference: Reference) -> JsonValue:
        with self._objects.open(path) as file:
            return read(file, reference.size, reference.digest)

    async def adiscard(self, texts: Sequence[str]) -> None:
        """Remove objects that no row refers to any more."""
        references = [Reference.parse(text) for text in texts if text.startswith(IMMUTABLE)]
        await self._objects.remove([_path(each) for each in references])

    async def aremove(self, scope: Scope, key: str | None, *, all_map_indices: bool = False) -> None:
        """Nothing: the rows say which objects go."""

    # The hooks by themselves, for whoever calls them without a row of ours.

    async def aserialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        """Write a value of a task instance."""
        text = await in_worker_thread(lambda: encode(value))
        return await self._standing.set(Place("task", ti_id, key), text, None)

    async def adeserialize_task_store_from_ref(self, stored: str) -> JsonValue:
        """Read a value by its reference; None where it is gone."""
        found = await self._standing.get(stored)
        return None if found is None else await in_worker_thread(lambda: decode(found[1]))

    async def aserialize_asset_store_to_ref(self, *, value: JsonValue, key: str, asset_ref: str) -> str:
        """Write a value of an asset."""
        text = await in_worker_thread(lambda: encode(value))
        return await self._standing.set(Place("asset", asset_ref, key), text, None)

    async def adeserialize_asset_store_from_ref(self, stored: str) -> JsonValue:
        """Read a value by its reference; None where it is gone."""
        return await self.adeserialize_task_store_from_ref(stored)

    def serialize_task_store_to_ref(self, *, value: JsonValue, key: str, ti_id: str) -> str:
        """Do what `aserialize_task_store_to_ref` does, from sync code."""
        return self.run_blocking(lambda: self.aserialize_task_store_to_ref(value=value, key=key, ti_id=ti_id))

    def deserialize_task_store_from_ref(self, stored: str) -> JsonValue:
        """Do what `adeserialize_task_store_from_ref` does, from sync code."""
        return self.run_blocking(lambda: self.adeserialize_task_store_from_ref(stored))

    def serialize_asset_store_to_ref(self, *, value: JsonValue, key: str, asset_ref: str) -> str:
        """Do what `aserialize_asset_store_to_ref` does, from sync code."""
        return self.run_blocking(lambda: self.aserialize_asset_store_to_ref(value=value, key=key, asset_ref=asset_ref))

    def deserialize_asset_store_from_ref(self, stored: str) -> JsonValue:
        """Do what `adeserialize_asset_store_from_ref` does, from sync code."""
        return self.run_blocking(lambda: self.adeserialize_asset_store_from_ref(stored))

    # A whole backend.

    async def aget(self, scope: Scope, key: str, *, session: Any = None) -> str | None:
        """Read one key, in one request."""
        found = await self._standing.get(reference_of(place_of(scope, key)))
        return None if found is None else found[1]

    async def aset(
        self, scope: Scope, key: str, value: str, *, expires_at: datetime | None = None, session: Any = None
    ) -> None:
        """Write or overwrite one key, in one request."""
        await self._standing.set(place_of(scope, key), value, expires_at)

    async def adelete(self, scope: Scope, key: str, *, session: Any = None) -> None:
        """Remove one key."""
        await self._standing.remove([reference_of(place_of(scope, key))])

    async def aclear(self, scope: Scope, *, all_map_indices: bool = False, session: Any = None) -> None:
        """Remove every key of the scope, page by page."""
        await self._standing.clear(scope, all_map_indices)

    async def alist_keys(
        self,
        scope: Scope,
        prefix: str = "",
        *,
        after: str | None = None,
        limit: int | None = None,
        session: Any = None,
    ) -> list[str]:
        """List keys in the order of their code points; reads every object of the scope, for its expiry."""
        keys = await self._standing.keys(scope)
        return [key for key in keys if key.startswith(prefix) and (after is None or key > after)][:limit]

    async def acleanup(
        self, *, dry_run: bool = False, batch_size: int = 0, on_batch: OnBatch | None = None
    ) -> CleanupReport:
        """Remove the objects of tasks that have expired; reads every object, for its expiry."""
        expired = await self._standing.expired()
        size = len(expired) if dry_run or not batch_size else batch_size
        done = 0
        for start in range(0, len(expired), size or 1):
            batch = expired[start : start + size]
            done += len(batch) if dry_run else await self._standing.remove_expired([at for at, _ in batch])
            if on_batch is not None:
                rows = tuple(row for _, row in batch) if dry_run else ()
                on_batch(CleanupBatch(len(expired), done, rows))
        return CleanupReport(self.name, done, dry_run)

    async def adelete_run(self, dag_id: str, run_id: str) -> int:
        """Remove the objects of every task of a run."""
        count = 0
        run = reference_of(place_of(TaskScope(dag_id, run_id, "task"), "key")).split("/")[:2]
        async for page in self._standing.folders("/".join(run)):
            await self._standing.remove(page)
            count += len(page)
        return count


def _path(reference: Reference) -> str:
    return f"{reference.at}/{reference.digest}"
