/**
 * What stages will hold.
 *
 * @module
 */

import { SEARCH_TOKENS, TRACE_MEMORY } from "../calibrate/calibrate.ts";
import { SCRATCH_MEMORY } from "../checkpoint/scratch.ts";
import { largestRank } from "../decompose/allocate_ranks.ts";
import { BYTES, type MatrixSource } from "../device/device.ts";
import { matrixParts } from "../device/matrix_parts.ts";
import { adapterSites } from "../finetune/adapter_sites.ts";
import { adapterShapes, sizeOf } from "../finetune/adapters.ts";
import { ACTIVATIONS } from "../finetune/finetune.ts";
import { layerBytes, RESIDENT } from "../model/layer_store.ts";
import { STATES } from "../finetune/parameters.ts";
import { checkedRecipe, type Recipe } from "../finetune/recipe.ts";
import { ranksNeeded } from "../importance/layer_fitness.ts";
import { batchTokens, HELD } from "../model/batch.ts";
import { type DescribedModel, describedModel } from "../model/described_model.ts";
import { expect } from "../model/expect.ts";
import { type DecoderLayer, moeLayers } from "../model/model.ts";

/** Something large that a stage holds. */
export interface HeldBytes {
  /** Name of the function. */
  stage: string;
  what: string;
  bytes: number;
  /** Of these, at most so many in memory at a time; the rest lies in a temporary file. Absent where all of it is on the device. */
  inMemory?: number;
}

export interface StageMemoryOptions {
  /** Calibration tokens in all. */
  tokens: number;
  /** As in `calibrate`. @default 32768 */
  searchTokens?: number;
  /** Share of the experts that every layer loses. @default 0.25 */
  ratio?: number;
  /** Rank of the experts that are left. @default none: they stay dense */
  averageRank?: number;
  /** Candidates a layer and layers a block, as in `receptionField`. @default 3 and 3 */
  keep?: number;
  block?: number;
  /** As in `finetune`. @default its own */
  recipe?: Partial<Recipe>;
}

/**
 * The bytes of what is large and follows from the rules of the stages, from a config alone: weights of a layer, residual streams, kept inputs, inner
 * products, factors, adapters with their moments. What a device needs beside it while it computes, such as the activations of one batch of at most 8,192
 * tokens, is not in it.
 *
 * @param config A parsed config.json.
 * @param options How much data there is, and what the stages are told.
 * @returns What each stage holds. The lines of one stage are held together.
 * @throws {Error} If the config is not of a known architecture.
 * @throws {RangeError} If an option makes no sense.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const config = JSON.parse(await Deno.readTextFile("notebooks/checkpoints/tiny-mixtral/config.json"));
 * const held = stageMemory(config, { tokens: 1000 }).find(({ what }) => what === "MoE inputs of all layers");
 * assertEquals(held?.bytes, 4 * 1000 * 128 * 4);
 * ```
 */
export function stageMemory(config: Readonly<Record<string, unknown>>, options: StageMemoryOptions): HeldBytes[] {
  const purpose = "tell what stages hold";
  expect(typeof options === "object" && options !== null, purpose, 'options with "tokens"', options);
  const { tokens, searchTokens = SEARCH_TOKENS, ratio = 0.25, averageRank, keep = 3, block = 3 } = options;
  for (const [name, value] of Object.entries({ tokens, searchTokens, keep, block, averageRank: averageRank ?? 1 })) {
    if (!(Number.isSafeInteger(value) && value > 0)) {
      throw new RangeError(`Cannot ${purpose}: "${name}" must be a positive whole number, received ${value}`);
    }
  }
  const recipe = checkedRecipe(options.recipe ?? {}), whole = describedModel(config), { hidden, moe } = whole.config;
  const layers = moeLayers(whole), drop = Math.floor(ratio * moe.experts + 0.5);
  if (!(drop >= 0 && drop < moe.experts)) {
    throw new RangeError(`Cannot ${purpose}: "ratio" must be at least 0 and leave an expert, received ${ratio}`);
  }
  const rank = averageRank !== undefined && averageRank <= largestRank(hidden, moe.intermediate) ? averageRank : null;
  const left = Array.from({ length: moe.experts - drop }, (_, id) => id);
  const kept = layers.map(({ index }) => ({ layer: index, experts: left, ranks: left.map(() => rank) }));
  const small = withWideFactors(describedModel(config, kept)), largest = Math.max(...whole.layers.map(loadedBytes));
  const stream = 4 * tokens * hidden, inputs = 4 * hidden * Math.min(tokens, searchTokens) * layers.length;
  const factors = moeLayers(small).flatMap(({ block }) => block.experts.flatMap(({ gate, up, down }) => [gate, up, down]));
  return [
    ...[
      { stage: "calibrate", what: "weights of a layer", bytes: largest },
      { stage: "calibrate", what: "residual stream, at most 1 GiB at a time", bytes: Math.min(stream, HELD) },
      { stage: "calibrate", what: "MoE inputs of all layers", bytes: inputs, inMemory: Math.min(inputs, TRACE_MEMORY) },
    ],
    ...searchHeld(whole, Math.min(tokens, searchTokens), drop),
    ...[
      { stage: "receptionField", what: "weights of a layer", bytes: largest },
      { stage: "receptionField", what: "residual streams, dense and pruned", bytes: 2 * stream },
      {
        stage: "receptionField",
        what: "those of a block's choices, at most 1 GiB at a time",
        bytes: Math.min(2 * keep ** (block - 1) * stream, HELD),
      },
    ],
    ...decompositionHeld(factors),
    ...trainingHeld(small, recipe),
  ];
}

