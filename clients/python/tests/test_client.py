"""Handing jobs in, and reading what came of them."""

import asyncio
import math
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from harness import Server, within_patience

from anteroom import (
    Client,
    JobCancelled,
    JobExpired,
    JobFailed,
    JobTimedOut,
    NotDone,
    Payload,
    Problem,
    QueueFull,
    RateLimited,
    UnknownJob,
    UnknownTask,
    Unreachable,
)


@within_patience
async def test_a_job_is_handed_in_and_its_result_is_there_under_its_id(server: Server) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("wordcount", "a b c", priority=2, tags={"user": "ann"})
        assert (job.task, job.priority, job.tags) == ("wordcount", 2, {"user": "ann"})
        assert not job.duplicate and not job.replayed
        assert await anteroom.payload(job.id, wait=30) == Payload(b"3\n", "text/plain")
        assert await anteroom.result(job.id) == "3\n"
        job = await anteroom.job(job.id)
        assert (job.state, job.done, job.attempt) == ("succeeded", True, 1)
        assert job.finished_at is not None and job.finished_at >= job.created_at


@within_patience
async def test_a_call_waits_for_its_result(server: Server) -> None:
    async with Client(server.url + "/") as anteroom:
        assert await anteroom.call("wordcount", b"to be or not to be") == "6\n"
        value = {"a": [1, None, "ä"]}
        assert await anteroom.call("echo", value, wait=math.inf) == value


@within_patience
async def test_options_arrive_as_they_were_meant(server: Server) -> None:
    async with Client(server.url) as anteroom:
        at = datetime.now(UTC) + timedelta(hours=1)
        job = await anteroom.submit(
            "later",
            run_at=at,
            start_before=at + timedelta(seconds=1),
            timeout=1.5,
            retain=timedelta(days=2),
            max_attempts=7,
            queue="q",
            group="g",
        )
        assert (job.state, job.queue, job.group, job.max_attempts) == ("scheduled", "q", "g", 7)
        assert abs(job.run_at - at) < timedelta(milliseconds=1)
        assert job.raw["timeout"] == "1s500ms"
        first = await anteroom.submit("later", delay=60, unique_key="k")
        again = await anteroom.submit("later", delay=timedelta(hours=2), unique_key="k")
        assert again.duplicate and again.id == first.id
        with pytest.raises(ValueError, match="run_at has no time zone"):
            await anteroom.submit("later", run_at=datetime.now())
        with pytest.raises(ValueError, match="-1 s is no duration"):
            await anteroom.submit("later", delay=-1)
        with pytest.raises(TypeError, match="no option dely"):
            mistyped: Any = {"dely": 1}
            await anteroom.submit("later", **mistyped)


@within_patience
async def test_a_waiting_job_is_cancelled(server: Server) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("wordcount", delay=3600)
        assert job.waiting is not None
        assert (job.waiting.position, job.waiting.eta) == (None, "1h")
        assert job.waiting.reasons[0].startswith("run_at is ahead: ")
        assert (await anteroom.cancel(job.id)).state == "cancelled"
        with pytest.raises(JobCancelled):
            await anteroom.result(job.id)


@within_patience
async def test_a_running_job_is_told_to_stop(server: Server) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("nap", "1000")
        while job.state != "running":
            job = await anteroom.job(job.id)
        assert (await anteroom.cancel(job.id)).cancel_requested
        assert (await anteroom.job(job.id, wait=30)).state == "cancelled"


@within_patience
async def test_each_end_without_a_result_is_an_exception_of_its_own(server: Server) -> None:
    async with Client(server.url) as anteroom:
        with pytest.raises(JobFailed, match="job-failed") as failed:
            await anteroom.call("fail")
        assert failed.value.kind == "error"
        assert "it is broken" in (failed.value.message or "")
        assert failed.value.status == 502 and failed.value.job_id
        with pytest.raises(JobFailed) as read:
            await anteroom.result(failed.value.job_id)
        assert read.value.status == 409 and read.value.message == failed.value.message
        with pytest.raises(JobTimedOut) as late:
            await anteroom.call("nap", "1000", timeout=0.1, max_attempts=1)
        assert late.value.kind == "timeout" and late.value.job_id
        with pytest.raises(JobTimedOut):
            await anteroom.result(late.value.job_id)


