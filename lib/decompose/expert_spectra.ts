/**
 * How much each further rank of an expert is worth.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import { checkTrace } from "../calibrate/check_trace.ts";
import type { Device, Tensor } from "../device/device.ts";
import { expectStage } from "../model/expect_stage.ts";
import { type Expert, type Model, type MoeLayer, moeLayers } from "../model/model.ts";
import { advance, type StageOptions } from "../model/stage_options.ts";
import { denseMatrix } from "./dense_matrix.ts";
import { type ExpertResponses, expertResponses } from "./expert_responses.ts";
import { whitened, type WhitenedSvdOptions } from "./whitened_svd.ts";

/** Spectra of the experts' matrices. */
export interface ExpertSpectra {
  /** "weights", or "outputs" where they were whitened. */
  kind: string;
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
  const purpose = "take spectra", { whiten } = options ?? {}, { hidden, moe: { intermediate } } = model?.config ?? { moe: {} };
  expectStage(device, model, purpose, options);
  if (whiten !== undefined) checkTrace(model, whiten, purpose);
  const result: ExpertSpectra = { kind: whiten ? "outputs" : "weights", expertShape: { hidden, intermediate }, layers: [] };
  const total = moeLayers(model).reduce((n, { block }) => n + block.experts.length, 0);
  let done = 0;
  await advance(options, { stage: "spectra", done, total, unit: "experts" });
  for (const layer of moeLayers(model)) {
    const experts: ExpertSpectra["layers"][0]["experts"] = [];
    for await (const { expert, responses } of met(device, model, layer, options)) {
      const shares = new Float64Array(Math.min(hidden, intermediate));
      for (const matrix of ["gate", "up", "down"] as const) {
        using dense = await denseMatrix(device, expert[matrix]);
        const squares = responses ? await whiteSquares(device, dense, responses[matrix], options) : await plainSquares(device, dense);
        const sum = squares.reduce((a, b) => a + b, 0);
        squares.forEach((value, r) => shares[r] += sum > 0 ? value / sum : 0);
      }
      experts.push({ expert: expert.id, shares });
      await advance(options, { stage: "spectra", done: ++done, total, unit: "experts" });
    }
    result.layers.push({ layer: layer.index, experts });
  }
  return result;
}

async function* met(
  device: Device,
  model: Model,
  layer: MoeLayer,
  { whiten, signal }: ExpertSpectraOptions,
): AsyncGenerator<{ expert: Expert; responses?: ExpertResponses }> {
  if (whiten) yield* expertResponses(device, model, layer, whiten, layer.block.experts, signal);
  else yield* layer.block.experts.map((expert) => ({ expert }));
}

/** Squared singular values, falling; what rounding leaves below 0 is 0. */
async function plainSquares(device: Device, matrix: Tensor): Promise<Float64Array> {
  const [rows, columns] = matrix.shape;
  using flipped = device.transpose(matrix);
  using gram = rows > columns ? device.linear(flipped, flipped) : device.linear(matrix, matrix);
  return await eigenvalues(device, gram);
}

async function whiteSquares(device: Device, matrix: Tensor, responses: ExpertResponses["gate"], options: WhitenedSvdOptions) {
  using white = await whitened(device, matrix, responses, options);
  return await eigenvalues(device, white.core);
}

async function eigenvalues(device: Device, symmetric: Tensor): Promise<Float64Array> {
  const { values, vectors } = await device.eigen(symmetric, symmetric.shape[0]);
  vectors[Symbol.dispose]();
  return values.map((value) => Math.max(0, value));
}
