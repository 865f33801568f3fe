"""A worker in a process of its own, for tests that kill, pause and stop it.

Its handlers say on standard output what they do, and it says there what it logs.
"""

import logging
import sys

from anteroom import LeasedJob, Worker

logging.basicConfig(stream=sys.stdout, format="%(message)s", level="INFO")
worker = Worker(sys.argv[1], lease=float(sys.argv[2]), grace=float(sys.argv[3]), concurrency=1)


@worker.task("one")
def until_stopped(job: LeasedJob) -> str:
    print(f"began {job.id} {job.attempt}", flush=True)
    job.wait_for_stop()
    print(f"stopped {job.id}", flush=True)
    return "by the first"


@worker.task("two")
async def at_once(job: LeasedJob) -> str:
    print(f"began {job.id} {job.attempt}", flush=True)
    return str(job.input) + "!"


worker.run()
print("ended", flush=True)
