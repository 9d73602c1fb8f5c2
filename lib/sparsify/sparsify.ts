/**
 * Sparse models.
 *
 * @module
 */

import { Scratch } from "../checkpoint/scratch.ts";
import { BYTES, type Device, type TensorSource } from "../device/device.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Sequences } from "../model/batch.ts";
import { loadLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { advance } from "../model/stage_options.ts";
import { type InputSums, inputSums } from "./input_sums.ts";
import { linearRuns } from "./linear_runs.ts";
import { expectWholeMatrices, type Linear, mapLinears } from "./linears.ts";
import { maskLinear, type PrunedLinear, prunedSource, updateLinear } from "./prune_linear.ts";
import { ResidualStreams } from "./residual_streams.ts";
import { type InputCurvature, inputCurvature } from "./sparse_gpt.ts";
import { type Carrier, type PlannedLayer, planOf, type SparsifyOptions } from "./sparsify_options.ts";

/** What became of one linear. */
export interface SparseLinear {
  layer: number;
  /** Within its layer, such as "attention/q_proj" or "experts/3/gate/left". */
  linear: string;
  entries: number;
  /** Those that are exactly 0. */
  zeros: number;
  /** Tokens that it met in calibration; 0 means that it was pruned by its weights alone, null that it always is (magnitude). */
  tokens: number | null;
}

/** A model whose linears have exact zeros. Dispose it when it, and models made from it, are no longer needed. */
export interface SparseModel extends Model, Disposable {
  sparsification: SparseLinear[];
}

/**
 * Sets weights of linears to exactly 0: of attention projections, dense networks, shared and routed experts; routers, gates of shared experts, norms,
 * embeddings and head stay as they are. Block by block, inputs are those that the pruned blocks before and the still dense block itself give; those of a
 * routed expert are its own tokens'.
 *
 * - `magnitude`: the lowest |w| of each output row. Tokens are not used.
 * - `wanda` ([arXiv 2306.11695](https://arxiv.org/abs/2306.11695)): the lowest |w| · ‖x‖ of each output row.
 * - `moe-pruner` ([arXiv 2410.12013](https://arxiv.org/abs/2410.12013)): the same, with the inputs of routed experts times the expert's share of the
 *   token's routing weights.
 * - `sparsegpt` ([arXiv 2301.00774](https://arxiv.org/abs/2301.00774)): chosen by the curvature of the output's error, and other weights make up for what
 *   goes; see {@linkcode SparsifyOptions.damping}.
 *
 * Row by row exactly ⌊in · sparsity⌋ weights go, by SparseGPT ⌊size · sparsity⌋ of each block of columns; with a pattern n of every m neighbours along the
 * input. Equal scores: the first goes. An expert without tokens is pruned by |w|. The factors of low-rank experts are linears of their own.
 *
 * A layer's weights are read once for statistics; of SparseGPT's sums `[in, in]` at most 1 GiB is held (more only for a single linear), and streams run
 * through a layer once for each such run. Masks take a bit a weight, changed weights four bytes, in memory up to 512 MiB and in a temporary file beyond.
 * Saved, weights have the types that they had.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @throws {TypeError} If an option is none of its kind.
 * @throws {RangeError} If there are no tokens, an id is outside the vocabulary, an amount or option is out of range, or a linear's inputs are no multiple of
 * the pattern's m.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * using sparse = await sparsify(device, model, tokens, { carrier: "wanda", pattern: { n: 2, m: 4 } });
 * assertEquals(sparse.sparsification.every(({ entries, zeros }) => zeros === entries / 2), true);
 * ```
 */
export async function sparsify(device: Device, model: Model, sequences: Sequences, options: SparsifyOptions = {}): Promise<SparseModel> {
  expectStage(device, model, "sparsify", options);
  expectWholeMatrices(model, "sparsify");
  const plan = planOf(model, options), { carrier = "moe-pruner" } = options;
  const scratch = new Scratch();
  try {
    using streams = new ResidualStreams(device, model, sequences, options.signal);
    if (carrier !== "magnitude" && streams.tokens === 0) throw new RangeError("Cannot sparsify: there are no tokens");
    return await sparsified(streams, plan, scratch, carrier, options);
  } catch (error) {
    scratch[Symbol.dispose]();
    throw error;
  }
}

async function sparsified(
  streams: ResidualStreams,
  plan: readonly PlannedLayer[],
  scratch: Scratch,
  carrier: Carrier,
  options: SparsifyOptions,
): Promise<SparseModel> {
  const { model } = streams, { resume } = options, layers: DecoderLayer[] = [], sparsification: SparseLinear[] = [];
  const total = plan.reduce((sum, { linears }) => sum + linears.length, 0);
  let done = 0;
  const report = () => advance(options, { stage: "sparsify", done, total, unit: "matrices" });
  for (const { layer, amount, linears } of plan) {
    const part = ({ name }: Linear) => `layer ${layer.index}, ${name}`, sources = new Map<string, TensorSource>();
    const about = new Map<string, Pick<PrunedLinear, "zeros" | "tokens">>();
    const add = async (linear: Linear, pruned: PrunedLinear) => {
      sources.set(linear.name, await prunedSource(linear, pruned, scratch));
      about.set(linear.name, { zeros: pruned.zeros, tokens: pruned.tokens });
      done++;
    };
    const missing: Linear[] = [];
    for (const linear of linears) {
      const kept = await resume?.get(part(linear)) as PrunedLinear | undefined;
      await (kept ? add(linear, kept) : missing.push(linear));
    }
    for await (const { linear, pruned } of prunedLinears(streams, { layer, amount, linears: missing }, layers, carrier, options, report)) {
      await resume?.put(part(linear), pruned);
      await add(linear, pruned);
    }
    layers.push(mapLinears(layer, ({ name, weight }) => sources.get(name) ?? weight));
    for (const { name, weight: { shape: [rows, columns] } } of linears) {
      sparsification.push({ layer: layer.index, linear: name, entries: rows * columns, ...about.get(name)! });
    }
  }
  await report();
  return { ...model, layers, sparsification, [Symbol.dispose]: () => scratch[Symbol.dispose]() };
}

/** Prunes linears of a layer, one after the other. @param before The layers before it, pruned. */
async function* prunedLinears(
  streams: ResidualStreams,
  { layer, amount, linears }: PlannedLayer,
  before: readonly DecoderLayer[],
  carrier: Carrier,
  { damping = 0.01, blockSize = 128, signal }: SparsifyOptions,
  report: () => Promise<void>,
): AsyncGenerator<{ linear: Linear; pruned: PrunedLinear }> {
  const { device, model } = streams, whereOf = ({ name }: Linear) => `sparsify layer ${layer.index}, ${name}`;
  if (linears.length === 0) return;
  await report();
  if (carrier === "magnitude") {
    for (const linear of linears) {
      await report();
      yield { linear, pruned: await maskLinear(linear, amount, undefined, whereOf(linear)) };
    }
    return;
  }
  await streams.takeThrough(before);
  using weights = await loadLayer(device, model.config, layer);
  const kind = ({ "wanda": "squares", "moe-pruner": "gated squares", "sparsegpt": "products" } as const)[carrier];
  for (const run of kind === "products" ? linearRuns(linears, BYTES.F32) : [linears]) {
    using stack = new DisposableStack();
    const sums = await inputSums(streams, weights, run, kind, stack);
    let latest: { sum: InputSums; curvature: InputCurvature } | undefined; // neighbours meet the same
    for (const linear of run) {
      await report();
      const sum = sums.get(linear.name)!, where = whereOf(linear), columns = linear.weight.shape[1];
      if (kind !== "products") yield { linear, pruned: await maskLinear(linear, amount, sum, where) };
      else {
        if (latest?.sum !== sum) {
          const products = sum.products && await device.read(sum.products);
          latest = { sum, curvature: inputCurvature(products, columns, damping) };
        }
        yield { linear, pruned: await updateLinear(device, linear, amount, sum, latest.curvature, blockSize, where, signal) };
      }
    }
  }
}
