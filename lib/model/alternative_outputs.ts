/**
 * The output of one MoE layer under several ways to prune it.
 *
 * @module
 */

import { type Device, NO_EXPERT, type RouterRule, type Tensor } from "../device/device.ts";
import { addShared, routerProbabilities, routerRule } from "./decoder_layer.ts";
import type { LoadedMoe } from "./load_layer.ts";
import type { ModelConfig } from "./parse_config.ts";

/**
 * Calls `use` with the layer's output `[tokens, hidden]` for every alternative set of dropped experts (ids of the original model).
 *
 * Each expert runs once on the tokens that want it under any alternative; an alternative is then a weighted sum. Three sets that differ in one expert
 * cost little more than one.
 */
export async function alternativeOutputs(
  device: Device,
  config: ModelConfig,
  moe: LoadedMoe,
  input: Tensor,
  alternatives: readonly (readonly number[])[],
  use: (output: Tensor, alternative: number) => void | Promise<void>,
): Promise<void> {
  using probabilities = routerProbabilities(device, moe, input);
  const p = await device.read(probabilities), count = moe.ids.length, tokens = p.length / count, rule = routerRule(config, moe.ids);
  const dropped = alternatives.map((drop) => Uint8Array.from(moe.ids, (id) => drop.includes(id) ? 1 : 0));
  const routes = Array.from({ length: tokens }, (_, t) => {
    const row = p.subarray(t * count, (t + 1) * count);
    return dropped.map((marks) => route(row, marks, rule));
  });
  const columns = routes.map((choices) => [...new Set(choices.flatMap((choice) => [...choice.keys()]))]);
  const width = Math.max(1, ...columns.map((c) => c.length));
  const listed = new Uint32Array(tokens * width).fill(NO_EXPERT);
  columns.forEach((experts, t) => listed.set(experts, t * width));

  using table = device.tensor(listed, [tokens, width]);
  using outputs = device.experts(input, table, moe.experts);
  for (let a = 0; a < alternatives.length; a++) {
    const weights = new Float32Array(tokens * width);
    columns.forEach((experts, t) => experts.forEach((e, i) => weights[t * width + i] = routes[t][a].get(e) ?? 0));
    using gates = device.tensor(weights, [tokens, width]);
    using output = device.combine(outputs, gates);
    addShared(device, moe, input, output);
    await use(output, a);
  }
}

/** Routing weights by expert, with dropped experts masked: softmax over the rest, admitted groups, top-k. */
function route(p: Float32Array, dropped: Uint8Array, { topK, renormalise, scale, groups }: RouterRule): Map<number, number> {
  const order: number[] = [];
  let left = 0;
  for (let e = 0; e < p.length; e++) {
    if (dropped[e] === 0) order.push(e), left += p[e];
  }
  order.sort((a, b) => p[b] - p[a] || a - b);
  const admitted = new Set<number>(), chosen: number[] = [];
  for (const e of order) {
    if (chosen.length === topK) break;
    if (groups && !admitted.has(groups.of[e])) {
      if (admitted.size === groups.keep) continue;
      admitted.add(groups.of[e]);
    }
    chosen.push(e);
  }
  const total = renormalise ? chosen.reduce((sum, e) => sum + p[e], 0) : left;
  return new Map(chosen.map((e) => [e, scale * p[e] / Math.max(total, Number.MIN_VALUE)]));
}
