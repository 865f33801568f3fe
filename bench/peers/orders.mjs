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
 * Is a contender until its input ends: `start(url)` returns what it can do.
 *
 * - `version`
 * - `submit(count)` submits so many jobs at once, `single()` one
 * - `work(done)` runs jobs from here on, and says to `done` how many more are
 * - `idle()` waits for jobs as an application does, where `work` is in more of a hurry
 * - `settle()` waits until nothing is left over
 * - `check(jobs)` looks whether so many were done
 */
export async function obey(start) {
  const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
  const queue = await start((await lines.next()).value);
  console.log(`ready ${queue.version}`);
  for (let line = await lines.next(); !line.done; line = await lines.next()) {
    const [order, ...words] = line.value.split(" ");
    const begun = performance.now();
    const { jobs, check } = await orders[order](queue, ...words);
    console.log(`done ${jobs} ${(performance.now() - begun) / 1000}`);
    await check?.();
    console.log("well");
  }
  process.exit(0);
}

const orders = {
  async submit(queue, jobs, batch) {
    await submitAll(queue, Number(jobs), Number(batch), () => true);
    return { jobs: Number(jobs) };
  },

  async single(queue, jobs, connections) {
    let left = Number(jobs);
    const submit = async () => {
      while (left-- > 0) await queue.single();
    };
    await Promise.all(Array.from({ length: Number(connections) }, submit));
    return { jobs: Number(jobs) };
  },

  async life(queue, jobs, batch, seconds, left) {
    const limit = performance.now() + Number(seconds) * 1000;
    const mayGoOn = () => performance.now() < limit;
    let done = 0;
    await queue.work((more) => (done += more));
    const submitted = submitAll(queue, Number(jobs), Number(batch), mayGoOn);
    while (done < Number(jobs) && mayGoOn()) await sleep(2);
    const isWhole = left === "empty" && mayGoOn();
    if (isWhole) {
      await submitted;
      await queue.settle();
    }
    return { jobs: done, check: isWhole ? () => queue.check(done) : undefined };
  },

  async idle(queue) {
    await (queue.idle ?? queue.work)(() => {});
    return { jobs: 0 };
  },
};

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
