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

    def __init__(self, *, most: int = MOST, depth: int = 1, weigh: Callable[[int], int] | None = None) -> None:
        self.batches: list[list[Sent]] = []
        self.batcher: Batcher[int, int] = Batcher(self.batches.append, depth=depth, most=most, weigh=weigh)

    @property
    def asked(self) -> list[list[int]]:
        return [[job.asked for job in batch] for batch in self.batches]

    def is_idle(self) -> bool:
        return self.batcher.idle

    def answer(self, place: int = -1, took: float = 0.0) -> None:
        """Answer a batch, the one that was sent last: each job with ten times what it asked for."""
        batch = self.batches[place]
        for job in batch:
            job.answer(job.asked * 10)
        self.batcher.returned(len(batch), took)


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


async def test_a_batch_is_as_heavy_as_it_may_be() -> None:
    sender = Sender(weigh=lambda asked: asked)
    futures = [sender.batcher.submit(asked) for asked in (1, 3_000_000, 2_000_000, 1, 9_000_000, 2)]
    for _ in range(4):
        sender.answer()
        await turn()
    assert sender.asked == [[1], [3_000_000, 2_000_000], [1, 9_000_000], [2]]
    assert all(future.done() for future in futures)


async def test_what_is_put_back_is_in_front() -> None:
    sender = Sender()
    for number in range(4):
        sender.batcher.submit(number)
    sender.answer()
    late = sender.batches[-1].pop()
    sender.batcher.submit(4)
    sender.batcher.put_back([late])
    sender.answer()
    await turn()
    assert sender.asked == [[0], [1, 2], [3, 4]]


async def crowd(sender: Sender, took: float, rounds: int) -> int:
    """Have 64 callers ask anew as soon as they are answered; gives how many batches were on their way at most."""
    asked = 0
    most = 1

    async def call() -> None:
        nonlocal asked
        while asked < 64 * rounds:
            asked += 1
            number = asked
            assert await sender.batcher.submit(number) == number * 10

    answered = len(sender.batches)
    calls = [asyncio.create_task(call()) for _ in range(64)]
    while not all(each.done() for each in calls):
        await turn()
        most = max(most, len(sender.batches) - answered)
        if answered < len(sender.batches):
            sender.answer(answered, took)
            answered += 1
    await asyncio.gather(*calls)
    assert sender.is_idle()
    return most


async def test_two_are_on_their_way_where_the_jobs_are_most_of_the_time() -> None:
    sender = Sender(depth=2)
    assert await crowd(sender, took=0.0, rounds=10) == 2
    assert max(len(batch) for batch in sender.batches[4:]) == 32
    assert sender.asked == sorted(sender.asked), "they go out in order"


@pytest.mark.parametrize(("depth", "took"), [(2, 10.0), (1, 0.0)])
async def test_one_is_on_its_way_where_a_batch_costs_more_than_its_jobs(depth: int, took: float) -> None:
    sender = Sender(depth=depth)
    assert await crowd(sender, took, rounds=10) == 1
    assert len(sender.batches[5]) == 64


async def test_two_on_their_way_become_one_and_a_few_wait_for_both() -> None:
    sender = Sender(depth=2)
    await crowd(sender, took=0.0, rounds=4)
    before = len(sender.batches)
    assert await crowd(sender, took=10.0, rounds=6) <= 2
    assert 64 in [len(batch) for batch in sender.batches[before:]]


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
