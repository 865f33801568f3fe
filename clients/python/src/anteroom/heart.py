"""Keeps leases while their jobs run, from a thread of its own.

A handler that blocks the event loop would keep heartbeats from being sent there, and lose its lease
while it works. The thread has its own connection, and knows nothing of the loop.
"""

import http.client
import json
import logging
import ssl
import threading
import time
from urllib.parse import urlsplit

from .errors import LeaseLost, Problem, Unreachable
from .leased import LeasedJob, Stop

logger = logging.getLogger("anteroom")


class Heart:
    """Extends leases at a third of their length."""

    def __init__(self, base_url: str, headers: dict[str, str], lease_seconds: float) -> None:
        self._line = _Line(base_url, headers, timeout=max(1.0, min(lease_seconds / 2, 10.0)))
        self._every = lease_seconds / 3
        self._body = json.dumps({"lease": f"{round(lease_seconds * 1000)}ms"}).encode()
        self._due: dict[LeasedJob, float] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="anteroom-heart", daemon=True)

    def start(self) -> None:
        """Begins."""
        self._thread.start()

    def close(self) -> None:
        """Ends, and waits for the thread."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()

    def hold(self, job: LeasedJob) -> None:
        """Keeps the lease of a job from now on."""
        with self._changed:
            self._due[job] = time.monotonic() + self._every
            self._changed.notify()

    def drop(self, job: LeasedJob) -> None:
        """Keeps it no longer."""
        with self._changed:
            self._due.pop(job, None)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            began = time.monotonic()
            try:
                held = self._line.post(f"/v1/leases/{job.lease}/extend", self._body)
                if held["cancel_requested"]:
                    job._interrupt_from_thread(Stop.CANCELLED)
                self._again(job, began + self._every)
            except LeaseLost:
                self.drop(job)
                job._interrupt_from_thread(Stop.LOST)
            except Unreachable as error:
                # The server may be about to start again, and the lease survives that.
                logger.warning("cannot keep leases: %s", error)
                self._all_again(time.monotonic() + min(self._every, 1.0))
            except Problem as error:
                logger.warning("cannot keep the lease of job %s: %s", job.id, error)
                pause = max(error.retry_after or 0, min(self._every, 1.0))
                self._again(job, time.monotonic() + min(self._every, pause))
        self._line.close()

    def _next(self) -> LeasedJob | None:
        """Waits for the next lease to extend; none at the end."""
        with self._changed:
            while not self._closing:
                job = min(self._due, key=self._due.__getitem__, default=None)
                if job is None:
                    self._changed.wait()
                elif (wait := self._due[job] - time.monotonic()) > 0:
                    self._changed.wait(wait)
                else:
                    return job
        return None

    def _again(self, job: LeasedJob, at: float) -> None:
        with self._changed:
            if job in self._due:
                self._due[job] = at

    def _all_again(self, at: float) -> None:
        with self._changed:
            self._due = {job: max(due, at) for job, due in self._due.items()}


class _Line:
    """A connection that is kept, for one thread."""

    def __init__(self, base_url: str, headers: dict[str, str], timeout: float) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname is not None  # the transport has looked at it
        self._prefix = parts.path
        self._headers = {**headers, "Content-Type": "application/json"}
        self._connection = (
            http.client.HTTPSConnection(
                parts.hostname, parts.port, timeout=timeout, context=ssl.create_default_context()
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout)
        )

    def post(self, path: str, body: bytes) -> dict[str, bool]:
        """Sends JSON and returns the answer's; raises `Problem` or `Unreachable`."""
        is_kept = self._connection.sock is not None
        try:
            status, retry_after, answer = self._exchange(path, body)
        except (OSError, http.client.HTTPException) as error:
            # A connection that was silent for long may have been closed meanwhile.
            if not is_kept:
                raise Unreachable(str(error) or type(error).__name__) from error
            try:
                status, retry_after, answer = self._exchange(path, body)
            except (OSError, http.client.HTTPException) as error:
                raise Unreachable(str(error) or type(error).__name__) from error
        if status != 200:
            raise Problem.of(status, retry_after, answer)
        held: dict[str, bool] = json.loads(answer)
        return held

    def close(self) -> None:
        self._connection.close()

    def _exchange(self, path: str, body: bytes) -> tuple[int, str | None, bytes]:
        try:
            self._connection.request("POST", self._prefix + path, body, self._headers)
            response = self._connection.getresponse()
            return response.status, response.headers.get("Retry-After"), response.read()
        except BaseException:
            self._connection.close()
            raise
