/** The heavy steps on random weights that the PyTorch peers make as well: each gives its time and a check that two right programs agree on. */

import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { narrow } from "../../lib/checkpoint/narrow.ts";
import type { Device, Tensor, TensorSource } from "../../lib/device/device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { adamStep } from "../../lib/finetune/adam_step.ts";
import { createAdapters } from "../../lib/finetune/adapters.ts";
import { LayerStore } from "../../lib/model/layer_store.ts";
import { lossGradients } from "../../lib/finetune/loss_gradients.ts";
import { Parameters } from "../../lib/finetune/parameters.ts";
import { layerFitness } from "../../lib/importance/layer_fitness.ts";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { batchSequences, batchTokens } from "../../lib/model/batch.ts";
import { loadMoe } from "../../lib/model/load_layer.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import type { DecoderLayer } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import type { ModelConfig } from "../../lib/model/parse_config.ts";
import { bits, seedOf, tokenIds, uniform } from "../numbers.ts";

/** Seconds of each run of one unit, and what must agree. */
export interface Measured {
  seconds: number[];
  /** Number that depends on the result. */
  check: number;
  /** Seconds of work before the first unit. */
  setup?: number;
}

export type Scale = "small" | "full";

const LAYERS = {
  qwen: { hidden: 2048, intermediate: 1408, experts: 60, topK: 4, renormalise: false, drop: 15 },
  deepseek: { hidden: 2048, intermediate: 1408, experts: 64, topK: 6, renormalise: false, drop: 16 },
  mixtral: { hidden: 4096, intermediate: 14336, experts: 8, topK: 2, renormalise: true, drop: 2 },
};

export type LayerName = keyof typeof LAYERS;

async function timed<T>(work: () => Promise<T> | T): Promise<[T, number]> {
  const start = performance.now(), result = await work();
  return [result, (performance.now() - start) / 1000];
}

/** Runs the work once, to let the engine compile it, and then so many times. */
async function repeated<T>(count: number, work: () => Promise<T>): Promise<[T, number[]]> {
  const result = await work(), seconds: number[] = [];
  while (seconds.length < count) seconds.push((await timed(work))[1]);
  return [result, seconds];
}

/** A layer's experts and inputs, one chunk of tokens at a time. */
async function withLayer<T>(
  device: Device,
  name: LayerName,
  scale: Scale,
  run: (layer: Awaited<ReturnType<typeof makeLayer>>) => Promise<T>,
): Promise<T> {
  const layer = await makeLayer(device, name, scale);
  using _moe = layer.moe;
  using _x = layer.x;
  return await run(layer);
}

async function makeLayer(device: Device, name: LayerName, scale: Scale) {
  const { hidden, intermediate, experts, topK, renormalise, drop } = LAYERS[name], tokens = scale === "full" ? 4096 : 256;
  const source = (part: string, rows: number, columns: number): TensorSource => ({
    dtype: "BF16",
    shape: [rows, columns],
    read: (into) => Promise.resolve(into.set(narrow(uniform(`${name}.${part}.weight`, rows * columns, Math.sqrt(3 / columns)), "BF16"))),
  });
  const block = {
    kind: "moe" as const,
    router: source("gate", experts, hidden),
    experts: Array.from({ length: experts }, (_, id) => ({
      id,
      gate: source(`experts.${id}.gate_proj`, intermediate, hidden),
      up: source(`experts.${id}.up_proj`, intermediate, hidden),
      down: source(`experts.${id}.down_proj`, hidden, intermediate),
    })),
  };
  const config = { hidden, moe: { experts, topK, intermediate, renormalise, scale: 1, shared: 0 } } as ModelConfig;
  // Inputs are bf16 numbers too.
  const x = uniform(`${name}.x`, tokens * hidden, Math.sqrt(3)), words = new Uint32Array(x.buffer);
  new Uint16Array(narrow(x, "BF16").buffer).forEach((half, i) => words[i] = half << 16);
  return { config, drop, tokens, moe: await loadMoe(device, block), x: device.tensor(x, [tokens, hidden]), values: x };
}

