/** One layer of experts on random weights, as the peers make it: `search` and `importance`. */

import type { Device, FitnessInputs, Tensor, TensorSource } from "../../lib/device/device.ts";
import { widen } from "../../lib/device/cpu/widen.ts";
import { layerFitness } from "../../lib/importance/layer_fitness.ts";
import { batchTokens } from "../../lib/model/batch.ts";
import { type LoadedMoe, loadMoe } from "../../lib/model/load_layer.ts";
import type { ModelConfig } from "../../lib/model/parse_config.ts";
import { bf16 } from "../numbers.ts";
import type { Scale } from "./row.ts";

export interface LayerShape {
  hidden: number;
  intermediate: number;
  experts: number;
  topK: number;
  renormalise: boolean;
  /** Experts that a candidate drops: a quarter. */
  drop: number;
}

export const LAYERS = {
  qwen: { hidden: 2048, intermediate: 1408, experts: 60, topK: 4, renormalise: false, drop: 15 },
  deepseek: { hidden: 2048, intermediate: 1408, experts: 64, topK: 6, renormalise: false, drop: 16 },
  mixtral: { hidden: 4096, intermediate: 14336, experts: 8, topK: 2, renormalise: true, drop: 2 },
} satisfies Record<string, LayerShape>;

export type LayerName = keyof typeof LAYERS;

export interface BenchLayer extends Disposable {
  config: ModelConfig;
  moe: LoadedMoe;
  tokens: number;
  /** Inputs `[tokens, hidden]`. */
  values: Float32Array;
}

export const TOKENS: Readonly<Record<Scale, number>> = { small: 256, full: 4096 };

/** A layer of this shape on the device, and inputs for it; all numbers follow from the name. */
export async function benchLayer(device: Device, name: string, shape: LayerShape, tokens: number): Promise<BenchLayer> {
  const { hidden, intermediate, experts, topK, renormalise } = shape;
  const source = (part: string, rows: number, columns: number): TensorSource => ({
    dtype: "BF16",
    shape: [rows, columns],
    read: (into) => Promise.resolve(into.set(bytes(`${name}.${part}.weight`, rows * columns, Math.sqrt(3 / columns)))),
  });
  const moe = await loadMoe(device, {
    kind: "moe",
    router: source("gate", experts, hidden),
    experts: Array.from({ length: experts }, (_, id) => ({
      id,
      gate: source(`experts.${id}.gate_proj`, intermediate, hidden),
      up: source(`experts.${id}.up_proj`, intermediate, hidden),
      down: source(`experts.${id}.down_proj`, hidden, intermediate),
    })),
  });
  const values = new Float32Array(tokens * hidden);
  widen(bytes(`${name}.x`, values.length, Math.sqrt(3)), "BF16", 0, values);
  const config = { hidden, moe: { experts, topK, intermediate, renormalise, scale: 1, shared: 0 } } as ModelConfig;
  return { config, moe, tokens, values, [Symbol.dispose]: () => moe[Symbol.dispose]() };
}

function bytes(name: string, length: number, scale: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bf16(name, length, scale).buffer);
}

/** The layer's inputs in the chunks of tokens that the library would take. */
export function* chunks(device: Device, { config: { hidden }, tokens, values }: BenchLayer, most: number): Generator<Tensor> {
  for (let start = 0; start < tokens; start += most) {
    const rows = Math.min(most, tokens - start);
    using input = device.tensor(values.slice(start * hidden, (start + rows) * hidden), [rows, hidden]);
    yield input;
  }
}

/** The layer ready for pricing: what lies between loaded weights and the first price. */
export async function preparedLayer(device: Device, layer: BenchLayer, ranks: number, stack: DisposableStack): Promise<FitnessInputs[]> {
  const parts: FitnessInputs[] = [];
  for (const input of chunks(device, layer, batchTokens(layer.config, ranks))) {
    parts.push(stack.use(layerFitness(device, layer.config, layer.moe, input, ranks)));
  }
  await device.sync();
  return parts;
}

/**
 * Work to prepare a layer, by what was computed: 6 · hidden · intermediate operations for an expert's output for a token (three matrices, a multiplication and an
 * addition for each element), 2 · hidden · experts for a token's router, hidden · ranks · (ranks + 1) for its inner products, which are symmetric. Bytes: the
 * weights once in bf16, the inputs once, the inner products once.
 *
 * @param outputs Outputs of experts that were computed, over all tokens.
 */
export function preparationWork(
  { hidden, intermediate, experts }: LayerShape,
  tokens: number,
  ranks: number,
  outputs: number,
): { flops: number; bytes: number } {
  return {
    flops: outputs * 6 * hidden * intermediate + tokens * (2 * hidden * experts + hidden * ranks * (ranks + 1)),
    bytes: 2 * experts * (3 * hidden * intermediate + hidden) + 4 * tokens * (hidden + ranks * ranks),
  };
}
