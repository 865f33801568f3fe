"""Workers in the process of the test: what becomes of what handlers do."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from harness import Server, passed, within_patience

from anteroom import (
    Client,
    JobCancelled,
    JobFailed,
    JobTimedOut,
    LeasedJob,
    Payload,
    PermanentError,
    Problem,
    RetryAfter,
    Worker,
)
from anteroom.worker import POLL_SECONDS


@asynccontextmanager
async def running(worker: Worker) -> AsyncIterator[None]:
    """Has a worker run, and ends it as a signal would."""
    serving = asyncio.create_task(worker.serve())
    try:
        yield
    finally:
        worker.stop()
        await serving


@pytest.mark.parametrize("value", [b"\x00", "text", {"json": [1, None]}, None, "ä" * 100_000])
@within_patience
async def test_inputs_arrive_and_results_come_back_as_they_were(server: Server, value: Any) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom)

        @worker.task("one")
        async def echo(job: LeasedJob) -> Any:
            if len(job.payload.data) > 10_000:
                return len(job.input)
            return job.input

        expected = 100_000 if value == "ä" * 100_000 else value
        async with running(worker):
            assert await anteroom.call("one", value) == expected


@within_patience
async def test_large_json_arrives_and_what_is_no_text_fails_for_good(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom)

        @worker.task("one")
        def size(job: LeasedJob) -> int:
            return len(job.input)

        async with running(worker):
            assert await anteroom.call("one", ["x" * 9] * 10_000) == 10_000
            not_utf8 = Payload(b"\xff", "text/plain")
            with pytest.raises(JobFailed) as failed:
                await anteroom.call("one", not_utf8)
            assert "the input is not what it says it is" in (failed.value.message or "")


@within_patience
async def test_handlers_run_in_parallel_up_to_the_concurrency(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, concurrency=3)
        together, most, now = asyncio.Barrier(3), 0, 0

        @worker.task("one")
        async def meet(job: LeasedJob) -> None:
            nonlocal most, now
            now += 1
            most = max(most, now)
            await together.wait()  # it passes only if three of them are there at once
            now -= 1

        jobs = [await anteroom.submit("one") for _ in range(9)]
        async with running(worker):
            for job in jobs:
                await anteroom.result(job.id, wait=30)
        assert most == 3


@within_patience
async def test_blocking_handlers_run_in_threads_beside_each_other(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, concurrency=3)
        together = threading.Barrier(3)

        @worker.task("one")
        def meet(job: LeasedJob) -> str:
            together.wait()
            return threading.current_thread().name

        jobs = [await anteroom.submit("one") for _ in range(3)]
        async with running(worker):
            names = [await anteroom.result(job.id, wait=30) for job in jobs]
        assert names == ["anteroom-one"] * 3


@within_patience
async def test_a_blocked_loop_keeps_its_lease(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, lease=1)
        attempts = 0

        @worker.task("one")
        async def block(job: LeasedJob) -> str:
            nonlocal attempts
            attempts += 1

            async def watch() -> None:
                async with Client(server.url) as watcher:
                    await passed(watcher, 3)

            # The loop stands still meanwhile: nothing of it can send a heartbeat.
            watching = threading.Thread(target=asyncio.run, args=(watch(),))
            watching.start()
            watching.join()
            return "kept"

        job = await anteroom.submit("one")
        async with running(worker):
            assert await anteroom.result(job.id, wait=30) == "kept"
        job = await anteroom.job(job.id)
        assert (job.attempt, attempts, job.errors) == (1, 1, ())


@within_patience
async def test_a_failure_is_tried_again_and_a_permanent_one_is_not(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom)

        @worker.task("one")
        async def third_time(job: LeasedJob) -> int:
            if job.attempt == 1:
                raise RuntimeError("the first time")
            if job.attempt == 2:
                raise RetryAfter(0.01, "a little later")
            return job.attempt

        @worker.task("two")
        def never(job: LeasedJob) -> None:
            raise PermanentError("that is no picture")

        async with running(worker):
            job = await anteroom.submit("one")
            assert await anteroom.result(job.id, wait=30) == 3
            errors = (await anteroom.job(job.id)).errors
            assert [(error.attempt, error.kind, error.message) for error in errors] == [
                (1, "error", "RuntimeError: the first time"),
                (2, "error", "a little later"),
            ]
            with pytest.raises(JobFailed) as failed:
                await anteroom.call("two")
            assert failed.value.message == "that is no picture"
            assert failed.value.job_id
            assert (await anteroom.job(failed.value.job_id)).attempt == 1


@pytest.mark.parametrize(
    ("result", "says"),
    [
        (object(), "what the handler returned is no result"),
        (float("nan"), "what the handler returned is no result"),
        (b"x" * 65_537, "the result was refused: 413 payload-too-large"),
        (Payload(b"{", "no media type"), "the result was refused"),
    ],
)
@within_patience
async def test_a_result_that_cannot_be_kept_fails_for_good(
    server: Server, result: Any, says: str
) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom)

        @worker.task("one")
        async def give(job: LeasedJob) -> Any:
            return result

        async with running(worker):
            with pytest.raises(JobFailed) as failed:
                await anteroom.call("one")
        assert says in (failed.value.message or "")


@pytest.mark.parametrize("raised", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()])
@pytest.mark.parametrize("is_async", [True, False])
@within_patience
async def test_nothing_that_a_handler_raises_ends_the_worker(
    server: Server, raised: BaseException, is_async: bool
) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom)

        def blocking(job: LeasedJob) -> None:
            raise raised

        async def in_loop(job: LeasedJob) -> None:
            raise raised

        worker.task("one")(in_loop if is_async else blocking)
        worker.task("two")(lambda job: "well")
        async with running(worker):
            with pytest.raises(JobFailed):
                await anteroom.call("one", max_attempts=1)
            assert await anteroom.call("two") == "well"


@within_patience
async def test_a_cancelled_job_cancels_its_handler(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, lease=1)
        began, cancelled = asyncio.Event(), asyncio.Event()

        @worker.task("one")
        async def forever(job: LeasedJob) -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        @worker.task("two")
        def anyway(job: LeasedJob) -> str:
            job.wait_for_stop()
            return "a success that it still reached"

        async with running(worker):
            one = await anteroom.submit("one")
            two = await anteroom.submit("two")
            await began.wait()
            while (await anteroom.job(two.id)).state != "running":
                pass
            assert (await anteroom.cancel(one.id)).cancel_requested
            await cancelled.wait()
            with pytest.raises(JobCancelled):
                await anteroom.result(one.id, wait=30)
            assert (await anteroom.job(one.id)).attempt <= 1
            await anteroom.cancel(two.id)
            kept = await anteroom.result(two.id, wait=30)
            assert kept == "a success that it still reached"


@within_patience
async def test_a_lost_lease_cancels_the_handler_and_drops_its_result(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, lease=1)
        attempts: list[int] = []

        @worker.task("one")
        async def stubborn(job: LeasedJob) -> str:
            attempts.append(job.claim)
            if job.attempt == 2:
                return "by the second"
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "by the first"
            raise AssertionError

        async with running(worker):
            job = await anteroom.submit("one", timeout=1)
            assert await anteroom.result(job.id, wait=30) == "by the second"
            assert [error.kind for error in (await anteroom.job(job.id)).errors] == ["timeout"]
            with pytest.raises(JobTimedOut):
                await anteroom.call("one", timeout=1, max_attempts=1)
        assert attempts == sorted(set(attempts)), "claims rise"
        assert await anteroom.result(job.id) == "by the second"


@within_patience
async def test_what_a_job_says_is_seen_while_it_runs_and_nothing_is_lost(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom)
        go_on = asyncio.Event()

        @worker.task("one")
        async def talk(job: LeasedJob) -> None:
            job.progress(0.5, "half of it")
            await go_on.wait()
            job.log("\n".join(f"line {number}" for number in range(250)))
            job.progress(1)

        async with running(worker):
            job = await anteroom.submit("one")
            while (shown := (await anteroom.job(job.id)).progress) is None:
                pass
            assert (shown.fraction, shown.message) == (0.5, "half of it")
            go_on.set()
            await anteroom.result(job.id, wait=30)
            events = await anteroom._transport.ask("GET", f"/v1/jobs/{job.id}/events")
            text = events.body.decode()
            assert [f"line {number}" in text for number in range(250)] == [True] * 250
            assert '"fraction":1.0' in text


@within_patience
async def test_a_server_that_starts_again_finds_the_worker_at_work(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, lease=2)
        began, go_on = asyncio.Event(), asyncio.Event()

        @worker.task("one")
        async def outlast(job: LeasedJob) -> str:
            began.set()
            await go_on.wait()
            return f"in attempt {job.attempt}"

        async with running(worker):
            job = await anteroom.submit("one")
            await began.wait()
            await asyncio.to_thread(server.stop, 9)
            go_on.set()  # it ends while nobody is there to be told
            await asyncio.to_thread(server.start)
            assert await anteroom.result(job.id, wait=30) == "in attempt 1"
            assert await anteroom.call("one") == "in attempt 1"


@within_patience
async def test_a_stopping_worker_ends_what_it_began_and_leases_nothing_more(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, concurrency=1)
        began, go_on = asyncio.Event(), asyncio.Event()

        @worker.task("one")
        async def work(job: LeasedJob) -> str:
            began.set()
            await go_on.wait()
            return "done"

        first, second = await anteroom.submit("one"), await anteroom.submit("one")
        async with running(worker):
            await began.wait()
            worker.stop()
            go_on.set()
        assert await anteroom.result(first.id) == "done"
        job = await anteroom.job(second.id)
        assert (job.state, job.attempt) == ("ready", 0)


@pytest.mark.parametrize("is_async", [True, False])
@within_patience
async def test_what_outlasts_the_grace_is_handed_back_and_costs_no_attempt(
    server: Server, is_async: bool
) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, grace=0)
        began, end = threading.Event(), threading.Event()

        async def in_loop(job: LeasedJob) -> None:
            began.set()
            await asyncio.Event().wait()

        def blocking(job: LeasedJob) -> None:
            began.set()
            end.wait()

        worker.task("one")(in_loop if is_async else blocking)
        job = await anteroom.submit("one")
        async with running(worker):
            await asyncio.to_thread(began.wait)
        job = await anteroom.job(job.id)
        end.set()
        assert (job.state, job.attempt, job.errors) == ("ready", 0, ())


@within_patience
async def test_an_idle_worker_stops_without_waiting_for_jobs(server: Server) -> None:
    worker = Worker(server.url)
    worker.task("one")(lambda job: None)
    async with Client(server.url) as anteroom:
        async with asyncio.timeout(POLL_SECONDS / 2), running(worker):
            await anteroom.call("one")  # it is there, and waits for the next


@within_patience
async def test_what_cannot_be_leased_is_told(server: Server) -> None:
    worker = Worker(server.url)
    worker.task("wordcount")(lambda job: None)
    with pytest.raises(Problem) as refused:
        await worker.serve()
    assert refused.value.type == "not-a-pull-task"
    with pytest.raises(ValueError, match="no task has a handler"):
        await Worker(server.url).serve()
    with pytest.raises(ValueError, match="wordcount has a handler already"):
        worker.task("wordcount")(lambda job: None)
    for wrong in ({"concurrency": 0}, {"concurrency": 1001}, {"lease": 0.9}, {"lease": 3601}):
        with pytest.raises(ValueError, match="it is from 1 to"):
            Worker(server.url, **wrong)


@within_patience
async def test_only_jobs_of_its_queues_are_taken(server: Server) -> None:
    async with Client(server.url) as anteroom:
        worker = Worker(anteroom, queues=["mine"])
        worker.task("one")(lambda job: job.info.queue)
        async with running(worker):
            other = await anteroom.submit("one")
            assert await anteroom.call("one", queue="mine") == "mine"
            assert (await anteroom.job(other.id)).state == "ready"
