"""What a read costs while the table grows."""

from __future__ import annotations

from ..contenders.abc import Contender
from ..contenders.ours import ASSET, Ours
from ..contenders.raw_postgres import HeldConnections
from ..contenders.raw_sqlite import RawSqlite
from ..databases.sites import Site, SqliteSite
from ..measuring.data import shuffled
from ..measuring.rounds import Measured, Plan, interleave
from ..measuring.spread import Spread
from ..progress import Progress
from ..report.model import Chart, Line, SectionReport, Table, Verdict
from .abc import Run

__all__ = ["growth"]

_BOUND = 1.2
_OURS = "asyncstore"


def growth(run: Run, site: Site) -> SectionReport:
    """Measure on one database."""
    options, progress = run.options, Progress(f"growth, {site.title}")
    contenders: list[Contender] = []
    raw = "raw sqlite3" if isinstance(site, SqliteSite) else "raw asyncpg"
    for rows in options.growth_rows:
        progress.say(f"filling {rows:,} rows")
        contenders += _pair(run, site, rows, raw)
    for contender in contenders:
        contender.kinds = ("get",)
    plan = Plan(("get",), (1,), options.rounds, options.seconds)
    measured = interleave(contenders, plan, progress)
    run.failures.extend(f"{name}: {why}" for name, why in measured.failures.items())
    for rows in options.growth_rows:
        run.runner.run(site.drop(f"rows_{rows}"))
    report = SectionReport("growth")
    report.verdicts.append(_verdict(site, measured, options.growth_rows))
    report.tables.append(_table(site, measured, options.growth_rows, raw))
    report.charts.append(_chart(site, measured, options.growth_rows, raw))
    report.data[site.title] = {"cells": measured.data}
    return report


def _name(who: str, rows: int) -> str:
    return f"{who}, {rows:,} rows"


def _pair(run: Run, site: Site, rows: int, raw: str) -> list[Contender]:
    purpose, keys = f"rows_{rows}", shuffled(rows)
    url, asset_id = run.runner.run(site.with_asset(purpose, ASSET, rows))
    ours = Ours(_name(_OURS, rows), keys, run.runner, url)
    query = f"SELECT value FROM asyncstore_asset_state WHERE asset_id = {asset_id} AND key = "
    if isinstance(site, SqliteSite):
        return [ours, RawSqlite(_name(raw, rows), keys, site.path(purpose), f"{query}?")]
    held = HeldConnections(_name(raw, rows), keys, run.runner, site.plain(purpose), f"{query}$1", 1)
    return [ours, held]


def _p50(measured: Measured, name: str) -> Spread | None:
    found = measured.of(name, "get", 1)
    return Spread.of(each.p50 * 1e6 for each in found) if found else None


def _verdict(site: Site, measured: Measured, sizes: tuple[int, ...]) -> Verdict:
    small, large = sizes[0], sizes[-1]
    pairs = zip(measured.of(_name(_OURS, large), "get", 1), measured.of(_name(_OURS, small), "get", 1), strict=False)
    found = [big.p50 / little.p50 for big, little in pairs]
    where = f"{large:,} / {small:,} rows"
    return Verdict(f"{site.title} `aget`: median latency", where, Spread.of(found) if found else None, _BOUND, False)


def _table(site: Site, measured: Measured, sizes: tuple[int, ...], raw: str) -> Table:
    rows: list[tuple[str, ...]] = []
    for who in (_OURS, raw):
        found = [_p50(measured, _name(who, size)) for size in sizes]
        rows.append((who, *(f"{each.median:,.1f}" if each else "-" for each in found)))
    header = ("rows", *(f"{size:,}" for size in sizes))
    note = f"Keys of the whole table in no order, one after the other; {raw} runs the same statement on the same table."
    return Table(f"{site.title}, aget: median latency against rows, µs", header, rows, (note,))


def _chart(site: Site, measured: Measured, sizes: tuple[int, ...], raw: str) -> Chart:
    lines: list[Line] = []
    for who in (_OURS, raw):
        found = [(float(size), _p50(measured, _name(who, size))) for size in sizes]
        points = [(size, spread) for size, spread in found if spread is not None]
        lines.append(Line(who, points, "ours" if who == _OURS else "raw"))
    title = f"{site.title}: aget, median latency against rows"
    return Chart(f"growth-{site.short}", title, "rows in the table", "µs", lines)
