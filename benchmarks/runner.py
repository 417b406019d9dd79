"""A whole run: databases up, sections one after the other, results out, databases gone."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
import time
import traceback
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

from .contenders import airflow
from .databases.postgres import Postgres
from .databases.server import private_server
from .databases.sites import PostgresSite, Site, SqliteSite
from .machine import describe
from .options import Options
from .progress import Progress
from .report.markdown import markdown
from .report.model import SectionReport
from .report.svg import write_charts
from .sections.abc import Run, Section
from .sections.fleet import fleet
from .sections.folder_idle import folder_idle
from .sections.garbage import garbage
from .sections.growth import growth
from .sections.offload import offload
from .sections.operations import operations
from .sections.sync_calls import sync_calls
from .sections.watch_throughput import watch_throughput

__all__ = ["measure"]

_SECTIONS: dict[str, Section] = {
    "operations": operations,
    "sync": sync_calls,
    "growth": growth,
    "garbage": garbage,
    "watch": watch_throughput,
    "idle": folder_idle,
    "fleet": fleet,
    "offload": offload,
}

#: Needs no database; run once.
_ALONE = ("idle",)


def measure(options: Options) -> int:
    """Run, print the results and write the files that are asked for.

    :param options: what to do.
    :return: the exit code: 1 where something of ours failed.
    """
    progress, started = Progress("run"), time.monotonic()
    with ExitStack() as stack:
        run = _prepare(options, stack, progress)
        version = _postgres_version(run)
        machine = describe(options.folder, version)
        reports = [report for name in options.only for report in _section(name, run, progress)]
    conditions = _conditions(options, time.monotonic() - started)
    print(markdown(machine, conditions, reports))
    _write(options, machine, reports, run)
    for failure in run.failures:
        progress.say(f"failed: {failure}")
    return 1 if run.failures else 0


def _prepare(options: Options, stack: ExitStack, progress: Progress) -> Run:
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder)))
    failures: list[str] = []
    sites: list[Site] = [SqliteSite(folder)] if options.sqlite else []
    server: PostgresSite | None = None
    if options.postgres and set(options.only) - set(_ALONE):
        url = options.postgres_url
        if url is None:
            progress.say("starting PostgreSQL")
            url = stack.enter_context(private_server(options.folder))
        server = PostgresSite(Postgres(url), f"asyncstore_bench_{os.getpid()}")
        sites.append(server)
    runner = stack.enter_context(asyncio.Runner())
    if server is not None:
        stack.callback(lambda: runner.run(server.drop_all()))
    python: Path | None = None
    if options.airflow:
        try:
            python = airflow.environment(progress)
        except airflow.AirflowMissingError as error:
            progress.say(f"Airflow is left out: {error}")
    return Run(options, runner, folder, tuple(sites), python, failures)


def _postgres_version(run: Run) -> str | None:
    for site in run.sites:
        if isinstance(site, PostgresSite):
            return run.runner.run(site.server.version())
    return None


def _section(name: str, run: Run, progress: Progress) -> list[SectionReport]:
    found: list[SectionReport] = []
    sites = (SqliteSite(run.folder),) if name in _ALONE else run.sites
    for site in sites:
        try:
            found.append(_SECTIONS[name](run, site))
        except Exception as error:
            traceback.print_exc()
            where = "" if name in _ALONE else f" on {site.title}"
            run.failures.append(f"{name}{where}: {type(error).__name__}: {error}")
            progress.say(f"{name}{where} is left out")
    return found


def _conditions(options: Options, seconds: float) -> list[str]:
    loops = f"{options.rounds} rounds of {options.seconds:g} s, every contender in every round"
    return [
        f"conditions: {options.rows:,} rows of about 100 bytes, closed loops, {loops}; medians of the rounds",
        "durability: SQLite `synchronous=FULL` in WAL mode, PostgreSQL as it is by default; everything on one machine",
        f"took: {seconds:.0f} s",
    ]


def _write(options: Options, machine: dict[str, object], reports: list[SectionReport], run: Run) -> None:
    if options.json is not None:
        sections: dict[str, dict[str, object]] = {}
        for report in reports:
            sections.setdefault(report.name, {}).update(report.data)
        verdicts = [verdict.data for report in reports for verdict in report.verdicts]
        private = ("folder", "json", "charts", "postgres_url")
        chosen = {name: value for name, value in asdict(options).items() if name not in private}
        found = {
            "machine": machine,
            "options": chosen,
            "targets": verdicts,
            "sections": sections,
            "failures": run.failures,
        }
        options.json.write_text(json.dumps(found, indent=1, default=str) + "\n")
    if options.charts is not None:
        write_charts(options.charts, [chart for report in reports for chart in report.charts])