/** The layer's inputs ready for pricing, in the chunks that the library would take. */
function prepare(
  device: Device,
  { config, moe, values, tokens }: Awaited<ReturnType<typeof makeLayer>>,
  ranks: number,
  stack: DisposableStack,
) {
  const most = batchTokens(config, ranks), { hidden } = config;
  return Array.from({ length: Math.ceil(tokens / most) }, (_, i) => {
    const rows = Math.min(most, tokens - i * most);
    using input = device.tensor(values.slice(i * most * hidden, (i * most + rows) * hidden), [rows, hidden]);
    return stack.use(layerFitness(device, config, moe, input, ranks));
  });
}

/** Seconds a candidate of a population of 100 sets of dropped experts; the check is the sum of the first three losses. */
export function search(device: Device, name: LayerName, scale: Scale, repeat: number): Promise<Measured> {
  return withLayer(device, name, scale, async (layer) => {
    using stack = new DisposableStack();
    const { drop } = layer, { experts, topK } = layer.config.moe, seed = seedOf(`${name}.candidates`);
    const sets = Array.from({ length: 100 }, (_, c) => {
      const keys = Array.from({ length: experts }, (_, e) => bits(seed, c * experts + e));
      return [...keys.keys()].sort((a, b) => keys[a] - keys[b] || a - b).slice(0, drop).sort((a, b) => a - b);
    });
    const [parts, setup] = await timed(async () => {
      const prepared = prepare(device, layer, topK + drop, stack);
      await device.sync();
      return prepared;
    });
    const [losses, seconds] = await repeated(repeat, async () => {
      const squares = new Float64Array(sets.length);
      for (const part of await Promise.all(parts.map((part) => device.fitness(part, sets)))) part.forEach((v, i) => squares[i] += v);
      return squares.map(Math.sqrt);
    });
    return { seconds: seconds.map((s) => s / sets.length), check: losses[0] + losses[1] + losses[2], setup };
  });
}

/** Seconds for the leave-one-out importance of all experts of a layer; the check is their sum. */
export function importance(device: Device, name: LayerName, scale: Scale, repeat: number): Promise<Measured> {
  return withLayer(device, name, scale, async (layer) => {
    const [scores, seconds] = await repeated(repeat, async () => {
      using stack = new DisposableStack();
      const parts = prepare(device, layer, layer.config.moe.topK + 1, stack), squares = new Float64Array(layer.moe.ids.length);
      for (const part of await Promise.all(parts.map((part) => device.fitness(part, layer.moe.ids.map((_, i) => [i]))))) {
        part.forEach((v, i) => squares[i] += v);
      }
      return squares.map(Math.sqrt);
    });
    return { seconds, check: scores.reduce((a, b) => a + b) };
  });
}

/** Seconds a matrix for the truncated SVD of expert matrices; the check is the relative error over all of them. */
export async function svd(device: Device, spectrum: "decaying" | "flat", scale: Scale, repeat: number): Promise<Measured> {
  const [count, rows, columns, rank] = scale === "full" ? [8, 1408, 2048, 512] : [2, 352, 512, 128];
  const seconds: number[] = Array(repeat).fill(0);
  let missing = 0, total = 0;
  for (let n = 0; n < count; n++) {
    const values = spectrum === "flat"
      ? rounded(uniform(`svd.flat.${n}`, rows * columns, Math.sqrt(3 / columns)))
      : decaying(`svd.decaying.${n}`, rows, columns);
    using matrix = device.tensor(values, [rows, columns]);
    const [{ relativeError }, times] = await repeated(repeat, () => truncatedSvd(device, matrix, rank));
    times.forEach((s, i) => seconds[i] += s / count);
    const square = values.reduce((s, v) => s + v * v, 0);
    missing += square * relativeError ** 2, total += square;
  }
  return { seconds, check: Math.sqrt(missing / total) };
}

function rounded(values: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const words = new Uint32Array(values.buffer);
  new Uint16Array(narrow(values, "BF16").buffer).forEach((half, i) => words[i] = half << 16);
  return values;
}