@within_patience
async def test_a_wait_that_is_over_is_not_a_failure(server: Server) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("later")
        waits: list[Callable[[], Awaitable[Any]]] = [
            lambda: anteroom.result(job.id),
            lambda: anteroom.result(job.id, wait=0.3),
            lambda: anteroom.call("later", wait=0),
            lambda: anteroom.call("later", wait=0.3),
        ]
        for wait in waits:
            with pytest.raises(NotDone) as not_done:
                await wait()
            assert not_done.value.job.state == "ready"
        assert not (await anteroom.job(job.id, wait=0.3)).done


@within_patience
async def test_what_is_refused_says_why(server: Server) -> None:
    nobody = "019aaa2e-7c00-7000-8000-3f0c5a1b2c3d"
    async with Client(server.url, patience=0.2) as anteroom:
        with pytest.raises(UnknownTask, match="nothing-like-it"):
            await anteroom.submit("nothing-like-it")
        with pytest.raises(UnknownJob):
            await anteroom.job(nobody)
        with pytest.raises(Problem) as wrong:
            await anteroom.submit("wordcount", priority=11)
        assert (wrong.value.status, wrong.value.type) == (400, "invalid-parameter")
        assert wrong.value.errors[0]["parameter"] == "priority"
        assert wrong.value.instance == "/v1/tasks/wordcount/jobs"
        assert wrong.value.idempotency_key
        with pytest.raises(Problem) as media:
            await anteroom.submit("text", b"octets")
        assert media.value.type == "unsupported-media-type"
        gone = await anteroom.submit("wordcount", "a", retain=0)
        with pytest.raises(JobExpired):
            while True:
                await anteroom.job(gone.id, wait=5)
        await anteroom.submit("later", queue="small")
        with pytest.raises(QueueFull) as full:
            await anteroom.submit("later", queue="small")
        assert full.value.is_transient and full.value.retry_after is not None


@within_patience
async def test_the_same_key_again_is_the_same_job(server: Server) -> None:
    async with Client(server.url) as anteroom:
        first = await anteroom.submit("later", {"order": 7}, idempotency_key='order "7"')
        again = await anteroom.submit("later", {"order": 7}, idempotency_key='order "7"')
        assert again.id == first.id and again.replayed and not first.replayed
        with pytest.raises(Problem) as reused:
            await anteroom.submit("later", {"order": 8}, idempotency_key='order "7"')
        assert reused.value.type == "idempotency-key-reused"
        assert reused.value.idempotency_key == 'order "7"'


class Cutter:
    """A proxy that cuts connections after the server has answered, and before the client hears."""

    def __init__(self, target: str, cuts: int) -> None:
        host, port = target.removeprefix("http://").split(":")
        self._target = host, int(port)
        self.cuts = cuts
        self.keys: list[bytes] = []

    async def __aenter__(self) -> str:
        self._listener = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return "http://127.0.0.1:{}".format(self._listener.sockets[0].getsockname()[1])

    async def __aexit__(self, *_: object) -> None:
        self._listener.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.split(b":")[1])
            for line in request.splitlines()
            if line.lower().startswith(b"content-length")
        )
        request += await reader.readexactly(length)
        self.keys += [line for line in request.splitlines() if line.startswith(b"Idempotency-Key")]
        there, thither = await asyncio.open_connection(*self._target)
        thither.write(request)
        answer = await there.readuntil(b"\r\n\r\n")
        self.cuts -= 1
        if self.cuts < 0:
            writer.write(answer)
            writer.write(await there.read(100_000))
            await writer.drain()
        writer.close()
        thither.close()


@within_patience
async def test_a_submit_whose_answer_was_lost_is_sent_again_and_is_one_job(server: Server) -> None:
    cutter = Cutter(server.url, cuts=3)
    async with cutter as url, Client(url) as broken, Client(server.url) as anteroom:
        job = await broken.submit("later", {"order": 7})
        assert job.replayed and len(cutter.keys) == 4 and len(set(cutter.keys)) == 1
        listed = await anteroom._transport.ask("GET", "/v1/jobs?task=later")
        assert [listed["id"] for listed in listed.json()["jobs"]] == [job.id]


@within_patience
async def test_what_stays_unknown_can_be_sent_again_by_its_key(server: Server) -> None:
    cutter = Cutter(server.url, cuts=1_000)
    async with cutter as url, Client(url, patience=0) as broken, Client(server.url) as anteroom:
        with pytest.raises(Unreachable) as unknown:
            await broken.submit("later", "the work")
        key = unknown.value.idempotency_key
        job = await anteroom.submit("later", "the work", idempotency_key=key)
        assert job.replayed, "it had been stored"


