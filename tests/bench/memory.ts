/**
 * Peak memory of calibrating and scoring a checkpoint: `deno run -A tests/bench/memory.ts FOLDER [SEQUENCES LENGTH]`.
 *
 * Prints seconds, and the process's peak resident memory (VmHWM, Linux) after each stage.
 */

import { calibrate, leaveOneOut, openDevice, openModel, pruneExperts, pruningBudget } from "../../mod.ts";
import { tokenIds } from "../numbers.ts";

const [folder, sequences = "16", length = "256"] = Deno.args;
if (!folder) throw new Error("Usage: deno run -A tests/bench/memory.ts FOLDER [SEQUENCES LENGTH]");

async function report(stage: string, start: number): Promise<void> {
  const peak = (await Deno.readTextFile("/proc/self/status")).match(/VmHWM:\s+(\d+) kB/)![1];
  console.log(`${stage}: ${((performance.now() - start) / 1000).toFixed(1)} s, VmHWM ${(Number(peak) * 1024 / 1e9).toFixed(3)} GB`);
}

let start = performance.now();
using device = await openDevice();
const model = await openModel(folder);
console.log(`${device.name}; ${(model.checkpoint.bytes / 1e9).toFixed(2)} GB of weights in ${model.layers.length} layers`);
await report("open", start);

const tokens = Array.from(
  { length: Number(sequences) },
  (_, i) => tokenIds(`calibrate.tokens.${i}`, Number(length), model.config.vocabulary),
);
start = performance.now();
using trace = await calibrate(device, model, tokens);
await report("calibrate", start);
start = performance.now();
const scores = await leaveOneOut(device, model, trace);
await report("leave-one-out", start);

// A view costs nothing.
start = performance.now();
pruneExperts(model, {
  layers: pruningBudget(scores).layers.map(({ layer, drop }) => ({ layer, drop: Array.from({ length: drop }, (_, e) => e) })),
});
await report("prune", start);
