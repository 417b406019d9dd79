"""Contract of values: any JSON value comes back exactly, and what is refused leaves the old one."""

from __future__ import annotations

import pytest

from ..accessors import AssetStoreAccessor, TaskStoreAccessor
from ..errors import ValueTooLargeError
from ..values import encode
from .harness import TASK, ConformanceBase, Harness
from .samples import HARDLY_JSON, REFUSED_KINDS, VALUES

__all__ = ["ValueConformance"]


def _both(harness: Harness) -> list[TaskStoreAccessor | AssetStoreAccessor]:
    return [harness.task(), harness.asset()]


class ValueConformance(ConformanceBase):
    """Hold a backend to JSON values."""

    async def test_backend_keeps_text_exactly(self, harness: Harness) -> None:
        """Give back the very text."""
        call, backend = harness.call, harness.backend
        texts = [encode(value) for value in VALUES]
        for scope in await harness.scopes():
            for number, text in enumerate(texts):
                await call(backend.aset, scope, str(number), text)
            assert [await call(backend.aget, scope, str(number)) for number in range(len(texts))] == texts

    async def test_values_come_back_equal(self, harness: Harness) -> None:
        """Give back equal values of the same types, in every way of reading."""
        call = harness.call
        for state in _both(harness):
            for number, value in enumerate(VALUES):
                await call(state.aset, str(number), value)
            found = [await call(state.aget, str(number)) for number in range(len(VALUES))]
            assert [repr(each) for each in found] == [repr(value) for value in VALUES]
            many = await call(state.aget_many, map(str, range(len(VALUES))))
            assert repr(list(many.values())) == repr(list(VALUES))

    async def test_values_that_look_like_something_else(self, harness: Harness) -> None:
        """Take no value for an expiry or a reference, with a retention and without."""
        call, state = harness.call, harness.task()
        async with harness.open_store(default_retention_days=0) as forever:
            for value in HARDLY_JSON:
                await call(state.aset, "key", value, retention=harness.retention)
                assert await call(state.aget, "key") == value
                await call(forever.task_state(TASK).aset, "key", value)
                assert await call(state.aget, "key") == value

    async def test_tuples_become_lists(self, harness: Harness) -> None:
        """Store a tuple as a list."""
        for state in _both(harness):
            await harness.call(state.aset, "key", (1, ("a", [()])))
            assert await harness.call(state.aget, "key") == [1, ["a", [[]]]]

    async def test_text_is_compact_and_not_escaped(self, harness: Harness) -> None:
        """Get compact JSON that is not escaped to ASCII."""
        await harness.call(harness.asset().aset, "key", {"é": [1, "🙂"], "b": None})
        scope = await harness.asset_scope()
        assert await harness.call(harness.backend.aget, scope, "key") == '{"é":[1,"🙂"],"b":null}'

    async def test_refused_values(self, harness: Harness) -> None:
        """Refuse what JSON cannot hold, say what to store instead, and keep the old value."""
        call = harness.call
        for state in _both(harness):
            await call(state.aset, "key", "old")
            for value, error, text in REFUSED_KINDS:
                with pytest.raises(error, match=text):
                    await call(state.aset, "key", value)
                with pytest.raises(error, match=text):
                    await call(state.aset_many, {"key": "new", "other": value})
            assert await call(state.aget_many, ["key", "other"]) == {"key": "old"}

    async def test_size_limit(self, harness: Harness) -> None:
        """Keep a value of 65,535 bytes as JSON, and refuse one of 65,536."""
        call = harness.call
        for state in _both(harness):
            for largest in ("x" * 65_533, "é" * 32_766 + "x", ["x" * 65_531], "🙂" * 16_383 + "x"):
                assert len(encode(largest).encode()) == 65_535
                await call(state.aset, "key", largest)
                assert await call(state.aget, "key") == largest
                larger = [f"{largest[0]}x"] if isinstance(largest, list) else f"{largest}x"
                with pytest.raises(ValueTooLargeError, match=r"65536 bytes.* 65535 bytes.*worker-side backend"):
                    await call(state.aset, "key", larger)
                assert await call(state.aget, "key") == largest

    async def test_size_limit_of_many(self, harness: Harness) -> None:
        """Refuse all of several values where one is too large."""
        state = harness.task()
        with pytest.raises(ValueTooLargeError, match="'large'"):
            await harness.call(state.aset_many, {"a": 1, "large": "x" * 65_534, "z": 1})
        assert await harness.call(state.aget_many, ["a", "large", "z"]) == {}

    async def test_size_limit_is_an_option(self, harness: Harness) -> None:
        """Keep a value of any size where there is no limit; another limit is a limit of bytes too."""
        call = harness.call
        async with harness.open_store(max_value_storage_bytes=0) as store:
            large = ["é🙂" * 50_000, {"a": "x" * 50_000}]
            await call(store.task_state(TASK).aset, "key", large)
            assert await call(store.task_state(TASK).aget, "key") == large
        async with harness.open_store(max_value_storage_bytes=4) as store:
            await call(store.task_state(TASK).aset, "key", "é")
            with pytest.raises(ValueTooLargeError, match="5 bytes"):
                await call(store.task_state(TASK).aset, "key", "éx")
            assert await call(store.task_state(TASK).aget, "key") == "é"
