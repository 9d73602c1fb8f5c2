/**
 * Principal directions of the outputs of all linears of a model.
 *
 * @module
 */

import { Scratch, type Stored } from "../checkpoint/scratch.ts";
import type { Device } from "../device/device.ts";
import type { Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { type LoadedLayer, loadLayer } from "../model/load_layer.ts";
import { loadWide } from "../model/load_wide.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { advance, part, type StageOptions } from "../model/stage_options.ts";
import { eachInput } from "../sparsify/each_input.ts";
import { HELD, linearRuns } from "../sparsify/linear_runs.ts";
import { type Linear, linearsOf } from "../sparsify/linears.ts";
import { finiteWeights } from "../sparsify/prune_linear.ts";
import { ResidualStreams } from "../sparsify/residual_streams.ts";
import { featureBasis } from "./feature_basis.ts";
import { type Role, roleOf } from "./linear_ratios.ts";
import { type InputMoments, MOMENT_BYTES, PooledMoments } from "./pooled_moments.ts";

export interface LinearFeaturesOptions extends StageOptions {
  /** Sequences of a group: covariances are those within groups, and their mean is taken. @default 8 (the paper has 32 groups of 32) */
  group?: number;
  /**
   * Directions are those of the outputs around their mean, which a bias restores; else those of the outputs themselves, without a bias: the solution that
   * whitened singular value decompositions give.
   *
   * @default true
   */
  centred?: boolean;
}

/** What is known of a linear's outputs: numbers of `FeatureBasis`, the large ones put aside. */
export interface LinearFeatures {
  role: Role;
  linear: Linear;
  /** Tokens that it met. Without any the rest is empty. */
  tokens: number;
  values: Float64Array;
  energy: number;
  /** `[values, out]` and `[values, in]`. */
  vectors: Stored;
  reduced: Stored;
  /** `[out]` where the outputs were centred. */
  mean: Float32Array | undefined;
}

/** By layer, in the order of its linears; values and the rest are there until it is disposed. */
export interface ModelFeatures extends Disposable {
  layers: Map<number, LinearFeatures[]>;
}

/** A linear's part, plain data. */
interface Part {
  tokens: number;
  values: Float64Array;
  energy: number;
  vectors: Float32Array;
  reduced: Float32Array;
  mean: Float32Array;
}

/**
 * Goes through the model once, a layer at a time, and finds the directions of every linear that can be factored; inputs are those of the model as it is. Of a
 * layer whose sums are larger than `held` it takes some linears after the others, and passes its tokens through once for each run; a run's directions are put
 * aside before the next one.
 *
 * @param most Directions that are asked for of a linear.
 * @param held Bytes of sums over inputs held at a time; those of a single linear may be more.
 */
export async function linearFeatures(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: LinearFeaturesOptions & { stage: string },
  most: (linear: Linear, role: Role, layer: DecoderLayer) => number,
  held: number = HELD,
): Promise<ModelFeatures> {
  const { group = 8, centred = true, signal, stage } = options, total = model.layers.length;
  if (!(Number.isSafeInteger(group) && group >= 1)) {
    throw new RangeError(`Cannot ${stage}: "group" must be a whole number of at least 1, received ${String(group)}`);
  }
  expect(typeof centred === "boolean", stage, 'true or false as "centred"', centred);
  using streams = new ResidualStreams(device, model, sequences, signal, group);
  if (streams.tokens === 0) throw new RangeError(`Cannot ${stage}: there are no tokens`);
  const layers: ModelFeatures["layers"] = new Map(), scratch = new Scratch();
  try {
    for (const [done, layer] of model.layers.entries()) {
      using loaded = new DisposableStack();
      let weights: LoadedLayer | undefined;
      const found: LinearFeatures[] = [], wanted = linearsOf(layer).filter(({ name }) => roleOf(name) !== undefined);
      for (const [r, run] of linearRuns(wanted, MOMENT_BYTES, held).entries()) {
        const parts = await part(options, `features of layer ${layer.index}, run ${r}`, async () => {
          await advance(options, { stage, done, total, unit: "layers" });
          await streams.takeThrough(model.layers.slice(0, done));
          weights ??= loaded.use(await loadChecked(device, model, layer, stage));
          return await featuresOf(
            streams,
            weights,
            run,
            centred,
            `${stage} of layer ${layer.index}`,
            (linear, role) => most(linear, role, layer),
          );
        });
        for (const [i, linear] of run.entries()) {
          const { vectors, reduced, mean, ...rest } = parts[i],
            put = { vectors: await scratch.store(vectors), reduced: await scratch.store(reduced) };
          found.push({ role: roleOf(linear.name)!, linear, ...rest, ...put, mean: centred ? mean : undefined });
        }
      }
      layers.set(layer.index, found);
    }
    await advance(options, { stage, done: total, total, unit: "layers" });
  } catch (error) {
    scratch[Symbol.dispose]();
    throw error;
  }
  return { layers, [Symbol.dispose]: () => scratch[Symbol.dispose]() };
}

/** A layer on the device. What its weights have that is not finite would show in the inputs of others: all are looked at first, so as to name the right one. */
async function loadChecked(device: Device, model: Model, layer: DecoderLayer, stage: string): Promise<LoadedLayer> {
  for (const { name, weight } of linearsOf(layer)) await finiteWeights(weight, `${stage} of layer ${layer.index}, ${name}`);
  return await loadLayer(device, model.config, layer);
}

/** In the order of the linears. */
async function featuresOf(
  streams: ResidualStreams,
  weights: LoadedLayer,
  run: readonly Linear[],
  centred: boolean,
  where: string,
  most: (linear: Linear, role: Role) => number,
): Promise<Part[]> {
  const { device } = streams, parts: Part[] = [], all = new Map<string, PooledMoments>();
  let latest: { input: unknown; values: Float32Array } | undefined; // neighbours meet the same
  await eachInput(streams, weights, run, async ({ names, width, input, first, count, group }) => {
    const moments = all.get(names[0]) ?? new PooledMoments(device, width, centred);
    for (const name of names) all.set(name, moments);
    if (count === 0) return;
    if (latest?.input !== input) latest = { input, values: await device.read(input) };
    await moments.add(latest.values, input.shape[1], first, count, group, `${where}, ${names.join(" and ")}`);
  });
  latest = undefined;
  const finished = new Map<PooledMoments, InputMoments | undefined>();
  for (const linear of run) {
    const pooled = all.get(linear.name)!;
    if (!finished.has(pooled)) finished.set(pooled, await pooled.finish());
    const moments = finished.get(pooled);
    if (!moments) {
      const none = { vectors: new Float32Array(), reduced: new Float32Array(), mean: new Float32Array() };
      parts.push({ tokens: 0, values: new Float64Array(), energy: 0, ...none });
      continue;
    }
    using matrix = await loadWide(device, linear.weight);
    const basis = await featureBasis(device, matrix, moments, most(linear, roleOf(linear.name)!), `${where}, ${linear.name}`);
    parts.push({ tokens: moments.tokens, ...basis });
  }
  return parts;
}
