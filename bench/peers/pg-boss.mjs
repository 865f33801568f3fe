// pg-boss with jobs inserted in bulk, and loops of its own that fetch and complete them in batches: the
// fastest that its interface has. A batch shares one result.

import { PgBoss } from "pg-boss";
import pg from "pg";
import { setTimeout as sleep } from "node:timers/promises";
import { INPUT, RESULT, obey, version } from "./orders.mjs";

const LOOPS = 4;
const FETCHED_MAX = 500;
const QUEUE = "noop";

await obey(async (connectionString) => {
  const boss = new PgBoss({ connectionString, max: 24, useListenNotify: true });
  boss.on("error", (error) => {
    throw error;
  });
  await boss.start();
  await boss.createQueue(QUEUE, { notify: true });
  const payload = { data: { input: INPUT } };
  return {
    version: version("pg-boss"),
    submit: (count) => boss.insert(QUEUE, Array.from({ length: count }, () => payload)),
    single: () => boss.send(QUEUE, payload.data),
    async work(done) {
      for (let loop = 0; loop < LOOPS; loop++) forEver(done);
    },
    idle: () => boss.work(QUEUE, { batchSize: FETCHED_MAX }, async () => RESULT),
    async settle() {},
    async check(jobs) {
      const client = new pg.Client({ connectionString });
      await client.connect();
      const asked = "select count(*)::int as done from pgboss.job where name = $1 and state = 'completed'";
      const { done } = (await client.query(asked, [QUEUE])).rows[0];
      await client.end();
      if (done !== jobs) throw new Error(`${done} jobs are done, not ${jobs}`);
    },
  };

  async function forEver(done) {
    for (;;) {
      const jobs = await boss.fetch(QUEUE, { batchSize: FETCHED_MAX });
      if (jobs.length === 0) {
        await sleep(3);
        continue;
      }
      await boss.complete(QUEUE, jobs.map((job) => job.id), RESULT);
      done(jobs.length);
    }
  }
});
