"""Reading state: one statement each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ....clock import from_microseconds
from ....records import StoredEntry
from ....registration.deciding import inactive, not_found
from ....scopes import AssetScope, Scope, TaskScope
from .. import statements
from ..owners import ASSET_BY, TASK, Owner
from ..steps import Now, Procedure, ask

__all__ = [
    "delete_run",
    "get",
    "get_entry",
    "get_many",
    "list_keys",
    "locate",
    "read_page",
    "require_asset",
    "require_registered",
]

Parameters = dict[str, Any]


def locate(scope: Scope) -> tuple[Owner, Parameters]:
    """Say how a scope's row is found, and by which parameters."""
    if isinstance(scope, TaskScope):
        return TASK, {
            "dag_id": scope.dag_id,
            "run_id": scope.run_id,
            "task_id": scope.task_id,
            "map_index": scope.map_index,
        }
    if scope.asset_id is not None:
        return ASSET_BY["id"], {"asset_id": scope.asset_id}
    if scope.uri is None:
        return ASSET_BY["name"], {"name": scope.name}
    if scope.name is None:
        return ASSET_BY["uri"], {"uri": scope.uri}
    return ASSET_BY["both"], {"name": scope.name, "uri": scope.uri}


def _read(build: Any, scope: Scope, parameters: Parameters, *arguments: Any) -> Procedure[Sequence[Sequence[Any]]]:
    owner, where = locate(scope)
    rows, _ = yield ask(build, owner, *arguments, **where, **parameters)
    if isinstance(scope, AssetScope):
        if not rows:
            raise not_found(scope)
        if rows[0][0] is not None:
            raise inactive(scope)
    return rows if rows and rows[0][1] is not None else []


def get(scope: Scope, key: str, now: Now) -> Procedure[str | None]:
    """Read the text of one key."""
    rows = yield from _read(statements.state.read_value, scope, {"key": key, "now": now()})
    return rows[0][2] if rows else None


def get_entry(scope: Scope, key: str, now: Now) -> Procedure[StoredEntry | None]:
    """Read one key with its version and times."""
    return (yield from _entry(scope, key, now()))


def _entry(scope: Scope, key: str, now: int | None) -> Procedure[StoredEntry | None]:
    rows = yield from _read(statements.state.read_entry, scope, {"key": key, "now": now})
    if not rows:
        return None
    _, _, text, version, updated_at, expires_at, updated_by = rows[0]
    expiry = None if expires_at is None else from_microseconds(expires_at)
    return StoredEntry(text, version, from_microseconds(updated_at), expiry, updated_by)


def get_many(scope: Scope, keys: Sequence[str], now: Now) -> Procedure[dict[str, str]]:
    """Read the texts of several keys in one statement."""
    rows = yield from _read(statements.state.read_many, scope, {"keys": list(keys), "now": now()})
    texts = {key: text for _, key, text in rows}
    return {key: texts[key] for key in keys if key in texts}


def list_keys(scope: Scope, prefix: str, after: str | None, limit: int | None, now: Now) -> Procedure[list[str]]:
    """List the keys that begin with a prefix, behind a key."""
    rows = yield from read_page(statements.state.list_keys, scope, prefix, after, limit, now)
    return [key for _, key in rows]


def read_page(
    build: Any, scope: Scope, prefix: str, after: str | None, limit: int | None, now: Now, *arguments: Any
) -> Procedure[Sequence[Sequence[Any]]]:
    """Run a statement that reads a page of keys."""
    low = max(prefix, after or "")  # SQLite seeks by one lower bound, and goes through all that another leaves out
    page = {"low": low, "high": _behind(prefix), "after": after or "", "limit": limit, "now": now()}
    return (yield from _read(build, scope, page, *arguments))


def _behind(prefix: str) -> str | None:
    # The least text greater than every text with this prefix; UTF-8 sorts as code points do.
    for place in range(len(prefix) - 1, -1, -1):
        point = ord(prefix[place])
        if point < 0x10FFFF:
            following = 0xE000 if point == 0xD7FF else point + 1  # surrogates are no text
            return prefix[:place] + chr(following)
    return None


def require_asset(scope: AssetScope) -> Procedure[int]:
    """Give the id of an asset that is registered and active."""
    return (yield from _require(scope, active=True))


def require_registered(scope: AssetScope) -> Procedure[int]:
    """Give the id of an asset that is registered, active or not."""
    return (yield from _require(scope, active=False))


def _require(scope: AssetScope, *, active: bool) -> Procedure[int]:
    owner, where = locate(scope)
    rows, _ = yield ask(statements.state.find_scope, owner, **where)
    if not rows:
        raise not_found(scope)
    if active and rows[0][1] is not None:
        raise inactive(scope)
    return int(rows[0][0])


def delete_run(dag_id: str, run_id: str) -> Procedure[int]:
    """Delete the state of a run; gives how many rows went."""
    where = {"dag_id": dag_id, "run_id": run_id}
    rows, _ = yield ask(statements.garbage.count_run, **where)
    yield ask(statements.garbage.drop_run, **where)
    return int(rows[0][0])
