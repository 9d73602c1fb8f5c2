/** Leave-one-out importance of all experts of a layer. */

import type { Device } from "../../lib/device/device.ts";
import { ranksNeeded } from "../../lib/importance/layer_fitness.ts";
import { batchTokens } from "../../lib/model/batch.ts";
import { blockOutput } from "../../lib/model/decoder_layer.ts";
import { type BenchLayer, benchLayer, chunks, type LayerName, preparationWork, preparedLayer } from "./layer.ts";
import type { Prepared, Scale } from "./row.ts";
import { repeated } from "./timed.ts";

const RUNS = 3;

/** The check is the sum of all importances. */
export async function importance(device: Device, name: LayerName, scale: Scale): Promise<Prepared> {
  const layer = await benchLayer(device, name, scale), { tokens, config, moe } = layer;
  const ranks = ranksNeeded(config, moe.ids.length, 1), total = (scores: Float64Array) => scores.reduce((a, b) => a + b);
  return {
    round: async () => {
      const [scores, seconds] = await repeated(scale === "full" ? 1 : RUNS, () => leaveEachOut(device, layer, ranks));
      const slow = scale === "full" ? undefined : await repeated(1, () => byBruteForce(device, layer));
      return {
        parts: [{ unit: "layer", seconds, work: preparationWork(name, tokens, ranks, tokens * ranks), beside: "seconds" }],
        check: total(scores),
        detours: slow && [{ name: "Winnow, layer run again", seconds: slow[1], check: total(slow[0]) }],
      };
    },
    [Symbol.dispose]: () => layer[Symbol.dispose](),
  };
}

/** The closed form: what `leaveOneOut` does with a layer whose weights are loaded. */
export async function leaveEachOut(device: Device, layer: BenchLayer, ranks: number): Promise<Float64Array> {
  using stack = new DisposableStack();
  const squares = new Float64Array(layer.moe.ids.length), sets = layer.moe.ids.map((_, i) => [i]);
  for (const part of await preparedLayer(device, layer, ranks, stack)) {
    (await device.fitness(part, sets)).forEach((value, i) => squares[i] += value);
  }
  return squares.map(Math.sqrt);
}

/** From the definition: the layer runs once more without each expert. */
export async function byBruteForce(device: Device, layer: BenchLayer): Promise<Float64Array> {
  const { config, moe } = layer, squares = new Float64Array(moe.ids.length);
  for (const input of chunks(device, layer, batchTokens(config, config.moe.topK))) {
    using whole = blockOutput(device, config, moe, input);
    for (const [i, id] of moe.ids.entries()) {
      using without = blockOutput(device, config, moe, input, [id]);
      using change = device.squares(whole, without);
      squares[i] += (await device.read(change)).reduce((a, b) => a + b, 0);
    }
  }
  return squares.map(Math.sqrt);
}
