"""What tests are given: a server, and programs, that end with them."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from harness import Program, Server


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server that ends with the test."""
    server = Server(tmp_path)
    yield server
    server.stop(signal.SIGKILL)


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    """Starts programs that end with the test."""
    programs: list[Program] = []

    def start(path: Path, *arguments: str, **environment: str) -> Program:
        programs.append(Program(path, *arguments, **environment))
        return programs[-1]

    yield start
    for program in programs:
        program.close()
