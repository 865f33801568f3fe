"""The small pattern: a web server, a queue that its routes share, workers, results by id.

It keeps everything in memory. It says on its standard output where it listens, and ends when its
standard input does.
"""

import asyncio
import sys
import uuid

from aiohttp import web

WORKERS = 4
RESULT = {"ok": True, "note": "a result of about a hundred bytes, as a small answer of a real task is; no more"}

results = {}
queue = asyncio.Queue()


async def submit(request):
    job = {"id": uuid.uuid4().hex, "input": await request.json()}
    await queue.put(job)
    return web.json_response({"id": job["id"]}, status=202)


async def read(request):
    id = request.match_info["id"]
    if id not in results:
        return web.json_response({"id": id, "state": "waiting"}, status=404)
    return web.json_response({"id": id, "state": "done", "result": results[id]})


async def work():
    while True:
        job = await queue.get()
        results[job["id"]] = RESULT
        queue.task_done()


async def main():
    app = web.Application()
    app.router.add_post("/", submit)
    app.router.add_get("/{id}", read)
    workers = [asyncio.create_task(work()) for _ in range(WORKERS)]
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    print(f"listening on http://{host}:{port}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await runner.cleanup()
    for worker in workers:
        worker.cancel()


asyncio.run(main())
