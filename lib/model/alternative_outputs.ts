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
  const most = Math.max(1, Math.min(count, rule.topK * alternatives.length)); // experts that a token can want
  const listed = new Uint32Array(tokens * most).fill(NO_EXPERT), weights = dropped.map(() => new Float32Array(tokens * most));
  const order = new Uint32Array(count), chosen: number[] = [];
  let width = 1;
  for (let t = 0; t < tokens; t++) {
    const row = p.subarray(t * count, (t + 1) * count), first = t * most;
    sortByFall(row, order);
    let end = first;
    for (let a = 0; a < dropped.length; a++) {
      const total = choose(row, order, dropped[a], rule, chosen);
      for (const e of chosen) {
        let at = first;
        while (at < end && listed[at] !== e) at++;
        if (at === end) listed[end++] = e;
        weights[a][at] = rule.scale * row[e] / total;
      }
    }
    width = Math.max(width, end - first);
  }

  using table = device.tensor(narrowed(listed, most, width), [tokens, width]);
  using outputs = device.experts(input, table, moe.experts);
  for (let a = 0; a < alternatives.length; a++) {
    using gates = device.tensor(narrowed(weights[a], most, width), [tokens, width]);
    using output = device.combine(outputs, gates);
    addShared(device, moe, input, output);
    await use(output, a);
  }
}

/**
 * The experts that serve a token, with dropped ones masked: softmax over the rest, admitted groups, top-k.
 *
 * @param order Experts by falling probability.
 * @param chosen Takes them, in this order.
 * @returns What their probabilities are divided by.
 */
function choose(
  p: Float32Array,
  order: Uint32Array,
  dropped: Uint8Array,
  { topK, renormalise, groups }: RouterRule,
  chosen: number[],
): number {
  const admitted = groups && new Set<number>();
  let left = 0;
  for (let e = 0; e < p.length; e++) if (dropped[e] === 0) left += p[e];
  chosen.length = 0;
  for (const e of order) {
    if (chosen.length === topK) break;
    if (dropped[e] !== 0) continue;
    if (groups && admitted && !admitted.has(groups.of[e])) {
      if (admitted.size === groups.keep) continue;
      admitted.add(groups.of[e]);
    }
    chosen.push(e);
  }
  return Math.max(renormalise ? chosen.reduce((sum, e) => sum + p[e], 0) : left, Number.MIN_VALUE);
}

/** Puts the places of numbers in order of falling numbers, equal ones as they come. */
function sortByFall(numbers: Float32Array, order: Uint32Array): void {
  for (let e = 0; e < numbers.length; e++) {
    let at = e;
    for (; at > 0 && numbers[order[at - 1]] < numbers[e]; at--) order[at] = order[at - 1];
    order[at] = e;
  }
}

/** The first `width` columns of rows of `most`. */
function narrowed<T extends Float32Array | Uint32Array>(rows: T, most: number, width: number): T {
  const count = rows.length / most;
  for (let r = 1; r < count; r++) rows.copyWithin(r * width, r * most, r * most + width);
  return rows.subarray(0, count * width) as T;
}
