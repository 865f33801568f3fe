// graphile-worker with what its page on performance names: jobs added in bulk, a local queue, and
// completions in batches. It keeps no results: a job that is done is gone.

import { Logger, makeWorkerUtils, run } from "graphile-worker";
import pg from "pg";
import { setTimeout as sleep } from "node:timers/promises";
import { INPUT, RESULT, obey, version } from "./orders.mjs";

const CONCURRENT_JOBS = 24;
const JOBS = "graphile_worker._private_jobs";

await obey(async (connectionString) => {
  const pgPool = new pg.Pool({ connectionString, max: CONCURRENT_JOBS + 8 });
  const fail = (error) => {
    throw error;
  };
  pgPool.on("error", fail);
  pgPool.on("connect", (client) => client.on("error", fail));
  const logger = new Logger(() => () => {});
  const worker = {
    concurrentJobs: CONCURRENT_JOBS,
    localQueue: { size: 500 },
    completeJobBatchDelay: 0,
    failJobBatchDelay: 0,
  };
  const preset = { worker };
  const utils = await makeWorkerUtils({ pgPool, logger, preset });
  await utils.migrate();
  const left = async () => (await pgPool.query(`select exists (select from ${JOBS}) as left`)).rows[0].left;
  return {
    version: version("graphile-worker"),
    submit: (count) => utils.addJobs(Array.from({ length: count }, () => ({ identifier: "noop", payload: INPUT }))),
    single: () => utils.addJob("noop", INPUT),
    async work(done) {
      const noop = async () => {
        done(1);
        return RESULT;
      };
      await run({ preset, pgPool, taskList: { noop }, logger, noHandleSignals: true });
    },
    async settle() {
      while (await left()) await sleep(2);
    },
    async check() {
      if (await left()) throw new Error("jobs are left over");
    },
  };
});
