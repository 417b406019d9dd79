"""What a run is told to do."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["SECTIONS", "Options", "parse"]

#: Every section, in the order of a run.
SECTIONS = ("operations", "sync", "growth", "garbage", "watch", "idle", "fleet", "offload")


@dataclass(frozen=True, slots=True)
class Options:
    """Hold the options of a run; what each says is in `parse`."""

    only: tuple[str, ...]
    sqlite: bool
    postgres: bool
    postgres_url: str | None
    airflow: bool
    rounds: int
    seconds: float
    rows: int
    levels: tuple[int, ...]
    growth_rows: tuple[int, ...]
    garbage_rows: int
    fresh_rows: int
    batch: int
    garbage_rounds: int
    files: int
    idle_files: int
    idle_seconds: float
    watchers: tuple[int, ...]
    folder: Path | None
    json: Path | None
    charts: Path | None


@dataclass(frozen=True, slots=True)
class _Size:
    """The figures that --quick and --full choose, each of which has an option of its own."""

    rounds: int = 5
    seconds: float = 1.0
    growth_rows: tuple[int, ...] = (10_000, 1_000_000)
    garbage_rows: int = 1_000_000
    fresh_rows: int = 1_000_000
    garbage_rounds: int = 3
    files: int = 10_000
    idle_files: int = 100_000
    idle_seconds: float = 20.0
    watchers: tuple[int, ...] = (1_000, 10_000)


_QUICK = _Size(2, 0.1, (10_000, 100_000), 50_000, 50_000, 1, 1_000, 5_000, 1.0, (100, 1_000))
_FULL = _Size(growth_rows=(10_000, 100_000, 1_000_000, 10_000_000), fresh_rows=9_000_000)


def _numbers(text: str) -> tuple[int, ...]:
    found = tuple(int(part.replace("_", "")) for part in text.split(","))
    if not found or min(found) < 1:
        raise argparse.ArgumentTypeError("positive numbers are needed, with commas between them")
    return found


def _add_places(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--no-sqlite", dest="sqlite", action="store_false", help="leave SQLite out")
    parser.add_argument("--no-postgres", dest="postgres", action="store_false", help="leave PostgreSQL out")
    parser.add_argument(
        "--postgres-url",
        metavar="URL",
        help="a server to use, postgresql://user@host/database, where databases named asyncstore_bench_* are made and "
        "dropped; default: a private one is started",
    )
    parser.add_argument(
        "--airflow",
        action="store_true",
        help="measure Airflow's backend too, installed once into an environment in the user's cache folder",
    )
    parser.add_argument("--folder", type=Path, help="where the databases are (default: the one for temporary files)")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure there")
    parser.add_argument("--charts", type=Path, metavar="DIR", help="write the charts there, as SVG")


def _add_sizes(parser: argparse.ArgumentParser) -> None:
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_const", const=_QUICK, dest="size", help="a smoke run of about a minute")
    size.add_argument(
        "--full", action="store_const", const=_FULL, dest="size", help="tables of ten million rows as well"
    )
    parser.set_defaults(size=_Size())
    parser.add_argument("--rounds", type=int, help="how often everything is repeated")
    parser.add_argument("--seconds", type=float, help="how long each contender runs in each cell of each round")
    parser.add_argument(
        "--rows", type=int, default=10_000, help="rows that are read and written (default: %(default)s)"
    )
    parser.add_argument(
        "--levels", type=_numbers, default=(1, 16, 64, 256), help="concurrencies (default: 1,16,64,256)"
    )
    parser.add_argument("--growth-rows", type=_numbers, help="the sizes of tables, from small to large")
    parser.add_argument("--garbage-rows", type=int, help="how many rows have expired")
    parser.add_argument("--fresh-rows", type=int, help="how many rows beside them have not")
    parser.add_argument("--garbage-rounds", type=int, help="how often garbage is collected")
    parser.add_argument("--batch", type=int, default=10_000, help="rows in a batch of garbage (default: %(default)s)")
    parser.add_argument("--files", type=int, help="files that `watch` records")
    parser.add_argument("--idle-files", type=int, help="files in the folder that `idle` looks at")
    parser.add_argument("--idle-seconds", type=float, help="how long `idle` looks")
    parser.add_argument("--watchers", type=_numbers, help="how many watchers `fleet` runs in one process")


def parse(arguments: Sequence[str] | None = None) -> Options:
    """Read the command line.

    :param arguments: default: those of the process.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure asyncstore beside its peers and the bare drivers; the results come out as Markdown.",
    )
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, metavar="NAME", help=f"a section to run: {', '.join(SECTIONS)}"
    )
    _add_places(parser)
    _add_sizes(parser)
    given = vars(parser.parse_args(arguments))
    size, only = given.pop("size"), given.pop("only")
    for name in _Size.__slots__:
        if given[name] is None:
            given[name] = getattr(size, name)
    return Options(only=tuple(only or SECTIONS), **given)
