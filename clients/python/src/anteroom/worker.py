"""Runs the jobs of tasks that are left to workers (`pull = true`).

A worker leases as many jobs as it has free places, runs their handlers, keeps the leases meanwhile,
and says how each attempt ended. Whatever goes wrong on the way, the server's fence holds: what a
worker says under a lease that it lost changes nothing.
"""

import asyncio
import inspect
import json
import logging
import os
import signal
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from .client import Client, duration
from .errors import LeaseLost, PermanentError, Problem, RetryAfter, Unreachable
from .heart import Heart
from .leased import LeasedJob, Stop
from .payload import JSON, Payload
from .thread import in_thread
from .transport import pause_after, pauses

logger = logging.getLogger("anteroom")

#: How long a request for leases waits for a job, in seconds.
POLL_SECONDS = 30
#: How long such a request has to be answered when the worker stops, in seconds: it may be bringing
#: jobs just then, which are handed back.
POLL_GRACE = 0.5
#: Between two reports of progress and log lines of a job, in seconds.
REPORT_EVERY = 0.2
#: How long a stopping worker tries to tell the server of what has ended, in seconds.
SETTLE_GRACE = 5.0
#: Characters of an error: the server keeps 8 KiB.
ERROR_MAX = 8_192

Handler = TypeVar("Handler", bound=Callable[[LeasedJob], Any])


