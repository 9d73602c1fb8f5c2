/**
 * Merging decoder layers.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import type { MatrixSource, TensorSource } from "../device/device.ts";
import { expect } from "../model/expect.ts";
import { expectModel, expectNoSkipping } from "../model/expect_stage.ts";
import type { DecoderLayer, FeedForward, LayerMerge, Model, MoeBlock } from "../model/model.ts";
import { interpolated } from "./interpolated.ts";
import { layerConfig } from "./layer_config.ts";

/**
 * A model with fewer layers (MKA, arXiv 2406.16330): every matrix and bias of a pair becomes ratio · kept + (1 - ratio) · absorbed, attention, router, experts
 * by their ids, shared expert and its gate alike; all norms are those of the kept layer. The released code writes what it has merged into a copy that its
 * model never sees, and so drops layers; here ratio 1 does that. Weights are worked out when they are read, in float32: nothing is read, copied or stored.
 *
 * The result is a model like any other. Its layers are numbered 0, 1, … and its config says how many there are; what was measured of layers of the original
 * goes by other numbers.
 *
 * @param model Any model whose experts are dense matrices.
 * @param plan Pairs, in order: `keep` and `absorb` are indices of the given model's layers, also after earlier merges.
 * @returns The model, with `merges`, the pairs that made it.
 * @throws {RangeError} If the plan names a layer that is not there, or not any more, or a ratio that is no share.
 * @throws {Error} If a pair cannot be merged: one has experts and the other has none, other experts are left, or some have low rank or are constants.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const shorter = mergeLayers(model, [{ keep: 2, absorb: 3, ratio: 0.75 }]);
 * assertEquals([shorter.layers.length, shorter.config.raw.num_hidden_layers], [3, 3]);
 * assertEquals(shorter.layers[2].inputNorm, model.layers[2].inputNorm);
 * ```
 */
export function mergeLayers(model: Model, plan: readonly LayerMerge[]): Model {
  expectModel(model, "merge layers");
  expectNoSkipping(model, "merge layers");
  expect(Array.isArray(plan), "merge layers", "a list of merges, such as mergePlan() gives", plan);
  const left = new Map(model.layers.map((layer) => [layer.index, layer]));
  for (const merge of plan) {
    checkMerge(merge, left);
    left.set(merge.keep, mergePair(left.get(merge.keep)!, left.get(merge.absorb)!, merge.ratio));
    left.delete(merge.absorb);
  }
  if (plan.length === 0) return model;
  const layers = [...left.values()];
  return {
    ...model,
    config: layerConfig(model.config, layers),
    layers: layers.map((layer, index) => ({ ...layer, index })),
    merges: [...model.merges ?? [], ...plan],
  };
}

function checkMerge(merge: LayerMerge, left: ReadonlyMap<number, DecoderLayer>): void {
  expect(isObject(merge), "merge layers", "merges with the layers to keep and to absorb", merge);
  const { keep, absorb, ratio } = merge;
  for (const [role, layer] of [["keep", keep], ["absorb", absorb]] as const) {
    expect(typeof layer === "number", "merge layers", `the number of the layer to ${role} in each merge`, layer);
    if (!left.has(layer)) {
      throw new RangeError(`Cannot ${role} layer ${layer}: the layers that are left are ${[...left.keys()].join(", ")}`);
    }
  }
  if (keep === absorb) throw new RangeError(`Cannot merge layer ${keep} with itself: expected another one to absorb`);
  expect(typeof ratio === "number", `merge layers ${keep} and ${absorb}`, 'a number as "ratio"', ratio);
  if (!(ratio >= 0 && ratio <= 1)) {
    throw new RangeError(`Cannot merge layers ${keep} and ${absorb}: "ratio" is ${ratio}, expected a share from 0 to 1`);
  }
}

function mergePair(kept: DecoderLayer, absorbed: DecoderLayer, ratio: number): DecoderLayer {
  if (ratio === 1) return kept;
  const fail = (why: string): never => {
    throw new Error(`Cannot merge layers ${kept.index} and ${absorbed.index}: ${why}; ratio 1 drops layer ${absorbed.index}`);
  };
  const known = new Map<TensorSource, Map<TensorSource, TensorSource>>(); // experts that share matrices in both layers share them again
  const mix: Mix = (a, b, what) => {
    if (!a || !b) return fail(`one of them alone has ${what}`);
    if ("left" in a || "left" in b) return fail(`${what} has low rank, and the mean of two products is no such product`);
    if (a.shape.join() !== b.shape.join()) return fail(`${what} is [${a.shape}] in the one, [${b.shape}] in the other`);
    const others = known.get(a) ?? new Map<TensorSource, TensorSource>(), made = others.get(b) ?? interpolated(a, b, ratio);
    known.set(a, others.set(b, made));
    return made;
  };
  const names = new Set([...Object.keys(kept.attention), ...Object.keys(absorbed.attention)]);
  const attention = [...names].map((name) => {
    const own = kept.attention[name];
    return [name, name.endsWith("norm.weight") ? own : mix(own, absorbed.attention[name], `"${name}" of attention`)] as const;
  });
  return { ...kept, attention: Object.fromEntries(attention), block: mergeBlocks(kept, absorbed, mix, fail) };
}

/** The mean of two weights. @param what For the error, where there is none. */
type Mix = (a: MatrixSource | undefined, b: MatrixSource | undefined, what: string) => TensorSource;

function mergeBlocks(kept: DecoderLayer, absorbed: DecoderLayer, mix: Mix, fail: (why: string) => never): DecoderLayer["block"] {
  const [a, b] = [kept.block, absorbed.block];
  if (a.kind === "dense") {
    return b.kind === "dense" ? { ...a, ...mergeFeedForward(a, b, mix) } : fail(`layer ${absorbed.index} alone has experts`);
  }
  if (b.kind === "dense") return fail(`layer ${kept.index} alone has experts`);
  if (a.constants || b.constants) return fail("experts of one of them are constants");
  const [ids, others] = [a, b].map(({ experts }) => experts.map((e) => e.id).join(", "));
  if (ids !== others) return fail(`the experts ${ids} are left of the one, ${others} of the other`);
  const experts = a.experts.map((x, i) => {
    const y = b.experts[i], merged = (name: "gate" | "up" | "down") => mix(x[name], y[name], `expert ${x.id}`);
    if (x.biases || y.biases) return fail(`expert ${x.id} has biases`);
    return { ...x, gate: merged("gate"), up: merged("up"), down: merged("down") };
  });
  const router = mix(a.router, b.router, "a router");
  return { ...a, router, experts, ...(a.shared ? { shared: mergeShared(a.shared, b.shared!, mix) } : {}) };
}

function mergeShared(a: NonNullable<MoeBlock["shared"]>, b: NonNullable<MoeBlock["shared"]>, mix: Mix): MoeBlock["shared"] {
  return { ...mergeFeedForward(a, b, mix), ...(a.scale ? { scale: mix(a.scale, b.scale, "a gate of shared experts") } : {}) };
}

function mergeFeedForward(a: FeedForward, b: FeedForward, mix: Mix): FeedForward {
  const mean = (name: "gate" | "up" | "down") => mix(a[name], b[name], `"${name}" of the network that every token meets`);
  return { gate: mean("gate"), up: mean("up"), down: mean("down") };
}
