// The side of a contender that runs on Node.js: it is told orders on its standard input and says on
// its standard output what it has done. `bench/src/order.rs` says which there are.

import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

/** Submits at once of an order that has many in each: one thread serves them all. */
const SUBMITTERS = 2;
/** Bytes of an input and of a result, as those of Anteroom are. */
export const INPUT = "x".repeat(198);
export const RESULT = { ok: true, note: "a result of about a hundred bytes, as a small answer of a real task is; no more" };

/** Returns the version of a package that is installed here. */
export function version(name) {
  const file = new URL(`node_modules/${name}/package.json`, import.meta.url);
  return JSON.parse(readFileSync(file, "utf8")).version;
}

/**
 * Is a contender until its input ends: `start(place)` returns what it can do.
 *
 * - `version`
 * - `submit(count)` submits so many jobs at once, `single()` one
 * - `result(submitted)` waits for the result of what `single` returned; where it is missing, one counts
 *   as there as soon as a job more is done. `beforeLatency()` and `afterLatency()` do what it needs
 * - `work(done)` runs jobs from here on, and says to `done` how many more are
 * - `idle()` waits for jobs as an application does, where `work` is in more of a hurry
 * - `settle()` waits until nothing is left over
 * - `check(jobs)` looks whether so many were done, since the start
 */
export async function obey(start) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const queue = await start((await lines.next()).value);
  const jobs = new Jobs(queue);
  console.log(`ready ${queue.version}`);
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const [order, ...words] = line.value.split(" ");
    const begun = performance.now();
    const { done, times, check } = await orders[order](queue, jobs, ...words);
    const seconds = (performance.now() - begun) / 1000;
    console.log(["done", done, seconds, ...(times ?? [])].join(" "));
    await check?.();
    console.log("well");
  }
  process.exit(0);
}

/** How many jobs are done since the start, and who waits for more. */
class Jobs {
  done = 0;
  #queue;
  #working;
  #waiting;

  constructor(queue) {
    this.#queue = queue;
  }

  /** Has jobs run from here on. */
  work() {
    this.#working ??= this.#queue.work((more) => {
      this.done += more;
      if (this.#waiting && this.done >= this.#waiting.jobs) {
        this.#waiting.tell();
        this.#waiting = undefined;
      }
    });
    return this.#working;
  }

  /** Waits until so many are done. */
  async until(jobs) {
    if (this.done < jobs) await new Promise((tell) => (this.#waiting = { jobs, tell }));
  }
}

const orders = {
  async submit(queue, _, jobs, batch) {
    await submitAll(queue, Number(jobs), Number(batch), () => true);
    return { done: jobs };
  },

  async single(queue, _, jobs, connections) {
    await submitEach(queue, Number(jobs), Number(connections));
    return { done: jobs };
  },

  async each(queue, all, jobs, connections) {
    await all.work();
    const expected = all.done + Number(jobs);
    await submitEach(queue, Number(jobs), Number(connections));
    await all.until(expected);
    await queue.settle();
    return { done: jobs, check: () => queue.check(expected) };
  },

  async life(queue, all, jobs, batch, seconds, left) {
    const limit = performance.now() + Number(seconds) * 1000;
    const mayGoOn = () => performance.now() < limit;
    await all.work();
    const before = all.done;
    const submitted = submitAll(queue, Number(jobs), Number(batch), mayGoOn);
    while (all.done - before < Number(jobs) && mayGoOn()) await sleep(2);
    const isWhole = left === "empty" && mayGoOn();
    if (isWhole) {
      await submitted;
      await queue.settle();
    }
    const done = all.done;
    return { done: done - before, check: isWhole ? () => queue.check(done) : undefined };
  },

  async latency(queue, all, jobs) {
    await all.work();
    await queue.beforeLatency?.();
    const submits = [];
    const results = [];
    const before = all.done;
    for (let job = 1; job <= Number(jobs); job++) {
      const begun = performance.now();
      const submitted = await queue.single();
      submits.push(performance.now() - begun);
      if (queue.result) await queue.result(submitted);
      else await all.until(before + job);
      results.push(performance.now() - begun);
    }
    await all.until(before + Number(jobs));
    await queue.afterLatency?.();
    return { done: jobs, times: [...quantiles(submits), ...quantiles(results)] };
  },

  async idle(queue, all) {
    if (queue.idle) await queue.idle(() => {});
    else await all.work();
    return { done: 0 };
  },
};

/** Returns p50 and p99. */
function quantiles(times) {
  times.sort((a, b) => a - b);
  return [0.5, 0.99].map((share) => times[Math.min(times.length - 1, Math.floor(times.length * share))].toFixed(4));
}

async function submitEach(queue, jobs, connections) {
  let left = jobs;
  const submit = async () => {
    while (left-- > 0) await queue.single();
  };
  await Promise.all(Array.from({ length: connections }, submit));
}

async function submitAll(queue, jobs, batch, mayGoOn) {
  let left = jobs;
  const submit = async () => {
    while (left > 0 && mayGoOn()) {
      const count = Math.min(batch, left);
      left -= count;
      await queue.submit(count);
    }
  };
  await Promise.all(Array.from({ length: SUBMITTERS }, submit));
}
