/** A process that runs the pipeline on a store, and says when it begins: `pipeline_process.ts <store>`. */

import { openDevice } from "../../lib/device/open_device.ts";
import { openFlow } from "../../lib/flow/flow.ts";
import { pipeline } from "./pipeline.ts";

using device = await openDevice({ kind: "cpu" });
using flow = await openFlow({ device, store: Deno.args[0], onWarning: (sentence) => console.log(`warning: ${sentence}`) });
const { small } = await pipeline(flow, { name: "tiny-mixtral", sequences: 2, length: 16 });
console.log("ready");
await flow.run(small, { upstream: true });