class Worker:
    """A worker of one server.

    `server`: a URL, or a client to share the connections of. `concurrency`: jobs at once, up to
    1,000. `lease`: for how many seconds a job is leased at a time, from 1 to 3,600; a job whose
    worker died comes back after that. `queues`: only jobs of these. `name`: for the server's log.
    `grace`: for how many seconds running handlers may go on when the worker stops.
    """

    def __init__(
        self,
        server: Client | str,
        *,
        token: str | None = None,
        concurrency: int = 8,
        lease: float = 30.0,
        queues: Sequence[str] | None = None,
        name: str | None = None,
        grace: float = 30.0,
    ) -> None:
        if not 1 <= concurrency <= 1000:
            raise ValueError(f"concurrency is {concurrency}; it is from 1 to 1000")
        if not 1 <= lease <= 3600:
            raise ValueError(f"lease is {lease} s; it is from 1 to 3600")
        if isinstance(server, Client) and token is not None:
            raise ValueError("the client has its token: give one of them")
        self._client = server if isinstance(server, Client) else Client(server, token)
        self._owns_client = not isinstance(server, Client)
        self._transport = self._client._transport
        self._concurrency = concurrency
        self._lease = lease
        self._queues = queues
        self._name = name or f"{socket.gethostname()}-{os.getpid()}"
        self._grace = grace
        self._handlers: dict[str, Callable[[LeasedJob], Any]] = {}
        self._running: dict[asyncio.Task[None], LeasedJob] = {}
        self._stopping = asyncio.Event()
        self._out_of_patience = asyncio.Event()

    def task(self, name: str) -> Callable[[Handler], Handler]:
        """Returns a decorator: the function runs the jobs of this task, and returns their results.

        An async function runs in the event loop, any other in a thread of its own. What it returns
        is the result (`anteroom.payload` says as which content type), what it raises fails the
        attempt, and the task's policy says when the next one begins; `PermanentError` fails the job
        for good, `RetryAfter` says when to try again.
        """

        def register(handler: Handler) -> Handler:
            if name in self._handlers:
                raise ValueError(f"task {name} has a handler already")
            self._handlers[name] = handler
            return handler

        return register

    def run(self) -> None:
        """Runs until SIGINT or SIGTERM, in an event loop of its own. A second one cuts the grace."""
        asyncio.run(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)
        await self.serve()

    def stop(self) -> None:
        """Makes `serve` lease nothing more and end. A second call cuts the grace of what runs."""
        if self._stopping.is_set():
            self._out_of_patience.set()
        else:
            logger.info("stopping: %d jobs under way", len(self._running))
        self._stopping.set()

    async def serve(self) -> None:
        """Runs until `stop`: then what runs may end within the grace, and the rest is handed back.

        Raises `Problem` where the server refuses to lease, such as for a wrong token or a task that
        is not left to workers. A server that is in trouble, or not there, is waited for.
        """
        if not self._handlers:
            raise ValueError("no task has a handler: register one with @worker.task(name)")
        headers = self._transport.headers()
        self._heart = Heart(self._transport.base_url, headers, self._lease)
        self._heart.start()
        grace = self._grace
        try:
            await self._lease_until_stopped()
        except asyncio.CancelledError:
            grace = 0.0
            raise
        finally:
            try:
                await self._finish(grace)
            finally:
                await asyncio.to_thread(self._heart.close)
                if self._owns_client:
                    await self._client.close()

    async def _lease_until_stopped(self) -> None:
        backoff = pauses()
        stopped = asyncio.create_task(self._stopping.wait())
        try:
            while not self._stopping.is_set():
                free = self._concurrency - len(self._running)
                if free == 0:
                    several = {stopped, *self._running}
                    await asyncio.wait(several, return_when=asyncio.FIRST_COMPLETED)
                    continue
                try:
                    leases = await self._poll(free, stopped)
                    backoff = pauses()
                except (Problem, Unreachable) as error:
                    pause = pause_after(error, next(backoff))
                    logger.warning("cannot lease, trying again in %.1f s: %s", pause, error)
                    await asyncio.wait({stopped}, timeout=pause)
                    continue
                for lease in leases:
                    self._start(lease)
        finally:
            stopped.cancel()

    async def _poll(self, free: int, stopped: asyncio.Task[Any]) -> list[dict[str, Any]]:
        """Waits for up to so many jobs."""
        asked: dict[str, Any] = {
            "tasks": list(self._handlers),
            "max": free,
            "lease": duration(self._lease),
            "worker": self._name,
        }
        if self._queues is not None:
            asked["queues"] = list(self._queues)
        request = self._transport.once(
            "POST",
            "/v1/leases",
            headers={"Content-Type": JSON},
            body=json.dumps(asked).encode(),
            wait=POLL_SECONDS,
        )
        polling = asyncio.create_task(request)
        try:
            await asyncio.wait({polling, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not polling.done():
                # Cut off, what it brings just then would cost an attempt.
                await asyncio.wait({polling}, timeout=POLL_GRACE)
                if not polling.done():
                    return []
            answer = polling.result()
        finally:
            polling.cancel()
        leases: list[dict[str, Any]] = answer.json()["leases"] if answer.status == 200 else []
        return leases

    def _start(self, lease: dict[str, Any]) -> None:
        job = LeasedJob(lease, asyncio.get_running_loop())
        if self._stopping.is_set():
            job._interrupt(Stop.WORKER)
        self._heart.hold(job)
        running = asyncio.create_task(self._attempt(job))
        self._running[running] = job
        running.add_done_callback(self._ended)

    def _ended(self, running: asyncio.Task[None]) -> None:
        job = self._running.pop(running)
        if not running.cancelled() and (error := running.exception()) is not None:
            logger.error("job %s: the worker failed, not the handler", job.id, exc_info=error)

    async def _attempt(self, job: LeasedJob) -> None:
        """One attempt: from its lease to how it ended, as far as the server wants to know."""
        reporter = asyncio.create_task(self._report(job))
        try:
            outcome = await self._outcome(job)
            async with job._telling:
                reporter.cancel()
            if job._stop is Stop.LOST:
                logger.warning("job %s: its lease was lost; what it came to is dropped", job.id)
                return
            while await self._tell(job):
                pass
            await self._settle(job, outcome)
        finally:
            reporter.cancel()
            self._heart.drop(job)

    async def _outcome(self, job: LeasedJob) -> "Outcome":
        """Runs the handler, and returns what became of it."""
        if job._stop is not None:
            return Outcome.release()
        handler = self._handlers[job.task]
        job._is_async = inspect.iscoroutinefunction(handler)
        job._task = asyncio.create_task(_run(handler, job))
        try:
            await asyncio.wait({job._task})
        except asyncio.CancelledError:
            job._task.cancel()
            raise
        if job._task.cancelled():
            return Outcome.release() if job._stop else Outcome.fail("the handler cancelled itself")
        error = job._task.exception()
        match error:
            case None:
                pass
            case PermanentError():
                return Outcome.fail(str(error) or "PermanentError", retry=False)
            case RetryAfter():
                return Outcome.fail(str(error), retry_after=duration(error.seconds))
            case _:
                logger.warning("job %s: attempt %d failed", job.id, job.attempt, exc_info=error)
                return Outcome.fail(f"{type(error).__name__}: {error}")
        try:
            return Outcome.complete(Payload.of(job._task.result()))
        except (TypeError, ValueError) as error:
            return Outcome.fail(f"what the handler returned is no result: {error}", retry=False)

    async def _report(self, job: LeasedJob) -> None:
        """Sends what a running attempt says, as it comes."""
        while True:
            await job._said.wait()
            await self._tell(job)
            await asyncio.sleep(REPORT_EVERY)

    async def _tell(self, job: LeasedJob) -> bool:
        """Sends what a job has said, and tells whether there may be more."""
        async with job._telling:
            job._said.clear()
            said = job._take_said()
            if not said:
                return False
            try:
                answer = await self._transport.once(
                    "POST",
                    f"/v1/leases/{job.lease}/extend",
                    headers={"Content-Type": JSON},
                    body=json.dumps({"lease": duration(self._lease), **said}).encode(),
                )
            except LeaseLost:
                job._interrupt(Stop.LOST)
                return False
            except (Problem, Unreachable) as error:
                logger.warning("job %s: cannot tell how far it is: %s", job.id, error)
                if isinstance(error, Unreachable) or error.is_transient:
                    job._put_back(said)
                return False
            if answer.json()["cancel_requested"]:
                job._interrupt(Stop.CANCELLED)
            return True

    async def _settle(self, job: LeasedJob, outcome: "Outcome") -> None:
        """Tells the server how an attempt ended, until it knows.

        What was told already, and only the answer was lost, is answered as the first time.
        """
        for pause in pauses():
            try:
                await self._transport.once(
                    "POST",
                    f"/v1/leases/{job.lease}/{outcome.action}",
                    headers=outcome.headers,
                    body=outcome.body,
                )
                return
            except LeaseLost:
                logger.warning("job %s: its lease was lost; what it came to is dropped", job.id)
                return
            except Unreachable as error:
                logger.warning("job %s: cannot tell how it ended: %s", job.id, error)
            except Problem as error:
                logger.warning("job %s: cannot tell how it ended: %s", job.id, error)
                if error.is_transient:
                    pause = max(pause, error.retry_after or 0)
                elif outcome.action == "complete":
                    # The server does not take the result, such as for its size, and never will.
                    outcome = Outcome.fail(f"the result was refused: {error}", retry=False)
                else:
                    return
            await asyncio.sleep(pause)

    async def _finish(self, grace: float) -> None:
        """Lets what runs end within the grace, and hands the rest back."""
        if not self._running:
            return
        all_ended = asyncio.create_task(_all(set(self._running)))
        cut = asyncio.create_task(self._out_of_patience.wait())
        try:
            await asyncio.wait({all_ended, cut}, timeout=grace, return_when="FIRST_COMPLETED")
            for job in list(self._running.values()):
                job._interrupt(Stop.WORKER)
            await asyncio.wait({all_ended}, timeout=SETTLE_GRACE)
        finally:
            for task in (all_ended, cut, *self._running):
                task.cancel()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, as it is told to the server."""

    action: str
    headers: dict[str, str]
    body: bytes

    @staticmethod
    def complete(result: Payload) -> "Outcome":
        return Outcome("complete", {"Content-Type": result.content_type}, result.data)

    @staticmethod
    def fail(message: str, **how: bool | str) -> "Outcome":
        body = json.dumps({"error": message[:ERROR_MAX], **how}).encode()
        return Outcome("fail", {"Content-Type": JSON}, body)

    @staticmethod
    def release() -> "Outcome":
        return Outcome("release", {}, b"")


async def _run(handler: Callable[[LeasedJob], Any], job: LeasedJob) -> Any:
    if not job._is_async:
        return await in_thread(handler, job)
    try:
        return await handler(job)
    except (SystemExit, KeyboardInterrupt) as error:
        # They would end the event loop, and with it the other jobs.
        raise RuntimeError(f"the handler raised {error!r}") from error


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