@within_patience
async def test_a_server_that_starts_again_is_waited_for(server: Server) -> None:
    async with Client(server.url) as anteroom:
        job = await anteroom.submit("later", "before")
        server.stop()
        waiting = asyncio.create_task(anteroom.job(job.id))
        submitting = asyncio.create_task(anteroom.call("wordcount", "one two"))
        await asyncio.to_thread(server.start)
        assert (await waiting).id == job.id
        assert await submitting == "2\n"


@within_patience
async def test_a_server_that_is_not_there_is_told(server: Server) -> None:
    server.stop()
    async with Client(server.url, patience=0.3) as anteroom:
        with pytest.raises(Unreachable, match=server.url):
            await anteroom.submit("later")
    for url in ("localhost:8080", "ftp://x", "http://", ""):
        with pytest.raises(ValueError, match="no URL"):
            Client(url)


async def restart_with(server: Server, lines: str) -> None:
    server.stop()
    configuration = server.folder / "anteroom.toml"
    configuration.write_text(configuration.read_text() + lines)
    await asyncio.to_thread(server.start)


# SHA-256 of "secret".
DIGEST = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
TOKEN = f'[[tokens]]\nname = "web"\nsha256 = "{DIGEST}"\nscopes = ["submit", "read"]\n'


@within_patience
async def test_a_token_is_sent(server: Server) -> None:
    await restart_with(server, TOKEN)
    async with Client(server.url) as nobody, Client(server.url, "secret") as web:
        with pytest.raises(Problem) as unauthorized:
            await nobody.submit("later")
        assert unauthorized.value.type == "unauthorized"
        assert (await web.submit("later")).state == "ready"


@within_patience
async def test_retry_after_is_waited_for_within_the_patience(server: Server) -> None:
    await restart_with(server, TOKEN + 'rate_limit = { limit = 1, period = "1s" }\n')
    counted = Cutter(server.url, cuts=0)
    async with counted as url, Client(url, "secret") as patient:
        for _ in range(3):
            await patient.submit("later")
        # Each but the first is refused once at most: tried again before its time it would be more.
        assert len(counted.keys) <= 5
        async with Client(server.url, "secret", patience=0) as hasty:
            with pytest.raises(RateLimited) as limited:
                while True:
                    await hasty.submit("later")
        assert limited.value.retry_after and limited.value.is_transient


@within_patience
async def test_a_server_that_stops_takes_no_more(server: Server) -> None:
    async with Client(server.url, patience=0) as anteroom:
        job = await anteroom.submit("nap", "1000")
        while job.state != "running":
            job = await anteroom.job(job.id)
        server.signal(signal.SIGTERM)
        with pytest.raises(Problem) as draining:
            while True:
                await anteroom.submit("later")
        assert (draining.value.status, draining.value.type) == (503, "draining")
        assert draining.value.retry_after is not None


@pytest.mark.parametrize(
    ("value", "content_type", "back"),
    [
        (b"\x00\xff", "application/octet-stream", b"\x00\xff"),
        (bytearray(b"x"), "application/octet-stream", b"x"),
        ("ä", "text/plain; charset=utf-8", "ä"),
        (None, "application/json", None),
        ({"a": (1, 2.5)}, "application/json", {"a": [1, 2.5]}),
        (Payload("ä".encode("latin-1"), "text/plain; charset=latin1"), None, "ä"),
        (Payload(b"[1]", "application/problem+json"), None, [1]),
        (Payload(b"[1]", "application/JSON; x=y"), None, [1]),
        (Payload(b"GIF", "image/gif"), None, b"GIF"),
    ],
)
def test_values_are_mapped_by_content_type(value: Any, content_type: str, back: Any) -> None:
    payload = Payload.of(value)
    assert payload.value == back
    assert content_type is None or payload.content_type == content_type


def test_what_is_no_payload_is_told() -> None:
    with pytest.raises(TypeError, match="not JSON serializable"):
        Payload.of(object())
    with pytest.raises(ValueError, match="not JSON compliant"):
        Payload.of(math.nan)
    with pytest.raises(TypeError, match="a dict is sent as JSON, which image/gif is not"):
        Payload.of({}, "image/gif")
    with pytest.raises(ValueError, match="names no known charset"):
        _ = Payload(b"x", "text/plain; charset=klingon").value
    assert Payload.of("{}", "application/json") == Payload(b"{}", "application/json")
