// A service of Restate with one handler that returns at once. It says on its standard output where it
// listens, and ends when its standard input does.

import { createServer } from "node:http2";
import * as restate from "@restatedev/restate-sdk";
import { RESULT } from "./orders.mjs";

const service = restate.service({ name: "Bench", handlers: { noop: async () => RESULT } });
const server = createServer(restate.createEndpointHandler({ services: [service] }));
server.listen(0, "127.0.0.1", () => console.log(`listening on http://127.0.0.1:${server.address().port}`));
process.stdin.resume();
process.stdin.on("end", () => process.exit(0));
