"""The job resource, as the server shows it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class JobError:
    """What a failed attempt said."""

    attempt: int
    at: datetime
    #: `error`, `timeout`, `panic`, `lease_expired`, `crash`, `cancelled` or `too_late`.
    kind: str
    message: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the latest attempt has come, by its own words."""

    #: From 0 to 1.
    fraction: float | None
    message: str | None


@dataclass(frozen=True, slots=True)
class Waiting:
    """What a job that has not started waits for."""

    #: Ready jobs of its queue ahead of it; none while its `run_at` lies ahead.
    position: int | None
    #: Whether that was counted; else it is an estimate.
    exact: bool
    #: In how long it starts, about, such as `3.2s` or `1m5s`; none where that cannot be told.
    eta: str | None
    #: Why it has not started, most important first.
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A submitted run of a task, as it stood when the server answered."""

    id: str
    task: str
    queue: str
    group: str | None
    priority: int
    #: `scheduled`, `ready`, `running`, `succeeded`, `failed` or `cancelled`.
    state: str
    #: It succeeded, failed or was cancelled.
    done: bool
    #: Attempts begun so far.
    attempt: int
    max_attempts: int
    created_at: datetime
    run_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    #: When it is forgotten; none until it is done.
    expires_at: datetime | None
    unique_key: str | None
    cancel_requested: bool
    progress: Progress | None
    #: In the answer to a submit, while it waits.
    waiting: Waiting | None
    tags: Mapping[str, str]
    #: What the last attempt said, in a job that failed.
    error: JobError | None
    #: One for each failed attempt, newest last.
    errors: tuple[JobError, ...]
    #: In the answer to a submit: this unfinished job had its `unique_key`, and no other was made.
    duplicate: bool
    #: In the answer to a submit: its `Idempotency-Key` had come before, and this is its job.
    replayed: bool
    #: All members, also those that this package does not know.
    raw: Mapping[str, Any]

    @staticmethod
    def of(raw: Mapping[str, Any], *, replayed: bool = False) -> "Job":
        """Reads the JSON of a job."""
        progress = raw.get("progress")
        error = raw.get("error")
        return Job(
            id=raw["id"],
            task=raw["task"],
            queue=raw["queue"],
            group=raw.get("group"),
            priority=raw["priority"],
            state=raw["state"],
            done=raw["done"],
            attempt=raw["attempt"],
            max_attempts=raw["max_attempts"],
            created_at=datetime.fromisoformat(raw["created_at"]),
            run_at=datetime.fromisoformat(raw["run_at"]),
            started_at=_instant(raw.get("started_at")),
            finished_at=_instant(raw.get("finished_at")),
            expires_at=_instant(raw.get("expires_at")),
            unique_key=raw.get("unique_key"),
            cancel_requested=raw.get("cancel_requested", False),
            progress=progress and Progress(progress.get("fraction"), progress.get("message")),
            waiting=_waiting(raw.get("waiting")),
            tags=raw.get("tags") or {},
            error=error and _error(error),
            errors=tuple(_error(error) for error in raw.get("errors") or ()),
            duplicate=raw.get("duplicate", False),
            replayed=replayed,
            raw=raw,
        )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _waiting(raw: Mapping[str, Any] | None) -> Waiting | None:
    if raw is None:
        return None
    reasons = tuple(raw.get("reasons") or ())
    return Waiting(raw.get("position"), raw.get("exact", False), raw.get("eta"), reasons)


def _error(raw: Mapping[str, Any]) -> JobError:
    at = datetime.fromisoformat(raw["at"])
    return JobError(raw["attempt"], at, raw["kind"], raw["message"])
