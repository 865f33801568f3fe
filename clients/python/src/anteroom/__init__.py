"""Client and workers for Anteroom, the durable job queue over HTTP.

`Client` hands jobs in and reads what came of them; `Worker` runs the jobs of tasks that are left to
workers. Both say what went wrong by the exceptions of `anteroom.errors`.
"""

from .client import Client
from .errors import (
    AnteroomError,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobTimedOut,
    LeaseLost,
    NotDone,
    PermanentError,
    Problem,
    QueueFull,
    RateLimited,
    RetryAfter,
    UnknownJob,
    UnknownTask,
    Unreachable,
)
from .job import Job, JobError, Progress, Waiting
from .leased import LeasedJob
from .payload import Payload
from .worker import Worker

__all__ = [
    "AnteroomError",
    "Client",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobTimedOut",
    "LeaseLost",
    "LeasedJob",
    "NotDone",
    "Payload",
    "PermanentError",
    "Problem",
    "Progress",
    "QueueFull",
    "RateLimited",
    "RetryAfter",
    "UnknownJob",
    "UnknownTask",
    "Unreachable",
    "Waiting",
    "Worker",
]
