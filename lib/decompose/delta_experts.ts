/**
 * Experts as one shared expert and differences of low rank.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import { Scratch } from "../checkpoint/scratch.ts";
import { scratchSource } from "../checkpoint/scratch_source.ts";
import type { Trace } from "../calibrate/calibrate.ts";
import { checkTrace } from "../calibrate/check_trace.ts";
import type { Device, TensorSource } from "../device/device.ts";
import { averagedSource } from "../model/averaged_source.ts";
import { basedSource } from "../model/based_source.ts";
import { denseMatrices } from "../model/dense_matrices.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectEqualWidths, expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { type Expert, type FeedForward, type Model, type MoeLayer, moeLayers } from "../model/model.ts";
import { advance, type StageOptions } from "../model/stage_options.ts";
import type { RankPlan } from "./allocate_ranks.ts";
import { checkRanks, type DecomposedModel, type Decomposition, originOf } from "./decompose_experts.ts";
import { eachMatrix, type Matrix } from "./each_matrix.ts";
import { whitenedSvd, type WhitenedSvdOptions } from "./whitened_svd.ts";

export interface DeltaExpertsOptions extends StageOptions, WhitenedSvdOptions {
  /** What each difference keeps of the numbers of its matrix, above 0 and at most 1: rank ⌊m n share / (m + n)⌋. @default 0.8 */
  share?: number;
  /** Ranks of the differences, in the place of `share`: a layer that is listed lists all of its experts, others stay as they are. @default none */
  ranks?: RankPlan;
}

/**
 * Replaces the matrices of each layer's experts by a shared one, the average weighted by how often the experts are used, and differences from it of low rank:
 * W ≈ base + left · right (D²-MoE, arXiv 2502.17298). A difference is cut where its outputs over the expert's kept inputs suffer least, each times its routing
 * weight, by {@linkcode whitenedSvd}.
 *
 * The paper weighs by Fisher information too, and prunes the shared matrix by columns for each batch anew; neither is done here. Experts are read twice, one
 * matrix at a time. The results are kept in float32, in memory up to 512 MiB and in a temporary file beyond.
 *
 * @param trace Of the same model, for counts and inputs. Where no expert of a layer met a token they weigh alike; differences of one that met none are cut
 * by their weights.
 * @returns The model. Errors in its `decomposition` are those of the differences, as shares of the differences.
 * @throws {RangeError} If the trace is of another model, `share`, `ridge` or a rank is out of range, or `ranks` lists only some experts of a layer.
 * @throws {TypeError} If both `share` and `ranks` are given.
 * @throws {Error} If an expert has low rank already, or is a constant.
 *
 * @example
 * ```ts
 * import { calibrate } from "../calibrate/calibrate.ts";
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const whole = await openModel("notebooks/checkpoints/tiny-mixtral"), model = { ...whole, layers: whole.layers.slice(0, 1) };
 * using trace = await calibrate(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * using small = await deltaExperts(device, model, trace, { share: 0.1 });
 * assertEquals(small.decomposition[0].rank, 7);
 * ```
 */
export async function deltaExperts(
  device: Device,
  model: Model,
  trace: Trace,
  options: DeltaExpertsOptions = {},
): Promise<DecomposedModel> {
  const purpose = "take differences of experts";
  expectStage(device, model, purpose, options);
  expectOwnExperts(model, purpose);
  checkTrace(model, trace, purpose);
  const { ridge = 0.03 } = options, rankOf = plannedRanks(model, options);
  if (!(ridge > 0 && ridge < Infinity)) throw new RangeError(`Cannot ${purpose}: "ridge" must be above 0 and finite, received ${ridge}`);
  const layers = moeLayers(model).filter(({ index }) => options.ranks?.layers.some((l) => l.layer === index) ?? true);
  for (const { index, block } of layers) {
    expectEqualWidths(block.experts.map((expert) => ({ layer: index, expert })), purpose);
    for (const expert of block.experts) denseMatrices(expert, index, purpose);
  }
  const scratch = new Scratch();
  try {
    return await replaced(device, model, layers, trace, rankOf, scratch, options);
  } catch (error) {
    scratch[Symbol.dispose]();
    throw error;
  }
}

type RankOf = (layer: number, expert: number) => number;

