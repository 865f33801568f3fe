"""The two programs of docs/from-aiohttp.md, run as they stand there."""

import json
import signal
from collections.abc import Callable

import aiohttp
import pytest
from harness import ROOT, Program, Server, within_patience

from anteroom import Client

EXAMPLES = ROOT / "examples/from-aiohttp"


@pytest.mark.parametrize("name", ["before.py", "after.py", "anteroom.toml"])
def test_the_page_has_the_files_as_they_are(name: str) -> None:
    language = "toml" if name.endswith(".toml") else "python"
    block = f"```{language}\n{(EXAMPLES / name).read_text()}```\n"
    assert block in (ROOT / "docs/from-aiohttp.md").read_text()


@pytest.fixture
def server(server: Server) -> Server:
    """A server with the configuration of the page, but for its address."""
    server.stop()
    text = (EXAMPLES / "anteroom.toml").read_text()
    (server.folder / "anteroom.toml").write_text(text)
    server.start()
    return server


async def listening(program: Program) -> str:
    return (await program.line("======== Running on ")).split()[3]


async def hand_in(session: aiohttp.ClientSession, url: str, text: str) -> str:
    async with session.post(f"{url}/jobs", data=text) as answer:
        assert answer.status == 202
        job_id: str = (await answer.json())["id"]
        return job_id


async def result(session: aiohttp.ClientSession, url: str, job_id: str) -> tuple[int, str]:
    async with session.get(f"{url}/results/{job_id}") as answer:
        return answer.status, await answer.text()


async def result_once_there(session: aiohttp.ClientSession, url: str, job_id: str) -> str:
    while (answer := await result(session, url, job_id))[0] == 202:
        assert json.loads(answer[1]) == {"id": job_id}
    assert answer[0] == 200
    return answer[1]


@pytest.mark.parametrize("name", ["before.py", "after.py"])
@within_patience
async def test_both_do_the_same(server: Server, start: Callable[..., Program], name: str) -> None:
    program = start(
        EXAMPLES / name, ANTEROOM_SERVER=server.url, PORT="0", SECONDS_OF_WORK="0.2"
    )
    url = await listening(program)
    async with aiohttp.ClientSession() as session:
        jobs = {text: await hand_in(session, url, text) for text in ("a", "b", "c", "d", "ä")}
        assert len(set(jobs.values())) == 5
        for text, job_id in jobs.items():
            assert await result_once_there(session, url, job_id) == text.upper()
        nobody = "019aaa2e-7c00-7000-8000-3f0c5a1b2c3d"
        assert await result(session, url, nobody) == (404, "no such job\n")
    assert await program.end(signal.SIGINT) == 0


@within_patience
async def test_what_was_answered_with_202_outlives_kills_and_restarts(
    server: Server, start: Callable[..., Program]
) -> None:
    first = start(
        EXAMPLES / "after.py", ANTEROOM_SERVER=server.url, PORT="0", SECONDS_OF_WORK="1000"
    )
    url = await listening(first)
    async with aiohttp.ClientSession() as session:
        jobs = [await hand_in(session, url, "hello") for _ in range(4)]
        await first.end(signal.SIGKILL)
        server.stop(signal.SIGKILL)
        server.start()
        second = start(
            EXAMPLES / "after.py", ANTEROOM_SERVER=server.url, PORT="0", SECONDS_OF_WORK="0"
        )
        url = await listening(second)
        # At most three were begun, and come back when their leases run out; the fourth is next.
        assert await result_once_there(session, url, jobs[3]) == "HELLO"
        assert await second.end(signal.SIGTERM) == 0
    async with Client(server.url) as anteroom:
        for job_id in jobs:
            assert (await anteroom.job(job_id)).state in ("running", "ready", "succeeded")
