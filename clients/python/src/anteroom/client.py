"""Hands jobs in, and reads what came of them."""

import math
import time
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypedDict, Unpack
from urllib.parse import quote

from .errors import AnteroomError, NotDone
from .job import Job
from .payload import OCTETS, Payload
from .transport import Answer, Transport

#: In seconds, or as a `timedelta`.
Duration = float | timedelta


class Options(TypedDict, total=False):
    """What may be said about a job when it is handed in. What is left out is the task's default."""

    #: The line to wait in.
    queue: str
    #: Whose work it is: groups take turns.
    group: str
    #: From 0, most urgent, to 9.
    priority: int
    #: Start that much later.
    delay: Duration
    #: Start no earlier than this, instead of `delay`. It has a time zone.
    run_at: datetime
    #: From 1 to 100.
    max_attempts: int
    #: Of each attempt.
    timeout: Duration
    #: A job not begun by then fails.
    start_before: datetime
    #: Make no job while an unfinished one of the task has the same.
    unique_key: str
    #: Keep the job and its result that long after its end.
    retain: Duration
    #: Where to send word of its end.
    callback_url: str
    #: Labels of your own.
    tags: Mapping[str, str]


class Client:
    """A client of one server, for use in one event loop.

    `token`: what the server knows it by, where it asks for tokens. `patience`: for how many seconds
    a call is tried again while the server cannot be reached or is in trouble. Nothing happens twice
    by that: submits carry an idempotency key.
    """

    def __init__(self, base_url: str, token: str | None = None, *, patience: float = 30.0) -> None:
        self._transport = Transport(base_url, token, patience)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._transport.close()

    async def submit(
        self,
        task: str,
        input: Any = b"",
        *,
        content_type: str | None = None,
        idempotency_key: str | None = None,
        wait: float = 0,
        **options: Unpack[Options],
    ) -> Job:
        """Hands a job in. Once this returns, the job is durable.

        With `wait` the answer may take so many seconds, at most 60: it comes when the job is done.

        Where the connection breaks, the submit is sent again with the same key, and is the same job.
        `idempotency_key` is a random one unless you give one, such as the id of an order: then it is
        one job however often, and by whomever, it is submitted within 24 hours. What is raised has
        the key as its `idempotency_key`.
        """
        answer = await self._hand_in(
            task, "jobs", input, content_type, idempotency_key, wait, options
        )
        return _job(answer)

    async def call(
        self,
        task: str,
        input: Any = b"",
        *,
        content_type: str | None = None,
        idempotency_key: str | None = None,
        wait: float = 30.0,
        **options: Unpack[Options],
    ) -> Any:
        """Hands a job in, waits for its result, and returns that.

        Raises `JobFailed`, `JobTimedOut` or `JobCancelled` where it has none, and `NotDone` where it
        is not done after `wait` seconds; `math.inf` waits for as long as it takes.
        """
        until = time.monotonic() + wait
        answer = await self._hand_in(
            task, "call", input, content_type, idempotency_key, wait, options
        )
        if answer.status == 200:
            return _payload(answer).value
        job = _job(answer)
        return (await self._wait_for_result(job.id, until)).value

    async def result(self, job_id: str, *, wait: float = 0) -> Any:
        """Returns the result of a job; it is waited for, for so many seconds, if it is not done.

        Raises as `call` does.
        """
        return (await self.payload(job_id, wait=wait)).value

    async def payload(self, job_id: str, *, wait: float = 0) -> Payload:
        """Returns the result of a job as its bytes and content type."""
        return await self._wait_for_result(job_id, time.monotonic() + wait)

    async def job(self, job_id: str, *, wait: float = 0) -> Job:
        """Returns a job: when it is done, or as it stands after `wait` seconds."""
        until = time.monotonic() + wait
        while True:
            remaining = max(0.0, until - time.monotonic())
            answer = await self._transport.ask("GET", _path(job_id), wait=min(remaining, 60))
            job = _job(answer)
            if job.done or time.monotonic() >= until:
                return job

    async def cancel(self, job_id: str) -> Job:
        """Cancels a job that waits, and tells one that runs to stop (`cancel_requested`)."""
        return _job(await self._transport.ask("POST", f"{_path(job_id)}/cancel"))

    async def _hand_in(
        self,
        task: str,
        how: str,
        input: Any,
        content_type: str | None,
        idempotency_key: str | None,
        wait: float,
        options: Options,
    ) -> Answer:
        payload = Payload.of(input, content_type)
        key = idempotency_key if idempotency_key is not None else str(uuid.uuid4())
        quoted = key.replace("\\", "\\\\").replace('"', '\\"')
        headers = {"Content-Type": payload.content_type, "Idempotency-Key": f'"{quoted}"'}
        if how == "call" and wait <= 0:
            headers["Prefer"] = "wait=0"
        path = f"/v1/tasks/{quote(task, safe='')}/{how}"
        try:
            return await self._transport.ask(
                "POST",
                path,
                query=_query(options),
                headers=headers,
                body=payload.data,
                wait=min(wait, 60),
            )
        except AnteroomError as error:
            error.idempotency_key = key
            raise

    async def _wait_for_result(self, job_id: str, until: float) -> Payload:
        path = f"{_path(job_id)}/result"
        while True:
            remaining = max(0.0, until - time.monotonic())
            answer = await self._transport.ask("GET", path, wait=min(remaining, 60))
            if answer.status == 200:
                return _payload(answer)
            if time.monotonic() >= until:
                raise NotDone(_job(answer))


def _path(job_id: str) -> str:
    return f"/v1/jobs/{quote(job_id, safe='')}"


def _job(answer: Answer) -> Job:
    replayed = answer.headers.get("Idempotency-Replayed") == "true"
    return Job.of(answer.json(), replayed=replayed)


def _payload(answer: Answer) -> Payload:
    return Payload(answer.body, answer.headers.get("Content-Type", OCTETS))


def _query(options: Options) -> dict[str, str]:
    """Returns the options as the server reads them."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {', '.join(sorted(unknown))}")
    query: dict[str, str] = {}
    for name, value in options.items():
        match value:
            case None:
                continue
            case Mapping():
                query |= {f"tag.{tag}": str(label) for tag, label in value.items()}
            case datetime():
                if value.tzinfo is None:
                    raise ValueError(f"{name} has no time zone")
                query[name] = value.isoformat(timespec="milliseconds")
            case timedelta():
                query[name] = duration(value.total_seconds())
            case float() | int() if name in ("delay", "timeout", "retain"):
                query[name] = duration(value)
            case _:
                query[name] = str(value)
    return query


def duration(seconds: float) -> str:
    """Returns a duration as the server reads it."""
    if not 0 <= seconds < math.inf:
        raise ValueError(f"{seconds} s is no duration")
    return f"{round(seconds * 1000)}ms"
