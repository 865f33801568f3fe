"""What a handler is given: a job under a lease."""

import asyncio
import base64
import enum
import json
import threading
from collections.abc import Mapping
from typing import Any

from .errors import PermanentError
from .job import Job
from .payload import Payload

#: Lines of a log that wait to be sent; beyond it the oldest are dropped.
LINES_KEPT_MAX = 1_000
#: Lines sent at once, and characters of a line: the server cuts lines at 8 KiB.
LINES_SENT_MAX, LINE_MAX = 100, 8_192


class Stop(enum.Enum):
    """Why an attempt is to stop."""

    CANCELLED = "the job was cancelled"
    LOST = "the lease was lost"
    WORKER = "the worker stops"


class LeasedJob:
    """A job under a lease: one attempt of it, which the handler runs.

    Its methods may be called from any thread.
    """

    def __init__(self, lease: Mapping[str, Any], loop: asyncio.AbstractEventLoop) -> None:
        #: The job as it stood when it was leased.
        self.info = Job.of(lease["job"])
        #: The token of the lease: whoever has it can settle the job.
        self.lease: str = lease["lease"]
        #: Rises with every start of the job. Send it along where you write elsewhere, and have a
        #: lower one than the last refused there: then a late worker overwrites nothing.
        self.claim: int = lease["claim"]
        if (encoded := lease.get("input_base64")) is not None:
            data = base64.b64decode(encoded)
        else:
            data = json.dumps(lease["input"], ensure_ascii=False).encode()
        #: The input as bytes and content type.
        self.payload = Payload(data, lease["content_type"])
        self._loop = loop
        self._stopped = threading.Event()
        self._stop: Stop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_async = True
        self._lock = threading.Lock()
        self._progress: dict[str, Any] | None = None
        self._lines: list[str] = []
        self._said = asyncio.Event()
        self._telling = asyncio.Lock()

    @property
    def id(self) -> str:
        """The job's id."""
        return self.info.id

    @property
    def task(self) -> str:
        """The job's task."""
        return self.info.task

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return self.info.attempt

    @property
    def max_attempts(self) -> int:
        """How many there may be."""
        return self.info.max_attempts

    @property
    def tags(self) -> Mapping[str, str]:
        """The job's tags."""
        return self.info.tags

    @property
    def input(self) -> Any:
        """The input: JSON is parsed, `text/…` is a `str`, everything else `bytes`.

        Raises `PermanentError` where the bytes are not what their content type says.
        """
        try:
            return self.payload.value
        except ValueError as error:
            raise PermanentError(f"the input is not what it says it is: {error}") from error

    @property
    def stop_requested(self) -> bool:
        """Whether the attempt should stop.

        It is for blocking functions, which nobody can interrupt: they look at this now and then, and
        return. Async functions are cancelled.
        """
        return self._stopped.is_set()

    def wait_for_stop(self, seconds: float | None = None) -> bool:
        """Blocks for so many seconds, or until the attempt should stop: then it returns true."""
        return self._stopped.wait(seconds)

    def progress(self, fraction: float | None = None, message: str | None = None) -> None:
        """Says how far the attempt has come: `fraction` from 0 to 1, a message, or both."""
        if fraction is not None and not 0 <= fraction <= 1:
            raise ValueError(f"fraction is {fraction}; it is from 0 to 1")
        with self._lock:
            self._progress = {"fraction": fraction, "message": message}
        self._wake()

    def log(self, line: str) -> None:
        """Adds to the log of the job, one line or several."""
        with self._lock:
            self._lines += [part[:LINE_MAX] for part in line.splitlines()]
            del self._lines[:-LINES_KEPT_MAX]
        self._wake()

    # What follows is the worker's.

    def _wake(self) -> None:
        try:
            self._loop.call_soon_threadsafe(self._said.set)
        except RuntimeError:
            pass  # The loop is closed: nobody is left to tell it to.

    def _take_said(self) -> dict[str, Any]:
        """Takes what was said and is to be sent, as members of an extension."""
        said: dict[str, Any] = {}
        with self._lock:
            if self._progress is not None:
                said["progress"], self._progress = self._progress, None
            if self._lines:
                said["log"] = self._lines[:LINES_SENT_MAX]
                del self._lines[:LINES_SENT_MAX]
            if self._lines:
                self._said.set()
        return said

    def _put_back(self, said: Mapping[str, Any]) -> None:
        """Puts back what could not be sent."""
        with self._lock:
            if self._progress is None:
                self._progress = said.get("progress")
            self._lines[:0] = said.get("log", [])
            del self._lines[:-LINES_KEPT_MAX]
        self._said.set()

    def _interrupt(self, why: Stop) -> None:
        """Makes the attempt stop. Called in the loop; the first reason counts, but for a loss."""
        if self._stop is None or why is Stop.LOST:
            self._stop = why
        self._stopped.set()
        # A blocking function ends by itself, and its place is taken until it does. Only a worker
        # that stops does not wait for it.
        if self._task is not None and (self._is_async or why is Stop.WORKER):
            self._task.cancel()

    def _interrupt_from_thread(self, why: Stop) -> None:
        # A blocking function learns of it even while the loop is blocked.
        self._stopped.set()
        try:
            self._loop.call_soon_threadsafe(self._interrupt, why)
        except RuntimeError:
            pass  # The loop is closed, and the handler gone with it.
