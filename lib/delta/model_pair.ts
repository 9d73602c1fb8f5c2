/**
 * Two models of one structure.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import { expectModel } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { expectWholeMatrices, type Linear, linearsOf } from "../sparsify/linears.ts";
import { finiteWeights } from "../sparsify/prune_linear.ts";
import { restOf } from "./map_rest.ts";

/** A linear of both. */
export interface LinearPair {
  layer: number;
  name: string;
  base: TensorSource;
  tuned: TensorSource;
}

/**
 * The linears of a model and one that was tuned from it, layer by layer.
 *
 * @throws {TypeError} If one of them is no model.
 * @throws {RangeError} If they differ in more than the numbers of their weights.
 * @throws {Error} If experts are skipped, constants, or differences from a shared one.
 */
export function linearPairs(base: Model, tuned: Model, purpose: string): LinearPair[][] {
  for (const model of [base, tuned]) expectModel(model, purpose), expectWholeMatrices(model, purpose);
  const fail = (what: string) => new RangeError(`Cannot ${purpose}: base and tuned model are not of one structure: ${what}`);
  const plain = ({ config: { raw: _, ...config } }: Model) => config as Record<string, unknown>, [one, two] = [base, tuned].map(plain);
  const odd = Object.keys(one).find((key) => JSON.stringify(one[key]) !== JSON.stringify(two[key]));
  if (odd) throw fail(`their configs differ in "${odd}"`);
  const indices = (model: Model) => model.layers.map(({ index }) => index).join(", ");
  if (indices(base) !== indices(tuned)) throw fail(`layers ${indices(base)} and ${indices(tuned)}`);
  const all = (model: Model) => [
    ...[...restOf(model)].map(([place, weight]) => `${place} [${weight.shape}]`),
    ...model.layers.flatMap((layer) => linearsOf(layer).map(({ name, weight }) => `${layer.index}/${name} [${weight.shape}]`)),
  ];
  const [first, second] = [all(base), all(tuned)], at = first.findIndex((place, i) => place !== second[i]);
  if (at >= 0 || first.length !== second.length) {
    throw fail(`${first[at] ?? "nothing"} and ${second[at < 0 ? first.length : at] ?? "nothing"}`);
  }
  return base.layers.map((layer, i) => {
    const others = linearsOf(tuned.layers[i]);
    return linearsOf(layer).map(({ name, weight }: Linear, l) => ({ layer: layer.index, name, base: weight, tuned: others[l].weight }));
  });
}

/** tuned - base, in float32. @throws {RangeError} If a number is not finite. */
export async function differenceOf({ layer, name, base, tuned }: LinearPair, purpose: string): Promise<Float32Array<ArrayBuffer>> {
  const where = `${purpose} of layer ${layer}, ${name}`;
  const values = await finiteWeights(tuned, where), from = await finiteWeights(base, `${where} of the base`);
  for (let i = 0; i < values.length; i++) values[i] -= from[i];
  return values;
}
