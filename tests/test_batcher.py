"""Group commit by itself, without a database."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from asyncstore.backends.metastore.batching import MOST, Batcher, Job, PerLoop

pytestmark = pytest.mark.anyio

Sent = Job[int, int]


class Sender:
    """Keeps what is sent until it is told to answer."""

    def __init__(self, *, most: int = MOST) -> None:
        self.batches: list[list[Sent]] = []
        self.batcher: Batcher[int, int] = Batcher(self.batches.append, most=most)

    @property
    def asked(self) -> list[list[int]]:
        return [[job.asked for job in batch] for batch in self.batches]

    def is_idle(self) -> bool:
        return self.batcher.idle

    def answer(self) -> None:
        """Answer the batch that was sent last, each with ten times what it asked for."""
        batch = self.batches[-1]
        for job in batch:
            job.answer(job.asked * 10)
        self.batcher.returned(len(batch))


async def turn() -> None:
    """Let everything run that can."""
    for _ in range(3):
        await asyncio.sleep(0)


async def test_who_comes_alone_goes_out_at_once() -> None:
    sender = Sender()
    assert sender.is_idle()
    future = sender.batcher.submit(1)
    assert sender.asked == [[1]]  # before anything else ran
    assert not sender.is_idle()
    sender.answer()
    assert sender.is_idle()
    assert await future == 10
    sender.batcher.submit(2)
    assert sender.asked == [[1], [2]]
    sender.answer()


async def test_who_comes_meanwhile_goes_out_together_and_in_order() -> None:
    sender = Sender()
    futures = [sender.batcher.submit(number) for number in range(5)]
    await turn()
    assert sender.asked == [[0]]
    assert [job.asked for job in sender.batcher.waiting] == [1, 2, 3, 4]
    sender.answer()
    assert sender.asked == [[0], [1, 2, 3, 4]]  # at once, where one caller alone was answered
    futures += [sender.batcher.submit(number) for number in range(5, 8)]
    sender.answer()
    await turn()
    assert sender.asked == [[0], [1, 2, 3, 4], [5, 6, 7]]
    assert not sender.is_idle()
    sender.answer()
    await turn()
    assert sender.is_idle()
    assert [await future for future in futures] == [number * 10 for number in range(8)]


async def test_callers_who_are_answered_together_and_ask_anew_stay_together() -> None:
    sender = Sender()
    done: list[int] = []

    async def ask(number: int) -> None:
        for again in range(3):
            answer = await sender.batcher.submit(number + again)
            done.append(answer)

    tasks = [asyncio.ensure_future(ask(number)) for number in (0, 10, 20)]
    for _ in range(8):
        await turn()
        if sender.is_idle():
            break
        sender.answer()
    await asyncio.gather(*tasks)
    # The first went alone; from then on nobody goes ahead of those who were answered with it.
    assert sender.asked == [[0], [10, 20], [1, 11, 21], [2, 12, 22]]
    assert len(done) == 9


async def test_no_timer_is_ever_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **options: object) -> asyncio.TimerHandle:
        raise AssertionError("a timer")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "call_later", refuse)
    monkeypatch.setattr(loop, "call_at", refuse)
    sender = Sender()
    futures = [sender.batcher.submit(number) for number in range(3)]
    sender.answer()
    sender.answer()
    await turn()
    assert [await future for future in futures] == [0, 10, 20]
    assert sender.is_idle()


async def test_a_batch_holds_at_most_so_many() -> None:
    sender = Sender(most=3)
    futures = [sender.batcher.submit(number) for number in range(8)]
    for _ in range(4):
        sender.answer()
        await turn()
    assert sender.asked == [[0], [1, 2, 3], [4, 5, 6], [7]]
    assert sender.is_idle()
    assert [await future for future in futures] == [number * 10 for number in range(8)]


async def test_a_caller_cancelled_while_it_waits_takes_its_question_away() -> None:
    sender = Sender(most=2)
    futures = [sender.batcher.submit(number) for number in range(6)]
    for gone in (1, 2, 4):
        futures[gone].cancel()
    sender.answer()
    assert sender.asked == [[0], [3, 5]]  # those who are gone take no place either
    sender.answer()
    await turn()
    assert [await futures[number] for number in (0, 3, 5)] == [0, 30, 50]
    assert sender.is_idle()


async def test_where_everybody_is_cancelled_nothing_is_sent() -> None:
    sender = Sender()
    futures = [sender.batcher.submit(number) for number in range(4)]
    for future in futures[1:]:
        future.cancel()
    sender.answer()
    assert sender.asked == [[0]]
    assert sender.is_idle()
    assert not sender.batcher.waiting


async def test_a_caller_cancelled_once_it_is_sent_changes_nothing_for_the_others() -> None:
    sender = Sender()
    futures = [sender.batcher.submit(number) for number in range(4)]
    sender.answer()
    futures[2].cancel()
    batch = sender.batches[-1]
    assert [job.asked for job in batch] == [1, 2, 3]
    batch[0].answer(5)
    batch[1].answer(6)  # nobody is there to take it
    batch[2].fail(ValueError("mine"))
    sender.batcher.returned(3)
    await turn()
    assert await futures[1] == 5
    assert futures[2].cancelled()
    with pytest.raises(ValueError, match="mine"):
        await futures[3]
    assert sender.is_idle()


async def test_a_failure_for_somebody_who_is_gone_is_dropped() -> None:
    sender = Sender()
    future = sender.batcher.submit(1)
    future.cancel()
    sender.batches[0][0].fail(ValueError("nobody's"))
    sender.batcher.returned(1)
    assert future.cancelled()
    assert sender.is_idle()


async def test_a_sender_that_answers_at_once_does_not_nest() -> None:
    depth: list[int] = []
    batcher: Batcher[int, int]

    def send(batch: list[Sent]) -> None:
        for job in batch:
            job.answer(job.asked)
        asyncio.get_running_loop().call_soon(batcher.returned, len(batch))
        depth.append(len(batch))

    batcher = Batcher(send)
    assert await asyncio.gather(*(batcher.submit(number) for number in range(2000))) == list(range(2000))
    assert depth == [1, 1000, 999]


# One for each loop.


def in_a_loop(work: Callable[[], Any]) -> Any:
    async def call() -> Any:
        return work()

    return asyncio.run(call())


async def test_a_loop_keeps_its_own() -> None:
    made: list[object] = []

    def make() -> object:
        made.append(object())
        return made[-1]

    here: PerLoop[object] = PerLoop(make)
    first = here.get()
    assert here.get() is first
    others: list[object] = []
    thread = threading.Thread(target=lambda: others.append(in_a_loop(here.get)))
    thread.start()
    thread.join()
    assert others == made[1:]
    assert here.get() is first
    assert len(made) == 2


def test_what_a_closed_loop_had_is_let_go() -> None:
    here: PerLoop[list[int]] = PerLoop(list)
    in_a_loop(lambda: here.get().append(1))
    in_a_loop(lambda: here.get().append(2))

    def look() -> list[list[int]]:
        here.get().append(3)
        return [each for _, each in here.clear()]

    assert in_a_loop(look) == [[3]]


async def test_popped_and_cleared_it_is_made_anew() -> None:
    numbers = iter(range(10))
    here: PerLoop[int] = PerLoop(lambda: next(numbers) + 1)
    loop = asyncio.get_running_loop()
    assert here.get() == 1
    assert here.pop(loop) == 1
    assert here.pop(loop) is None
    assert here.get() == 2
    assert here.clear() == [(loop, 2)]
    assert here.clear() == []
    assert here.get() == 3


def test_outside_a_loop_there_is_none() -> None:
    here: PerLoop[int] = PerLoop(lambda: 1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        here.get()


async def test_what_cannot_be_made_is_tried_again() -> None:
    attempts = iter([ValueError("not yet"), None])

    def make() -> int:
        if (error := next(attempts)) is not None:
            raise error
        return 1

    here: PerLoop[int] = PerLoop(make)
    with pytest.raises(ValueError, match="not yet"):
        here.get()
    assert here.get() == 1