function plannedRanks(model: Model, { share, ranks }: DeltaExpertsOptions): RankOf {
  const purpose = "take differences of experts", { hidden, intermediate } = expertShape(model), most = Math.min(hidden, intermediate);
  if (ranks === undefined) {
    const kept = share ?? 0.8, rank = Math.max(1, Math.floor(hidden * intermediate * kept / (hidden + intermediate)));
    if (!(kept > 0 && kept <= 1)) throw new RangeError(`Cannot ${purpose}: "share" must be above 0 and at most 1, received ${kept}`);
    return () => rank;
  }
  if (share !== undefined) throw new TypeError(`Cannot ${purpose}: "share" and "ranks" are both given, expected one of them`);
  checkRanks(model, ranks, purpose);
  for (const { layer, experts } of ranks.layers) {
    const missing = moeLayers(model).find((l) => l.index === layer)!.block.experts.find(({ id }) => !experts.some((e) => e.expert === id));
    if (missing) {
      throw new RangeError(`Cannot ${purpose}: "ranks" lists only some experts of layer ${layer}, expert ${missing.id} is missing`);
    }
    const large = experts.find((e) => e.rank > most);
    if (large) {
      throw new RangeError(
        `Cannot ${purpose}: the rank of expert ${large.expert} in layer ${layer} is ${large.rank}, expected at most ${most}`,
      );
    }
  }
  return (layer, expert) => ranks.layers.find((l) => l.layer === layer)!.experts.find((e) => e.expert === expert)!.rank;
}

async function replaced(
  device: Device,
  model: Model,
  layers: readonly MoeLayer[],
  trace: Trace,
  rankOf: RankOf,
  scratch: Scratch,
  options: DeltaExpertsOptions,
): Promise<DecomposedModel> {
  const bases = new Map<number, FeedForward>(), progress = { stage: "average experts", unit: "layers", total: layers.length };
  for (const [done, layer] of layers.entries()) {
    await advance(options, { ...progress, done });
    bases.set(layer.index, await sharedExpert(layer, trace, scratch));
  }
  await advance(options, { ...progress, done: layers.length });

  const of = (expert: Expert, { index }: MoeLayer) => {
    const base = bases.get(index)!, minus = (matrix: Matrix) => difference(expert[matrix] as TensorSource, base[matrix]);
    return { gate: minus("gate"), up: minus("up"), down: minus("down") };
  };
  const listed = layers.map((layer) => ({ layer, experts: layer.block.experts }));
  const parts = eachMatrix(
    device,
    model,
    listed,
    { ...options, stage: "decompose", whiten: trace, of },
    async (dense, responses, place) => {
      const { left, right, ...errors } = await whitenedSvd(device, dense, responses!, rankOf(place.layer.index, place.expert.id), options);
      return { left, right, ...errors };
    },
  );
  const decomposition: Decomposition[] = [], sums = new Map<Expert, Partial<Record<Matrix, TensorSource>>>();
  for await (const { item: { layer: { index: layer }, expert, matrix }, value: { left, right, ...errors } } of parts) {
    const rank = rankOf(layer, expert.id), origin = originOf(expert[matrix]), base = bases.get(layer)![matrix];
    const sum = basedSource({
      base,
      left: scratchSource(await scratch.store(left), [base.shape[0], rank], origin),
      right: scratchSource(await scratch.store(right), [rank, base.shape[1]], origin),
    });
    sums.set(expert, { ...sums.get(expert), [matrix]: sum });
    decomposition.push({ layer, expert: expert.id, matrix, rank, ...errors });
  }
  return {
    ...model,
    layers: model.layers.map((layer) => {
      if (layer.block.kind === "dense") return layer;
      return { ...layer, block: { ...layer.block, experts: layer.block.experts.map((expert) => ({ ...expert, ...sums.get(expert) })) } };
    }),
    decomposition,
    [Symbol.dispose]: () => scratch[Symbol.dispose](),
  };
}

/** The average of a layer's experts by their counts. It is stored: every expert's matrices are worked out from it. */
async function sharedExpert({ index, block: { experts } }: MoeLayer, trace: Trace, scratch: Scratch): Promise<FeedForward> {
  const weights = [...trace.layers.find((l) => l.layer === index)!.counts];
  const average = async (matrix: Matrix) => {
    const source = averagedSource(experts.map((expert) => expert[matrix] as TensorSource), weights);
    return scratchSource(await scratch.store(await readWide(source)), [...source.shape], source.origin!);
  };
  return { gate: await average("gate"), up: await average("up"), down: await average("down") };
}

function difference(matrix: TensorSource, base: TensorSource): TensorSource {
  return {
    dtype: "F32",
    shape: matrix.shape,
    read: async (into) => {
      const values = await readWide(matrix), shared = await readWide(base);
      for (let i = 0; i < values.length; i++) values[i] -= shared[i];
      into.set(new Uint8Array(values.buffer));
    },
  };
}
