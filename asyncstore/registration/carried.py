"""Registrations of assets in a backend that knows four operations only.

They are kept as asset state of a reserved asset, so that every process resolves an asset to the same scope. Each is
kept under its canonical name, its name and its URI. Two callers that register different things under one name at
the same instant are not told apart; a backend that must do that declares `Capability.ASSETS`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from hashlib import sha256
from uuid import uuid4

from ..clock import from_microseconds
from ..records import AssetRecord
from ..scopes import Asset, AssetScope
from ..values import decode, encode
from .deciding import Registered, not_found, registration

__all__ = ["REGISTRY", "Read", "Write", "get_asset", "identify", "locate", "register"]

#: The asset under which registrations are kept.
REGISTRY = AssetScope(name="asyncstore:assets")

Read = Callable[[AssetScope, str], Awaitable[str | None]]
Write = Callable[[AssetScope, str, str], Awaitable[None]]

#: The key under which a store keeps what it is called; those of registrations have a colon.
_IDENTITY = "identity"


@dataclass(frozen=True, slots=True)
class _Kept:
    # `canonical` is the name by which the asset was first known, which never changes.
    canonical: str
    name: str
    uri: str | None
    named: bool
    group: str
    extra: str
    created_at: int

    @property
    def scope(self) -> AssetScope:
        return AssetScope(name=self.canonical)

    @property
    def text(self) -> str:
        return encode([self.canonical, self.name, self.uri, self.named, self.group, self.extra, self.created_at])


def _kept(text: str | None) -> _Kept | None:
    if text is None:
        return None
    fields = decode(text)
    return _Kept(*fields) if isinstance(fields, list) else None  # type: ignore[arg-type]


def _registered(kept: _Kept | None) -> Registered | None:
    if kept is None:
        return None
    # Registrations are one where they are of the same canonical name; the number only says so.
    number = int.from_bytes(sha256(kept.canonical.encode()).digest()[:7]) + 1
    return Registered(number, kept.name, kept.uri, kept.named)


def _key(kind: str, text: str) -> str:
    # Names may be longer than keys.
    return f"{kind}:{sha256(text.encode()).hexdigest()}"


async def _by_name(read: Read, name: str) -> _Kept | None:
    kept = _kept(await read(REGISTRY, _key("name", name)))
    # An asset known by its URI alone had that for its name, until it was given one.
    return kept if kept is not None and kept.name == name else None


async def _by_uri(read: Read, uri: str) -> _Kept | None:
    return _kept(await read(REGISTRY, _key("uri", uri)))


async def register(read: Read, write: Write, asset: Asset, now: int) -> AssetScope:
    """Find or register an asset.

    :param read: reads asset state.
    :param write: writes asset state.
    :param asset: what to register.
    :param now: microseconds since 1970-01-01T00:00:00Z.
    :return: the canonical scope.
    :raises AssetConflictError: the name has another URI, or the URI is under another name.
    """
    uri = asset.explicit_uri
    by_uri = None if uri is None else await _by_uri(read, uri)
    if asset.explicit_name is None and by_uri is not None:
        return by_uri.scope
    by_name = await _by_name(read, asset.name)
    wanted = registration(asset, _registered(by_name), _registered(by_uri))
    found = by_name or by_uri
    if found is None:
        canonical = await _unused(read, asset.name)
        kept = _Kept(canonical, asset.name, uri, wanted.named, asset.group, asset.extra_json, now)
    else:
        kept = replace(found, name=wanted.name, uri=wanted.uri, named=wanted.named)
    if kept != by_name or (uri is not None and kept != by_uri):
        await _write(write, kept, found)
    return kept.scope


async def _unused(read: Read, name: str) -> str:
    # The name, unless an asset was first known by it that goes by another name today.
    candidate, number = name, 1
    while True:
        kept = _kept(await read(REGISTRY, _key("canonical", candidate)))
        if candidate != REGISTRY.name and (kept is None or kept.name == name):
            return candidate
        number += 1
        candidate = f"{name.encode()[:1400].decode(errors='ignore')}#{number}"


async def _write(write: Write, kept: _Kept, before: _Kept | None) -> None:
    # The name comes last: where the writing ends early, the next registration by that name makes it whole.
    keys = [_key("canonical", kept.canonical)]
    if before is not None:
        keys.append(_key("name", before.name))
    if kept.uri is not None:
        keys.append(_key("uri", kept.uri))
    for key in dict.fromkeys((*keys, _key("name", kept.name))):
        await write(REGISTRY, key, kept.text)


async def _find(read: Read, scope: AssetScope) -> _Kept:
    found = None
    if scope.name is not None:
        found = await _by_name(read, scope.name)
        if found is not None and scope.uri not in {None, found.uri or found.name}:
            found = None
    elif scope.uri is not None:
        found = await _by_uri(read, scope.uri)
        if found is None:
            found = await _by_name(read, scope.uri)
            found = None if found is None or found.uri is not None else found
    if found is None:
        raise not_found(scope)
    return found


async def identify(read: Read, write: Write) -> str:
    """Give what tells this store from every other one; draws it the first time.

    Of two callers that draw at the same instant, one may hold what is kept no more until it asks again.

    :param read: reads asset state.
    :param write: writes asset state.
    """
    if await read(REGISTRY, _IDENTITY) is None:
        await write(REGISTRY, _IDENTITY, encode(uuid4().hex))
    return str(decode(await read(REGISTRY, _IDENTITY) or '""'))


async def locate(read: Read, scope: AssetScope) -> AssetScope:
    """Find the canonical scope of a registered asset.

    :param read: reads asset state.
    :param scope: the asset's name or URI.
    :raises AssetNotFoundError: nothing is registered there.
    """
    return (await _find(read, scope)).scope


async def get_asset(read: Read, scope: AssetScope) -> AssetRecord:
    """Read a registration.

    :param read: reads asset state.
    :param scope: the asset's name, URI or canonical scope.
    :raises AssetNotFoundError: nothing is registered there.
    """
    kept = None
    if scope.name is not None and scope.uri is None:
        kept = _kept(await read(REGISTRY, _key("canonical", scope.name)))
    kept = kept or await _find(read, scope)
    extra = decode(kept.extra)
    return AssetRecord(
        scope=kept.scope,
        name=kept.name,
        uri=kept.name if kept.uri is None else kept.uri,
        group=kept.group,
        extra=extra if isinstance(extra, dict) else {},
        created_at=from_microseconds(kept.created_at),
        deactivated_at=None,
    )