/** bf16((U diag(s) Vᵀ + 2^14 N) 2^-31) with s_j = round(1024 j^-0.6); all are small integers, so that float64 sums are exact. */
function decaying(name: string, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const factors = Math.min(rows, columns) / 2,
    strength = Float64Array.from({ length: factors }, (_, j) => Math.round(1024 * (j + 1) ** -0.6));
  const normal = (part: string, length: number) => {
    const seed = seedOf(`${name}.${part}`);
    return Float64Array.from({ length }, (_, i) => {
      const b = bits(seed, i);
      return (b & 255) + (b >>> 8 & 255) + (b >>> 16 & 255) + (b >>> 24) - 510;
    });
  };
  const u = normal("u", rows * factors), v = normal("v", columns * factors), noise = normal("n", rows * columns);
  for (let i = 0; i < u.length; i++) u[i] *= strength[i % factors];
  return rounded(Float32Array.from(noise, (n, at) => {
    const i = Math.floor(at / columns) * factors, j = (at % columns) * factors;
    let sum = n * 2 ** 14;
    for (let k = 0; k < factors; k++) sum += u[i + k] * v[j + k];
    return sum * 2 ** -31;
  }));
}

/** Seconds for a forward pass over a batch, weights read from disk layer by layer; the check is the mean token loss. */
export async function forward(device: Device, folder: string, batch: number, length: number, repeat: number): Promise<Measured> {
  const model = await openModel(folder), ids = tokenIds("forward.tokens", batch * length, model.config.vocabulary);
  const sequences = Array.from({ length: batch }, (_, i) => ids.subarray(i * length, (i + 1) * length));
  const [{ nll }, seconds] = await repeated(repeat, () => perplexity(device, model, sequences));
  return { seconds, check: nll };
}

/** Seconds for a calibration pass over a checkpoint; the check is the number of assignments counted. */
export async function calibration(device: Device, folder: string, repeat: number): Promise<Measured> {
  const model = await openModel(folder), ids = tokenIds("calibrate.tokens", 4 * 256, model.config.vocabulary);
  const sequences = [0, 1, 2, 3].map((i) => ids.subarray(i * 256, (i + 1) * 256));
  const [counted, seconds] = await repeated(repeat, async () => {
    using trace = await calibrate(device, model, sequences);
    return trace.layers.reduce((n, l) => l.counts.reduce((a, b) => a + b, n), 0);
  });
  return { seconds, check: counted };
}

/** Seconds for a LoRA step on 8 x 128 tokens: rank 8 on attention and experts; the check is the loss after ten steps. */
export async function loraStep(device: Device, folder: string, repeat: number): Promise<Measured> {
  const model = await openModel(folder), rank = 8, targets = ["attention", "experts"] as const;
  const adapters = createAdapters(model, { rank, alpha: 16, targets, seed: 0 });
  // The peers' first adapters: PyTorch's names, all experts of a kind in one tensor.
  for (const [name, values] of adapters.values) {
    if (!name.endsWith("/down")) continue;
    const [layer, group, part] = name.split("/"),
      columns = group === "attention" || part !== "down" ? model.config.hidden : model.config.moe.intermediate;
    const module = `model.layers.${layer}.${group === "attention" ? `self_attn.${part}` : `mlp.experts.${part}`}`;
    values.set(uniform(`lora.${module}.a`, values.length, Math.sqrt(1 / columns)));
  }
  using parameters = new Parameters(device, model, adapters, targets);
  await using store = new LayerStore(device, model, 2 ** 32);
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  const ids = tokenIds("lora.tokens", 8 * 128, model.config.vocabulary);
  const batches = batchSequences(model.config, Array.from({ length: 8 }, (_, i) => ids.subarray(i * 128, (i + 1) * 128)), 8 * 128);
  const gradients = () =>
    lossGradients(device, model, batches, {
      ...{ norm, head, keep: true, load: (layer: DecoderLayer) => store.load(layer) },
      adapters: (layer, weights) => parameters.adapters(layer, weights, { rate: 0, seed: () => 0 }),
      leaves: (layer) => parameters.tensors(layer),
      collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
    });
  const seconds: number[] = [];
  let check = 0;
  for (let step = 1; step <= 10 * repeat; step++) {
    const [, time] = await timed(async () => {
      await gradients();
      await adamStep(device, parameters, Infinity, { learningRate: 1e-3, weightDecay: 0, step });
    });
    seconds.push(time);
    if (step === 10) check = (await gradients()).loss;
  }
  return { seconds, check };
}
