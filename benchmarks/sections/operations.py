"""One key at a time, at several concurrencies, beside the bare drivers and the peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..contenders import raw_postgres, raw_sqlite
from ..contenders.abc import Contender
from ..contenders.airflow import VERSION, Airflow
from ..contenders.key_value import KeyValue, disk_store, postgres_store
from ..contenders.ours import Ours, Scope
from ..databases.postgres import driver_url
from ..databases.sites import PostgresSite, Site, SqliteSite
from ..measuring.data import shuffled
from ..measuring.loop import KINDS, Kind
from ..measuring.rounds import Measured, Plan, interleave
from ..measuring.spread import Spread, ratios
from ..progress import Progress
from ..report.model import Chart, Line, Ranges, SectionReport, Table, Verdict
from .abc import Run, style_of

__all__ = ["operations"]

SCOPES: tuple[Scope, ...] = ("asset", "task")
_HELD = f"raw asyncpg, {raw_postgres.CONNECTIONS} held connections"
_POOL = f"raw asyncpg, its pool of {raw_postgres.CONNECTIONS}"
_AIOSQLITE = "raw aiosqlite, one hop"
_SQLITE = "raw sqlite3, no event loop"

#: What each is compared with, and the least ratio at each concurrency.
_TARGETS: dict[tuple[str, Kind], tuple[str, dict[int, float]]] = {
    ("PostgreSQL", "get"): (_HELD, {1: 0.85, 16: 1.6, 64: 2.6, 256: 3.0}),
    ("PostgreSQL", "set"): (_HELD, {1: 0.9, 16: 2.2, 64: 4.2, 256: 5.5}),
    ("SQLite", "get"): (_AIOSQLITE, {1: 0.9, 256: 3.5}),
    ("SQLite", "set"): (_SQLITE, {1: 0.6, 256: 10.0}),
}
_AIRFLOW_TARGETS = {1: 8.0, 16: 35.0, 64: 70.0, 256: 90.0}
_TAIL_LEVEL, _TAIL_BOUND = 256, 4.0


def operations(run: Run, site: Site) -> SectionReport:
    """Measure on one database."""
    options = run.options
    contenders = [*_ours(run, site), *_others(run, site), *_airflow(run, site)]
    plan = Plan(KINDS, options.levels, options.rounds, options.seconds)
    measured = interleave(contenders, plan, Progress(f"operations, {site.title}"))
    run.failures.extend(f"{name}: {why}" for name, why in measured.failures.items() if style_of(name) == "ours")
    report = SectionReport("operations")
    for kind in KINDS:
        report.tables.extend((_rates(site, measured, plan, kind), _latencies(site, measured, plan, kind)))
        report.verdicts.extend(_verdicts(site, measured, plan, kind))
        report.charts.extend((_throughput(site, measured, plan, kind), _percentiles(site, measured, plan, kind)))
    report.data[site.title] = {"cells": measured.data, "left_out": measured.failures}
    return report


def _ours(run: Run, site: Site) -> list[Contender]:
    url = run.runner.run(site.make("ours"))
    keys = shuffled(run.options.rows)
    return [Ours(f"asyncstore, {scope}", keys, run.runner, url, scope) for scope in SCOPES]


def _others(run: Run, site: Site) -> list[Contender]:
    keys, runner = shuffled(run.options.rows), run.runner
    if isinstance(site, SqliteSite):
        path = site.path("bare")
        raw_sqlite.fill(path, keys)
        return [
            raw_sqlite.RawAiosqlite(_AIOSQLITE, keys, runner, path),
            raw_sqlite.RawSqlite(_SQLITE, keys, path),
            KeyValue("py-key-value-aio, disk", keys, runner, lambda: disk_store(run.folder / "key-value")),
        ]
    for purpose in ("bare", "key_value"):
        runner.run(site.make(purpose))
    dsn = site.plain("bare")
    runner.run(raw_postgres.fill(dsn, keys))
    return [
        raw_postgres.HeldConnections(_HELD, keys, runner, dsn),
        raw_postgres.PooledConnections(_POOL, keys, runner, dsn),
        KeyValue("py-key-value-aio, PostgreSQL", keys, runner, lambda: postgres_store(site.plain("key_value"))),
    ]


def _airflow(run: Run, site: Site) -> list[Contender]:
    found: list[Contender] = []
    for scope in SCOPES if run.airflow else ():
        purpose = f"airflow_{scope}"
        url = run.runner.run(site.make(purpose))
        if isinstance(site, PostgresSite):
            url = driver_url(site.plain(purpose), "psycopg2")
        else:
            url = f"sqlite:///{site.plain(purpose)}"
        if run.airflow is not None:
            folder = run.folder / f"{site.short}-{purpose}"
            keys = shuffled(run.options.rows)
            name = f"Airflow {VERSION}, {scope}"
            found.append(Airflow(name, keys, python=run.airflow, url=url, folder=folder, scope=scope))
    return found


def _rates(site: Site, measured: Measured, plan: Plan, kind: Kind) -> Table:
    def cell(name: str, level: int) -> str:
        found = measured.rate(name, kind, level)
        return f"{found.median:,.0f} ({found.least:,.0f} to {found.most:,.0f})" if found else "-"

    notes = tuple(f"{name} is left out: {why}." for name, why in measured.failures.items()) if kind == "get" else ()
    return _table(f"{site.title}, a{kind}: operations per second", measured, plan, cell, notes)


def _latencies(site: Site, measured: Measured, plan: Plan, kind: Kind) -> Table:
    def cell(name: str, level: int) -> str:
        found = measured.of(name, kind, level)
        if not found:
            return "-"
        p50, p99 = (Spread.of(values) for values in zip(*((each.p50, each.p99) for each in found), strict=True))
        return f"{p50.median * 1e6:,.0f}; {p99.median * 1e6:,.0f}"

    return _table(f"{site.title}, a{kind}: 50th and 99th percentile of the latency, µs", measured, plan, cell)


def _table(
    title: str, measured: Measured, plan: Plan, cell: Callable[[str, int], str], notes: tuple[str, ...] = ()
) -> Table:
    rows = [(name, *(cell(name, level) for level in plan.levels)) for name in measured.names]
    return Table(title, ("at concurrency", *map(str, plan.levels)), rows, notes)


def _verdicts(site: Site, measured: Measured, plan: Plan, kind: Kind) -> list[Verdict]:
    found: list[Verdict] = []
    for scope in SCOPES:
        ours = f"asyncstore, {scope}"
        other, bounds = _TARGETS[site.title, kind]
        wanted = [(other, bounds)]
        airflow = f"Airflow {VERSION}, {scope}"
        if airflow in measured.names:
            wanted.append((airflow, _AIRFLOW_TARGETS))
        what = f"{site.title} `a{kind}`, {scope}"
        for name, least in wanted:
            for level in _both(plan.levels, least):
                ratio = ratios(measured.of(ours, kind, level), measured.of(name, kind, level))
                found.append(Verdict(f"{what} / {name}", str(level), ratio, least[level]))
        if _TAIL_LEVEL in plan.levels:
            samples = measured.of(ours, kind, _TAIL_LEVEL)
            tail = Spread.of(each.p99 / each.p50 for each in samples) if samples else None
            found.append(Verdict(f"{what}: p99 / p50", str(_TAIL_LEVEL), tail, _TAIL_BOUND, at_least=False))
    return found


def _both(levels: Sequence[int], bounds: dict[int, float]) -> list[int]:
    return [level for level in levels if level in bounds]


def _throughput(site: Site, measured: Measured, plan: Plan, kind: Kind) -> Chart:
    lines: list[Line] = []
    for name in measured.names:
        rates = [(float(level), measured.rate(name, kind, level)) for level in plan.levels]
        points = [(level, rate) for level, rate in rates if rate is not None]
        if points:
            lines.append(Line(name, points, style_of(name)))
    title = f"{site.title}: a{kind}, throughput against concurrency"
    return Chart(f"throughput-{site.short}-{kind}", title, "concurrency", "operations per second", lines)


def _percentiles(site: Site, measured: Measured, plan: Plan, kind: Kind) -> Chart:
    found: list[Ranges] = []
    for level in plan.levels:
        for name in measured.names:
            samples = measured.of(name, kind, level)
            if samples:
                columns = zip(*((each.p50, each.p90, each.p99) for each in samples), strict=True)
                p50, p90, p99 = (Spread.of(column).median * 1e6 for column in columns)
                found.append(Ranges(name, f"concurrency {level}", (p50, p90, p99), style_of(name)))
    title = f"{site.title}: a{kind}, latency percentiles"
    return Chart(
        f"latency-{site.short}-{kind}", title, "µs: 50th (dot), 90th (bar) and 99th percentile (ring)", "", found
    )
