/**
 * Measures the heavy steps, alone or beside PyTorch programs for the same work:
 *
 *     deno task bench       [--scale small|full] [--device cpu|webgpu] [--repeat N] [--only ROW] [--threads N] [--model FOLDER]
 *                           [--weights stored|float32]
 *     deno task bench:peers the same; WINNOW_PEERS names the programs' folder and WINNOW_PYTHON their Python
 *
 * A row is one of search, importance, svd, forward, calibrate_scale and lora_step, or one at a shape, such as "search, qwen".
 */

import { parseArgs } from "node:util";
import { openDevice } from "../../lib/device/open_device.ts";
import { machine } from "./machine.ts";
import { measure, type Measured } from "./measure.ts";
import { findPeers, type Peers } from "./peer.ts";
import { benchRows } from "./rows.ts";
import { tables } from "./tables.ts";
import { median } from "./timed.ts";

const THREADS = "OPENBLAS_NUM_THREADS";

/** Options of the command line. @throws {Error} In a sentence, if one makes no sense. */
function options() {
  const text = { type: "string" } as const;
  const { values } = parseArgs({
    options: {
      peers: { type: "boolean", default: false },
      scale: text,
      device: text,
      repeat: text,
      only: text,
      threads: text,
      model: text,
      weights: text,
    },
  });
  const { scale = "small", device, repeat = "3", only, model, peers, weights = "stored" } = values;
  const threads = values.threads ?? Deno.env.get(THREADS) ?? String(navigator.hardwareConcurrency);
  if (scale !== "small" && scale !== "full") throw new Error(`Cannot measure at scale "${scale}": choose "small" or "full"`);
  if (device !== undefined && device !== "cpu" && device !== "webgpu") {
    throw new Error(`Cannot measure on "${device}": choose "cpu" or "webgpu"`);
  }
  if (weights !== "stored" && weights !== "float32") throw new Error(`Cannot hold weights as "${weights}": choose "stored" or "float32"`);
  for (const [name, value] of [["repeat", repeat], ["threads", threads]]) {
    if (!/^[1-9]\d*$/.test(value)) throw new Error(`"--${name}" must be a positive whole number, received ${value}`);
  }
  const rows = benchRows(scale, model), chosen = rows.filter(({ name, shape }) => [undefined, name, `${name}, ${shape}`].includes(only));
  if (chosen.length === 0) {
    const names = [...new Set(rows.map((row) => row.name)), ...rows.map(({ name, shape }) => `"${name}, ${shape}"`)];
    throw new Error(`There is no row "${only}" at this scale: choose one of ${names.join(", ")}`);
  }
  return { peers, scale, device, weights, repeat: Number(repeat), threads: Number(threads), rows: chosen } as const;
}

async function run(): Promise<void> {
  const { scale, repeat, threads, rows, ...asked } = options(), found = asked.peers ? await findPeers() : undefined;
  Deno.env.set(THREADS, String(threads)); // read when the library is loaded
  using device = await openDevice({ kind: asked.device, weights: asked.weights });
  const folder = await Deno.makeTempDir(), cache = Deno.env.get("PEER_CACHE") ?? `${folder}/peers`;
  const peers: Peers | undefined = found && { ...found, cache, device: device.kind === "cpu" ? "cpu" : "cuda", threads, scale };
  const header = machine(device, found && { version: found.torch, threads }), all: Measured[] = [];
  const finish = () => {
    Deno.removeSync(folder, { recursive: true });
    if (all.length > 0) {
      console.log(
        `${header}\nScale ${scale}, weights held ${asked.weights === "stored" ? "as stored" : "in float32"}, ${repeat} round${
          repeat === 1 ? "" : "s"
        }.\n\n${tables(all)}`,
      );
    }
  };
  // Whoever stops it gets what there is until then, and his disk back.
  const stop = () => (finish(), Deno.exit(130));
  const signals: Deno.Signal[] = Deno.build.os === "windows" ? ["SIGINT"] : ["SIGINT", "SIGTERM"];
  for (const signal of signals) Deno.addSignalListener(signal, stop);
  try {
    for (const [i, row] of rows.entries()) {
      const measured = await measure(device, row, repeat, folder, peers), [{ unit }] = measured.rounds[0].parts;
      const seconds = median(measured.rounds.flatMap((round) => round.parts[0].seconds));
      console.error(`${i + 1} of ${rows.length}: ${row.name}, ${row.shape}: ${seconds.toPrecision(3)} s a ${unit}`);
      all.push(measured);
    }
  } finally {
    for (const signal of signals) Deno.removeSignalListener(signal, stop);
    finish();
  }
}

try {
  await run();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  Deno.exit(1);
}
