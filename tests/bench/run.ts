/**
 * Measures the heavy steps, beside the PyTorch programs of a folder of peers where one is given:
 *
 *     deno task bench [--scale small|full] [--device cpu|webgpu] [--repeat N] [--only WORD] [--peers FOLDER --python PYTHON [--threads N]]
 *
 * Peers and Winnow take turns, so that a machine whose speed drifts treats them alike. Times are medians; a ratio above 1 means that Winnow is faster.
 */

import { parseArgs } from "node:util";
import { markdownTable } from "npm:markdown-table@3.0.4";
import { openDevice } from "../../mod.ts";
import { writeRandomCheckpoint } from "../numbers.ts";
import { qwenShape } from "./qwen_shape.ts";
import { calibration, forward, importance, type LayerName, loraStep, type Measured, type Scale, search, svd } from "./workloads.ts";

const { values: options } = parseArgs({
  options: {
    scale: { type: "string", default: "small" },
    device: { type: "string" },
    repeat: { type: "string", default: "3" },
    only: { type: "string" },
    peers: { type: "string" },
    python: { type: "string", default: "python3" },
    threads: { type: "string", default: String(navigator.hardwareConcurrency) },
  },
});
const scale = options.scale as Scale, repeat = Number(options.repeat);
if (scale !== "small" && scale !== "full") throw new Error(`Cannot measure at scale "${scale}": choose "small" or "full"`);
using device = await openDevice({ kind: options.device as "cpu" | "webgpu" | undefined });
console.log(`Device: ${device.name}. Scale: ${scale}. Median of ${repeat} runs.\n`);

const folder = await Deno.makeTempDir();
async function checkpoint(layers = 2): Promise<string> {
  const config = scale === "full" ? qwenShape(layers, 8192) : {
    ...qwenShape(layers, 1024),
    ...{ hidden_size: 256, num_attention_heads: 4, num_key_value_heads: 4, moe_intermediate_size: 176, num_experts: 16 },
    ...{ shared_expert_intermediate_size: 704, intermediate_size: 704 },
  };
  await writeRandomCheckpoint(`${folder}/model`, config, { shardBytes: 2e9 });
  return `${folder}/model`;
}

interface Case {
  name: string;
  unit: string;
  peers: { program: string; flags: string[]; names: string[] };
  run: () => Promise<Measured>;
}

const shapes: LayerName[] = ["qwen", "deepseek", ...(scale === "full" ? [] : ["mixtral" as const])];
const cases: Case[] = [
  ...shapes.map((shape): Case => ({
    name: `search, ${shape}`,
    unit: "candidate",
    peers: { program: "search", flags: ["--shape", shape], names: scale === "full" ? ["gram"] : ["literal", "cached", "gram"] },
    run: () => search(device, shape, scale, repeat),
  })),
  ...shapes.map((shape): Case => ({
    name: `importance, ${shape}`,
    unit: "layer",
    peers: { program: "importance", flags: ["--shape", shape], names: scale === "full" ? ["gram"] : ["routed", "gram"] },
    run: () => importance(device, shape, scale, repeat),
  })),
  ...(["decaying", "flat"] as const).map((spectrum): Case => ({
    name: `SVD, ${spectrum}`,
    unit: "matrix",
    peers: { program: "svd", flags: ["--spectrum", spectrum], names: ["full", "lowrank-4", "gram"] },
    run: () => svd(device, spectrum, scale, repeat),
  })),
  {
    name: "calibration pass, 2 layers",
    unit: "walk",
    peers: { program: "calibrate_scale", flags: ["--layers", "2"], names: ["walk", "whole"] },
    run: async () => calibration(device, await checkpoint(), repeat),
  },
  ...(scale === "small"
    ? [{
      name: "prefill, 2 layers",
      unit: "prefill",
      peers: { program: "forward", flags: [], names: ["eager", "grouped"] },
      run: async () => forward(device, await checkpoint(), 2, 64, repeat),
    }, {
      name: "LoRA step, 4 layers",
      unit: "step",
      peers: { program: "lora_step", flags: [], names: ["loop", "merged", "grouped"] },
      run: async () => loraStep(device, await checkpoint(4), repeat),
    }]
    : []),
];

const median = (values: number[]) => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
const show = (seconds: number) =>
  seconds < 1e-3 ? `${(seconds * 1e6).toFixed(0)} µs` : seconds < 1 ? `${(seconds * 1e3).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;

/** Runs a peer once and reads its line of JSON. */
async function peer({ program, flags }: Case["peers"], name: string): Promise<{ seconds: number; check: number }> {
  const args = [
    `${options.peers}/${program}.py`,
    "--peer",
    name,
    "--scale",
    scale,
    "--threads",
    options.threads,
    "--repeat",
    String(repeat),
    ...flags,
  ];
  const { code, stdout, stderr } = await new Deno.Command(options.python, { args, env: { PEER_CACHE: `${folder}/peers` } }).output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr).trim().split("\n").at(-1));
  const { seconds, check } = JSON.parse(new TextDecoder().decode(stdout));
  return { seconds, check: Array.isArray(check) ? check.reduce((a: number, b: number) => a + b) : check };
}

const rows = [["step", "a", "Winnow", "peer", "its time", "ratio", "check", "its check"]];
try {
  for (const { name, unit, peers, run } of cases) {
    if (options.only && !name.includes(options.only)) continue;
    const { seconds, check, setup } = await run(),
      ours = median(seconds),
      own = [name, unit, show(ours) + (setup ? ` (+ ${show(setup)} once)` : "")];
    console.error(own.join("  "));
    if (!options.peers) rows.push([...own, "", "", "", check.toPrecision(7), ""]);
    else {
      for (const other of peers.names) {
        const theirs = await peer(peers, other);
        rows.push([
          ...own,
          other,
          show(theirs.seconds),
          (theirs.seconds / ours).toFixed(2),
          check.toPrecision(7),
          theirs.check.toPrecision(7),
        ]);
      }
    }
    await Deno.remove(`${folder}/model`, { recursive: true }).catch(() => {});
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
console.log(markdownTable(rows, { align: ["l", "l", "r", "l", "r", "r", "r", "r"] }));
