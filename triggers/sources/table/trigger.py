"""The table watcher: one event for every row, and for every version of one whose column changes."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from asyncstore import JsonValue

from ...abc import BaseEventTrigger
from ...events import TriggerEvent
from ..patience import Patience
from .errors import UnreadableError, WrongTableError
from .scale import OVERLAPS, Scale
from .values import freeze

if TYPE_CHECKING:  # SQLAlchemy is imported by who watches a table, and not by everybody
    from .address import Address
    from .columns import Shape
    from .progress import Progress
    from .reader import Newest, Reader, Row

__all__ = ["TableTrigger"]

logger = logging.getLogger("triggers")

T = TypeVar("T")

_CHUNK = 100
#: Seconds after which the columns are looked at anew.
_STALE = 60.0
#: Of the time, the part that goes into reading the window again.
_SHARE = 0.1


class TableTrigger(BaseEventTrigger):
    """Yield one event for every row of a table of a SQL database, in the order of a column that only grows.

    The event's payload is the row, `{column: value}`. A row is told again when its value in `column` has changed; so an
    `updated_at` tells every update that is there at a look. Rows that become visible late, behind others, are told as
    long as they come within `overlap`. How far the table was read is kept in the asset's state, committed with each
    event, with a mark for each row of that window.

    :param url: a URL of SQLAlchemy, without a driver for the usual one; without a password where that is a secret.
    :param table: the name of a table or view; `schema.table` where `schema` is not given.
    :param schema: its schema.
    :param column: the column that only grows: a number, timestamp, date, text or UUID. Default: a primary key that is
        one number.
    :param key: the columns that tell rows of one value apart. Default: the primary key.
    :param columns: the columns of the payload. Default: all.
    :param where: a condition in SQL that a row must meet.
    :param connection: the id of a connection: `ASYNCSTORE_CONN_<ID>` is a JSON object with `username`, `password`,
        `host`, `port`, `database` and `query`, each optional; they go before those of the URL.
    :param start: begin at this value, when the watcher first begins.
    :param new_only: not the rows that are there when the watcher first begins.
    :param overlap: how late a row may become visible, in units of the column, seconds for timestamps, days for dates.
        Default: 1,000, 60 seconds, one day; 0 for texts, and nothing else.
    :param interval: seconds between looks.
    :param batch: rows that are read at once, and held in memory.
    :param timeout: seconds that a query may take.
    :param memory: under which prefix of the asset's state it is kept; two watchers of one asset need two.
    :param once: return when every row that is there has been recorded.
    :raises ValueError: an argument is refused.
    """

    def __init__(
        self,
        url: str,
        table: str,
        *,
        schema: str | None = None,
        column: str | None = None,
        key: Sequence[str] = (),
        columns: Sequence[str] = (),
        where: str | None = None,
        connection: str | None = None,
        start: float | str | None = None,
        new_only: bool = False,
        overlap: float | None = None,
        interval: float = 5.0,
        batch: int = 1000,
        timeout: float = 30.0,
        memory: str = "table",
        once: bool = False,
    ) -> None:
        _check(overlap, interval, timeout, batch, start is not None and new_only)
        self._url = url
        self._connection = connection
        self._table = (table, schema)
        self._wanted = column, tuple(key), tuple(columns), where
        self._start = start
        self._new_only = new_only
        self._overlap = overlap
        self._interval = interval
        self._batch = batch
        self._timeout = timeout
        self._memory = memory
        self._once = once
        self._name = self._reader_of(self._address())[1]  # refuses bad options before anything runs

    def __repr__(self) -> str:
        return f"<TableTrigger {self.uri}>"

    @property
    def uri(self) -> str:
        """Return the URI of the asset: where the table is, without user, password and options."""
        return self._address().uri(self._name)

    def _address(self) -> Address:
        from .address import resolve

        return resolve(self._url, self._connection)

    def _reader_of(self, address: Address) -> tuple[Reader, str]:
        from .columns import Request
        from .reader import Reader

        table, schema = self._table
        if schema is None and "." in table:
            schema, _, table = table.partition(".")
        if not table:
            raise ValueError("name a table")
        request = Request(table, schema, *self._wanted)
        return Reader(address, request, timeout=self._timeout, batch=self._batch), request.name

    async def check(self) -> None:
        """Find out whether the table can be watched; a database that is away is no objection.

        :raises ValueError: there is no such table or column, or it cannot be watched; says what there is.
        """
        reader, _ = self._reader_of(self._address())
        try:
            self._progress(await reader.look_up())
        except UnreadableError as error:
            logger.debug("%s: %s", self._name, error)
        finally:
            await reader.aclose()

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Read, yield, and read again."""
        address = self._address()
        reader, name = self._reader_of(address)
        table = _Asking(reader, Patience(f"table {name} of {address}"), f"table {name}")
        try:
            progress, is_last = await self._begin(table)
            while True:
                rows = await table.page(progress)
                for row in rows:
                    if not progress.knows(row):
                        async with self.item(json.dumps([freeze(each) for each in row.position])):
                            yield self._event(reader.payload(row), progress.record(row))
                    progress.passed(row)
                at_end = len(rows) < self._batch
                if at_end and self._once and is_last:
                    return
                if at_end and not self._once:
                    await anyio.sleep(self._interval)
                if progress.is_crowded or (at_end and (self._once or table.may_read_again())):
                    await table.begin_pass(progress)
                    is_last = True
        finally:
            await reader.aclose()

    def _event(self, payload: JsonValue, kept: dict[str, JsonValue]) -> TriggerEvent:
        return TriggerEvent(payload, checkpoint={f"{self._memory}/{name}": value for name, value in kept.items()})

    def _progress(self, shape: Shape) -> Progress:
        from .progress import Progress

        if shape.kind == "text" and self._overlap:
            raise WrongTableError(f"column {shape.column!r} is a text, which has no distances: overlap must be 0")
        overlap = OVERLAPS[shape.kind] if self._overlap is None else self._overlap
        scale = Scale(shape.kind, overlap, shape.least)
        if self._start is None:
            return Progress(scale, shape.watched)
        raw = self._address().file is not None
        try:
            start = scale.parse(self._start, raw=raw, aware=shape.aware)
        except (ValueError, ArithmeticError):
            raise WrongTableError(f"{self._start!r} is no value of column {shape.column!r}, a {shape.kind}") from None
        return Progress(scale, shape.watched, start)

    async def _begin(self, table: _Asking) -> tuple[Progress, bool]:
        """Give how far the table was read, and whether this is the only pass that `once` needs."""
        progress = self._progress(await table.look_up())
        kept = await self.asset_state.aget(f"{self._memory}/watermark")
        if kept is not None:
            prefix = f"{self._memory}/window/"
            keys = await self.asset_state.akeys(prefix)
            buckets: dict[int, Any] = {}
            for at in range(0, len(keys), _CHUNK):
                found = await self.asset_state.aget_many(keys[at : at + _CHUNK])
                buckets.update({int(key.removeprefix(prefix)): value for key, value in found.items()})
            progress.restore(kept, buckets)
            return progress, False
        await table.begin_pass(progress)
        if self._new_only:
            await self._take_baseline(table, progress)
        return progress, True

    async def _take_baseline(self, table: _Asking, progress: Progress) -> None:
        # What is there now counts as told; the watermark comes last, so that a crash begins anew.
        progress.start = progress.floor
        buckets: dict[str, JsonValue] = {}
        while rows := await table.page(progress):
            for row in rows:
                buckets.update({f"{self._memory}/{name}": value for name, value in progress.mark(row).items()})
                progress.passed(row)
        names = list(buckets)
        for at in range(0, len(names), _CHUNK):
            await self.asset_state.aset_many({name: buckets[name] for name in names[at : at + _CHUNK]})
        await self.asset_state.aset(f"{self._memory}/watermark", progress.watermark(progress.after))


