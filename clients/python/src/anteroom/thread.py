"""Runs blocking handlers, each in a thread of its own.

No pool: its threads would keep the process from ending while one of them is blocked, and how many
there are is bounded by the worker's places already.
"""

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

from .leased import LeasedJob


async def in_thread(handler: Callable[[LeasedJob], Any], job: LeasedJob) -> Any:
    """Runs a handler in a thread. Where this is cancelled, the thread goes on by itself."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(value)

    def run() -> None:
        value: Any = None
        error: BaseException | None = None
        try:
            value = context.run(handler, job)
        except (SystemExit, KeyboardInterrupt, StopIteration) as raised:
            # A future takes none of them.
            error = RuntimeError(f"the handler raised {raised!r}")
        except BaseException as raised:
            error = raised
        try:
            loop.call_soon_threadsafe(settle, value, error)
        except RuntimeError:
            pass  # The loop is closed: nobody waits for it any more.

    threading.Thread(target=run, name=f"anteroom-{job.task}", daemon=True).start()
    return await ended
