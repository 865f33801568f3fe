"""A web server with slow work, in one process: routes, a queue, workers, and results by id."""

import asyncio
import os
import uuid

from aiohttp import web

WORKERS = 3
QUEUE = web.AppKey("queue", asyncio.Queue[tuple[str, str]])
RESULTS = web.AppKey("results", dict[str, str | None])


async def slow_work(text: str) -> str:
    await asyncio.sleep(float(os.environ.get("SECONDS_OF_WORK", "1")))
    return text.upper()


async def submit(request: web.Request) -> web.Response:
    """Hands work in: 202 and an id."""
    job_id = str(uuid.uuid4())
    request.app[RESULTS][job_id] = None
    await request.app[QUEUE].put((job_id, await request.text()))
    return web.json_response({"id": job_id}, status=202)


async def result(request: web.Request) -> web.Response:
    """The result under an id: 200 once it is there, 202 until then."""
    job_id = request.match_info["id"]
    if job_id not in request.app[RESULTS]:
        raise web.HTTPNotFound(text="no such job\n")
    text = request.app[RESULTS][job_id]
    if text is None:
        return web.json_response({"id": job_id}, status=202)
    return web.Response(text=text)


async def worker(app: web.Application) -> None:
    while True:
        job_id, text = await app[QUEUE].get()
        try:
            app[RESULTS][job_id] = await slow_work(text)
        finally:
            app[QUEUE].task_done()


async def workers(app: web.Application):
    """Starts the workers with the server; on Ctrl-C they finish what is queued, and end."""
    tasks = [asyncio.create_task(worker(app)) for _ in range(WORKERS)]
    yield
    await app[QUEUE].join()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


app = web.Application()
app[QUEUE] = asyncio.Queue()
app[RESULTS] = {}
app.add_routes([web.post("/jobs", submit), web.get("/results/{id}", result)])
app.cleanup_ctx.append(workers)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
