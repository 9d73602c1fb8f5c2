/**
 * Several tuned models over one base.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { type Batch, batchSequences } from "../model/batch.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import { embed } from "../model/embed.ts";
import { expect } from "../model/expect.ts";
import { expectDenseAttention } from "../model/expect_dense_linears.ts";
import { expectOptions, expectStage } from "../model/expect_stage.ts";
import { type LoadedLayer, loadLayer } from "../model/load_layer.ts";
import { loadWide } from "../model/load_wide.ts";
import { denseMatrices } from "../model/dense_matrices.ts";
import { type Model, moeLayers } from "../model/model.ts";
import { advance, type StageOptions } from "../model/stage_options.ts";
import { applyDelta, expectBase } from "./apply_delta.ts";
import type { CompressedDelta, DeltaLinear } from "./compressed_delta.ts";
import { type ServedLayer, servedLayer } from "./served_layer.ts";

/** A sequence for one of the models that are served. */
export interface ServedRequest {
  /** Name of its difference. */
  model: string;
  /** Token ids, the model's BOS first where it has one. */
  sequence: Uint32Array;
}

export interface ServeDeltasOptions extends StageOptions {
  /**
   * Keep all that a model adds on the device, factors in float32, which is faster; else only its head, and what a layer adds comes to the device when requests
   * go through that layer, one model's at a time. @default false
   */
  resident?: boolean;
}

/** Tuned models whose base is on the device once. Dispose it to give that back. */
export interface DeltaServer extends Disposable {
  /** Bytes on the device: of the base, of what each model adds, and the most, so far, that a layer added while
   * requests went through it, where it does not stay. */
  readonly bytes: { base: number; models: Record<string, number>; layer: number };
  /**
   * Logits of each request, `[tokens, vocabulary]`: layer by layer, all requests go through the weights of the base that are there.
   *
   * @throws {RangeError} If there is no such model, a sequence is empty, or an id lies outside the vocabulary.
   */
  logits(requests: readonly ServedRequest[], options?: StageOptions): Promise<Float32Array[]>;
}

/**
 * Serves tuned models together: the base's layers are loaded once and stay, and each model adds what is its own: embedding (read by row), norms, biases,
 * routers, head, and the factors of its differences, which are multiplied on their own, y = W x + U (Σ (V x)). No tuned matrix is ever made. Codes stay packed
 * in memory; on the device, where integers of few bits have no kernel, factors are float32, those of a layer at a time.
 *
 * @param base The model that the differences were taken from.
 * @param deltas By the name under which each is asked for; of singular components, not signs.
 * @throws {TypeError} If an argument is none of its kind.
 * @throws {RangeError} If a difference is of a model of another structure, or was taken from another base.
 * @throws {Error} If a difference is one of signs, or the base has attention of low rank, or experts of low rank or with biases.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { compressDelta } from "./compress_delta.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const [base, tuned] = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * const delta = await compressDelta(device, base, tuned, [], { split: [[16, "rest"]] });
 * using server = await serveDeltas(device, base, { tuned: delta });
 * const [logits] = await server.logits([{ model: "tuned", sequence: Uint32Array.of(0, 385) }]);
 * assertEquals(logits.length, 2 * 1024);
 * ```
 */
