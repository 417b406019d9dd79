"""The checker: it takes what can be, and refuses what cannot."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.linearizability.checker import NotLinearizableError, check, linearize
from tests.linearizability.history import Kind, Operation, dump, load


def op(kind: Kind, invoked: int, returned: int | None, value: str | None = None, **rest: Any) -> Operation:
    return Operation("key", kind, invoked, returned, value, **rest)


def refused(*operations: Operation) -> str:
    with pytest.raises(NotLinearizableError) as found:
        check(operations)
    return str(found.value)


def test_one_after_the_other() -> None:
    check(
        [
            op("get", 0, 1),
            op("set", 2, 3, "a", version=4),
            op("get", 4, 5, "a"),
            op("get_entry", 6, 7, "a", version=4),
            op("set", 8, 9, "b", version=6, if_version=4),
            op("set", 10, 11, "c", if_version=4, actual=6),
            op("get", 12, 13, "b"),
            op("delete", 14, 15),
            op("get_entry", 16, 17, version=0),
            op("set", 18, 19, "d", version=7, if_version=0),
        ]
    )


def test_a_read_at_the_same_time_sees_the_old_or_the_new() -> None:
    old = op("set", 0, 1, "old", version=1)
    new = op("set", 10, 20, "new", version=2)
    check([old, new, op("get", 11, 12, "old"), op("get", 13, 14, "new"), op("get", 21, 22, "new")])
    check([old, new, op("get", 9, 21, "old")])
    check([old, new, op("get", 20, 21, "old")])  # at the same moment


def test_a_stale_read() -> None:
    written = [op("set", 0, 1, "old", version=1), op("set", 2, 3, "new", version=2)]
    text = refused(*written, op("get", 4, 5, "old"))
    assert "'key'" in text
    assert text.endswith("get(key='key', kind='get', invoked=4, returned=5, value='old')")
    refused(*written, op("get", 4, 5))
    refused(*written, op("get_entry", 4, 5, "new", version=1))


def test_a_read_that_goes_back() -> None:
    # While the write is on its way each may see either, but not the old value after the new one was seen.
    old, new = op("set", 0, 1, "old", version=1), op("set", 10, 20, "new", version=2)
    refused(old, new, op("get", 11, 12, "new"), op("get", 13, 14, "old"))


def test_a_value_from_nowhere() -> None:
    refused(op("get", 0, 1, "a"), op("set", 2, 3, "a", version=1))
    refused(op("get", 0, 1, "a"))


def test_a_value_that_was_seen_after_it_was_overwritten() -> None:
    refused(
        op("set", 0, 9, "a", version=1),
        op("set", 1, 8, "b", version=2),
        op("get", 10, 11, "b"),
        op("get", 12, 13, "a"),
    )


def test_a_value_that_was_seen_after_it_was_deleted() -> None:
    refused(op("set", 0, 1, "a", version=1), op("delete", 2, 3), op("get", 4, 5, "a"))
    check([op("set", 0, 1, "a", version=1), op("delete", 2, 5), op("get", 4, 5, "a")])


def test_a_lost_update() -> None:
    first = op("set", 0, 1, "0", version=1)
    both = [op("set", 2, 10, "1", version=2, if_version=1), op("set", 3, 11, "1 too", version=3, if_version=1)]
    refused(first, *both)
    refused(op("set", 0, 5, "a", version=1, if_version=0), op("set", 1, 6, "b", version=2, if_version=0))
    check([first, both[0], op("set", 3, 11, "1 too", if_version=1, actual=2)])


def test_a_conflict_that_should_not_have_been() -> None:
    first = op("set", 0, 1, "a", version=5)
    refused(first, op("set", 2, 3, "b", if_version=5, actual=5))
    refused(first, op("set", 2, 3, "b", if_version=4, actual=6))
    refused(first, op("set", 2, 3, "b", if_version=5, actual=0))
    refused(first, op("delete", 2, 3), op("set", 4, 5, "b", if_version=0, actual=5))
    check([first, op("delete", 2, 5), op("set", 4, 5, "b", if_version=0, actual=5)])


def test_a_refused_write_that_was_made() -> None:
    refused(op("set", 0, 1, "a", version=5), op("set", 2, 3, "b", if_version=4, actual=5), op("get", 4, 5, "b"))


@pytest.mark.parametrize("version", [3, 2])
def test_a_version_that_does_not_grow(version: int) -> None:
    refused(op("set", 0, 1, "a", version=3), op("set", 2, 3, "b", version=version))
    refused(op("set", 0, 1, "a", version=3), op("delete", 2, 3), op("set", 4, 5, "b", version=version))
    refused(op("set", 0, 1, "a", version=3), op("delete", 2, 3), op("set", 4, 5, "b", version=version, if_version=0))


def test_versions_tell_the_order_of_writes_at_the_same_time() -> None:
    both = [op("set", 0, 10, "a", version=2), op("set", 0, 10, "b", version=1)]
    check([*both, op("get", 11, 12, "a")])
    refused(*both, op("get", 11, 12, "b"))


def test_what_nobody_knows_the_end_of_may_happen_later_or_never() -> None:
    first, lost = op("set", 0, 1, "a", version=1), op("set", 2, None, "b")
    check([first, lost, op("get", 3, 4, "a"), op("get", 5, 6, "b"), op("get_entry", 7, 8, "b", version=9)])
    check([first, lost, op("get", 3, 4, "a"), op("get", 5, 6, "a")])
    check([first, lost, op("set", 3, 4, "c", if_version=1, actual=2), op("get", 5, 6, "b")])
    refused(first, lost, op("get", 3, 4, "b"), op("get", 5, 6, "a"))
    refused(first, lost, op("get_entry", 3, 4, "b", version=1))
    refused(op("get", 0, 1, "b"), lost)
    check([lost])


def test_keys_do_not_mix() -> None:
    check([Operation("one", "set", 0, 1, "a", 2), Operation("two", "get", 2, 3), Operation("two", "set", 4, 5, "b", 1)])


def test_a_history_is_written_and_read_again() -> None:
    history = [op("set", 1, None, '"é"', version=3), op("set", 1, 2, "b", if_version=3, actual=4)]
    assert load(dump(history)) == history


# Against a checker that tries every order.


def simply(operations: list[Operation]) -> bool:
    certain = [each for each in operations if each.returned is not None]
    lost = [each for each in operations if each.returned is None]
    for count in range(len(lost) + 1):
        for happened in itertools.combinations(lost, count):
            if any(possible(list(order)) for order in itertools.permutations([*certain, *happened])):
                return True
    return False


def possible(order: list[Operation]) -> bool:
    for place, operation in enumerate(order):
        if any(other.returned is not None and other.returned < operation.invoked for other in order[place + 1 :]):
            return False
    value, version, last = None, 0, 0
    for operation in order:
        if operation.kind == "delete":
            value, version = None, 0
        elif operation.kind == "set" and operation.actual is not None:
            if operation.actual != version or operation.actual == operation.if_version:
                return False
        elif operation.kind == "set":
            assert operation.version is not None
            if operation.version <= last or operation.if_version not in (None, version):
                return False
            value, version = operation.value, operation.version
            last = version
        elif operation.value != value or operation.version not in (None, version):
            return False
    return True


numbers = st.integers(0, 3)


@st.composite
def operations(draw: st.DrawFn) -> Operation:
    kind: Kind = draw(st.sampled_from(["get", "get_entry", "set", "set", "delete"]))
    invoked = draw(st.integers(0, 8))
    returned = draw(st.none() | st.integers(invoked, 9)) if kind in {"set", "delete"} else draw(st.integers(invoked, 9))
    if kind == "delete":
        return op(kind, invoked, returned)
    number = draw(numbers)
    if kind == "set":
        if_version = draw(st.none() | numbers)
        actual = draw(st.none() | numbers) if if_version is not None and returned is not None else None
        return op(kind, invoked, returned, f"{number}", version=number + 1, if_version=if_version, actual=actual)
    value = f"{number - 1}" if number else None
    return op(kind, invoked, returned, value, version=number if kind == "get_entry" else None)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(st.lists(operations(), min_size=1, max_size=5))
def test_it_agrees_with_one_that_tries_every_order(history: list[Operation]) -> None:
    try:
        order = linearize(history)
    except NotLinearizableError:
        assert not simply(history)
    else:
        assert possible(order)
        assert simply(history)


# Large histories that were made one after the other.


def made_up(chance: random.Random, size: int, width: int) -> list[Operation]:
    """Run a register at moments of its own, each between a call and a return that `width` others overlap."""
    history: list[Operation] = []
    value, version, last = None, 0, 0
    for number in range(size):
        at = (number + 1) * 10
        times = at - chance.randrange(10 * width), at + chance.randrange(10 * width)
        kind = chance.choice(["get", "get_entry", "set", "if", "delete"])
        if kind == "delete":
            value, version = None, 0
            history.append(op("delete", *times))
        elif kind in {"set", "if"}:
            expected = None if kind == "set" else version if chance.random() < 0.6 else last + 1
            if expected not in (None, version):
                history.append(op("set", *times, f"{number}", if_version=expected, actual=version))
                continue
            last += chance.randrange(1, 4)
            value, version = f"{number}", last
            history.append(op("set", *times, value, version=version, if_version=expected))
        elif kind == "get":
            history.append(op("get", *times, value))
        else:
            history.append(op("get_entry", *times, value, version=version))
    return history


@pytest.mark.parametrize("seed", range(5))
def test_large_histories_are_taken(seed: int) -> None:
    history = made_up(random.Random(seed), 1500, 6)
    random.Random(seed).shuffle(history)
    check(history)


@pytest.mark.parametrize("seed", range(5))
def test_a_large_history_with_one_stale_read_is_refused(seed: int) -> None:
    chance = random.Random(seed)
    history = made_up(chance, 600, 4)
    values = [each.value for each in history[:100] if each.kind == "set" and each.actual is None]
    late = [place for place in range(300, 600) if history[place].kind == "get"]
    place = chance.choice(late)
    read = history[place]
    history[place] = op("get", read.invoked, read.returned, chance.choice(values))
    refused(*history)
