"""What an examination finds."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "Status", "failed", "ok", "skipped", "warning"]


class Status(StrEnum):
    """Say how a check went; `SKIPPED` where it does not apply, or something before it failed."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Finding:
    """Tell what a check found.

    :ivar check: what was looked at.
    :ivar status: how it went.
    :ivar message: what was found; no secrets.
    :ivar fix: what to do about it; None where nothing need be done.
    """

    check: str
    status: Status
    message: str
    fix: str | None = None


def ok(check: str, message: str) -> Finding:
    """Say that all is well."""
    return Finding(check, Status.OK, message)


def warning(check: str, message: str, fix: str) -> Finding:
    """Say that something will hurt sooner or later."""
    return Finding(check, Status.WARNING, message, fix)


def failed(check: str, message: str, fix: str) -> Finding:
    """Say that something does not work."""
    return Finding(check, Status.FAILED, message, fix)


def skipped(check: str, message: str) -> Finding:
    """Say why a check was not made."""
    return Finding(check, Status.SKIPPED, message)
