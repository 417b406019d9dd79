"""What one attempt does about a job: submit it, take it up, or return what it came to."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

import anyio

from ..errors import JobFailedError, JobGoneError
from ..values import decode, encode
from .calling import awaited, call, to_the_end
from .keeping import Found, RecordKeeper
from .record import JobRecord, JobStatus, checked, new_record

if TYPE_CHECKING:
    from .job import ResumableJob

__all__ = ["Attempt", "cancel_job"]

logger = logging.getLogger("asyncstore")

T = TypeVar("T")


class Attempt(Generic[T]):
    """Bring a job to its result, from wherever the attempt before left it.

    :param job: the job.
    :param keeper: where it is written down.
    """

    def __init__(self, job: ResumableJob[T], keeper: RecordKeeper) -> None:
        self._job = job
        self._keeper = keeper
        #: The token of the submission that this attempt began.
        self._begun: str | None = None

    async def run(self) -> T:
        """Submit or take up the job, wait for it, and give its result."""
        found = await self._keeper.read()
        while True:
            record = found.record
            if record is None:
                found = await self._begin(found)
            elif record.outcome is JobStatus.FAILED:
                if record.token == self._begun:  # another attempt followed the job, and saw it fail first
                    raise self._failed(record)
                found = await self._begin(found)
            elif record.job_id is None:
                found = await self._submit(found, record)
            elif record.outcome is JobStatus.SUCCEEDED:
                return await self._return_again(record)
            else:
                status = await self._wait(record)
                if status is JobStatus.SUCCEEDED:
                    return await self._succeed(record)
                found = await self._begin(found)

    async def _begin(self, found: Found) -> Found:
        # The token is stored before anybody hears of it: whoever comes after uses the same one.
        before = found.record
        record = new_record(1 if before is None else before.submission + 1)
        written = await self._keeper.replace(found, record)
        if written is None:
            return await self._keeper.read()
        if before is not None:
            logger.info("%s: %s failed; another is submitted", self._keeper, _named(before.job_id))
        self._begun = record.token
        return written

    async def _submit(self, found: Found, record: JobRecord) -> Found:
        if record.token != self._begun:
            logger.info("%s: may have been submitted before; submitted again with the same token", self._keeper)
        job_id = await call(self._job.submit, record.token)
        name = f"{self._keeper}: store the id of {_named(job_id)}"
        return await to_the_end(partial(self._store_id, found, record, job_id), name=name)

    async def _store_id(self, found: Found, record: JobRecord, job_id: object) -> Found:
        # From here on the job runs: whatever goes wrong, its id must be found somewhere.
        try:
            if job_id is None:
                raise TypeError(f"{type(self._job).__name__}.submit returned None; it returns the id of the job")
            known = replace(record, job_id=decode(encode(job_id)))
            written = await self._keeper.replace(found, known)
        except asyncio.CancelledError:
            raise  # it is done again, or told of, in `to_the_end`
        except BaseException:
            logger.error("%s: %s was submitted, but its id could not be stored", self._keeper, _named(job_id))
            raise
        if written is not None:
            logger.info("%s: submitted as %s", self._keeper, _named(job_id))
            return written
        found = await self._keeper.read()
        if found.record is None or (found.record.token, found.record.job_id) != (known.token, known.job_id):
            logger.warning(
                "%s: %s was submitted, and is left to itself: somebody else wrote %r meanwhile",
                self._keeper,
                _named(job_id),
                found.record,
            )
        return found

    async def _wait(self, record: JobRecord) -> JobStatus:
        # A job that this attempt did not start may have failed long ago: then another takes its place. One that it
        # started, or has waited for, takes the attempt with it.
        job, waited = self._job, record.token == self._begun
        status = JobStatus.RUNNING
        if not waited:
            status = checked(await call(job.status, record.job_id), f"{type(job).__name__}.status")
            logger.info("%s: taken up: %s is %s", self._keeper, _named(record.job_id), status)
        if status is JobStatus.RUNNING:
            waited = True
            status = await call(self._poll, record.job_id)
        if status is JobStatus.GONE:
            raise JobGoneError(
                f"{self._keeper}: its runner does not know {_named(record.job_id)} any more, so nobody can tell how it "
                "ended. To have another one submitted, call aforget and try again",
                record.job_id,
            )
        if status is JobStatus.FAILED and waited:
            await self._write_down(record, replace(record, outcome=status))
            raise self._failed(record)
        return status

    def _failed(self, record: JobRecord) -> JobFailedError:
        return JobFailedError(
            f"{self._keeper}: {_named(record.job_id)} failed; the next attempt submits another", record.job_id
        )

    async def _poll(self, job_id: object) -> JobStatus:
        # A `poll` that looks once and returns must keep neither the runner busy nor the event loop to itself.
        job = self._job
        while True:
            began = anyio.current_time()
            status = checked(await awaited(job.poll, job_id), f"{type(job).__name__}.poll")
            if status is not JobStatus.RUNNING:
                return status
            await anyio.sleep(max(0.0, began + job.poll_interval - anyio.current_time()))

    async def _succeed(self, record: JobRecord) -> T:
        result = await call(self._job.result, record.job_id)
        done = replace(record, outcome=JobStatus.SUCCEEDED)
        if self._job.keep_result:
            # What later attempts return, this one does, too: a tuple is a list by then.
            kept = None if result is None else decode(encode(result))
            done = replace(done, result=kept, result_kept=True)
            result = cast("T", kept)
        await self._write_down(record, done)
        logger.info("%s: %s succeeded", self._keeper, _named(record.job_id))
        return result

    async def _write_down(self, before: JobRecord, after: JobRecord) -> None:
        # Where another attempt was quicker, or the job was forgotten, that holds.
        found = await self._keeper.read()
        if found.record == before:
            await self._keeper.replace(found, after)

    async def _return_again(self, record: JobRecord) -> T:
        logger.info("%s: %s succeeded before; its result is returned", self._keeper, _named(record.job_id))
        if record.result_kept:
            return cast("T", record.result)
        return await call(self._job.result, record.job_id)


async def cancel_job(job: ResumableJob[Any], keeper: RecordKeeper) -> bool:
    """Have the runner stop a job, where there is one that may run; tell whether it was asked.

    :param job: the job.
    :param keeper: where it is written down.
    """
    record = (await keeper.read()).record
    if record is None or record.job_id is None or record.outcome is not None:
        return False
    await call(job.stop, record.job_id)
    logger.info("%s: %s was asked to stop", keeper, _named(record.job_id))
    return True


def _named(job_id: object) -> str:
    return f"job {job_id!r:.200}"
