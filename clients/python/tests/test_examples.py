"""The examples of workers without a framework, as their readers run them."""

import base64
import hashlib
import hmac
import http.client
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import BINARY, ROOT, Program, Server, passed, within_patience

from anteroom import Client

WORKERS = ROOT / "examples/workers"
SECRET = "whsec_bm90IGEgc2VjcmV0LCBidXQgYW4gZXhhbXBsZQ=="
PULL = "[tasks.shout]\npull = true\n[tasks.later]\npull = true\n"


def test_the_lines_of_the_readme_are_those_of_the_file() -> None:
    block = (WORKERS / "README.md").read_text().split("```toml\n")[1].split("```")[0]
    assert block in (WORKERS / "anteroom.toml").read_text()
    assert SECRET in block


@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
def test_it_can_be_read_in_two_minutes(name: str) -> None:
    assert len((WORKERS / name).read_text().splitlines()) < 60


def node_or_skip(name: str) -> None:
    if name.endswith(".mjs") and shutil.which("node") is None:
        pytest.skip("there is no node")


@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@within_patience
async def test_a_worker_does_jobs_outlasts_a_restart_and_stops(
    tmp_path: Path, start: Callable[..., Program], name: str, number: int
) -> None:
    node_or_skip(name)
    server = Server(tmp_path, PULL)
    try:
        async with Client(server.url) as anteroom:
            worker = start(WORKERS / name, ANTEROOM_SERVER=server.url)
            assert await anteroom.call("shout", "hello") == "HELLO"
            assert await anteroom.call("shout", ["json"]) in ('["JSON"]', '["JSON"]'.encode())
            server.stop(signal.SIGKILL)
            await worker.line("trying again")
            server.start()
            assert await anteroom.call("shout", "again") == "AGAIN"
            assert await worker.end(number) == 0
            waiting = await anteroom.submit("shout", "later")
            assert waiting.state == "ready"
    finally:
        server.stop(signal.SIGKILL)


def patient_worker(folder: Path, name: str, end: str = "") -> Path:
    """The same worker, with a short lease, and work that takes until it is told to stop."""
    text = (WORKERS / name).read_text().replace("LEASE = 15", "LEASE = 1")
    if name == "worker.py":
        wait = f'    print("began", flush=True)\n    stop.wait()\n    {end}\n    return data'
        text = text.replace("    return data", wait)
    else:
        wait = 'await new Promise((done) => signal.addEventListener("abort", done))'
        text = text.replace("  return [data", f'  console.log("began");\n  {wait};\n  {end}\n  return [data')
    patient = folder / name
    patient.write_text(text)
    return patient


@pytest.mark.parametrize("end", ["", 'raise ValueError("no")'])
@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
@within_patience
async def test_a_worker_that_lost_a_lease_drops_the_job_and_does_others(
    tmp_path: Path, start: Callable[..., Program], name: str, end: str
) -> None:
    node_or_skip(name)
    server = Server(tmp_path, PULL)
    if name == "worker.mjs":
        end = end and 'throw new Error("no");'
    try:
        async with Client(server.url) as anteroom:
            worker = start(patient_worker(tmp_path, name, end), ANTEROOM_SERVER=server.url)
            late = await anteroom.submit("shout", "late", timeout=1, max_attempts=1)
            await worker.line("began")
            await worker.line("dropped")
            assert (await anteroom.job(late.id, wait=30)).state == "failed"
            await anteroom.submit("shout", "the next")
            await worker.line("began")
    finally:
        server.stop(signal.SIGKILL)


@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
@within_patience
async def test_a_worker_keeps_its_lease_and_hands_back_what_it_holds(
    tmp_path: Path, start: Callable[..., Program], name: str
) -> None:
    node_or_skip(name)
    server = Server(tmp_path, PULL)
    patient = patient_worker(tmp_path, name)
    try:
        async with Client(server.url) as anteroom:
            worker = start(patient, ANTEROOM_SERVER=server.url)
            job = await anteroom.submit("shout", "hello")
            await worker.line("began")
            # By the server's clock more than its lease has passed by then.
            await passed(anteroom, 3)
            held = await anteroom.job(job.id)
            assert (held.state, held.attempt) == ("running", 1)
            assert await worker.end(signal.SIGTERM) == 0
            held = await anteroom.job(job.id)
            assert (held.state, held.attempt) == ("ready", 0)

            # And once more, until the job is cancelled: a success that is reached is kept.
            worker = start(patient, ANTEROOM_SERVER=server.url)
            await worker.line("began")
            assert (await anteroom.cancel(job.id)).cancel_requested
            assert await anteroom.result(job.id, wait=30) == "HELLO"
    finally:
        server.stop(signal.SIGKILL)


