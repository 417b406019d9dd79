"""Contract of keys, ids and names: any Unicode text works, and nothing else does."""

from __future__ import annotations

from typing import Any

import pytest

from ..abc import Capability
from ..accessors.base import StateAccessor
from ..scopes import Asset, AssetScope, TaskScope
from .harness import TASK, ConformanceBase, Harness
from .samples import TEXTS, longest, refused

__all__ = ["TextConformance"]


class TextConformance(ConformanceBase):
    """Hold a backend to keys, ids and names in any script."""

    async def test_backend_tells_keys_apart(self, harness: Harness) -> None:
        """Keep any text as a key, apart from every other."""
        call, backend = harness.call, harness.backend
        keys = [*TEXTS, *longest(512)]
        for scope in await harness.scopes():
            for number, key in enumerate(keys):
                await call(backend.aset, scope, key, str(number))
            assert [await call(backend.aget, scope, key) for key in keys] == [str(each) for each in range(len(keys))]
            assert await call(backend.aget_many, scope, keys) == {key: str(each) for each, key in enumerate(keys)}
            for key in keys[::2]:
                await call(backend.adelete, scope, key)
            assert list(await call(backend.aget_many, scope, keys)) == keys[1::2]

    async def test_accessors_tell_keys_apart(self, harness: Harness) -> None:
        """Keep any text as a key of an accessor."""
        call = harness.call
        keys = [*TEXTS, *longest(512)]
        for state in (harness.task(), harness.asset()):
            for number, key in enumerate(keys):
                await call(state.aset, key, [number, key])
            found = await call(state.aget_many, reversed(keys))
            assert list(found.items()) == [(key, [number, key]) for number, key in reversed(list(enumerate(keys)))]
            if harness.has(Capability.LISTING):
                assert await call(state.akeys) == sorted(keys)

    async def test_backend_tells_ids_apart(self, harness: Harness) -> None:
        """Keep any text as the id of a dag, a run and a task, apart from every other."""
        call, backend = harness.call, harness.backend
        ids = [*TEXTS, *longest(250)]
        scopes = [TaskScope(text, "run", "task") for text in ids]
        scopes += [TaskScope("dag", text, "task") for text in ids] + [TaskScope("dag", "run", text) for text in ids]
        scopes += [TaskScope("a/b", "c", "d"), TaskScope("a", "b/c", "d"), TaskScope("a", "b", "c/d")]
        scopes += [TaskScope("a", "b", "c", 1), TaskScope("a", "b", "c/1"), TaskScope("a/b", "c", "1", 1)]
        for number, scope in enumerate(scopes):
            await call(backend.aset, scope, "key", str(number))
        assert [await call(backend.aget, scope, "key") for scope in scopes] == [str(n) for n in range(len(scopes))]

    async def test_backend_tells_assets_apart(self, harness: Harness) -> None:
        """Keep any text as the name of an asset, and any as its URI."""
        call, state = harness.call, harness.store.asset_state
        names = [*TEXTS, *longest(1500)]
        for number, name in enumerate(names):
            await call(state[Asset(name, uri=f"uri {number}")].aset, "key", number)
        assert [await call(state[Asset(name)].aget, "key") for name in names] == list(range(len(names)))
        uris = [f"{text}~" for text in TEXTS] + [f"~{text[1:]}" for text in longest(1500)]
        for number, uri in enumerate(uris):
            await call(state[Asset(f"name {number}", uri=uri)].aset, "key", number)
        assert [await call(state[Asset(uri=uri)].aget, "key") for uri in uris] == list(range(len(uris)))

    async def test_refused_keys(self, harness: Harness) -> None:
        """Refuse what is no key in every operation, and write nothing."""
        for state in (harness.task(), harness.asset()):
            for key in refused(512):
                await self._refuses(harness, state, key, ValueError)

    async def test_keys_are_strings(self, harness: Harness) -> None:
        """Refuse a key that is no string."""
        for key in (None, 5, b"key", ("key",)):
            await self._refuses(harness, harness.task(), key, TypeError)

    async def _refuses(self, harness: Harness, state: StateAccessor, key: Any, error: type[Exception]) -> None:
        call = harness.call
        some: Any = state  # both kinds of accessor have these operations
        await call(some.aset, "good", 1)
        for operation in (state.aget, state.adelete, state.aget_entry):
            with pytest.raises(error, match="key"):
                await call(operation, key)
        with pytest.raises(error, match="key"):
            await call(state.aget_many, ["good", key])
        with pytest.raises(error, match="key"):
            await call(some.aset, key, 1)
        with pytest.raises(error, match="key"):
            await call(some.aset_many, {"good": 2, key: 2})
        with pytest.raises(error, match="key"):
            await call(some.aadvance, key, 1)
        with pytest.raises(error, match="key"):
            await call(some.aupdate, key, str)
        with pytest.raises(error, match="key"):
            await anext(state.awatch(key))
        if key != "":
            with pytest.raises(error, match="prefix"):
                await call(state.akeys, key)
        assert await call(state.aget, "good") == 1

    def test_refused_ids(self) -> None:
        """Refuse what is no id before it comes to any backend."""
        for text in refused(250):
            for parts in ((text, "run", "task"), ("dag", text, "task"), ("dag", "run", text)):
                with pytest.raises(ValueError, match="_id"):
                    TaskScope(*parts)

    def test_refused_names(self) -> None:
        """Refuse what is no name of an asset before it comes to any backend."""
        for text in refused(1500):
            for kind in (Asset, AssetScope):
                with pytest.raises(ValueError, match="asset name"):
                    kind(name=text)
                with pytest.raises(ValueError, match="asset uri"):
                    kind(uri=text)

    async def test_run_ids_are_checked(self, harness: Harness) -> None:
        """Refuse what is no id where a run is deleted."""
        for dag_id, run_id in (("", "run"), ("dag", "\0"), ("\ud800", "run"), ("dag", "x" * 251)):
            with pytest.raises(ValueError, match="_id"):
                await harness.call(harness.store.adelete_run, dag_id, run_id)
        assert await harness.call(harness.task(TASK).aget, "key") is None
