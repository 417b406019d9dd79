"""What the metastore asks of a database: the one interface behind which SQLite and PostgreSQL differ."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy.ext.asyncio import AsyncSession

from ...changes import Commit, CommitResult
from ...doctor.records import Finding
from ...records import ExpiredRow, StoredEntry
from ...scopes import Scope
from ..watching import WatchHub
from .procedures import state
from .steps import Procedure, Step

__all__ = ["Database", "Then"]

P = ParamSpec("P")
T = TypeVar("T")

#: Called after a commit; in whatever thread made it.
Then = Callable[[], None]


class Database(ABC):
    """Run the metastore's operations.

    The first call opens it. Once it was closed, only `aopen` opens it again. What is cancelled has happened wholly or
    not at all.

    :ivar hub: who watches which key.
    """

    hub: WatchHub

    @abstractmethod
    def __str__(self) -> str:
        """Name the database for messages, without secrets."""

    @property
    def path(self) -> Path | None:
        """Return the file; None where there is none."""
        return None

    @abstractmethod
    async def aopen(self) -> None:
        """Connect and check the schema.

        :raises SchemaError: the tables are missing, or of another release.
        :raises DatabaseError: it cannot be reached.
        """

    @abstractmethod
    async def aclose(self) -> None:
        """Disconnect, once what has begun is done."""

    @abstractmethod
    async def upgrade(self) -> tuple[str | None, str]:
        """Bring the schema to this release's revision; gives the one before and the one after."""

    @abstractmethod
    async def downgrade(self, revision: str) -> tuple[str | None, str | None]:
        """Take the schema back to a revision, `base` for none; gives the one before and the one after."""

    @abstractmethod
    async def revision(self) -> str | None:
        """Give the revision of the schema, None where there is none; changes nothing."""

    @abstractmethod
    def run_blocking(self, function: Callable[[], Awaitable[T]]) -> T:
        """Run a coroutine of the backend from sync code, on any thread."""

    # The everyday operations.

    @abstractmethod
    def get(self, scope: Scope, key: str) -> Awaitable[str | None]:
        """Read the text of one key; those that are asked for meanwhile are read together."""

    def get_entry(self, scope: Scope, key: str) -> Awaitable[StoredEntry | None]:
        """Read one key with its version and times."""
        return self.read(state.get_entry, scope, key, self.now)

    @abstractmethod
    def commit(self, commit: Commit) -> Awaitable[CommitResult]:
        """Make a commit; those that come meanwhile are made together, each with its own outcome."""

    # Everything else is a procedure.

    @abstractmethod
    def now(self) -> int | None:
        """Tell the time to a procedure; None where the database knows it better."""

    @abstractmethod
    def committing(self, commit: Commit) -> Procedure[CommitResult]:
        """Give the procedure that makes a commit inside a transaction of the caller's."""

    @abstractmethod
    async def read(self, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure that only reads."""

    @abstractmethod
    async def write(self, procedure: Callable[P, Procedure[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a procedure in a transaction; nothing stays of it where it raises. Who waits for its words is woken."""

    async def write_within(
        self,
        seconds: float,
        procedure: Callable[P, Procedure[T]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Run a procedure of one statement that nothing else may hold up.

        :param seconds: after which it is given up, where the database may be silent.
        """
        return await self.write(procedure, *args, **kwargs)

    # Looking at itself.

    @abstractmethod
    def examine(self) -> AsyncIterator[Finding]:
        """Look at what only this kind of database has: the file, or the server."""

    # Garbage.

    @abstractmethod
    async def count_expired(self) -> tuple[int, int]:
        """Give the time in microseconds, and how many rows have expired by then."""

    @abstractmethod
    def list_expired(self, now: int) -> AsyncIterator[Sequence[ExpiredRow]]:
        """Give the rows that had expired at a time, page by page, in the order of their expiry."""

    @abstractmethod
    def delete_expired(self, now: int, batch_size: int) -> AsyncIterator[int]:
        """Delete the rows that had expired at a time, a batch for each step; gives how many went.

        :param now: the time in microseconds.
        :param batch_size: rows per transaction; 0 for one statement.
        """

    # Sessions of the caller's.

    #: SQLAlchemy's name of the database, and of its driver.
    dialect: str
    driver: str

    @abstractmethod
    def is_sync_call(self) -> bool:
        """Tell whether the running code is inside `run_blocking`."""

    @abstractmethod
    def spell(self, step: Step) -> tuple[str, Any]:
        """Give a step as the driver takes it through SQLAlchemy: the text and the parameters."""

    @abstractmethod
    def explain(self, error: BaseException) -> Exception | None:
        """Give the store's error for one of the driver's, None where it is none of those."""

    # Sessions of ours, for the caller to write in.

    @abstractmethod
    def open_session(self) -> AbstractAsyncContextManager[AsyncSession]:
        """Give a session on a connection of its own; what is not committed when it is closed is undone.

        :raises UnsupportedOperationError: no other connection can see this database.
        """
