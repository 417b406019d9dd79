"""A sync call from plain code against the same call awaited."""

from __future__ import annotations

from ..contenders.abc import Contender
from ..contenders.ours import Ours, OursFromPlainCode
from ..databases.sites import Site
from ..measuring.data import shuffled
from ..measuring.loop import KINDS
from ..measuring.rounds import Plan, interleave
from ..measuring.spread import ratios
from ..progress import Progress
from ..report.model import SectionReport, Table, Verdict
from .abc import Run

__all__ = ["sync_calls"]

_AWAITED, _PLAIN = "asyncstore, awaited", "asyncstore, from plain code"
_BOUND = 0.6


def sync_calls(run: Run, site: Site) -> SectionReport:
    """Measure on one database."""
    options = run.options
    url, keys = run.runner.run(site.make("sync")), shuffled(options.rows)
    contenders: list[Contender] = [Ours(_AWAITED, keys, run.runner, url), OursFromPlainCode(_PLAIN, keys, url)]
    plan = Plan(KINDS, (1,), options.rounds, options.seconds)
    measured = interleave(contenders, plan, Progress(f"sync, {site.title}"))
    run.failures.extend(f"{name}: {why}" for name, why in measured.failures.items())
    report = SectionReport("sync")
    rows: list[tuple[str, ...]] = []
    for kind in KINDS:
        ratio = ratios(measured.of(_PLAIN, kind, 1), measured.of(_AWAITED, kind, 1))
        report.verdicts.append(Verdict(f"{site.title} `{kind}` from plain code / `await a{kind}`", "1", ratio, _BOUND))
        for name in measured.names:
            rate = measured.rate(name, kind, 1)
            if rate is not None:
                rows.append((f"{kind}: {name}", f"{rate.median:,.0f}", f"{rate.least:,.0f} to {rate.most:,.0f}"))
    header = ("one after the other", "per second, median", "least to most")
    report.tables.append(Table(f"{site.title}, sync calls: operations per second", header, rows))
    report.data[site.title] = {"cells": measured.data, "left_out": measured.failures}
    return report
