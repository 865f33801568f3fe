"""Real processes for tests: the server on a SQLite file of its own, and programs that talk to it."""

import asyncio
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Coroutine
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from anteroom import Client

ROOT = Path(__file__).resolve().parents[3]
BINARY = Path(os.environ.get("ANTEROOM_BIN", ROOT / "target/debug/anteroom")).resolve()
#: Longer than anything takes on a busy machine, in seconds.
PATIENCE = 20

P = ParamSpec("P")

CONFIGURATION = """
store = "sqlite:anteroom.db"
shutdown_grace = "5s"
max_result = "64KiB"
[tasks.wordcount]
exec = ["wc", "-w"]
result_content_type = "text/plain"
[tasks.echo]
exec = ["cat"]
result_content_type = "application/json"
[tasks.fail]
exec = ["sh", "-c", "echo it is broken >&2; exit 65"]
[tasks.nap]
exec = ["xargs", "sleep"]
[tasks.text]
pull = true
content_type = "text/plain"
[tasks.one]
pull = true
backoff = { initial = "1ms" }
[tasks.two]
pull = true
backoff = { initial = "1ms" }
[tasks.later]
pull = true
[queues.small]
max_depth = 1
"""


class Server:
    """A running server, and what it takes to stop it and start it again."""

    def __init__(self, folder: Path, configuration: str = CONFIGURATION) -> None:
        self.folder = folder
        (folder / "anteroom.toml").write_text(configuration)
        self._address = "127.0.0.1:0"
        self.url = ""
        self.start()

    def start(self) -> None:
        """Starts it; once more: at the address that it had."""
        log = self.folder / "log"
        self._process = subprocess.Popen(
            [BINARY, "serve", "--config", "anteroom.toml", "--listen", self._address],
            cwd=self.folder,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stderr is not None
        with log.open("a") as kept:
            for line in self._process.stderr:
                kept.write(line)
                if line.startswith("listening on "):
                    break
            else:
                raise AssertionError(f"the server did not start: {log.read_text()}")
        self.url = line.removeprefix("listening on ").strip()
        self._address = self.url.removeprefix("http://")

    def stop(self, number: int = signal.SIGTERM) -> None:
        """Ends it, by a signal."""
        self.signal(number)
        self._process.communicate(timeout=PATIENCE)

    def signal(self, number: int) -> None:
        """Sends it a signal, and does not wait for what it does."""
        self._process.send_signal(number)


class Program:
    """A Python program in a process of its own, and the lines that it prints."""

    def __init__(self, path: Path, *arguments: str, **environment: str) -> None:
        command = ["node"] if path.suffix == ".mjs" else [sys.executable, "-u"]
        self.process = subprocess.Popen(
            [*command, str(path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=os.environ | environment,
        )
        self.printed: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.printed.append(line.rstrip("\n"))
            self._lines.put(self.printed[-1])
        self._lines.put(None)

    async def line(self, beginning: str) -> str:
        """Waits for a line that begins so, and returns it."""
        while True:
            try:
                line = await asyncio.to_thread(self._lines.get, timeout=PATIENCE)
            except queue.Empty:
                line = None
            assert line is not None, f"it did not print {beginning!r}, but {self.printed}"
            if line.startswith(beginning):
                return line

    async def end(self, number: int | None = None) -> int:
        """Sends it a signal, waits for its end, and returns its exit code."""
        if number is not None:
            self.process.send_signal(number)
        code = await asyncio.to_thread(self.process.wait, PATIENCE)
        await asyncio.to_thread(self._reader.join, PATIENCE)
        return code

    def close(self) -> None:
        """Kills it, if it is there still."""
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def within_patience(
    test: Callable[P, Coroutine[Any, Any, None]],
) -> Callable[P, None]:
    """Runs an async test, and fails it where it takes too long."""

    @wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        asyncio.run(asyncio.wait_for(test(*arguments, **named), 3 * PATIENCE))

    return run


async def passed(anteroom: Client, seconds: float) -> None:
    """Waits until so much time has passed by the clock of the server: a delayed job came due."""
    job = await anteroom.submit("later", delay=seconds)
    answer = await anteroom._transport.ask("GET", f"/v1/jobs/{job.id}")
    while answer.json()["state"] == "scheduled":
        path, known = f"/v1/jobs/{job.id}", {"If-None-Match": answer.headers["ETag"]}
        changed = await anteroom._transport.ask("GET", path, headers=known, wait=10)
        answer = changed if changed.status == 200 else answer
