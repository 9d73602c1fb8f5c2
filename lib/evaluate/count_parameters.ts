/**
 * The size of a model.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { BYTES, type MatrixSource, type TensorSource } from "../device/device.ts";
import { largestRank, type RankPlan } from "../decompose/allocate_ranks.ts";
import { checkRanks } from "../decompose/decompose_experts.ts";
import { assembleModel } from "../model/assemble_model.ts";
import { keptLayers } from "../model/kept_layers.ts";
import { type Model, moeLayers } from "../model/model.ts";
import { expect } from "../model/expect.ts";
import { parseConfig } from "../model/parse_config.ts";
import { checkPlan, type PruningPlan } from "../model/prune_experts.ts";

export interface ParameterCount {
  /** All parameters. */
  total: number;
  /** Those that one token uses: of each layer's experts, topK of average size. */
  active: number;
  /** Those of the routed experts. */
  experts: number;
  /** Of all parameters, in the types that they are saved in. */
  bytes: number;
}

/** The part of a model that counts. */
type Described = Pick<Model, "config" | "embedding" | "layers" | "norm" | "head">;

/** What is taken out: a plan, or the share of each layer's experts; ranks of the experts that are left, or their average. */
export interface Compression {
  pruning?: PruningPlan | number;
  ranks?: RankPlan | number;
}

/**
 * Counts the parameters that a config.json describes, whole or compressed. No weights are needed.
 *
 * @param config A parsed config.json, or a model.
 * @param plan What is taken out. A bare pruning plan will do.
 * @throws {Error} If the config is not of a known architecture.
 * @throws {RangeError} If the plan does not fit.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const config = JSON.parse(await Deno.readTextFile("notebooks/checkpoints/tiny-mixtral/config.json"));
 * assertEquals(countParameters(config).total, 2823296);
 * assertEquals(countParameters(config, { pruning: 0.25 }).experts, 0.75 * countParameters(config).experts);
 * ```
 */
export function countParameters(
  config: Readonly<Record<string, unknown>> | Described,
  plan: Compression | PruningPlan = {},
): ParameterCount {
  const purpose = "count parameters";
  expect(isObject(config), purpose, "a parsed config.json or a model", config);
  expect(isObject(plan), purpose, "a plan, or what is taken out", plan);
  const model = "layers" in config && "embedding" in config ? config as Described : described(config as Record<string, unknown>);
  const { pruning, ranks }: Compression = "layers" in plan ? { pruning: plan } : plan, { hidden, moe } = model.config;
  if (typeof pruning !== "number" && pruning !== undefined) checkPlan(model, pruning, purpose);
  if (typeof ranks !== "number" && ranks !== undefined) checkRanks(model, ranks, purpose);
  if (typeof ranks === "number" && !(ranks >= 1)) throw new RangeError(`Cannot ${purpose}: "ranks" must be at least 1, received ${ranks}`);
  const largest = largestRank(hidden, moe.intermediate);
  const sum: ParameterCount = { total: 0, active: 0, experts: 0, bytes: 0 };
  const add = (count: number, bytes: number, share: number, routed = false) => {
    sum.total += count, sum.bytes += bytes, sum.active += count * share;
    if (routed) sum.experts += count;
  };
  for (const tensor of plainTensors(model)) add(sizeOf(tensor), bytesOf(tensor), 1);
  for (const { index, block } of moeLayers(model)) {
    const all = block.experts.map((e) => e.id), dropped = droppedOf(pruning, index, all);
    const kept = block.experts.filter((e) => !dropped.has(e.id));
    if (kept.length === 0) throw new RangeError(`Cannot ${purpose}: "pruning" leaves layer ${index} without experts`);
    const share = Math.min(1, moe.topK / kept.length);
    add(kept.length * hidden, kept.length * bytesOf(block.router) / block.experts.length, 1);
    for (const { id, gate, up, down } of kept) {
      const rank = typeof ranks === "number"
        ? ranks
        : ranks?.layers.find((l) => l.layer === index)?.experts.find((e) => e.expert === id)?.rank;
      for (const matrix of [gate, up, down]) {
        const parts = partsOf(matrix),
          count = parts.reduce((n, part) => n + sizeOf(part), 0),
          bytes = parts.reduce((n, part) => n + bytesOf(part), 0);
        const factored = rank === undefined || rank > largest ? count : rank * (hidden + moe.intermediate);
        add(factored, bytes / count * factored, share, true);
      }
    }
  }
  return { ...sum, active: Math.round(sum.active) };
}

/** A model without weights: tensors that have a type and a shape. */
function described(raw: Record<string, unknown>): Described {
  const config = parseConfig(raw), names = { float32: "F32", bfloat16: "BF16", float16: "F16" } as const;
  const dtype = names[(raw.dtype ?? raw.torch_dtype) as keyof typeof names] ?? "BF16";
  const none = () => Promise.reject(new Error("Cannot read a weight of a model that is only described by its config"));
  return {
    config,
    ...assembleModel(config, (_, shape) => ({ dtype, shape, read: none, readRows: none }), keptLayers(config, "the config")),
  };
}

/** Everything but routers and routed experts. A tied head counts once. */
function plainTensors({ embedding, norm, head, layers }: Described): TensorSource[] {
  return [...new Set([embedding, norm, head])].concat(layers.flatMap(({ inputNorm, outputNorm, attention, block }) => {
    const { gate, up, down } = block.kind === "dense" ? block : block.shared ?? {},
      scale = block.kind === "moe" ? block.shared?.scale : undefined;
    return [inputNorm, outputNorm, ...Object.values(attention), gate, up, down, scale].filter((tensor) => tensor !== undefined);
  }));
}

function droppedOf(pruning: Compression["pruning"], layer: number, ids: number[]): Set<number> {
  if (typeof pruning === "number") {
    if (!(pruning >= 0 && pruning < 1)) {
      throw new RangeError(`Cannot count parameters: "pruning" must be at least 0 and below 1, received ${pruning}`);
    }
    return new Set(ids.slice(ids.length - Math.floor(pruning * ids.length + 0.5)));
  }
  return new Set(pruning?.layers.find((l) => l.layer === layer)?.drop);
}

function partsOf(matrix: MatrixSource): TensorSource[] {
  return "left" in matrix ? [matrix.left, matrix.right] : [matrix];
}

function sizeOf({ shape }: TensorSource): number {
  return shape.reduce((a, b) => a * b, 1);
}

function bytesOf(tensor: TensorSource): number {
  return sizeOf(tensor) * BYTES[tensor.origin ?? tensor.dtype];
}
