/**
 * Memory and time of calibrating and scoring the first layers of a checkpoint in a folder, and how much of the disk's time passes behind the processor's:
 *
 *     deno run -A tests/bench/memory.ts FOLDER [--depths 2,4,8] [--sequences 16] [--length 256] [--repeat 3] [--device cpu|webgpu] [--score]
 *
 * Each figure is of a process of its own. One that starts warm finds the checkpoint in the page cache, one that starts cold finds nothing of it (coreutils'
 * `dd` has the system forget it), and reads the next layer ahead or does not. The three take turns; times are the least and the median of the repeats.
 */

import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { markdownTable } from "npm:markdown-table@3.0.4";
import type { Calibrated } from "./calibrate_once.ts";

const { values: options, positionals: [folder] } = parseArgs({
  allowPositionals: true,
  options: {
    depths: { type: "string", default: "2,4,8" },
    sequences: { type: "string", default: "16" },
    length: { type: "string", default: "256" },
    repeat: { type: "string", default: "3" },
    device: { type: "string" },
    score: { type: "boolean", default: false },
  },
});
if (!folder) {
  throw new Error("Usage: deno run -A tests/bench/memory.ts FOLDER [--depths 2,4,8] [--sequences 16] [--length 256] [--repeat 3]");
}

const MODES = ["warm", "cold, not ahead", "cold, ahead"] as const;

async function forget(): Promise<void> {
  for await (const { name } of Deno.readDir(folder)) {
    if (name.endsWith(".safetensors")) await output("dd", [`if=${join(folder, name)}`, "iflag=nocache", "count=0"]);
  }
}

async function output(command: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command(command, { args }).output();
  if (code !== 0) throw new Error(new TextDecoder().decode(stderr));
  return new TextDecoder().decode(stdout);
}

async function calibrated(depth: string, mode: typeof MODES[number]): Promise<Calibrated> {
  if (mode !== "warm") await forget();
  const program = fileURLToPath(import.meta.resolve("./calibrate_once.ts")), { sequences, length, device, score } = options;
  return JSON.parse(
    await output(Deno.execPath(), [
      ...["run", "-A", program, folder, "--depth", depth, "--sequences", sequences, "--length", length],
      ...["--prefetch", mode === "cold, not ahead" ? "off" : "on"],
      ...(device ? ["--device", device] : []),
      ...(score && mode === "warm" ? ["--score"] : []),
    ]),
  );
}

const gigabytes = (bytes: number) => `${(bytes / 1e9).toFixed(2)} GB`;
const times = (values: number[]) => {
  const sorted = values.toSorted((a, b) => a - b);
  return `${sorted[0].toFixed(2)} / ${sorted[Math.floor(sorted.length / 2)].toFixed(2)}`;
};

const memory = [["layers", "weights", "open", "calibrate", ...(options.score ? ["leave-one-out", "seconds"] : [])]];
const time = [["layers", "start", "calibrate, s", "of it reading, s", "the rest, s"]];
for (const depth of options.depths.split(",")) {
  const runs = new Map(MODES.map((mode) => [mode, [] as Calibrated[]]));
  for (let r = 0; r < Number(options.repeat); r++) {
    for (const mode of r === 0 ? ["warm", ...MODES] as const : MODES) {
      const run = await calibrated(depth, mode);
      console.error(`${depth} layers, ${mode}: ${JSON.stringify(run)}`);
      runs.get(mode)!.push(run);
    }
    if (r === 0) runs.get("warm")!.shift(); // what brought it into the page cache
  }
  for (const [mode, all] of runs) {
    const rest = all.map(({ seconds, reading }) => seconds - reading);
    time.push([depth, mode, times(all.map(({ seconds }) => seconds)), times(all.map(({ reading }) => reading)), times(rest)]);
  }
  const all = [...runs.values()].flat(), scored = runs.get("warm")!;
  const peak = (runs: Calibrated[], at: number) => gigabytes(Math.max(...runs.map(({ peaks }) => peaks[at])));
  const scoring = options.score ? [peak(scored, 2), times(scored.map(({ scoring }) => scoring!))] : [];
  memory.push([depth, gigabytes(all[0].bytes), peak(all, 0), peak(all, 1), ...scoring]);
}
console.log(`Peak of resident memory, ${options.sequences} x ${options.length} tokens\n\n${markdownTable(memory)}\n`);
console.log(`Seconds, least / median of ${options.repeat}\n\n${markdownTable(time)}`);
