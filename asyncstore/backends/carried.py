"""Registrations of assets in a backend that knows four operations only.

They are kept as asset state of a reserved asset, so that every process resolves an asset to the same scope. Two
processes that register different things under one name at the same instant are not told apart; a backend that
must do that declares `Capability.ASSETS`.
"""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from ..scopes import Asset, AssetScope
from ..values import JsonValue, decode, encode
from .refusals import Registered, registration

if TYPE_CHECKING:
    from ..abc import BaseStoreBackend

__all__ = ["REGISTRY", "register"]

#: The asset under which registrations are kept.
REGISTRY = AssetScope(name="asyncstore:assets")


async def register(backend: BaseStoreBackend, asset: Asset) -> AssetScope:
    """Find or register an asset.

    :param backend: where to.
    :param asset: what.
    :return: the canonical scope: the name by which the asset was first known, which never changes.
    :raises AssetConflictError: the name has another URI, or the URI is under another name.
    """
    asked = [_key("name", asset.name)]
    if asset.explicit_uri is not None:
        asked.append(_key("uri", asset.explicit_uri))
    texts = [await backend.aget(REGISTRY, key) for key in asked]
    kept = [None if text is None else decode(text) for text in texts]
    by_name, by_uri = _registered(kept[0]), _registered(kept[1]) if len(kept) > 1 else None
    wanted = registration(asset, by_name, by_uri)
    if asset.explicit_name is None and wanted == by_uri:
        return AssetScope(name=_canonical(kept[1]))
    canonical = _canonical(kept[0]) or _canonical(kept[-1]) or asset.name
    text = encode({"name": wanted.name, "uri": wanted.uri, "named": wanted.named, "canonical": canonical})
    if any(found != text for found in texts):
        await backend.aset(REGISTRY, _key("name", wanted.name), text)
        if wanted.uri is not None:
            await backend.aset(REGISTRY, _key("uri", wanted.uri), text)
    return AssetScope(name=canonical)


def _key(kind: str, text: str) -> str:
    # Names may be longer than keys.
    return f"{kind}:{sha256(text.encode()).hexdigest()}"


def _canonical(kept: JsonValue) -> str | None:
    return str(kept["canonical"]) if isinstance(kept, dict) else None


def _registered(kept: JsonValue) -> Registered | None:
    if not isinstance(kept, dict):
        return None
    # Registrations are one where they are of the same canonical name; the number only says so.
    number = int.from_bytes(sha256(str(kept["canonical"]).encode()).digest()[:7]) + 1
    uri = kept["uri"]
    return Registered(number, str(kept["name"]), None if uri is None else str(uri), bool(kept["named"]))
