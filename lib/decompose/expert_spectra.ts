/**
 * How much each further rank of an expert is worth.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import { checkTrace } from "../calibrate/check_trace.ts";
import type { Device, Tensor } from "../device/device.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectNoBiases, expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { eachMatrix } from "./each_matrix.ts";
import { type Responses, whitened, type WhitenedSvdOptions } from "./whitened_svd.ts";

/** Spectra of the experts' matrices. */
export interface ExpertSpectra {
  /** "weights", or "outputs" where they were whitened. */
  kind: string;
  /** Of the widest expert, where slices left them different widths: spectra of the narrower ones end in zeros. */
  expertShape: { hidden: number; intermediate: number };
  layers: {
    layer: number;
    /** Ids of the original model, rising. */
    experts: {
      expert: number;
      /** shares[r - 1]: what rank r adds to rank r - 1: the share of ‖W‖² (whitened: of ‖W S‖²) on direction r, summed over the three matrices. Falling, sum 3. */
      shares: Float64Array;
    }[];
  }[];
}

export interface ExpertSpectraOptions extends StageOptions, WhitenedSvdOptions {
  /** A trace of the same model: spectra as `decomposeExperts` with `whiten` cuts them. @default none: singular values of the weights */
  whiten?: Trace;
}

/**
 * Squared singular values of every expert's matrices, each matrix's as shares of their sum: the squared relative error of rank r is what lies beyond r.
 * With `whiten` those of W S, so the squared relative error of the outputs (but for the ridge). What `allocateRanksGlobally` weighs (ours).
 *
 * @throws {RangeError} If `ridge` is out of range, or the trace is of another model.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { layers } = await expertSpectra(device, { ...model, layers: model.layers.slice(0, 1) });
 * assertAlmostEquals(layers[0].experts[5].shares.reduce((a, b) => a + b), 3, 1e-5);
 * ```
 */
export async function expertSpectra(device: Device, model: Model, options: ExpertSpectraOptions = {}): Promise<ExpertSpectra> {
  const purpose = "take spectra", { whiten } = options ?? {};
  expectStage(device, model, purpose, options);
  const { hidden, intermediate } = expertShape(model);
  if (whiten !== undefined) checkTrace(model, whiten, purpose), expectNoBiases(model, purpose);
  const layers = moeLayers(model).map(({ index, block }) => ({
    layer: index,
    experts: block.experts.map(({ id }) => ({ expert: id, shares: new Float64Array(Math.min(hidden, intermediate)) })),
  }));
  const listed = moeLayers(model).map((layer) => ({ layer, experts: layer.block.experts }));
  const parts = eachMatrix(device, model, listed, { ...options, stage: "spectra" }, async (dense, responses) => {
    const squares = responses ? await whiteSquares(device, dense, responses, options) : await plainSquares(device, dense);
    const sum = squares.reduce((a, b) => a + b, 0);
    return squares.map((value) => sum > 0 ? value / sum : 0);
  });
  for await (const { item: { layer, expert }, value } of parts) {
    const { shares } = layers.find((l) => l.layer === layer.index)!.experts.find((e) => e.expert === expert.id)!;
    value.forEach((share, r) => shares[r] += share);
  }
  return { kind: whiten ? "outputs" : "weights", expertShape: { hidden, intermediate }, layers };
}

/** Squared singular values, falling; what rounding leaves below 0 is 0. */
async function plainSquares(device: Device, matrix: Tensor): Promise<Float64Array> {
  const [rows, columns] = matrix.shape;
  using flipped = device.transpose(matrix);
  using gram = rows > columns ? device.linear(flipped, flipped) : device.linear(matrix, matrix);
  return await eigenvalues(device, gram);
}

async function whiteSquares(device: Device, matrix: Tensor, responses: Responses, options: WhitenedSvdOptions) {
  using white = await whitened(device, matrix, responses, options);
  return await eigenvalues(device, white.core);
}

async function eigenvalues(device: Device, symmetric: Tensor): Promise<Float64Array> {
  const { values, vectors } = await device.eigen(symmetric, symmetric.shape[0]);
  vectors[Symbol.dispose]();
  return values.map((value) => Math.max(0, value));
}
