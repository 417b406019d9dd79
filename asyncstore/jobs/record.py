"""What is known of an external job, and how it is written as JSON."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import cast

from ..errors import StoreError
from ..values import JsonValue

__all__ = ["JobRecord", "JobStatus", "checked", "from_json", "new_record", "to_json"]

_OUTCOMES = ("succeeded", "failed")


class JobStatus(StrEnum):
    """Say what a runner tells of a job.

    `RUNNING` for everything that is not over, queued and paused jobs included; `SUCCEEDED`, its result can be had;
    `FAILED`, it ended otherwise (cancelled, too), so that another may be started in its place; `GONE`, the runner
    does not know it, so that nobody can tell how it ended.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    GONE = "gone"


def checked(status: object, where: str) -> JobStatus:
    """Refuse what is no status.

    :param status: what a method of the user's returned.
    :param where: its name.
    :raises TypeError: it is no `JobStatus`, nor the text of one.
    """
    try:
        return JobStatus(cast("str", status))
    except ValueError:
        allowed = ", ".join(f"JobStatus.{each.name}" for each in JobStatus)
        raise TypeError(f"{where} returned {status!r}; it returns one of {allowed}") from None


@dataclass(frozen=True, slots=True)
class JobRecord:
    """Hold what the state of a task says of an external job.

    :ivar token: what `submit` was given, or will be: 32 hexadecimal digits, one token for each submission.
    :ivar submission: how often a job was asked for, from 1; each failed job is followed by another.
    :ivar job_id: what `submit` returned; None while that is not known.
    :ivar outcome: `SUCCEEDED` or `FAILED`; None while the job is not known to be over.
    :ivar result: what `result` returned, where the job keeps it and succeeded; else None.
    :ivar result_kept: whether `result` holds it.
    """

    token: str
    submission: int
    job_id: JsonValue = None
    outcome: JobStatus | None = None
    result: JsonValue = None
    result_kept: bool = False


def new_record(submission: int) -> JobRecord:
    """Begin a submission that no runner has heard of.

    :param submission: its number.
    """
    return JobRecord(uuid.uuid4().hex, submission)


def to_json(record: JobRecord) -> dict[str, JsonValue]:
    """Write a record as a JSON object, without what is not known yet.

    :param record: the record.
    """
    known: dict[str, JsonValue] = {"token": record.token, "submission": record.submission}
    if record.job_id is not None:
        known["job_id"] = record.job_id
    if record.outcome is not None:
        known["outcome"] = record.outcome.value
    if record.result_kept:
        known["result"] = record.result
    return known


def from_json(key: str, value: JsonValue) -> JobRecord:
    """Read a record from its JSON object; members that are not known here are left out.

    :param key: where it was found, for the message.
    :param value: what `to_json` gave.
    :raises StoreError: it is no record: something else wrote there.
    """
    if isinstance(value, dict):
        token, submission, outcome = value.get("token"), value.get("submission"), value.get("outcome")
        if isinstance(token, str) and isinstance(submission, int) and (outcome is None or outcome in _OUTCOMES):
            return JobRecord(
                token,
                submission,
                value.get("job_id"),
                None if outcome is None else JobStatus(str(outcome)),
                value.get("result"),
                "result" in value,
            )
    raise StoreError(f"key {key!r} holds {value!r:.200}, which no ResumableJob wrote; delete it, or name the job anew")
