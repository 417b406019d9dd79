"""The commands that triggers adds to the `asyncstore` program."""

from __future__ import annotations

from .commands import triggerer, watch

__all__ = ["triggerer", "watch"]