/** A model as `decomposeExperts` gives it: factors are in float32 until they are saved. */
function withWideFactors(model: DescribedModel): DescribedModel {
  const wide = (matrix: MatrixSource): MatrixSource => {
    if (!("left" in matrix)) return matrix;
    const { left, right } = matrix;
    return { left: { ...left, dtype: "F32", origin: left.dtype }, right: { ...right, dtype: "F32", origin: right.dtype } };
  };
  const layers = model.layers.map((layer) => {
    if (layer.block.kind === "dense") return layer;
    const experts = layer.block.experts.map((e) => ({ ...e, gate: wide(e.gate), up: wide(e.up), down: wide(e.down) }));
    return { ...layer, block: { ...layer.block, experts } };
  });
  return { ...model, layers };
}

/** Bytes of a layer on a device: matrices as they are stored, vectors in float32. */
export function loadedBytes({ attention, inputNorm, outputNorm, block }: DecoderLayer): number {
  const feedForward = block.kind === "dense" ? [block] : [...block.experts, ...(block.shared ? [block.shared] : [])];
  const routing = block.kind === "dense" ? [] : [block.router, ...(block.shared?.scale ? [block.shared.scale] : [])];
  const [vectors, matrices] = [1, 2].map((dimensions) =>
    Object.values(attention).flatMap(matrixParts).filter(({ shape }) => shape.length === dimensions)
  );
  const biases = block.kind === "dense" ? [] : block.experts.flatMap((e) => Object.values(e.biases ?? {}));
  return bytesOf([...matrices, ...routing, ...feedForward.flatMap(({ gate, up, down }): MatrixSource[] => [gate, up, down])]) +
    [inputNorm, outputNorm, ...vectors, ...biases].reduce((sum, { shape: [count] }) => sum + 4 * count, 0);
}

function bytesOf(tensors: readonly MatrixSource[]): number {
  return [...new Set(tensors.flatMap(matrixParts))]
    .reduce((sum, { dtype, shape }) => sum + BYTES[dtype] * shape.reduce((a, b) => a * b, 1), 0);
}

/** A layer at a time: its experts while inner products are taken, of the outputs of each token's best experts. */
function searchHeld({ config, layers }: DescribedModel, tokens: number, drop: number): HeldBytes[] {
  const { hidden, moe } = config, ranks = ranksNeeded(config, moe.experts, drop), batch = Math.min(tokens, batchTokens(config, ranks));
  const blocks = moeLayers({ layers }).map((layer) => loadedBytes({ ...layer, attention: {} }) - 8 * hidden); // without its two norms
  return [
    { stage: "geneticSearch", what: "experts of a layer", bytes: Math.max(...blocks) },
    { stage: "geneticSearch", what: "their outputs for a batch of tokens", bytes: 4 * batch * ranks * hidden },
    { stage: "geneticSearch", what: "routing and inner products of all tokens", bytes: fitnessBytes(moe.experts, ranks) * tokens },
  ];
}

/** Bytes of a token's fitness inputs: inner products, the ranked experts and their probabilities, all probabilities. */
export function fitnessBytes(experts: number, ranks: number): number {
  return 4 * (ranks * ranks + 2 * ranks + experts);
}

function decompositionHeld(matrices: readonly MatrixSource[]): HeldBytes[] {
  const numbers = matrices.flatMap((matrix) => "left" in matrix ? [matrix.left, matrix.right] : []);
  const bytes = numbers.reduce((sum, { shape: [rows, columns] }) => sum + 4 * rows * columns, 0);
  if (bytes === 0) return [];
  return [{ stage: "decomposeExperts", what: "factors in float32", bytes, inMemory: Math.min(bytes, SCRATCH_MEMORY) }];
}

function trainingHeld(model: DescribedModel, { adapter, rank, targets, batch, maxLength }: Recipe): HeldBytes[] {
  const sites = model.layers.flatMap((layer) => adapterSites(model, layer)).filter(({ target }) => targets.includes(target));
  const about = { kind: adapter, rank };
  const trained = sites.flatMap((site) => Object.values(adapterShapes(site, about))).reduce((sum, shapes) => sum + sizeOf(shapes), 0);
  const all = model.layers.reduce((sum, layer) => sum + layerBytes(layer), 0), resident = all <= RESIDENT;
  const loaded = model.layers.map(loadedBytes), step = batch * maxLength;
  return [
    {
      stage: "finetune",
      what: resident ? "weights of all layers" : "weights of a layer",
      bytes: resident ? loaded.reduce((a, b) => a + b) : Math.max(...loaded),
    },
    { stage: "finetune", what: "head", bytes: bytesOf([model.head]) },
    { stage: "finetune", what: "what is trained, its gradient and two moments", bytes: 4 * (STATES.length + 1) * trained },
    { stage: "finetune", what: "inputs of all layers, for the longest step", bytes: 4 * step * model.config.hidden * model.layers.length },
    { stage: "finetune", what: "activations, about, at most", bytes: ACTIVATIONS },
  ];
}
