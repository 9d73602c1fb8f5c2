/** A process that runs a chain of stages on a store that others write to, too: `writer.ts <store>`. */

import { openDevice } from "../../lib/device/open_device.ts";
import { openFlow } from "../../lib/flow/flow.ts";
import { part } from "../../lib/model/stage_options.ts";

using device = await openDevice({ kind: "cpu" });
using flow = await openFlow({ device, store: Deno.args[0] });
const numbers = flow.stage("numbers", {
  version: 1,
  run: async (_, __, context) => {
    await Deno.writeTextFile(`${Deno.args[0]}/../computed`, "numbers\n", { append: true });
    const parts: Float64Array[] = [];
    for (let i = 0; i < 5; i++) parts.push(await part(context, `part ${i}`, () => new Float64Array(1000).fill(i)));
    return parts;
  },
});
const sums = flow.stage("sums", {
  version: 1,
  inputs: { numbers },
  run: async ({ numbers }) => {
    await Deno.writeTextFile(`${Deno.args[0]}/../computed`, "sums\n", { append: true });
    return numbers.map((values) => values.reduce((a, b) => a + b, 0));
  },
});
console.log(JSON.stringify(await flow.run(sums, { upstream: true })));
