"""What a user subclasses to run a job somewhere else, and to find it again."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from typing import Any, Generic, TypeVar

import anyio

from ..accessors import TaskStoreAccessor
from ..blocking import drive
from ..context import TaskContext
from ..errors import UnsupportedOperationError
from .attempt import Attempt, cancel_job
from .keeping import RecordKeeper
from .record import JobRecord, JobStatus, checked

__all__ = ["ResumableJob"]

R_co = TypeVar("R_co", covariant=True)

#: By how much each pause of `poll` is longer than the one before.
_GROWTH = 1.5


class ResumableJob(ABC, Generic[R_co]):
    """Run a job on an external runner so that a retry finds the one that runs, and starts no second.

    ::

        class Count(ResumableJob[int]):
            async def submit(self, token): ...   # start it, give its id
            async def status(self, job_id): ...  # JobStatus.RUNNING, SUCCEEDED, FAILED or GONE
            async def result(self, job_id): ...  # what it came to

        async with store.task_context(scope) as context:
            rows = await Count().arun(context)

    What is known of the job is one key of the task's state, `resumable-job/<name>`. A token is stored there before
    `submit` is called, and the job's id before it is waited for. An attempt that finds

    - a job that runs, waits for it;
    - one that succeeded, returns its result;
    - one that failed, submits another, with a new token;
    - a token without an id (the attempt before it died in `submit`), calls `submit` with that token again;
    - nothing, submits.

    So no attempt, wherever it is killed, starts a second job on a runner that takes the second submission with a token
    for the first. On one that has no such notion, an attempt that dies between the start of the job and the commit of
    its id leaves a job behind, and the next starts another, unless `submit` looks for a job that carries the token.

    An attempt that is cancelled leaves the job running, for the next one; `acancel` is what stops it. A subclass need
    not call `__init__`, and may set the attributes below in its class or its instances.

    :param name: tells the jobs of one task apart, up to 498 bytes of UTF-8.
    :ivar name: as the parameter; "job" by default.
    :ivar poll_interval: seconds before `poll` asks for the first time, at most.
    :ivar poll_interval_max: the longest pause between two questions, in seconds; each is half as long again as the
        one before, and shortened at random by up to half, so that many jobs do not ask all at once.
    :ivar keep_result: store the result beside the id when the job has succeeded, for attempts after that: it must then
        be a JSON value within `max_value_storage_bytes`, and stays in the store even where a worker-side backend is
        configured. Otherwise it stays with the runner, and `result` is called by each attempt that needs it.
    """

    name: str = "job"
    poll_interval: float = 1.0
    poll_interval_max: float = 60.0
    keep_result: bool = False

    def __init__(self, *, name: str | None = None) -> None:
        if name is not None:
            self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"

    # What a subclass writes.

    @abstractmethod
    async def submit(self, token: str) -> Any:
        """Start the job and give its id.

        It may be called again with the same token where nobody knows whether the first call came through, by another
        process and even at the same time; a runner that takes a token (also called idempotency key, client token or
        request id) starts one job for all of them. Otherwise label the job with it, and look for the label first.

        :param token: 32 hexadecimal digits, the same for the same job, and another for each that is to be started.
        :return: any JSON value but None, by which the other methods find the job.
        """

    @abstractmethod
    async def status(self, job_id: Any) -> JobStatus:
        """Tell how the job is, without waiting.

        What it raises ends the attempt, and the next one takes the job up again. To sit out a runner that is away for
        a moment, return `RUNNING`. Where a job that the runner does not know has certainly not succeeded, return
        `FAILED` rather than `GONE`: then another is submitted. Where a job shows only some time after it was submitted,
        return `RUNNING` until then.

        :param job_id: what `submit` gave, as JSON holds it (a tuple comes back as a list).
        """

    @abstractmethod
    async def result(self, job_id: Any) -> R_co:
        """Give what a job that succeeded came to; called once by each attempt that finds it so.

        :param job_id: what `submit` gave.
        """

    async def poll(self, job_id: Any) -> JobStatus:
        """Wait until the job is over and tell how it is; by default, ask `status` with growing pauses.

        To be overridden where the runner tells by itself. Where it returns `RUNNING` it is called again, at most once
        in `poll_interval`.

        :param job_id: what `submit` gave.
        """
        pause = self.poll_interval
        while True:
            await anyio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
            status = checked(await self.status(job_id), f"{type(self).__name__}.status")
            if status is not JobStatus.RUNNING:
                return status
            pause = min(pause * _GROWTH, self.poll_interval_max)

    async def stop(self, job_id: Any) -> None:
        """Have the runner end the job; what `acancel` calls. Its status should then be `FAILED`.

        :param job_id: what `submit` gave.
        :raises UnsupportedOperationError: the subclass has no such method.
        """
        raise UnsupportedOperationError(f"{type(self).__name__} cannot be cancelled: it defines no stop(job_id)")

    # What a task calls.

    async def arun(self, context: TaskContext | TaskStoreAccessor) -> R_co:
        """Submit the job, or take up the one that an attempt before submitted; wait for it, and give its result.

        Which of these it was is logged at level INFO. A cancellation is raised at the next `await` of the methods
        above, and leaves the job running.

        :param context: the task context of this attempt, or the state of the task.
        :return: what `result` returned: now, or, with `keep_result`, to the attempt that first saw the job succeed, and
            then as JSON holds it.
        :raises JobFailedError: the job was waited for, and failed. The next attempt submits another.
        :raises JobGoneError: the runner does not know the job. Every attempt raises it until `aforget` is called.
        :raises StoreError: the state cannot be read or written; what the runner does meanwhile is not lost.
        :raises TypeError: `submit` returned no JSON value, or `status` no `JobStatus`.
        :raises ValueError: another job of that name runs in this context, or did and succeeded.
        """
        keeper = self._keeper(context)
        jobs = context.jobs if isinstance(context, TaskContext) else {}
        if jobs.setdefault(self.name, self) is not self:
            # It would take up the job of the other, and return that one's result.
            raise ValueError(
                f"another job of this attempt is named {self.name!r}; give each a name of its own: "
                f"{type(self).__name__}(name=...)"
            )
        try:
            return await Attempt(self, keeper).run()
        except BaseException:
            jobs.pop(self.name, None)
            raise

    def run(self, context: TaskContext | TaskStoreAccessor) -> R_co:
        """Do what `arun` does, from sync code; the methods of the subclass run on an event loop in another thread."""
        return drive(self.arun(context))

    async def aget_record(self, context: TaskContext | TaskStoreAccessor) -> JobRecord | None:
        """Give what is known of the job, without asking its runner; from any process.

        :param context: a task context, or the state of the task.
        :return: the record; None where nothing was submitted, or it is forgotten, or long over.
        """
        return (await self._keeper(context).read()).record

    def get_record(self, context: TaskContext | TaskStoreAccessor) -> JobRecord | None:
        """Do what `aget_record` does, from sync code."""
        return drive(self.aget_record(context))

    async def aforget(self, context: TaskContext | TaskStoreAccessor) -> None:
        """Forget the job, so that the next attempt submits another whatever became of this one; it is not stopped.

        An attempt that waits for it meanwhile goes on to do so.

        :param context: a task context, or the state of the task.
        """
        await self._keeper(context).remove()
        if isinstance(context, TaskContext):
            context.jobs.pop(self.name, None)

    def forget(self, context: TaskContext | TaskStoreAccessor) -> None:
        """Do what `aforget` does, from sync code."""
        drive(self.aforget(context))

    async def acancel(self, context: TaskContext | TaskStoreAccessor) -> bool:
        """Have the runner stop the job, by `stop`, where its id is known and it is not known to be over.

        It is not waited for. An attempt that waits for the job raises `JobFailedError` when its status says so.

        :param context: a task context, or the state of the task.
        :return: whether the runner was asked.
        :raises UnsupportedOperationError: the subclass has no `stop`.
        """
        return await cancel_job(self, self._keeper(context))

    def cancel(self, context: TaskContext | TaskStoreAccessor) -> bool:
        """Do what `acancel` does, from sync code."""
        return drive(self.acancel(context))

    def _keeper(self, context: TaskContext | TaskStoreAccessor) -> RecordKeeper:
        state = context.task_state if isinstance(context, TaskContext) else context
        if not isinstance(state, TaskStoreAccessor):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a job runs in a TaskContext, or on the state of a task, not on {context!r}")
        return RecordKeeper(state, self.name)
