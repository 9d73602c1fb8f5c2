/**
 * One process of `memory.ts`: calibrates the first layers of a checkpoint and prints a line of JSON, `Calibrated`.
 *
 *     deno run -A tests/bench/calibrate_once.ts FOLDER --depth N [--sequences 16] [--length 256] [--device cpu] [--prefetch off] [--score]
 */

import { parseArgs } from "node:util";
import type { Source } from "../../lib/checkpoint/source.ts";
import { calibrate, leaveOneOut, openDevice, openModel } from "../../mod.ts";
import { tokenIds } from "../numbers.ts";

export interface Calibrated {
  device: string;
  /** Of the weights of the layers. */
  bytes: number;
  /** Of the calibration, and of the part of it in which weights were being read. */
  seconds: number;
  reading: number;
  /** Seconds of scoring; absent where it was not asked for. */
  scoring?: number;
  /** Most bytes that the process held (VmHWM), so far: when the model is open, after calibrating, after scoring. */
  peaks: number[];
}

/** Has reads timed, several at a time counted once; gives a way to ask for the sum in seconds. */
function timeReads(source: Source): () => number {
  const read = source.read.bind(source);
  let under = 0, since = 0, total = 0;
  source.read = async (...part) => {
    if (under++ === 0) since = performance.now();
    try {
      await read(...part);
    } finally {
      if (--under === 0) total += performance.now() - since;
    }
  };
  return () => total / 1000;
}

const peak = async () => 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(await Deno.readTextFile("/proc/self/status"))![1]);

if (import.meta.main) {
  const { values: options, positionals: [folder] } = parseArgs({
    allowPositionals: true,
    options: {
      depth: { type: "string", default: "2" },
      sequences: { type: "string", default: "16" },
      length: { type: "string", default: "256" },
      device: { type: "string" },
      prefetch: { type: "string", default: "on" },
      score: { type: "boolean", default: false },
    },
  });
  using device = await openDevice({ kind: options.device as "cpu" | "webgpu" | undefined });
  const whole = await openModel(folder), model = { ...whole, layers: whole.layers.slice(0, Number(options.depth)) };
  const { source, tensors } = model.checkpoint, length = Number(options.length), peaks = [await peak()];
  if (options.prefetch === "off") source.prefetch = undefined;
  const readingSoFar = timeReads(source);
  const tokens = Array.from(
    { length: Number(options.sequences) },
    (_, i) => tokenIds(`calibrate.tokens.${i}`, length, model.config.vocabulary),
  );
  let start = performance.now();
  const took = () => (performance.now() - start) / 1000;
  using trace = await calibrate(device, model, tokens);
  const calibrated = { seconds: took(), reading: readingSoFar() };
  peaks.push(await peak());
  start = performance.now();
  if (options.score) await leaveOneOut(device, model, trace);
  const scoring = options.score ? took() : undefined;
  peaks.push(await peak());
  const bytes = [...tensors.values()].reduce((sum, { name, bytes }) => {
    const layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    return sum + (layer !== undefined && Number(layer) < model.layers.length ? bytes : 0);
  }, 0);
  const result: Calibrated = { device: device.name, bytes, ...calibrated, scoring, peaks };
  console.log(JSON.stringify(result));
}
