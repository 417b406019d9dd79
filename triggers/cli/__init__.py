"""The commands that triggers adds to the `asyncstore` program."""

from __future__ import annotations

from .fleet import triggers
from .triggerer import triggerer
from .watching import watch

__all__ = ["triggerer", "triggers", "watch"]
