"""What a run ran on: enough to read its figures, and nothing that names the machine or its user."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

__all__ = ["describe"]

_PACKAGES = ("asyncstore", "asyncpg", "aiosqlite", "SQLAlchemy", "py-key-value-aio")


def describe(folder: Path | None, postgres: str | None) -> dict[str, object]:
    """Give what it ran on.

    :param folder: where the databases are.
    :param postgres: the version of the server.
    """
    found: dict[str, object] = {
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "SQLite": sqlite3.sqlite_version,
    }
    if postgres:
        found["PostgreSQL"] = postgres
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    found["fsync of one page"] = f"{fsync_seconds(folder) * 1e6:.0f} µs (median)"
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def fsync_seconds(folder: Path | None, times: int = 50) -> float:
    """Give what it takes to make one page durable where the databases are."""
    costs: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            costs.append(time.perf_counter() - began)
    return statistics.median(costs)
