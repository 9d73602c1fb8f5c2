/** Leave-one-out importance of all experts of a layer. */

import type { Device } from "../../lib/device/device.ts";
import { ranksNeeded } from "../../lib/importance/layer_fitness.ts";
import { batchTokens } from "../../lib/model/batch.ts";
import { blockOutput } from "../../lib/model/decoder_layer.ts";
import { type BenchLayer, benchLayer, chunks, type LayerName, LAYERS, preparationWork, preparedLayer, TOKENS } from "./layer.ts";
import type { Prepared, Scale } from "./row.ts";
import { repeated, timed } from "./timed.ts";

/** Times that the closed form is computed in a round, here and by the peer of the same algorithm: where memory is new, the first takes longer. */
export const SCORINGS = 3;

/** Experts that the brute force is run for. */
const TRIED = 6;

/**
 * The check is the sum of all importances. The brute force costs a run of the layer and one more for each expert: from the time for the first few follows
 * that for all.
 */
export async function importance(device: Device, name: LayerName, scale: Scale): Promise<Prepared> {
  const shape = LAYERS[name], layer = await benchLayer(device, name, shape, TOKENS[scale]), { tokens, config, moe } = layer;
  const { length: all } = moe.ids, ranks = ranksNeeded(config, all, 1), tried = Math.min(TRIED, all);
  return {
    round: async () => {
      const [scores, seconds] = await repeated(SCORINGS, () => leaveEachOut(device, layer, ranks));
      const few = scale === "full" ? undefined : await timed(() => byBruteForce(device, layer, tried));
      return {
        parts: [{ unit: "layer", seconds, work: preparationWork(shape, tokens, ranks, tokens * ranks), beside: "seconds" }],
        check: scores.reduce((a, b) => a + b),
        detours: few && [{ name: `Winnow, layer run again (${tried} of ${all})`, seconds: [few[1] * (all + 1) / (tried + 1)] }],
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

/** From the definition, for the first `count` experts: the layer runs once more without each. */
export async function byBruteForce(device: Device, layer: BenchLayer, count: number): Promise<Float64Array> {
  const { config, moe } = layer, squares = new Float64Array(count);
  for (const input of chunks(device, layer, batchTokens(config, config.moe.topK))) {
    using whole = blockOutput(device, config, moe, input);
    for (const [i, id] of moe.ids.slice(0, count).entries()) {
      using without = blockOutput(device, config, moe, input, [id]);
      using change = device.squares(whole, without);
      squares[i] += (await device.read(change)).reduce((a, b) => a + b, 0);
    }
  }
  return squares.map(Math.sqrt);
}
