"""The schedule watcher: one event for every tick of a clock."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any

import anyio

from ...abc import BaseEventTrigger
from ...events import TriggerEvent
from .times import Schedule, latest_ticks, parse_schedule, parse_zone

__all__ = ["ScheduleTrigger"]

logger = logging.getLogger("triggers")

#: Seconds that are slept at most: a suspended machine and a clock that is set are noticed within them.
_NAP = 30.0
#: Seconds that a tick may be late to count as told in time.
_GRACE = timedelta(seconds=60)
#: Seconds by which a clock must have gone back to be spoken of.
_BACK = timedelta(seconds=60)
_LEAST = timedelta(microseconds=1)
_LONGEST_JITTER = 86_400


class ScheduleTrigger(BaseEventTrigger):
    """Yield one event for every tick of a schedule: `{"scheduled_at", "previous_at", "schedule", "timezone"}`.

    `previous_at` is the tick that was told before, None for the first one; so `[previous_at, scheduled_at)` leaves
    nothing out, whatever was missed. The key of the event is the time of the tick, in UTC. The last tick is kept in the
    asset's state, committed with each event; a clock that goes back repeats none.

    :param schedule: `cron:*/5 * * * *`, also with seconds in front and as `cron:@daily`, or `every:30s`, counted from
        `start` or from 1970.
    :param timezone: in which the expression is read: `Europe/Berlin`.
    :param catch_up: which of the ticks are told that were missed while nothing ran, the machine slept, or a commit took
        its time: `all`, the `latest` or `none`, which is none that is more than a minute late.
    :param limit: how many missed ticks are told at most, the latest ones.
    :param start: no tick before this moment, in ISO 8601; a moment of the past makes the ticks since then missed ones.
        Default: when the watcher first begins.
    :param end: no tick after this moment; behind it the watcher is done.
    :param jitter: shift every tick by a part of so many seconds, always the same one for this asset, so that not all
        watchers of an hour begin at its beginning.
    :param memory: under which prefix of the asset's state it is kept; two watchers of one asset need two.
    :param once: return when the ticks that are due were recorded.
    :raises ValueError: an argument is refused.
    """

    def __init__(
        self,
        schedule: str,
        *,
        timezone: str = "UTC",
        catch_up: str = "latest",
        limit: int = 1000,
        start: str | None = None,
        end: str | None = None,
        jitter: float = 0.0,
        memory: str = "schedule",
        once: bool = False,
    ) -> None:
        self._timezone = timezone
        zone = parse_zone(timezone)
        self._start, self._end = (None if text is None else _moment(text, zone) for text in (start, end))
        self._schedule: Schedule = parse_schedule(schedule, zone, self._start)
        if catch_up not in {"all", "latest", "none"}:
            raise ValueError(f"catch_up is 'all', 'latest' or 'none', not {catch_up!r}")
        if limit < 1:
            raise ValueError(f"limit must be a positive number of ticks, not {limit!r}")
        if not 0 <= jitter <= _LONGEST_JITTER:
            raise ValueError(f"jitter must be a number of seconds from 0 to {_LONGEST_JITTER:,}, a day, not {jitter!r}")
        if self._start is not None and self._end is not None and self._start > self._end:
            raise ValueError("end must not be before start")
        self._catch_up = catch_up
        self._limit = limit if catch_up == "all" else 1
        self._jitter = jitter
        self._memory = memory
        self._once = once
        self._zone = zone
        self._is_told_back = False

    @property
    def uri(self) -> str:
        """Return the URI of the asset: the schedule, and its time zone where that is not UTC."""
        return f"{self._schedule}" + ("" if self._zone is UTC else f"?timezone={self._timezone}")

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep, yield, and sleep again."""
        shift = timedelta(seconds=self._jitter * self._part())
        last, previous = await self._begin(shift)
        while True:
            now = datetime.now(UTC) - shift
            for tick in self._due(last, now):
                yield self._event(tick, previous)
                last = previous = tick
            last = max(last, now) if self._passes(last, now) else last
            upcoming = next(self._schedule.after(last), None)
            if upcoming is None or self._once or (self._end is not None and upcoming > self._end):
                return
            self._tell_back(last, now)
            delay = (upcoming - (datetime.now(UTC) - shift)).total_seconds()
            await anyio.sleep(min(_NAP, max(0.0, delay)))

    def _event(self, tick: datetime, previous: datetime | None) -> TriggerEvent:
        payload: dict[str, Any] = {
            "scheduled_at": tick.isoformat(),
            "previous_at": None if previous is None else previous.astimezone(self._zone).isoformat(),
            "schedule": str(self._schedule),
            "timezone": self._timezone,
        }
        mark = tick.astimezone(UTC).isoformat()
        return TriggerEvent(payload, key=f"{self._memory}:{mark}", checkpoint={f"{self._memory}/watermark": mark})

    async def _begin(self, shift: timedelta) -> tuple[datetime, datetime | None]:
        """Give the moment behind which ticks are told, and the last one that was."""
        kept = await self.asset_state.aget(f"{self._memory}/watermark")
        if kept is not None:
            last = datetime.fromisoformat(kept)
            return last, last
        since = await self.asset_state.aget(f"{self._memory}/since")
        if since is None:
            # From now on, whatever stops it before the first tick.
            begin = self._start - _LEAST if self._start is not None else datetime.now(UTC) - shift
            since = begin.astimezone(UTC).isoformat()
            await self.asset_state.aset(f"{self._memory}/since", since)
        return datetime.fromisoformat(since), None

    def _due(self, last: datetime, now: datetime) -> list[datetime]:
        """Give the ticks that are to be told now."""
        until = now if self._end is None else min(now, self._end)
        if until <= last:
            return []
        ticks, is_cut = latest_ticks(self._schedule, last, until, self._limit)
        if self._catch_up == "none":
            return [tick for tick in ticks if now - tick <= _GRACE]
        if is_cut and self._catch_up == "all":
            logger.warning("%s: ticks before %s were missed, more than %d", self.uri, ticks[0].isoformat(), self._limit)
        return ticks

    def _passes(self, last: datetime, now: datetime) -> bool:
        # What was missed and is not told must not be looked through again.
        return self._catch_up == "none" and now - last > _GRACE

    def _tell_back(self, last: datetime, now: datetime) -> None:
        if last - now <= _BACK:
            self._is_told_back = False
        elif not self._is_told_back:
            self._is_told_back = True
            logger.warning(
                "%s: the clock says %s, and ticks were told until %s; none is told again until then",
                self.uri,
                now.isoformat(timespec="seconds"),
                last.isoformat(timespec="seconds"),
            )

    def _part(self) -> float:
        name = f"{self.asset.name}\0{self._memory}".encode(errors="surrogatepass")
        return int.from_bytes(blake2b(name, digest_size=6).digest(), "big") / 2**48


def _moment(text: str, zone: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
        moment = (moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)).astimezone(UTC)
        _ = moment - _LEAST
    except (ValueError, OverflowError):
        raise ValueError(f"{text!r} is no moment; write it as 2026-01-31T09:00") from None
    return moment
