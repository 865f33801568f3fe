"""Workers that are killed, paused and stopped: real processes, real signals."""

import signal
from collections.abc import Callable
from pathlib import Path

from harness import Program, Server, within_patience

from anteroom import Client

PROGRAM = Path(__file__).parent / "worker_process.py"


@within_patience
async def test_a_killed_workers_job_is_done_by_another(
    server: Server, start: Callable[..., Program]
) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("one")
        first = start(PROGRAM, server.url, "1", "30")
        await first.line(f"began {job.id} 1")
        await first.end(signal.SIGKILL)
        second = start(PROGRAM, server.url, "1", "30")
        await second.line(f"began {job.id} 2")
        errors = (await anteroom.job(job.id)).errors
        assert [error.kind for error in errors] == ["lease_expired"]


@within_patience
async def test_a_worker_that_was_paused_beyond_its_lease_changes_nothing(
    server: Server, start: Callable[..., Program]
) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("one")
        first = start(PROGRAM, server.url, "1", "30")
        await first.line(f"began {job.id} 1")
        first.process.send_signal(signal.SIGSTOP)
        second = start(PROGRAM, server.url, "1", "30")
        await second.line(f"began {job.id} 2")
        # It goes on with a lease that is another's by now, and gives a result.
        first.process.send_signal(signal.SIGCONT)
        await first.line(f"stopped {job.id}")
        await first.line(f"job {job.id}: its lease was lost")
        held = await anteroom.job(job.id)
        assert (held.state, held.attempt) == ("running", 2)
        # It works on as if nothing had been, while the other one has its hands full.
        other = await anteroom.submit("two", "well")
        assert await anteroom.result(other.id, wait=30) == "well!"


@within_patience
async def test_the_first_signal_waits_for_what_runs_and_the_second_does_not(
    server: Server, start: Callable[..., Program]
) -> None:
    async with Client(server.url) as anteroom:
        for number in (signal.SIGINT, signal.SIGTERM):
            job = await anteroom.submit("one")
            worker = start(PROGRAM, server.url, "30", "1000")
            await worker.line(f"began {job.id}")
            worker.process.send_signal(number)
            await worker.line("stopping")
            assert await worker.end(number) == 0
            assert worker.printed[-1] == "ended"
            job = await anteroom.job(job.id)
            assert (job.state, job.attempt) == ("ready", 0)
            await anteroom.cancel(job.id)
