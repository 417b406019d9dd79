"""The conformance suite: what every backend promises, as a pytest class that a backend's own tests subclass.

::

    class TestMyBackend(BackendConformance):
        @asynccontextmanager
        async def make_backend(self, clock):
            yield MyBackend()

Every test runs in each `Way` of calling: awaited, and through the sync twins in a plain thread, in a worker thread of
anyio and on the thread of the event loop. What is tested follows the capabilities that the backend declares: an
operation that needs one it does not declare must raise `UnsupportedOperationError`, or do what is documented instead.

`WorkerBackendConformance` is the part for worker-side backends, which keep values by the four hooks.

Needs pytest; brings the fixtures it needs, and runs on asyncio.
"""

from __future__ import annotations

import pytest

_PARTS = (
    *(
        "browsing",
        "cleaning",
        "committing",
        "consuming",
        "contexts",
        "expiring",
        "harness",
        "jobs",
        "leasing",
        "leaving",
    ),
    *("listing", "operations", "pruning", "registering", "resting", "texts", "updating", "values", "versions"),
    *("watching", "working"),
)
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from .browsing import BrowsingConformance  # noqa: E402 - the asserts are to be rewritten first
from .calling import Caller, Way  # noqa: E402
from .cleaning import CleanupConformance  # noqa: E402
from .committing import CommitConformance  # noqa: E402
from .consuming import ConsumerConformance  # noqa: E402
from .contexts import ContextConformance  # noqa: E402
from .expiring import ExpiryConformance  # noqa: E402
from .harness import TASK, ConformanceBase, Harness, awaited, requires  # noqa: E402
from .jobs import JobConformance  # noqa: E402
from .leasing import LeaseConformance  # noqa: E402
from .leaving import LeftoverConformance  # noqa: E402
from .listing import ListingConformance  # noqa: E402
from .operations import OperationConformance  # noqa: E402
from .pruning import PruningConformance  # noqa: E402
from .registering import RegistrationConformance  # noqa: E402
from .resting import RestingConformance  # noqa: E402
from .texts import TextConformance  # noqa: E402
from .updating import UpdateConformance  # noqa: E402
from .values import ValueConformance  # noqa: E402
from .versions import VersionConformance  # noqa: E402
from .watching import WatchConformance  # noqa: E402
from .working import WorkerBackendConformance  # noqa: E402

__all__ = [
    "TASK",
    "BackendConformance",
    "BrowsingConformance",
    "Caller",
    "CleanupConformance",
    "CommitConformance",
    "ConformanceBase",
    "ConsumerConformance",
    "ContextConformance",
    "ExpiryConformance",
    "Harness",
    "JobConformance",
    "LeaseConformance",
    "LeftoverConformance",
    "ListingConformance",
    "OperationConformance",
    "PruningConformance",
    "RegistrationConformance",
    "RestingConformance",
    "TextConformance",
    "UpdateConformance",
    "ValueConformance",
    "VersionConformance",
    "WatchConformance",
    "Way",
    "WorkerBackendConformance",
    "awaited",
    "requires",
]


class BackendConformance(
    OperationConformance,
    TextConformance,
    ValueConformance,
    ExpiryConformance,
    VersionConformance,
    ListingConformance,
    BrowsingConformance,
    UpdateConformance,
    WatchConformance,
    RegistrationConformance,
    RestingConformance,
    CommitConformance,
    LeaseConformance,
    ConsumerConformance,
    PruningConformance,
    CleanupConformance,
    ContextConformance,
    JobConformance,
    LeftoverConformance,
):
    """Hold a backend to everything; subclass it, and override `make_backend`."""
