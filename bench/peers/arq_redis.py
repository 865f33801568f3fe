"""arq on Redis: jobs enqueued one by one, and one worker in a process of its own, which keeps the result
of each job."""

import asyncio
import importlib.metadata
import logging
import os
import sys

from arq import create_pool
from arq.connections import RedisSettings
from arq.worker import Worker

from orders import INPUT, RESULT, obey

# By itself 10, and half a second.
JOBS_MAX = 200
POLL_SECONDS = 0.01
# Between two looks for a result; by itself half a second, too.
RESULT_POLL_SECONDS = 0.001


async def noop(_, input):
    return RESULT


def settings(place):
    host, port = place.split(":")
    return RedisSettings(host=host, port=int(port))


class Arq:
    version = importlib.metadata.version("arq")

    def __init__(self, redis, worker):
        self.redis = redis
        self.worker = worker

    async def single(self):
        return await self.redis.enqueue_job("noop", INPUT)

    async def result(self, job):
        await job.result(timeout=30, poll_delay=RESULT_POLL_SECONDS)

    async def until(self, jobs):
        while await self.redis.zcard("arq:queue"):
            await asyncio.sleep(POLL_SECONDS)
        # Those at last are under way.
        while await self.results() < jobs:
            await asyncio.sleep(POLL_SECONDS)

    async def results(self):
        return len([key async for key in self.redis.scan_iter("arq:result:*", count=10_000)])

    async def check(self, jobs):
        results = await self.results()
        if results != jobs:
            raise AssertionError(f"{results} jobs have a result, not {jobs}")

    async def end(self):
        self.worker.terminate()
        await self.worker.wait()


async def start(place):
    redis = await create_pool(settings(place))
    worker = await asyncio.create_subprocess_exec(
        sys.executable, os.path.abspath(__file__), "worker", place, stdin=asyncio.subprocess.DEVNULL
    )
    return Arq(redis, worker)


if sys.argv[1:2] == ["worker"]:
    # It says that it was told to end, and each job besides.
    logging.disable(logging.CRITICAL)
    Worker([noop], redis_settings=settings(sys.argv[2]), max_jobs=JOBS_MAX, poll_delay=POLL_SECONDS).run()
else:
    asyncio.run(obey(start))
