"""Jobs of an external runner that outlive the attempt which submitted them.

job.py is what a user subclasses, attempt.py what one attempt does, calling.py how it calls what the user wrote,
record.py what is known of a job, keeping.py how that is read and written.
"""

from __future__ import annotations

from .job import ResumableJob
from .record import JobRecord, JobStatus

__all__ = ["JobRecord", "JobStatus", "ResumableJob"]
