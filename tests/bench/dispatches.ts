/**
 * What a layer asks of a GPU, a step: `deno run -A tests/bench/dispatches.ts [--only SHAPE] [--kernels] [--adapter]`
 *
 * Layers have their real widths; nothing runs, so no GPU is needed. Bytes moved are the operands of all commands, each once: what the memory moves at least.
 * `--kernels` lists kernels, `--adapter` cuts bindings as this machine's GPU asks for (a software rasteriser binds 128 MiB), not as a large one does.
 */

import { parseArgs } from "node:util";
import { markdownTable } from "npm:markdown-table@3.0.4";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import { countSteps, SHAPES } from "./counted_steps.ts";

const { values: options } = parseArgs({
  options: { only: { type: "string" }, kernels: { type: "boolean" }, adapter: { type: "boolean" } },
});
const adapter = options.adapter ? await requestAdapter() : undefined;
if (adapter === null) throw new Error("Cannot cut bindings as this machine's GPU asks for: it has none");
const tokens = 4096, loraTokens = 1024, rows: string[][] = [];
for (const [shape, config] of Object.entries(SHAPES)) {
  if (options.only && options.only !== shape) continue;
  for (const [step, counts] of Object.entries(await countSteps(config, { tokens, loraTokens, limits: adapter?.limits }))) {
    const per = step === "LoRA step" ? loraTokens : tokens,
      kilobytes = (bytes: number) => (bytes / per / 1000).toFixed(bytes / per < 1e4 ? 2 : 0);
    const { dispatches, passes, submissions, copies, uploaded, downloaded, moved } = counts;
    rows.push([
      `${step}, ${shape}`,
      ...[per, dispatches, passes, submissions, copies].map(String),
      ...[moved, uploaded, downloaded].map(kilobytes),
    ]);
    if (!options.kernels) continue;
    for (const [kernel, { dispatches, moved }] of Object.entries(counts.kernels).sort(([, a], [, b]) => b.moved - a.moved)) {
      rows.push([`· ${kernel}`, "", String(dispatches), "", "", "", kilobytes(moved), "", ""]);
    }
  }
}
const head = ["step, a layer", "tokens", "dispatches", "passes", "submissions", "copies", "moved, kB a token", "up", "down"];
console.log(markdownTable([head, ...rows], { align: ["l", ...Array(8).fill("r")] }));