class _Asking:
    """Ask a reader, wait while it cannot answer, and say what is strange about the table, once."""

    def __init__(self, reader: Reader, patience: Patience, name: str) -> None:
        self._reader = reader
        self._patience = patience
        self._name = name
        self._shape: Shape | None = None
        self._fresh_until = -math.inf
        self._cost = 0.0
        self._again_at = math.inf
        self._told: set[str] = set()

    async def look_up(self) -> Shape:
        """Give what the table is made of."""
        await self._patiently(self._reader.newest, None, None)
        return self._reader.shape

    async def page(self, progress: Progress) -> list[Row]:
        """Give the next rows.

        :param progress: how far the table was read.
        """
        rows = await self._patiently(self._reader.page, progress.after, progress.start, progress.floor)
        if len(rows) < self._reader.batch and self._again_at == math.inf:
            self._again_at = time.monotonic() + self._cost * (1 / _SHARE - 1)
        return rows

    def may_read_again(self) -> bool:
        """Tell whether enough time has passed since the window was read, beside what that took."""
        return time.monotonic() >= self._again_at

    async def begin_pass(self, progress: Progress) -> None:
        """Begin the next pass.

        :param progress: how far the table was read.
        """
        self._cost, self._again_at = 0.0, math.inf
        newest = await self._patiently(self._reader.newest, progress.floor, progress.top)
        if progress.top is not None and (newest is None or not newest.reached):
            await self._tell_rewound(progress, newest)
        if "null" not in self._told and await self._patiently(self._reader.has_nulls):
            names = " or ".join(self._reader.shape.nullable)
            self._tell("null", f"rows in which {names} is NULL are passed over")
        progress.begin_pass(newest)

    async def _tell_rewound(self, progress: Progress, newest: Newest | None) -> None:
        if "rewound" in self._told:
            return
        newest = newest or await self._patiently(self._reader.newest, None, None)
        now = (
            "no row is there any more"
            if newest is None
            else f"the largest {self._reader.shape.column} is {newest.value}"
        )
        self._tell(
            "rewound",
            f"{now}, and {progress.top} was there: rows were deleted, or an older state was restored. That is not "
            f"followed: rows below {progress.floor} are not told. To begin anew, delete the watcher's state",
        )

    def _tell(self, what: str, text: str) -> None:
        self._told.add(what)
        logger.warning("%s: %s", self._name, text)

    async def _patiently(self, ask: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        while True:
            began = time.monotonic()
            try:
                if began >= self._fresh_until:
                    self._learn(await self._reader.look_up())
                    self._fresh_until = began + _STALE
                answer = await ask(*arguments)
            except (UnreadableError, WrongTableError) as error:
                self._fresh_until = -math.inf  # perhaps it was altered
                await self._reader.aclose()
                await self._patience.wait(str(error))
            else:
                self._cost += time.monotonic() - began
                self._patience.arrived()
                return answer

    def _learn(self, shape: Shape) -> None:
        known = self._shape
        if known is not None and (known.watched, known.kind) != (shape.watched, shape.kind):
            raise UnreadableError(
                f"it was read by {', '.join(known.watched)}, which is now {', '.join(shape.watched)} or of another type"
            )
        self._shape = shape


def _check(overlap: float | None, interval: float, timeout: float, batch: int, is_both: bool) -> None:
    for name, value in (("interval", interval), ("timeout", timeout)):
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a finite number of seconds and more than 0, not {value!r}")
    if overlap is not None and not (math.isfinite(overlap) and overlap >= 0):
        raise ValueError(f"overlap must be a finite number and not negative, not {overlap!r}")
    if batch < 1:
        raise ValueError(f"batch must be a positive number of rows, not {batch!r}")
    if is_both:
        raise ValueError("begin at a value, or with new rows only; not both")
