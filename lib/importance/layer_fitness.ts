/**
 * Prepares a layer for pricing sets of dropped experts.
 *
 * @module
 */

import type { Device, FitnessInputs, Tensor } from "../device/device.ts";
import { routerProbabilities, routerRule } from "../model/decoder_layer.ts";
import type { LoadedMoe } from "../model/load_layer.ts";
import type { ModelConfig } from "../model/parse_config.ts";

/**
 * How many of a token's best experts can matter when `drop` are gone: top-k and the next `drop` in rank. Where a token's experts are limited to groups,
 * a drop can change the groups, and all may matter.
 */
export function ranksNeeded(config: ModelConfig, experts: number, drop: number): number {
  return config.moe.groups ? experts : Math.min(experts, config.moe.topK + drop);
}

/**
 * Routing of inputs `[tokens, hidden]`, and the inner products of the outputs of each token's `ranks` best experts: all that the loss of any set of
 * up to `ranks - topK` dropped experts depends on.
 *
 * @param lacking What the layer's output `[tokens, hidden]` lacks already, if losses are to tell what it lacks altogether.
 */
export function layerFitness(
  device: Device,
  config: ModelConfig,
  moe: LoadedMoe,
  input: Tensor,
  ranks: number,
  lacking?: Tensor,
): FitnessInputs & Disposable {
  using stack = new DisposableStack();
  const probabilities = stack.use(routerProbabilities(device, moe, input));
  const ranking = stack.use(device.rank(probabilities, ranks));
  using outputs = device.experts(input, ranking.experts, moe.experts);
  const gram = stack.use(device.gram(outputs)), along = lacking && stack.use(products(device, lacking, outputs, ranking.probabilities));
  const held = stack.move();
  return { rule: routerRule(config, moe.ids), ranking, probabilities, gram, along, [Symbol.dispose]: () => held[Symbol.dispose]() };
}

/** Inner product of each row `[tokens, hidden]` with each of its token's outputs: the gradient of their weighted sum to the weights, whatever those are. */
function products(device: Device, rows: Tensor, outputs: Tensor, weights: Tensor): Tensor {
  const { outputs: unused, gates } = device.vjp.combine(rows, outputs, weights);
  unused[Symbol.dispose]();
  return gates;
}
