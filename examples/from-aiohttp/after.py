"""The same web server, with its queue and its results in Anteroom."""

import asyncio
import os

from aiohttp import web
from anteroom import Client, JobFailed, LeasedJob, NotDone, UnknownJob, Worker

WORKERS = 3
SERVER = os.environ.get("ANTEROOM_SERVER", "http://127.0.0.1:8080")
ANTEROOM = web.AppKey("anteroom", Client)

worker = Worker(SERVER, concurrency=WORKERS)


@worker.task("slow-work")
async def slow_work(job: LeasedJob) -> str:
    await asyncio.sleep(float(os.environ.get("SECONDS_OF_WORK", "1")))
    return job.input.upper()


async def submit(request: web.Request) -> web.Response:
    """Hands work in: 202 and an id, once it is on disk."""
    job = await request.app[ANTEROOM].submit("slow-work", await request.text())
    return web.json_response({"id": job.id}, status=202)


async def result(request: web.Request) -> web.Response:
    """The result under an id: 200 once it is there, 202 until then."""
    job_id = request.match_info["id"]
    try:
        return web.Response(text=await request.app[ANTEROOM].result(job_id))
    except NotDone:
        return web.json_response({"id": job_id}, status=202)
    except UnknownJob:
        raise web.HTTPNotFound(text="no such job\n")
    except JobFailed as error:
        raise web.HTTPBadGateway(text=f"{error.message}\n")


async def anteroom(app: web.Application):
    """Connects with the server, and runs the workers; on Ctrl-C they finish what they began."""
    async with Client(SERVER) as app[ANTEROOM]:
        serving = asyncio.create_task(worker.serve())
        yield
        worker.stop()
        await serving


app = web.Application()
app.add_routes([web.post("/jobs", submit), web.get("/results/{id}", result)])
app.cleanup_ctx.append(anteroom)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
