/**
 * Low-rank experts.
 *
 * @module
 */

import { Scratch } from "../checkpoint/scratch.ts";
import { scratchSource } from "../checkpoint/scratch_source.ts";
import type { Trace } from "../calibrate/calibrate.ts";
import { checkTrace } from "../calibrate/check_trace.ts";
import type { Device, DType, MatrixSource } from "../device/device.ts";
import { matrixShape } from "../device/matrix_shape.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { expectNoBiases, expectNoSkipping, expectStage } from "../model/expect_stage.ts";
import { ownerOf } from "../model/kept_layers.ts";
import { type DecoderLayer, type Expert, type Model, type MoeLayer, moeLayer, moeLayers } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { largestRank, type RankPlan } from "./allocate_ranks.ts";
import { eachMatrix, type Matrix } from "./each_matrix.ts";
import { svdPool } from "./svd_pool.ts";
import { truncatedSvd, type TruncatedSvdOptions } from "./truncated_svd.ts";
import { whitenedSvd, type WhitenedSvdOptions } from "./whitened_svd.ts";

export interface DecomposeExpertsOptions extends StageOptions, TruncatedSvdOptions, WhitenedSvdOptions {
  /**
   * A trace of the same model: the factors are then those whose outputs are nearest to the matrix's over the kept inputs that are routed to the expert,
   * not those that are nearest to its weights. Experts that met no token are decomposed by their weights.
   *
   * @default none (MoE-I² decomposes by the weights)
   */
  whiten?: Trace;
}

/** What became of one matrix. */
export interface Decomposition {
  layer: number;
  expert: number;
  matrix: Matrix;
  /** Null where the matrix stayed dense, because two factors would not have been smaller. */
  rank: number | null;
  /** ‖W - left · right‖ / ‖W‖, measured. */
  relativeError: number;
  /** With `whiten`, ‖(W - left · right) X‖ / ‖W X‖ over the expert's kept inputs X, each times its routing weight; else null. */
  relativeOutputError: number | null;
}

/** A model, and how far its low-rank experts are from the dense ones. Dispose it when its factors, and those of models made from it, are no longer needed. */
export interface DecomposedModel extends Model, Disposable {
  decomposition: Decomposition[];
}

/**
 * Replaces the matrices of experts by products of two factors (MoE-I², section 4.2): gate, up and down projection of an expert all get its rank. Router,
 * shared experts, attention and embeddings stay as they are.
 *
 * With `whiten`, the error of the expert's outputs in calibration is minimised instead of that of its weights, at the same ranks and sizes: see
 * {@linkcode DecomposeExpertsOptions.whiten}.
 *
 * Matrices are read, decomposed and put aside one by one; on the `cpu` device, without `whiten`, one for each BLAS thread at a time. The factors are kept in
 * float32, in memory up to 512 MiB and in a temporary file beyond.
 *
 * @param ranks Experts that it does not list stay dense, as do matrices that factors of that rank would not make smaller.
 * @throws {RangeError} If the plan names a layer or expert twice or that the model has not, a rank or option is out of range, or the trace is of another
 * model, such as the one before pruning.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const ranks = { layers: [{ layer: 0, experts: [{ expert: 5, rank: 48 }], sum: 48, target: 48 }] };
 * const { decomposition } = await decomposeExperts(device, model, ranks);
 * assertEquals(decomposition.map((d) => d.matrix), ["gate", "up", "down"]);
 * ```
 */
export async function decomposeExperts(
  device: Device,
  model: Model,
  ranks: RankPlan,
  options: DecomposeExpertsOptions = {},
): Promise<DecomposedModel> {
  expectStage(device, model, "decompose", options);
  expectNoSkipping(model, "decompose");
  checkRanks(model, ranks, "decompose");
  const { whiten, ridge = 0.03 } = options;
  if (whiten !== undefined) checkTrace(model, whiten, "decompose"), expectNoBiases(model, "decompose by outputs");
  if (!(ridge > 0 && ridge < Infinity)) throw new RangeError(`Cannot decompose: "ridge" must be above 0 and finite, received ${ridge}`);
  const scratch = new Scratch();
  try {
    return await decomposed(device, model, ranks, scratch, options);
  } catch (error) {
    scratch[Symbol.dispose]();
    throw error;
  }
}

/** What stands for a matrix; without factors, itself. */
interface Product extends Pick<Decomposition, "relativeError" | "relativeOutputError"> {
  factors?: MatrixSource;
}

