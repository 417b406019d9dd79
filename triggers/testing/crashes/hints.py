"""Guessing the mistake behind a lost or doubled event."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

from .judging import Verdict
from .life import Life
from .points import Place

__all__ = ["hint"]


def hint(verdict: Verdict, lives: Sequence[Life], identify: Callable[[object], Hashable]) -> str:
    """Say what the likely mistake is.

    :param verdict: how the log differs from what was expected.
    :param lives: those that made the log.
    :param identify: tells payloads apart.
    :return: a sentence; empty where nothing is likely.
    """
    if verdict.doubled:
        return _doubled(identify(verdict.doubled[0]), lives, identify)
    return _lost(lives) if verdict.lost else ""


def _lost(lives: Sequence[Life]) -> str:
    ending = lives[-1].ending
    given_up = f"the run was ended because nothing came any more ({ending}); see `idle` and `quiet`"
    if ending not in {"idle", "quiet"}:
        given_up = ""
    elif all(life.struck is None for life in lives):
        return given_up
    place = _plain_write(lives)
    if place is not None:
        return f"likely: {place} is committed by itself, before the event it speaks of; give it as `checkpoint`"
    likely = (
        "likely: the watcher moved its watermark past an event that it had not yielded yet, or its source does not "
        "give again what was not committed"
    )
    return f"{likely}; else {given_up}" if given_up else likely


def _doubled(name: Hashable, lives: Sequence[Life], identify: Callable[[object], Hashable]) -> str:
    commits = [commit for life in lives for commit in life.recording.commits]
    same = [each for each in commits if each.event is not None and identify(each.event.payload) == name]
    if same and same[0].writes:
        keys = ", ".join(repr(write.key) for write in same[0].writes)
        return (
            f"likely: it was committed with its checkpoint of {keys}, and told again from there; read what comes after"
        )
    place = _plain_write(lives)
    if place is not None:
        return f"likely: {place} is committed by itself, after the event it speaks of; give it as `checkpoint`"
    return "likely: nothing in the state tells that the event was told; give it a `checkpoint`, or a `key`"


def _plain_write(lives: Sequence[Life]) -> Place | None:
    """Give where the watcher last wrote state by itself before it died; later, where it does so at all."""
    places = [place for life in lives for place in life.plain_writes[-1:] if place is not None]
    return places[0] if places else None
