// BullMQ: jobs added in bulk or one by one, and one worker in the same process, which keeps the result of
// each job with it.

import { Queue, QueueEvents, Worker } from "bullmq";
import { setTimeout as sleep } from "node:timers/promises";
import { INPUT, RESULT, obey, version } from "./orders.mjs";

const CONCURRENCY = 100;
const QUEUE = "noop";

await obey(async (place) => {
  const [host, port] = place.split(":");
  const connection = { host, port: Number(port), maxRetriesPerRequest: null };
  const queue = new Queue(QUEUE, { connection });
  const fail = (error) => {
    throw error;
  };
  queue.on("error", fail);
  await queue.waitUntilReady();
  let events;
  const counts = () => queue.getJobCounts("completed", "waiting", "active", "failed");
  return {
    version: version("bullmq"),
    submit: (count) => queue.addBulk(Array.from({ length: count }, () => ({ name: "noop", data: INPUT }))),
    single: () => queue.add("noop", INPUT),
    async result(job) {
      await job.waitUntilFinished(events);
    },
    async beforeLatency() {
      events = new QueueEvents(QUEUE, { connection });
      events.on("error", fail);
      await events.waitUntilReady();
    },
    async afterLatency() {
      // Nobody listens where nobody waits.
      await events.close();
    },
    async work(done) {
      const worker = new Worker(QUEUE, async () => RESULT, { connection, concurrency: CONCURRENCY });
      worker.on("error", fail);
      worker.on("completed", () => done(1));
      await worker.waitUntilReady();
    },
    async settle() {
      while ((await counts()).active > 0) await sleep(2);
    },
    async check(jobs) {
      const { completed, waiting, active, failed } = await counts();
      if (completed !== jobs || waiting + active + failed > 0) {
        throw new Error(`${completed} jobs are done, not ${jobs}: ${waiting} wait, ${active} run, ${failed} failed`);
      }
    },
  };
});
