/**
 * The weights of a model, whole or compressed, for whoever counts them.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { BYTES, type MatrixSource, type TensorSource } from "../device/device.ts";
import { matrixParts } from "../device/matrix_parts.ts";
import { matrixShape } from "../device/matrix_shape.ts";
import { largestRank, type RankPlan } from "../decompose/allocate_ranks.ts";
import { checkRanks } from "../decompose/decompose_experts.ts";
import type { BasedSource } from "../model/based_source.ts";
import { type DescribedModel, describedModel } from "../model/described_model.ts";
import { expect } from "../model/expect.ts";
import { type Expert, moeLayers } from "../model/model.ts";
import { checkPlan, type PruningPlan } from "../model/prune_experts.ts";

/** What is taken out: a plan, or the share of each layer's experts; ranks of the experts that are left, or their average. */
export interface Compression {
  pruning?: PruningPlan | number;
  ranks?: RankPlan | number;
}

/** What a weight belongs to. */
export type ModelPart = "embedding" | "attention" | "norms" | "dense layers" | "routers" | "shared experts" | "experts" | "head";

/** Weights that are counted together. */
export interface CountedWeights {
  part: ModelPart;
  parameters: number;
  /** In the types that they are saved in. */
  bytes: number;
  /** Of these parameters, the share that one token uses. */
  share: number;
}

/**
 * All weights that are left of a model.
 *
 * @param purpose Begins the message, such as "count parameters".
 * @throws {Error} If the config is not of a known architecture.
 * @throws {RangeError} If the plan does not fit.
 */
export function countedWeights(
  config: Readonly<Record<string, unknown>> | DescribedModel,
  plan: Compression | PruningPlan,
  purpose: string,
): CountedWeights[] {
  expect(isObject(config), purpose, "a parsed config.json or a model", config);
  expect(isObject(plan), purpose, "a plan, or what is taken out", plan);
  const model = "layers" in config && "embedding" in config ? config as DescribedModel : describedModel(config as Record<string, unknown>);
  const { pruning, ranks }: Compression = "layers" in plan ? { pruning: plan } : plan, { hidden, moe } = model.config;
  if (typeof pruning !== "number" && pruning !== undefined) checkPlan(model, pruning, purpose);
  if (typeof ranks !== "number" && ranks !== undefined) checkRanks(model, ranks, purpose);
  if (typeof ranks === "number" && !(ranks >= 1)) throw new RangeError(`Cannot ${purpose}: "ranks" must be at least 1, received ${ranks}`);
  const counted: CountedWeights[] = [];
  const add = (part: ModelPart, parameters: number, bytes: number, share = 1) => counted.push({ part, parameters, bytes, share });
  for (const [part, tensor] of plainTensors(model)) add(part, sizeOf(tensor), bytesOf(tensor));
  for (const { index, block } of moeLayers(model)) {
    const dropped = droppedOf(pruning, index, block.experts.map((e) => e.id), purpose);
    const kept = block.experts.filter((e) => !dropped.has(e.id));
    if (kept.length === 0) throw new RangeError(`Cannot ${purpose}: "pruning" leaves layer ${index} without experts`);
    const choices = kept.length + (block.constants?.ids.length ?? 0), share = Math.min(1, moe.topK / choices), users = usersOf(kept);
    /** What several experts have is counted with the first of them. */
    const countOnce = (part: TensorSource) => {
      const count = users.get(part);
      if (count !== undefined) add("experts", sizeOf(part), bytesOf(part), Math.min(1, share * count));
      users.delete(part);
    };
    add("routers", choices * hidden, choices * bytesOf(block.router) / block.router.shape[0]);
    if (block.constants) add("experts", sizeOf(block.constants.outputs), bytesOf(block.constants.outputs), share);
    for (const { id, gate, up, down, biases } of kept) {
      for (const bias of Object.values(biases ?? {})) countOnce(bias);
      const rank = typeof ranks === "number"
        ? ranks
        : ranks?.layers.find((l) => l.layer === index)?.experts.find((e) => e.expert === id)?.rank;
      for (const matrix of [gate, up, down]) {
        const parts = partsOf(matrix),
          count = parts.reduce((n, part) => n + sizeOf(part), 0),
          bytes = parts.reduce((n, part) => n + bytesOf(part), 0);
        const [rows, columns] = matrixShape(matrix);
        if (rank !== undefined && rank <= largestRank(rows, columns)) {
          const factored = rank * (rows + columns);
          add("experts", factored, bytes / count * factored, share);
        } else {
          parts.forEach(countOnce);
        }
      }
    }
  }
  return counted;
}

/** Everything but routers and routed experts. A tied head counts once, as the embedding. */
function plainTensors({ embedding, norm, head, layers }: DescribedModel): [ModelPart, TensorSource][] {
  const named = (part: ModelPart, tensors: readonly (TensorSource | undefined)[]): [ModelPart, TensorSource][] =>
    tensors.flatMap((tensor) => tensor ? [[part, tensor]] : []);
  return [
    ...named("embedding", [embedding]),
    ...named("norms", [norm]),
    ...named("head", head === embedding ? [] : [head]),
    ...layers.flatMap(({ inputNorm, outputNorm, attention, block }) => {
      const { gate, up, down } = block.kind === "dense" ? block : block.shared ?? {},
        scale = block.kind === "moe" ? block.shared?.scale : undefined;
      return [
        ...named("norms", [inputNorm, outputNorm]),
        ...named("attention", Object.values(attention).flatMap(matrixParts)),
        ...named(block.kind === "dense" ? "dense layers" : "shared experts", [gate, up, down, scale]),
      ];
    }),
  ];
}

function droppedOf(pruning: Compression["pruning"], layer: number, ids: number[], purpose: string): Set<number> {
  if (typeof pruning === "number") {
    if (!(pruning >= 0 && pruning < 1)) {
      throw new RangeError(`Cannot ${purpose}: "pruning" must be at least 0 and below 1, received ${pruning}`);
    }
    return new Set(ids.slice(ids.length - Math.floor(pruning * ids.length + 0.5)));
  }
  return new Set(pruning?.layers.find((l) => l.layer === layer)?.drop);
}

/** What a matrix is stored as. */
function partsOf(matrix: MatrixSource): readonly TensorSource[] {
  return "terms" in matrix ? Object.values((matrix as BasedSource).terms) : matrixParts(matrix);
}

/** How many experts have each stored matrix or bias. */
function usersOf(experts: readonly Expert[]): Map<TensorSource, number> {
  const users = new Map<TensorSource, number>();
  for (const part of experts.flatMap(({ gate, up, down, biases = {} }) => [gate, up, down, ...Object.values(biases)].flatMap(partsOf))) {
    users.set(part, (users.get(part) ?? 0) + 1);
  }
  return users;
}

function sizeOf({ shape }: TensorSource): number {
  return shape.reduce((a, b) => a * b, 1);
}

function bytesOf(tensor: TensorSource): number {
  return sizeOf(tensor) * BYTES[tensor.origin ?? tensor.dtype];
}
