/**
 * Matrices of experts, one after the other.
 *
 * @module
 */

import type { Trace } from "../calibrate/calibrate.ts";
import type { Device, ExpertSource, Tensor } from "../device/device.ts";
import type { Expert, Model, MoeLayer } from "../model/model.ts";
import { eachPart, type StageOptions } from "../model/stage_options.ts";
import { denseMatrix } from "./dense_matrix.ts";
import { type ExpertResponses, expertResponses } from "./expert_responses.ts";
import type { Responses } from "./whitened_svd.ts";

/** The matrices of an expert. */
export const MATRICES = ["gate", "up", "down"] as const;

export type Matrix = typeof MATRICES[number];

/** Where a matrix is. */
export interface MatrixPlace {
  layer: MoeLayer;
  expert: Expert;
  matrix: Matrix;
}

/**
 * Goes through all matrices of the listed experts, in their order: what `compute` makes of each, plain data, is a part.
 *
 * @param options With `whiten`, matrices come with what they meet in calibration. `of` gives matrices to go through in the place of an expert's own, such as
 * differences from others; they meet what the expert's own do. `atOnce` matrices are gone through at a time, but one with `whiten`.
 */
export async function* eachMatrix<T>(
  device: Device,
  model: Model,
  listed: readonly { layer: MoeLayer; experts: readonly Expert[] }[],
  { whiten, of, atOnce = 1, ...options }: StageOptions & {
    stage: string;
    whiten?: Trace;
    of?: (expert: Expert, layer: MoeLayer) => ExpertSource;
    atOnce?: number;
  },
  compute: (dense: Tensor, responses: Responses | undefined, place: MatrixPlace) => Promise<T>,
): AsyncGenerator<{ item: MatrixPlace; value: T }> {
  const places = listed.flatMap(({ layer, experts }) =>
    experts.flatMap((expert) => MATRICES.map((matrix): MatrixPlace => ({ layer, expert, matrix })))
  );
  const nameOf = ({ layer, expert, matrix }: MatrixPlace) => `layer ${layer.index}, expert ${expert.id}, ${matrix}`;
  let met: AsyncGenerator<{ expert: Expert; responses: ExpertResponses }> | undefined, at: MoeLayer | undefined;
  let latest: { expert: Expert; responses: ExpertResponses } | undefined;
  /** Of the experts that are asked for, in order, of each layer. */
  const responsesOf = async ({ layer, expert }: MatrixPlace, trace: Trace) => {
    if (layer !== at) {
      await met?.return(undefined);
      const { experts } = listed.find((l) => l.layer === layer)!;
      const seen = of && ((expert: Expert) => of(expert, layer));
      met = expertResponses(device, model, layer, trace, experts.slice(experts.indexOf(expert)), { signal: options.signal, seen });
      at = layer, latest = undefined;
    }
    while (latest?.expert !== expert) latest = (await met!.next()).value!;
    return latest.responses;
  };
  try {
    yield* eachPart({ ...options, unit: "matrices" }, places, nameOf, async (place) => {
      const responses = whiten && (await responsesOf(place, whiten))[place.matrix];
      const { gate, up, down } = of?.(place.expert, place.layer) ?? place.expert;
      using dense = await denseMatrix(device, { gate, up, down }[place.matrix]);
      return await compute(dense, responses, place);
    }, whiten ? 1 : atOnce);
  } finally {
    await met?.return(undefined);
  }
}
