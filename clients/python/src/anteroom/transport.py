"""Requests to a server: one, or again and again while it is in trouble."""

import asyncio
import json
import math
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from .errors import Problem, Unreachable

#: The server holds an answer no longer, in seconds.
WAIT_MAX = 60
#: How much longer than that an answer may take, in seconds.
MARGIN = 15.0
#: Between two tries, in seconds: the first pause, and the longest.
PAUSE_FIRST, PAUSE_MAX = 0.1, 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered, below 400."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which is JSON."""
        return json.loads(self.body)


def pauses() -> Iterator[float]:
    """Returns how long to pause before each next try: twice as long each time, with jitter."""
    pause = PAUSE_FIRST
    while True:
        yield pause * random.uniform(0.5, 1)
        pause = min(pause * 2, PAUSE_MAX)


class Transport:
    """The connections of a client or worker to one server."""

    def __init__(self, base_url: str, token: str | None, patience: float) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
            raise ValueError(f"{base_url!r} is no URL of a server, such as http://127.0.0.1:8080")
        self.base_url = base_url.rstrip("/")
        self.token = token
        self.patience = patience
        self._session: aiohttp.ClientSession | None = None

    def headers(self) -> dict[str, str]:
        """Returns what every request has."""
        return {"Authorization": f"Bearer {self.token}"} if self.token is not None else {}

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def once(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        wait: float = 0,
    ) -> Answer:
        """Sends a request once.

        Raises `Problem` where it is refused, and `Unreachable` where no answer came.
        """
        if self._session is None:
            # Workers decide themselves how many requests they have under way.
            connector = aiohttp.TCPConnector(limit=0)
            self._session = aiohttp.ClientSession(connector=connector)
        url = f"{self.base_url}{path}" + (f"?{urlencode(query)}" if query else "")
        sent = {**self.headers(), **(headers or {})}
        seconds = min(math.ceil(wait), WAIT_MAX) if wait > 0 else 0
        if seconds:
            sent["Prefer"] = f"wait={seconds}"
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=seconds + MARGIN)
        try:
            async with self._session.request(
                method,
                URL(url, encoded=True),
                data=body,
                headers=sent,
                skip_auto_headers=("Content-Type",),
                allow_redirects=False,
                timeout=timeout,
            ) as response:
                answer = Answer(response.status, response.headers, await response.read())
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            why = str(error) or type(error).__name__
            raise Unreachable(f"{method} {self.base_url}{path}: {why}") from error
        if answer.status >= 400:
            raise Problem.of(answer.status, answer.headers.get("Retry-After"), answer.body)
        return answer

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        wait: float = 0,
    ) -> Answer:
        """Sends a request that may be repeated without harm, until it is answered.

        While the server is in trouble or cannot be reached it is sent again, after `Retry-After`
        where that is said, for as long as the client is patient.
        """
        last_try = time.monotonic() + self.patience
        waited_until = time.monotonic() + wait
        for pause in pauses():
            remaining = max(0.0, waited_until - time.monotonic())
            try:
                return await self.once(
                    method, path, query=query, headers=headers, body=body, wait=remaining
                )
            except (Problem, Unreachable) as error:
                pause = pause_after(error, pause)
                # A connection that broke in the midst of a long wait is no reason to give up.
                patient_until = max(last_try, waited_until)
                if time.monotonic() + pause > patient_until:
                    raise
            await asyncio.sleep(pause)
        raise AssertionError("there is always another pause")


def pause_after(error: Problem | Unreachable, pause: float) -> float:
    """Returns how long to pause before the next try, or raises the error where none would help."""
    if isinstance(error, Problem):
        if not error.is_transient:
            raise error
        return max(pause, error.retry_after or 0)
    return pause
