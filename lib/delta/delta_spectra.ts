/**
 * What a difference is made of.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { eachPart, type StageOptions } from "../model/stage_options.ts";
import { deltaSvd } from "./delta_svd.ts";
import { differenceOf, linearPairs } from "./model_pair.ts";

/** Singular values of tuned - base, by decoder layer and linear. */
export interface DeltaSpectra {
  layers: {
    layer: number;
    /** Named within the layer, such as "attention/q_proj" or "experts/3/gate"; values fall, one for each of the smaller side. */
    linears: { linear: string; shape: [rows: number, columns: number]; values: Float64Array }[];
  }[];
}

/**
 * The singular values of what tuning changed of each linear: few large ones are what makes a difference compressible. Values below about 3e-4 of a linear's
 * largest are rounding: a difference of low rank ends in such a floor, not in zeros.
 *
 * @param base The model that the tuned one was made from, of the same structure.
 * @throws {TypeError} If an argument is none of its kind.
 * @throws {RangeError} If the models differ in more than the numbers of their weights, or a linear's weight is not finite.
 * @throws {Error} If experts are skipped, constants, or differences from a shared one.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * const models = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * const [base, tuned] = models.map((model) => ({ ...model, layers: model.layers.slice(0, 1) }));
 * const { layers } = await deltaSpectra(device, base, tuned);
 * assertAlmostEquals(layers[0].linears[0].values[0], 0.6419806, 1e-5);
 * ```
 */
export async function deltaSpectra(device: Device, base: Model, tuned: Model, options: StageOptions = {}): Promise<DeltaSpectra> {
  const purpose = "take spectra of a difference";
  expectStage(device, tuned, purpose, options);
  const layers = linearPairs(base, tuned, purpose),
    spectra: DeltaSpectra = { layers: [] },
    about = { ...options, stage: "difference spectra", unit: "matrices" };
  const parts = eachPart(about, layers.flat(), ({ layer, name }) => `layer ${layer}, ${name}`, async (pair) => {
    const [rows, columns] = pair.base.shape;
    const { singularValues } = await deltaSvd(device, await differenceOf(pair, purpose), [rows, columns], Math.min(rows, columns));
    return singularValues.sort((a, b) => b - a); // rounding swaps small ones
  });
  for await (const { item: { layer, name: linear, base: { shape: [rows, columns] } }, value: values } of parts) {
    if (spectra.layers.at(-1)?.layer !== layer) spectra.layers.push({ layer, linears: [] });
    spectra.layers.at(-1)!.linears.push({ linear, shape: [rows, columns], values });
  }
  return spectra;
}
