"""How what is known of a job is kept in the state of its task."""

from __future__ import annotations

from dataclasses import dataclass

from ..accessors import TaskStoreAccessor
from ..errors import OutcomeUnknownError, UnsupportedOperationError, VersionConflictError
from ..retention import NEVER_EXPIRE
from ..scopes import JOB_PREFIX
from .record import JobRecord, from_json, to_json

__all__ = ["Found", "RecordKeeper"]


@dataclass(frozen=True, slots=True)
class Found:
    """Hold what was read.

    :ivar record: the record; None where there is none.
    :ivar version: its version, 0 where there is none; None where the backend has no versions.
    """

    record: JobRecord | None
    version: int | None


class RecordKeeper:
    """Read and write the record of one job.

    A write stands on what was read before, so that of two attempts that run at once, one decides and the other
    follows. On a backend that has no versions, or no `if_version`, the last write wins.

    :param state: the state of the task.
    :param name: the name of the job.
    """

    def __init__(self, state: TaskStoreAccessor, name: str) -> None:
        self._state = state
        self.key = JOB_PREFIX + name

    def __str__(self) -> str:
        return f"job {self.key.removeprefix(JOB_PREFIX)!r} of {self._state.scope}"

    async def read(self) -> Found:
        """Read the record.

        :raises StoreError: what is there is no record.
        """
        version: int | None
        try:
            entry = await self._state.aget_entry(self.key)
            value, version = (None, 0) if entry is None else (entry.value, entry.version)
        except UnsupportedOperationError:
            value, version = await self._state.aget(self.key), None
        return Found(None if value is None else from_json(self.key, value), version)

    async def replace(self, before: Found, record: JobRecord) -> Found | None:
        """Write a record over what was read.

        It never expires while its job may run; once that is over, it is kept for the configured time.

        :param before: what was read.
        :param record: what is to be there.
        :return: what is there now; None where somebody else wrote meanwhile.
        """
        while True:
            try:
                await self._put(record, before.version)
            except VersionConflictError:
                found = await self.read()
            except OutcomeUnknownError:
                found = await self.read()
                if found.record == before.record:
                    continue  # it did not happen
            else:
                found = await self.read()
            return found if found.record == record else None

    async def _put(self, record: JobRecord, version: int | None) -> None:
        retention = NEVER_EXPIRE if record.outcome is None else None
        value = to_json(record)
        if version is not None:
            try:
                await self._state.aset(self.key, value, retention=retention, if_version=version)
            except UnsupportedOperationError:
                pass
            else:
                return
        await self._state.aset(self.key, value, retention=retention)

    async def remove(self) -> None:
        """Delete the record."""
        await self._state.adelete(self.key)