export async function serveDeltas(
  device: Device,
  base: Model,
  deltas: Readonly<Record<string, CompressedDelta>>,
  options: ServeDeltasOptions = {},
): Promise<DeltaServer> {
  const purpose = "serve differences";
  expectStage(device, base, purpose, options);
  expect(typeof deltas === "object" && deltas !== null && !Array.isArray(deltas), purpose, "differences by name, in an object", deltas);
  for (const { index, block } of moeLayers(base)) for (const expert of block.experts) denseMatrices(expert, index, purpose);
  expectDenseAttention(base, purpose);
  const models = Object.entries(deltas).map(([name, delta]) => ({ name, delta, model: applyDelta(base, delta) }));
  for (const { name, delta } of models) {
    if (delta.linears.every(({ form }) => Array.isArray(form))) continue;
    throw new Error(`Cannot ${purpose}: "${name}" is one of signs, which are as many as the base's numbers; apply it with applyDelta()`);
  }
  await expectBase(base, Object.values(deltas), purpose);
  const { resident = false } = options;
  expect(typeof resident === "boolean", purpose, 'true or false as "resident"', resident);
  using stack = new DisposableStack();
  const begin = device.live.bytes, total = base.layers.length * (resident ? 1 + models.length : 1);
  let done = 0;
  const report = () => advance(options, { stage: "serve", done, total, unit: "layers" });
  const loaded: LoadedLayer[] = [];
  for (const layer of base.layers) {
    await report();
    loaded.push(stack.use(await loadLayer(device, base.config, layer)));
    done++;
  }
  const bytes: DeltaServer["bytes"] = { base: device.live.bytes - begin, models: {}, layer: 0 }, served = new Map<string, ServedModel>();
  for (const { name, delta, model } of models) {
    const before = device.live.bytes, layers: ServedLayer[] = [];
    const forms = (index: number) =>
      new Map(delta.linears.filter(({ layer }) => layer === index).map((linear): [string, DeltaLinear] => [linear.linear, linear]));
    const load = (l: number, stack: DisposableStack) =>
      servedLayer(device, base.config, loaded[l], model.layers[l], forms(model.layers[l].index), stack);
    if (resident) {
      for (const l of base.layers.keys()) {
        await report();
        layers.push(await load(l, stack));
        done++;
      }
    }
    const ends = { norm: stack.use(await loadWide(device, model.norm)), head: stack.use(await device.load(model.head)) };
    const layer = async (l: number, stack: DisposableStack) => {
      if (resident) return layers[l];
      const start = device.live.bytes, made = await load(l, stack);
      bytes.layer = Math.max(bytes.layer, device.live.bytes - start);
      return made;
    };
    served.set(name, { model, layer, ...ends });
    bytes.models[name] = device.live.bytes - before;
  }
  await report();
  const held = stack.move();
  return {
    bytes,
    logits: (requests, options = {}) => logitsOf(device, base, served, requests, options),
    [Symbol.dispose]: () => held[Symbol.dispose](),
  };
}

interface ServedModel {
  model: Model;
  /** What it adds to a layer; it goes on the stack, unless it is there already. */
  layer(l: number, stack: DisposableStack): Promise<ServedLayer>;
  norm: Tensor;
  head: Tensor;
}

async function logitsOf(
  device: Device,
  { config, layers }: Model,
  served: ReadonlyMap<string, ServedModel>,
  requests: readonly ServedRequest[],
  options: StageOptions,
): Promise<Float32Array[]> {
  const purpose = "compute logits";
  expectOptions(options, purpose);
  expect(Array.isArray(requests), purpose, 'requests, each with the name of its "model" and a "sequence"', requests);
  const asked = requests.map((request): { model: ServedModel; batch: Batch } => {
    expect(request?.sequence?.length !== undefined, purpose, 'a request with a "sequence" of token ids', request);
    const model = served.get(request.model);
    if (!model) {
      throw new RangeError(
        `Cannot ${purpose}: no model "${request.model}" is served, there are ${[...served.keys()].join(", ") || "none"}`,
      );
    }
    return { model, batch: batchSequences(config, [request.sequence], request.sequence.length)[0] };
  });
  using stack = new DisposableStack();
  const streams: Tensor[] = [], results: Float32Array[] = [];
  for (const { model: { model }, batch: { ids } } of asked) streams.push(stack.use(await embed(device, model, ids)));
  for (let l = 0; l < layers.length; l++) {
    await advance(options, { stage: "served logits", done: l, total: layers.length, unit: "layers" });
    for (const [model, mine] of Map.groupBy(asked.entries(), ([, { model }]) => model)) {
      using added = new DisposableStack();
      const { weights, device: own } = await model.layer(l, added);
      for (const [i, { batch }] of mine) forwardLayer(own, config, weights, streams[i], batch.segments);
    }
  }
  for (const [i, { model }] of asked.entries()) {
    using x = device.rmsNorm(streams[i], model.norm, config.normEpsilon);
    using y = device.linear(x, model.head);
    results.push(await device.read(y));
  }
  await advance(options, { stage: "served logits", done: layers.length, total: layers.length, unit: "layers" });
  return results;
}
