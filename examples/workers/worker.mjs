// A worker in plain JavaScript: leases up to four jobs at once, and makes their text louder.
import { setTimeout as pause } from "node:timers/promises";

const SERVER = process.env.ANTEROOM_SERVER ?? "http://127.0.0.1:8080";
const LEASE = 15; // seconds, after which another worker gets the job, unless the lease is extended
const stopping = new AbortController();

// The work. `signal` is aborted when it is of no use any more.
async function handle(job, data, signal) {
  return [data.toString().toUpperCase(), "text/plain; charset=utf-8"];
}

// Asks the server, again and again while it cannot be reached or is busy.
async function ask(path, body, { type = "application/json", wait = 0, signal } = {}) {
  const headers = { "content-type": type, prefer: `wait=${wait}` };
  for (let tries = 0; ; tries++) {
    let seconds = Math.min(0.1 * 2 ** tries, 5);
    const answer = await fetch(SERVER + path, { method: "POST", headers, body, signal }).catch((error) => {
      if (!signal?.aborted) console.log(`trying again: ${error.cause ?? error}`);
    });
    const text = await answer?.text().catch(() => undefined);
    if (answer?.ok && text !== undefined) return text && JSON.parse(text);
    if (answer?.status === 503) seconds = Number(answer.headers.get("retry-after") ?? 1);
    else if (answer?.ok === false) throw new Error(`${answer.status} ${text}`, { cause: answer.status });
    await pause(seconds * 1000, undefined, { signal });
  }
}

async function work({ lease, job, input, input_base64 }) {
  const path = `/v1/leases/${lease}`;
  const useless = new AbortController(); // the job was cancelled, or its lease was lost
  const heart = setInterval(() => {
    const held = ask(`${path}/extend`, JSON.stringify({ lease: `${LEASE}s` }));
    held.then((held) => held.cancel_requested && useless.abort(), () => useless.abort());
  }, (LEASE * 1000) / 3);
  const data = Buffer.from(input_base64 ?? JSON.stringify(input), input_base64 === undefined ? "utf8" : "base64");
  const failed = (error) => ["fail", JSON.stringify({ error: String(error) })];
  const handled = handle(job, data, useless.signal).then((result) => ["complete", ...result], failed);
  const [end, body, type] = await Promise.race([handled, stopped]);
  await ask(`${path}/${end}`, body, { type }).catch((error) => {
    console.log(`dropped: ${job.id}: ${error.message}`); // 409: another one has it
  });
  clearInterval(heart);
}

// What is under way then is handed back, which costs no attempt.
const stopped = new Promise((stop) => stopping.signal.addEventListener("abort", () => stop(["release"])));
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => stopping.abort());
const wanted = JSON.stringify({ tasks: ["shout"], max: 4, lease: `${LEASE}s` });
while (!stopping.signal.aborted) {
  const found = await ask("/v1/leases", wanted, { wait: 20, signal: stopping.signal })
    .catch((error) => { if (!stopping.signal.aborted) throw error; });
  await Promise.all((found?.leases ?? []).map(work));
}
