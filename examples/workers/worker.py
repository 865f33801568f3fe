"""A worker in plain Python: leases one job after the other, and makes its text louder."""
import base64, contextlib, http.client, itertools, json, os, signal, threading, time, urllib.error, urllib.request

SERVER = os.environ.get("ANTEROOM_SERVER", "http://127.0.0.1:8080")
LEASE = 15  # seconds, after which another worker gets the job, unless the lease is extended

def handle(job, data, stop):
    """The work. It may look at `stop` now and then: it is set when the work is of no use any more."""
    return data.decode().upper().encode(), "text/plain; charset=utf-8"

def ask(path, body=b"{}", kind="application/json", wait=0):
    """Asks the server, again and again while it cannot be reached or is busy."""
    request = urllib.request.Request(SERVER + path, body, {"Content-Type": kind, "Prefer": f"wait={wait}"})
    for tries in itertools.count():
        try:
            with urllib.request.urlopen(request, timeout=wait + 10) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != 503: raise
            pause = float(error.headers.get("Retry-After", 1))
        except (OSError, http.client.HTTPException) as error:
            print(f"trying again: {error}", flush=True)
            pause = min(0.1 * 2**tries, 5)
        time.sleep(pause)

def keep(lease, stop):
    """Extends a lease until told to stop, and tells to stop when the job was cancelled or lost."""
    while not stop.wait(LEASE / 3):
        with contextlib.suppress(urllib.error.HTTPError):
            if not ask(f"{lease}/extend", b'{"lease": "%ds"}' % LEASE)["cancel_requested"]:
                continue
        stop.set()

def work(leased):
    job, lease, stop = leased["job"], "/v1/leases/" + leased["lease"], threading.Event()
    threading.Thread(target=keep, args=(lease, stop), daemon=True).start()
    is_json = "input" in leased  # anything else is base64
    data = json.dumps(leased["input"]).encode() if is_json else base64.b64decode(leased["input_base64"])
    try:
        try:
            end, body, kind = "complete", *handle(job, data, stop)
        except Exception as error:
            end, body, kind = "fail", json.dumps({"error": repr(error)}).encode(), "application/json"
        ask(f"{lease}/{end}", body, kind)
    except urllib.error.HTTPError as error:  # 409: the lease was lost, and another one has the job
        print(f"dropped: {job['id']}: {error}", flush=True)
    except SystemExit:
        with contextlib.suppress(urllib.error.HTTPError):
            ask(f"{lease}/release")  # handed back, which costs no attempt
        raise
    finally:
        stop.set()

for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda *_: exit(0))  # raises SystemExit, wherever the program is
while True:
    found = ask("/v1/leases", b'{"tasks": ["shout"], "lease": "%ds"}' % LEASE, wait=20)  # None: no job
    for leased in found["leases"] if found else []:
        work(leased)
