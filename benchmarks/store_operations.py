"""What one operation costs through the accessors on a SQLite file, beside the bare drivers, in one run.

python -m benchmarks.store_operations [--seconds 1] [--rounds 5]
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiosqlite

from asyncstore import Asset, AssetStoreAccessor, Store, connect

ROWS = 10_000
VALUE = {"page": 17, "token": "x" * 70}
TEXT = '{"page":17,"token":"' + "x" * 70 + '"}'
Operation = Callable[[int], Awaitable[object] | object]


def fill(path: Path) -> None:
    """Make the bare drivers' table, as simple as a table can be."""
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA journal_mode = WAL")
        raw.execute("CREATE TABLE kept (key TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID")
        raw.executemany("INSERT INTO kept VALUES (?, ?)", ((f"key {n}", TEXT) for n in range(ROWS)))
    raw.close()


async def rate(operation: Operation, seconds: float) -> float:
    """Give how often an operation runs in a second, one after the other."""
    done = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        result = operation(done * 7919 % ROWS)
        if isinstance(result, Awaitable):
            await result
        done += 1
    return done / seconds


def bare(folder: Path, operations: dict[str, Operation], aio: aiosqlite.Connection) -> sqlite3.Connection:
    """Add what the bare drivers do."""
    raw = sqlite3.connect(folder / "bare.db", isolation_level=None)
    raw.execute("PRAGMA synchronous = FULL")
    write = "INSERT INTO kept VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value"
    read = "SELECT value FROM kept WHERE key = ?"
    operations["get: sqlite3, on the loop's own thread"] = lambda n: raw.execute(read, (f"key {n}",)).fetchall()
    operations["get: aiosqlite, one hop"] = lambda n: aio.execute_fetchall(read, (f"key {n}",))
    # A value that changes: SQLite does not write a page that stays the same.
    count = itertools.count()
    operations["set: sqlite3, one commit each (FULL)"] = lambda n: raw.execute(
        write, (f"key {n}", TEXT.replace("17", str(next(count))))
    )
    return raw


def ours(operations: dict[str, Operation], state: AssetStoreAccessor) -> None:
    """Add what the accessors do."""
    operations["get: await aget"] = lambda n: state.aget(f"key {n}")
    operations["set: await aset (FULL)"] = lambda n: state.aset(f"key {n}", VALUE)


async def fill_store(store: Store) -> AssetStoreAccessor:
    """Write the rows that are read."""
    state = store.asset_state[Asset("bench")]
    for start in range(0, ROWS, 1000):
        await state.aset_many({f"key {n}": VALUE for n in range(start, start + 1000)})
    return state


async def measure(folder: Path, seconds: float, rounds: int) -> dict[str, list[float]]:
    """Run every operation in turn, several times over."""
    fill(folder / "bare.db")
    rates: dict[str, list[float]] = {}
    async with connect(f"sqlite+aiosqlite:///{folder}/store.db") as store, aiosqlite.connect(folder / "bare.db") as aio:
        operations: dict[str, Operation] = {}
        raw = bare(folder, operations, aio)
        state = await fill_store(store)
        ours(operations, state)
        sync: dict[str, Operation] = {
            "get: get, from a thread": lambda n: state.get(f"key {n}"),
            "set: set, from a thread (FULL)": lambda n: state.set(f"key {n}", VALUE),
        }
        for _ in range(rounds):
            for name, operation in operations.items():
                rates.setdefault(name, []).append(await rate(operation, seconds))
            for name, operation in sync.items():
                rates.setdefault(name, []).append(await asyncio.to_thread(asyncio_free, operation, seconds))
        raw.close()
    return rates


def asyncio_free(operation: Operation, seconds: float) -> float:
    """Give how often a sync operation runs in a second, in a thread without a loop."""
    done = 0
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        operation(done * 7919 % ROWS)
        done += 1
    return done / seconds


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=1.0, help="how long each operation runs in a round")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rates = asyncio.run(measure(Path(folder), options.seconds, options.rounds))
    print("| operation, one after the other | per second (median) | least | most |\n|---|---|---|---|")
    for name in sorted(rates):
        found = rates[name]
        print(f"| {name} | {statistics.median(found):,.0f} | {min(found):,.0f} | {max(found):,.0f} |")


if __name__ == "__main__":
    main()
