"""Look for an order in which operations could have happened one after the other, each between call and return.

The search of Wing and Gong (Testing and Verifying Concurrent Objects, 1993) with Lowe's memory of what was tried
(Testing for Linearizability, 2016). Keys are looked at one by one: a history is linearizable if that of each key is
(Herlihy and Wing, 1990).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from tests.linearizability.history import Operation

__all__ = ["NotLinearizableError", "check", "linearize"]


class NotLinearizableError(AssertionError):
    """Say of which key no order was found, how far it went and what could not follow."""


class _Register(NamedTuple):
    """One key.

    A version is 0 where the key is absent, and None where it was written by somebody who was not told. The last one
    is the largest that is known to be used up.
    """

    value: str | None = None
    version: int | None = 0
    last: int = 0

    def after(self, operation: Operation) -> _Register | None:
        """Give what the key holds after an operation, None where it could not have ended as it did."""
        if operation.kind == "set":
            return self._set(operation)
        if operation.kind == "delete":
            return _Register(None, 0, self.last)
        if operation.value != self.value:
            return None
        if operation.kind == "get" or operation.version is None:
            return self
        return self._seen(operation.version)

    def _set(self, operation: Operation) -> _Register | None:
        if operation.actual is not None:
            # A conflict: another version is stored, and it is the one that was told.
            return None if operation.actual == operation.if_version else self._seen(operation.actual)
        found: _Register | None = self
        if operation.if_version is not None:
            found = self._seen(operation.if_version)
        if found is None or (operation.version is not None and operation.version <= found.last):
            return None
        return _Register(operation.value, operation.version, operation.version or found.last)

    def _seen(self, version: int) -> _Register | None:
        """Give the register with its version known, None where it is another one."""
        if self.version is None and version > self.last:
            return _Register(self.value, version, version)
        return self if self.version == version else None


class _Event:
    """A call or a return, in a list that it can be taken out of and put back into."""

    __slots__ = ("bit", "following", "operation", "previous", "returning")

    def __init__(self, operation: Operation | None, bit: int, returning: _Event | None) -> None:
        self.operation = operation  # None for a return
        self.bit = bit
        self.returning = returning  # of a call: where it returned, None where nobody knows
        self.previous: _Event | None = None
        self.following: _Event | None = None

    def lift(self) -> None:
        """Take the call and its return out."""
        for event in (self, self.returning):
            if event is not None:
                assert event.previous is not None
                event.previous.following = event.following
                if event.following is not None:
                    event.following.previous = event.previous

    def put_back(self) -> None:
        """Undo `lift`; what was lifted last comes first."""
        for event in (self.returning, self):
            if event is not None:
                assert event.previous is not None
                event.previous.following = event
                if event.following is not None:
                    event.following.previous = event


def _events(operations: list[Operation]) -> _Event:
    head = _Event(None, 0, None)
    stamped: list[tuple[int, int, int, _Event]] = []
    for number, operation in enumerate(operations):
        returning = None
        if operation.returned is not None:
            returning = _Event(None, 1 << number, None)
            stamped.append((operation.returned, 1, number, returning))
        # At the same moment nobody can tell: then they overlap.
        stamped.append((operation.invoked, 0, number, _Event(operation, 1 << number, returning)))
    last = head
    for _, _, _, event in sorted(stamped, key=lambda each: each[:3]):
        last.following, event.previous = event, last
        last = event
    return head


def linearize(operations: list[Operation]) -> list[Operation]:
    """Give an order in which the operations of one key could have happened; those that may never have are left out.

    :raises NotLinearizableError: there is none.
    """
    head = _events(operations)
    left = sum(operation.returned is not None for operation in operations)
    register = _Register()
    done = 0
    tried: set[tuple[int, _Register]] = set()
    path: list[tuple[_Event, _Register]] = []
    best: list[Operation] = []
    event = head.following
    while left:
        following: _Register | None = None
        if event is not None and event.operation is not None:
            following = register.after(event.operation)
            if following is None or (done | event.bit, following) in tried:
                event = event.following
                continue
            tried.add((done | event.bit, following))
            path.append((event, register))
            register = following
            done |= event.bit
            left -= event.returning is not None
            event.lift()
            event = head.following
            continue
        # What returned here must have happened by now, and could not.
        if len(path) >= len(best):
            best = _order(path)
        if not path:
            raise NotLinearizableError(_report(operations, best))
        event, register = path.pop()
        done ^= event.bit
        left += event.returning is not None
        event.put_back()
        event = event.following
    return _order(path)


def _order(path: list[tuple[_Event, _Register]]) -> list[Operation]:
    return [event.operation for event, _ in path if event.operation is not None]


def _report(operations: list[Operation], best: list[Operation]) -> str:
    rest = [each for each in operations if each not in best]
    rest.sort(key=lambda each: (each.returned is None, each.returned or 0))
    return "\n".join(
        [
            f"no order was found for {len(operations)} operations of {operations[0].key!r}; the longest ends with",
            *(f"  {each}" for each in best[-12:]),
            "and of these none can follow in time:",
            *(f"  {each}" for each in rest[:8]),
        ]
    )


def check(history: Iterable[Operation]) -> None:
    """Check a history of several keys, each of which was absent in the beginning, and never written before.

    :raises NotLinearizableError: the operations of a key could not have happened one after the other.
    """
    by_key: defaultdict[str, list[Operation]] = defaultdict(list)
    for operation in history:
        by_key[operation.key].append(operation)
    for operations in by_key.values():
        linearize(operations)
