"""A backend of somebody else's, which overwrites what it keeps of a key: the row says what must be found there."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from functools import partial
from typing import TypeVar, cast

from ..abc import BaseStoreBackend
from ..errors import BrokenReferenceError, ConfigurationError, StoreError, WorkerBackendError
from ..scopes import Scope
from ..values import JsonValue, decode, encode, refuse_surrogates
from .abc import Keeper, Place
from .hooks import hooks_of, in_worker_thread
from .stored import IMMUTABLE, Reference

__all__ = ["InPlaceKeeper"]

T = TypeVar("T")

#: Error codes by which clients of object storage say that nothing is there.
_GONE = {"NoSuchKey", "NotFound", "404", "BlobNotFound", "ResourceNotFound"}


class InPlaceKeeper(Keeper):
    """Keep values by the hooks of a backend.

    :param backend: the backend.
    """

    immutable = False

    def __init__(self, backend: BaseStoreBackend) -> None:
        kind = type(backend)
        self._backend = backend
        self.name = kind.__name__
        self.kinds = hooks_of(kind)
        self._path = f"{kind.__module__}.{kind.__qualname__}"

    async def akeep(self, place: Place, value: object) -> str:
        """Have the hook keep a value, and say in the row what it is."""
        kept, size, digest = await in_worker_thread(partial(_judge, value))
        hook = self._backend
        with self._explained(f"keep the value of key {place.key!r}"):
            if place.kind == "task":
                at = await hook.aserialize_task_store_to_ref(value=kept, key=place.key, ti_id=place.owner)
            else:
                at = await hook.aserialize_asset_store_to_ref(value=kept, key=place.key, asset_ref=place.owner)
        if not isinstance(at, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise WorkerBackendError(f"{self.name} gave {at!r} as the reference of key {place.key!r}, not a text")
        with self._explained(f"keep the value of key {place.key!r}"):
            refuse_surrogates(at)
        return Reference(at, size, digest, self._path, (place.kind, place.owner, place.key)).text

    async def aload(self, place: Place, text: str) -> JsonValue:
        """Have the hook give back a value, and hold it against the row."""
        reference = Reference.parse(text)
        if text.startswith(IMMUTABLE) or reference.kept_by != self._path:
            keeper = reference.kept_by or "asyncstore's ObjectStorageBackend"
            raise ConfigurationError(
                f"the value of key {place.key!r} is kept by {keeper}, and [workers] state_backend is {self._path}; "
                "configure the one that wrote it, or write the key anew"
            )
        hook = self._backend
        with self._explained(f"read the value of key {place.key!r}", place.key):
            if place.kind == "task":
                value = await hook.adeserialize_task_store_from_ref(reference.at)
            else:
                value = await hook.adeserialize_asset_store_from_ref(reference.at)
        if value is None:
            raise _gone(self.name, place.key, reference.at)
        if not await in_worker_thread(partial(_matches, value, reference)):
            raise BrokenReferenceError(
                f"what {self.name} gave for key {place.key!r} ({reference.at!r}) is not what its row says was "
                "written: it was overwritten, or its write was never finished; the next set of the key repairs it"
            )
        return value

    @contextlib.contextmanager
    def _explained(self, what: str, key: str | None = None) -> Generator[None]:
        try:
            yield
        except StoreError:
            raise
        except Exception as error:
            if key is not None and _says_gone(error):
                raise _gone(self.name, key, None) from error
            raise WorkerBackendError(f"{self.name} could not {what}: {type(error).__name__}: {error}") from error

    async def adiscard(self, texts: Sequence[str]) -> None:
        """Nothing: what a failed write left behind, the next one overwrites."""

    async def aremove(self, scope: Scope, key: str | None, *, all_map_indices: bool = False) -> None:
        """Have the backend remove what it keeps, by its `delete` or `clear`, or their async twins."""
        backend = self._backend
        name = "clear" if key is None else "delete"
        sync = getattr(type(backend), name) is not getattr(BaseStoreBackend, name)
        with self._explained(f"remove what it keeps of {scope}"), contextlib.suppress(NotImplementedError):
            if key is None:
                whole: Callable[..., object] = backend.clear if sync else backend.aclear
                await _call(partial(whole, scope, all_map_indices=all_map_indices), sync)
            else:
                one: Callable[..., object] = backend.delete if sync else backend.adelete
                await _call(partial(one, scope, key), sync)


async def _call(function: Callable[[], object], sync: bool) -> None:
    if sync:
        await in_worker_thread(function)
    else:
        await cast("Callable[[], Awaitable[object]]", function)()


def _judge(value: object) -> tuple[JsonValue, int, str]:
    # What JSON makes of it is what the hook gets, so that a tuple comes back as the list that was kept.
    text = encode(value)
    kept = decode(text)
    return kept, len(text.encode()), _digest(kept)


def _digest(value: object) -> str:
    # Whoever keeps an object may write its keys in another order.
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def _matches(value: JsonValue, reference: Reference) -> bool:
    try:
        return len(encode(value).encode()) == reference.size and _digest(value) == reference.digest
    except (TypeError, ValueError):
        return False


def _gone(name: str, key: str, at: str | None) -> BrokenReferenceError:
    where = "" if at is None else f" ({at!r})"
    return BrokenReferenceError(
        f"what {name} keeps of key {key!r}{where} is gone, while its row is there; the next set of the key repairs it"
    )


def _says_gone(error: BaseException) -> bool:
    if isinstance(error, FileNotFoundError | LookupError):
        return True
    response = getattr(error, "response", None)  # of botocore
    if isinstance(response, dict):
        code = cast("dict[str, dict[str, object]]", response).get("Error", {}).get("Code")
        return str(code) in _GONE
    return type(error).__name__ in {"NoSuchKey", "NotFound", "ResourceNotFoundError", "BlobNotFound"}
