"""The side of a contender that runs on Python: it is told orders on its standard input and says on its
standard output what it has done. `bench/src/order.rs` says which there are.
"""

import asyncio
import sys
import time

# As those of Anteroom are: 200 bytes and about 100.
INPUT = "x" * 198
RESULT = {"ok": True, "note": "a result of about a hundred bytes, as a small answer of a real task is; no more"}


async def obey(start):
    """Is a contender until its input ends: `start(place)` returns what it can do.

    - `version`
    - `single()` submits a job, and `result(submitted)` waits for its result
    - `until(jobs)` waits until so many are done, since the start
    - `check(jobs)` looks whether so many have their result, since the start
    - `end()` ends what it has started
    """
    queue = await start(await line())
    done = 0
    print(f"ready {queue.version}", flush=True)
    try:
        while order := await line():
            begun = time.perf_counter()
            word, *numbers = order.split()
            if word == "each":
                jobs, connections = map(int, numbers)
                await each(queue, jobs, connections)
                await queue.until(done + jobs)
                times = ()
            elif word == "latency":
                (jobs,) = map(int, numbers)
                times = await latency(queue, jobs)
            else:
                raise ValueError(f"{order!r} is no order for this contender")
            done += jobs
            print("done", jobs, time.perf_counter() - begun, *times, flush=True)
            await queue.check(done)
            print("well", flush=True)
    finally:
        await queue.end()


async def line():
    """Returns the next line; none at the end."""
    return (await asyncio.to_thread(sys.stdin.readline)).strip()


async def each(queue, jobs, connections):
    left = iter(range(jobs))

    async def submit():
        for _ in left:
            await queue.single()

    await asyncio.gather(*(submit() for _ in range(connections)))


async def latency(queue, jobs):
    submits, results = [], []
    for _ in range(jobs):
        begun = time.perf_counter()
        submitted = await queue.single()
        submits.append(time.perf_counter() - begun)
        await queue.result(submitted)
        results.append(time.perf_counter() - begun)
    return [*quantiles(submits), *quantiles(results)]


def quantiles(times):
    """Returns p50 and p99, in milliseconds."""
    times.sort()
    return [times[min(len(times) - 1, int(len(times) * share))] * 1000 for share in (0.5, 0.99)]
