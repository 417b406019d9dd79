"""Every error of triggers.

::

    TriggerError
    ├── DiscoveryError         a module or file cannot be imported, or holds no watcher
    ├── InvalidHandlerError    a function cannot handle events
    ├── InvalidTriggerError    a trigger cannot be run: its arguments, its `run`, or what it yields
    └── SharedStreamError      a shared stream broke or left its subscriber behind; the watcher begins at its watermark

Errors of the store pass through as they are (`asyncstore.StoreError`).
"""

from __future__ import annotations

__all__ = ["DiscoveryError", "InvalidHandlerError", "InvalidTriggerError", "SharedStreamError", "TriggerError"]


class TriggerError(Exception):
    """Stand at the root of every error that triggers raises itself."""


class DiscoveryError(TriggerError):
    """Say why no watcher can be run from a module or file."""


class InvalidHandlerError(TriggerError, TypeError):
    """Say what keeps a function from handling events."""


class InvalidTriggerError(TriggerError, TypeError):
    """Say what keeps a trigger from being run."""


class SharedStreamError(TriggerError):
    """Say why a shared stream cannot go on for one subscriber; its cause is what the source raised."""