@pytest.mark.parametrize("name", ["worker.py", "worker.mjs"])
@within_patience
async def test_a_worker_says_what_went_wrong(
    server: Server, tmp_path: Path, start: Callable[..., Program], name: str
) -> None:
    node_or_skip(name)
    broken = tmp_path / name
    text = (WORKERS / name).read_text().replace('"shout"', '"one"')
    raised = 'raise ValueError("no")' if name == "worker.py" else 'throw new Error("no")'
    broken.write_text(text.replace("    return data", f"    {raised}\n    return data", 1)
                      .replace("  return [data", f"  {raised};\n  return [data", 1))
    async with Client(server.url) as anteroom:
        worker = start(broken, ANTEROOM_SERVER=server.url)
        job = await anteroom.submit("one", "x", max_attempts=2)
        job = await anteroom.job(job.id, wait=30)
        assert (job.state, job.attempt) == ("failed", 2)
        assert job.error is not None and "no" in job.error.message
        assert await worker.end(signal.SIGTERM) == 0


def _signature(message: str, at: str, body: bytes) -> str:
    secret = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(secret, f"{message}.{at}.".encode() + body, hashlib.sha256).digest()
    return "v1," + base64.b64encode(digest).decode()


@within_patience
async def test_the_receiver_takes_what_is_signed_and_fresh_and_does_it_once(
    start: Callable[..., Program],
) -> None:
    receiver = start(WORKERS / "receiver.py", WEBHOOK_SECRET=SECRET, PORT="0")
    address = (await receiver.line("listening on http://")).removeprefix("listening on http://")
    now = int(time.time())

    def push(message: str, at: str, body: bytes, signature: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(address, timeout=10)
        headers = {
            "webhook-id": message,
            "webhook-timestamp": at,
            "webhook-signature": signature,
        }
        connection.request("POST", "/shout", body, headers)
        answer = connection.getresponse()
        status, text = answer.status, answer.read()
        connection.close()
        return status, text

    fresh = str(now)
    good = _signature("a", fresh, b"hello")
    assert push("a", fresh, b"hello", good) == (200, b"HELLO")
    assert push("a", fresh, b"hello", f"v1,other v2,x {good}") == (200, b"HELLO")
    assert push("a", fresh, b"hello!", good)[0] == 401
    assert push("b", fresh, b"hello", good)[0] == 401
    assert push("a", str(now - 1), b"hello", good)[0] == 401
    assert push("a", fresh, b"hello", "")[0] == 401
    assert push("a", "", b"hello", good)[0] == 401
    for late in (str(now - 330), str(now + 330)):
        assert push("c", late, b"x", _signature("c", late, b"x"))[0] == 401
    for in_time in (str(now - 270), str(now + 270)):
        assert push(f"d{in_time}", in_time, b"x", _signature(f"d{in_time}", in_time, b"x"))[0] == 200
    assert push("e", fresh, b"\xff", _signature("e", fresh, b"\xff"))[0] == 500
    await receiver.end(signal.SIGTERM)
    assert receiver.printed.count("done: a") == 1


@within_patience
async def test_the_receiver_does_what_the_server_pushes(
    tmp_path: Path, start: Callable[..., Program]
) -> None:
    receiver = start(WORKERS / "receiver.py", WEBHOOK_SECRET=SECRET, PORT="0")
    url = (await receiver.line("listening on ")).removeprefix("listening on ")
    configuration = (
        f'[tasks.shout]\npush = "{url}/shout"\n[webhooks]\nsecrets = ["{SECRET}"]\n'
    )
    (tmp_path / "anteroom.toml").write_text(configuration)
    checked = subprocess.run(
        [BINARY, "check", "--config", "anteroom.toml"], cwd=tmp_path, capture_output=True, text=True
    )
    if checked.returncode != 0:
        pytest.skip(f"this server does not push: {checked.stderr}")
    server = Server(tmp_path, configuration)
    try:
        async with Client(server.url) as anteroom:
            assert await anteroom.call("shout", "hello") == "HELLO"
        await receiver.line("done: ")
    finally:
        server.stop(signal.SIGKILL)