async function decomposed(
  device: Device,
  model: Model,
  ranks: RankPlan,
  scratch: Scratch,
  options: DecomposeExpertsOptions,
): Promise<DecomposedModel> {
  const rankOf = ({ index }: DecoderLayer, { id }: Expert) =>
    ranks.layers.find((l) => l.layer === index)?.experts.find((e) => e.expert === id)?.rank ?? Infinity;
  const largestOf = ({ gate }: Expert) => {
    const [rows, columns] = matrixShape(gate);
    return largestRank(rows, columns);
  };
  /** Experts that share their matrices share the products: those of the first of them. */
  const ownerIn = ({ block: { experts } }: MoeLayer, expert: Expert) => experts[ownerOf(expert, experts)];
  for (const layer of moeLayers(model)) {
    const odd = layer.block.experts.find((e) => rankOf(layer, e) !== rankOf(layer, ownerIn(layer, e)));
    if (!odd) continue;
    const owner = ownerIn(layer, odd).id;
    throw new RangeError(
      `Cannot decompose: experts ${owner} and ${odd.id} of layer ${layer.index} share their matrices, expected the same rank for both`,
    );
  }
  const low = moeLayers(model).map((layer) => ({
    layer,
    experts: layer.block.experts.filter((e) => rankOf(layer, e) <= largestOf(e) && ownerIn(layer, e) === e),
  }));
  const some = options.whiten ? undefined : low.find(({ experts }) => experts.length > 0)?.experts[0].gate;
  using pool = some && svdPool(device, matrixShape(some));
  const parts = eachMatrix(
    device,
    model,
    low,
    { ...options, stage: "decompose", atOnce: pool?.atOnce },
    async (dense, responses, { layer, expert }) => {
      const rank = rankOf(layer, expert);
      const { left, right, relativeError, relativeOutputError } = responses ? await whitenedSvd(device, dense, responses, rank, options) : {
        relativeOutputError: null,
        ...await (pool ? pool.decompose(dense, rank, options) : truncatedSvd(device, dense, rank, options)),
      };
      return { left, right, relativeError, relativeOutputError };
    },
  );
  const nameOf = (layer: DecoderLayer, expert: Expert, matrix: Matrix) => `${layer.index}.${expert.id}.${matrix}`;
  const products = new Map<string, Product>();
  for await (const { item: { layer, expert, matrix }, value: { left, right, ...errors } } of parts) {
    const rank = rankOf(layer, expert), origin = originOf(expert[matrix]);
    const factors = {
      left: scratchSource(await scratch.store(left), [left.length / rank, rank], origin),
      right: scratchSource(await scratch.store(right), [rank, right.length / rank], origin),
    };
    products.set(nameOf(layer, expert, matrix), { factors, ...errors });
  }
  const decomposition: Decomposition[] = [], exact: Product = { relativeError: 0, relativeOutputError: options.whiten ? 0 : null };
  const replaced = (layer: MoeLayer, expert: Expert): Expert => {
    const planned = rankOf(layer, expert);
    if (planned === Infinity) return expert;
    const replacement = (matrix: Matrix) => {
      const { factors, ...errors } = products.get(nameOf(layer, ownerIn(layer, expert), matrix)) ?? exact;
      decomposition.push({ layer: layer.index, expert: expert.id, matrix, rank: factors ? planned : null, ...errors });
      return factors ?? expert[matrix];
    };
    return { ...expert, gate: replacement("gate"), up: replacement("up"), down: replacement("down") };
  };
  const layers = model.layers.map((layer) => {
    if (layer.block.kind === "dense") return layer;
    return { ...layer, block: { ...layer.block, experts: layer.block.experts.map((expert) => replaced(layer as MoeLayer, expert)) } };
  });
  return { ...model, layers, decomposition, [Symbol.dispose]: () => scratch[Symbol.dispose]() };
}

/** @throws {TypeError} If it is no plan of ranks. @throws {RangeError} If it does not fit the model. */
export function checkRanks(model: Pick<Model, "layers">, ranks: RankPlan, purpose: string): void {
  for (const { layer, experts } of expectLayers(ranks, 'a plan of ranks, which lists "layers"', purpose)) {
    check(moeLayer(model, layer), experts);
  }
}

function check({ index, block }: MoeLayer, experts: RankPlan["layers"][0]["experts"]): void {
  const ids = block.experts.map((e) => e.id);
  expect(Array.isArray(experts), `decompose layer ${index}`, "a list of experts and their ranks", experts);
  for (const [i, { expert, rank }] of experts.entries()) {
    if (experts.findIndex((e) => e.expert === expert) < i) {
      throw new RangeError(`Cannot decompose expert ${expert} of layer ${index}: the plan lists it twice`);
    }
    if (!ids.includes(expert)) {
      throw new RangeError(`Cannot decompose expert ${expert} of layer ${index}: the layer has experts ${ids.join(", ")}`);
    }
    if (!(Number.isSafeInteger(rank) && rank >= 1)) {
      throw new RangeError(
        `Cannot decompose expert ${expert} of layer ${index}: its rank must be a whole number of at least 1, received ${rank}`,
      );
    }
  }
}

/** Type that a matrix, or its factors if it is low-rank already, is saved in. */
export function originOf(matrix: MatrixSource): DType {
  const { dtype, origin = dtype } = "left" in matrix ? matrix.left : matrix;
  return origin;
}
