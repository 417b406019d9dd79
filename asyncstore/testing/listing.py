"""Contract of listing keys: sorted by code point, the prefix literal."""

from __future__ import annotations

from ..abc import Capability
from .harness import TASK, ConformanceBase, Harness, requires
from .samples import TEXTS, longest

__all__ = ["ListingConformance"]

#: Prefixes that mean something to some language of patterns, or that end where an order has an edge.
PREFIXES = (
    *("", "a", "A", "%", "_", "a%", "\\", "*", "[", "[a]", "?", "$", "'", ".", "..", "/", "a/", "no such", "é", "e"),
    *("\ud7ff", "\ue000", "\uffff", "\U00010000", "\U0010ffff", "\U0010ffff\U0010ffff", "a\U0010ffff", "a\ud7ff", "🙂"),
)


class ListingConformance(ConformanceBase):
    """Hold a backend to the listing of keys."""

    @requires(Capability.LISTING)
    async def test_order(self, harness: Harness) -> None:
        """Sort by code point: not by language, not without case, and not by UTF-16."""
        call = harness.call
        keys = ["\U0010ffff", "\U00010000", "\uffff", "\ue000", "\ud7ff", "é", "z", "a\U00010000", "a\uffff", "a", "Z"]
        for state in (harness.task(), harness.asset()):
            for key in keys:
                await call(state.aset, key, 1)
            expected = ["Z", "a", "a\uffff", "a\U00010000", "z", "é", "\ud7ff", "\ue000", "\uffff", "\U00010000"]
            assert await call(state.akeys) == [*expected, "\U0010ffff"]
            assert await call(state.akeys, "a") == ["a", "a\uffff", "a\U00010000"]
            assert await call(state.akeys, prefix="none") == []

    @requires(Capability.LISTING)
    async def test_prefix_is_literal(self, harness: Harness) -> None:
        """Take every character of the prefix for itself."""
        call, state = harness.call, harness.task()
        assert await call(state.akeys) == []
        keys = {*TEXTS, *longest(512)}
        keys |= {f"{prefix}{more}" for prefix in PREFIXES for more in ("x", "\ud7ff", "\ue000", "\U0010ffff")}
        for key in keys:
            await call(state.aset, key, 1)
        for prefix in (*PREFIXES, *longest(512)):
            assert await call(state.akeys, prefix) == sorted(key for key in keys if key.startswith(prefix)), prefix

    @requires(Capability.LISTING)
    async def test_scopes_are_isolated(self, harness: Harness) -> None:
        """List the keys of one scope, and none that was deleted or cleared."""
        call = harness.call
        task, asset = harness.task(), harness.asset()
        for state, keys in ((task, "abc"), (asset, "bcd")):
            for key in keys:
                await call(state.aset, key, 1)
        await call(task.adelete, "b")
        assert await call(task.akeys) == ["a", "c"]
        assert await call(asset.akeys) == ["b", "c", "d"]
        await call(asset.aclear)
        assert await call(asset.akeys) == []
        assert await call(task.akeys) == ["a", "c"]

    @requires(Capability.LISTING)
    async def test_backend_pages(self, harness: Harness) -> None:
        """Give pages that make up the whole, each behind the key where the one before ended."""
        call, backend = harness.call, harness.backend
        keys = sorted(["a", "aa", "ab", "ab\U0010ffff", "ac", "b", "ba", "é", "\ue000", "\U00010000", "%", "_"])
        for key in keys:
            await call(backend.aset, TASK, key, "1")
        for prefix in ("", "a", "ab", "none"):
            expected = [key for key in keys if key.startswith(prefix)]
            for size in (1, 2, 3, 100):
                pages: list[str] = []
                while page := await call(
                    backend.alist_keys, TASK, prefix, after=pages[-1] if pages else None, limit=size
                ):
                    assert len(page) <= size
                    pages += page
                assert pages == expected
        assert await call(backend.alist_keys, TASK, after="ab") == keys[keys.index("ab") + 1 :]
        assert await call(backend.alist_keys, TASK, "a", after="aaa") == ["ab", "ab\U0010ffff", "ac"]
        assert await call(backend.alist_keys, TASK, limit=0) == []
