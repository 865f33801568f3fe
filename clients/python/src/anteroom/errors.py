"""What can go wrong: answers of the server as exceptions, and those that handlers raise."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .job import Job


class AnteroomError(Exception):
    """Everything that this package raises by itself."""

    #: Of a submit or a call: the key that it was sent with. The same submit again with this key is
    #: the same job, so that it is safe to send it again where the outcome is unknown.
    idempotency_key: str | None = None


class Unreachable(AnteroomError):
    """No answer came, also not after trying again for as long as the client is patient.

    Whether a call that changes something did so is unknown.
    """


class NotDone(AnteroomError):
    """The wait is over and the job is not done. It goes on."""

    def __init__(self, job: "Job") -> None:
        super().__init__(f"job {job.id} is {job.state}, and not done yet")
        self.job = job


class Problem(AnteroomError):
    """The server refused something: a problem document (RFC 9457).

    `type` is its slug (such as `queue-full`; `/problems/queue-full` of the server is a page about
    it), `title` says what it is, `detail` names what, where and the limit, `errors` has all that is
    wrong in a query or a body, each with its `parameter` or `pointer`.
    """

    def __init__(self, status: int, members: Mapping[str, Any], retry_after: float | None) -> None:
        self.status = status
        self.type = str(members.get("type", "about:blank")).rsplit("/", 1)[-1]
        self.title = str(members.get("title", ""))
        self.detail = str(members.get("detail", ""))
        self.instance: str | None = members.get("instance")
        self.errors: list[dict[str, str]] = members.get("errors") or []
        #: All members, also those that this package does not know.
        self.members = members
        #: After how many seconds it may be tried again, where the server says so.
        self.retry_after = retry_after
        super().__init__(f"{status} {self.type}: {self.detail or self.title}")

    @property
    def is_transient(self) -> bool:
        """Tells whether the same again may be well later: the server is busy, stops, or in trouble."""
        return self.status in (408, 425, 429) or (self.status >= 500 and self.status != 501)

    @staticmethod
    def of(status: int, retry_after: str | None, body: bytes) -> "Problem":
        """Returns what an answer with an error status says, as the exception that fits."""
        try:
            members = json.loads(body)
        except ValueError:
            members = None
        if not isinstance(members, dict):
            # Not from the server itself, but from something in front of it.
            members = {"detail": body[:200].decode(errors="replace")}
        slug = str(members.get("type", "")).rsplit("/", 1)[-1]
        kind = (members.get("error") or {}).get("kind")
        if slug == "job-failed" and kind == "timeout":
            slug = "job-timed-out"
        seconds = float(retry_after) if retry_after and retry_after.isdecimal() else None
        return _BY_SLUG.get(slug, Problem)(status, members, seconds)


class UnknownTask(Problem):
    """There is no such task, or the token does not see it."""


class UnknownJob(Problem):
    """There is no such job, or the token does not see it."""


class JobExpired(Problem):
    """There was such a job. Its retention is over, or it was deleted."""


class QueueFull(Problem):
    """As many jobs wait in the queue as it takes. Nothing was stored."""


class RateLimited(Problem):
    """The token's rate of submits is used up. Nothing was stored."""


class LeaseLost(Problem):
    """The lease ran out, was settled otherwise, or belongs to an earlier attempt. Nothing changed."""


class _Ended(Problem):
    """A job ended without a result."""

    is_transient = False

    @property
    def job_id(self) -> str | None:
        """The job."""
        job: str | None = self.members.get("job")
        return job


class JobFailed(_Ended):
    """The job failed. `kind` and `message` are those of its last attempt."""

    @property
    def kind(self) -> str | None:
        """`error`, `timeout`, `panic`, `lease_expired`, `crash` or `too_late`."""
        kind: str | None = (self.members.get("error") or {}).get("kind")
        return kind

    @property
    def message(self) -> str | None:
        """What the last attempt said."""
        message: str | None = (self.members.get("error") or {}).get("message")
        return message


class JobTimedOut(JobFailed):
    """The job failed, its last attempt by its timeout."""


class JobCancelled(_Ended):
    """Somebody cancelled the job."""


_BY_SLUG: dict[str, type[Problem]] = {
    "unknown-task": UnknownTask,
    "unknown-job": UnknownJob,
    "job-expired": JobExpired,
    "queue-full": QueueFull,
    "rate-limited": RateLimited,
    "lease-lost": LeaseLost,
    "job-failed": JobFailed,
    "job-timed-out": JobTimedOut,
    "job-cancelled": JobCancelled,
}


class PermanentError(Exception):
    """Raised by a handler: the job failed for good, and no other attempt would help."""


class RetryAfter(Exception):
    """Raised by a handler: this attempt failed, and the next one may begin after so many seconds."""

    def __init__(self, seconds: float, message: str = "") -> None:
        super().__init__(message or f"to be tried again after {seconds} s")
        self.seconds = seconds
