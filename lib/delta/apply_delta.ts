/**
 * Tuned models from their differences.
 *
 * @module
 */

import { modelFingerprint } from "../finetune/fingerprint.ts";
import { expectModel } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import { expectWholeMatrices, linearsOf, mapLinears } from "../sparsify/linears.ts";
import { type CompressedDelta, expectDelta, placeOf } from "./compressed_delta.ts";
import { tunedSource } from "./delta_values.ts";
import { mapRest, restOf } from "./map_rest.ts";

/**
 * The tuned model as it comes back from its base and a compressed difference: an ordinary model, which every stage takes and `saveModel` writes as a plain
 * checkpoint. A linear is worked out whenever it is read, from the base's matrix and the difference; nothing is stored. Config and tokenizer are the base's.
 *
 * When the first linear is read, the base is compared with that of the difference by its fingerprint: reading from another one fails then.
 *
 * @param base The model that the difference was taken from.
 * @throws {TypeError} If these are no model and no difference.
 * @throws {RangeError} If the difference is of a model of another structure.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { compressDelta } from "./compress_delta.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const [base, tuned] = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * const delta = await compressDelta(device, base, tuned, [], { split: [[16, 1]] });
 * assertEquals(applyDelta(base, delta).layers.length, 4);
 * ```
 */
export function applyDelta(base: Model, delta: CompressedDelta): Model {
  const purpose = "apply a difference";
  expectOf(base, delta, purpose);
  let checked: Promise<void> | undefined;
  const check = () => checked ??= expectBase(base, [delta], purpose);
  const linears = new Map(delta.linears.map((linear) => [placeOf(linear), linear]));
  const whole = mapRest(base, (place, weight) => delta.rest.get(place) as typeof weight);
  return {
    ...whole,
    layers: whole.layers.map((layer) =>
      mapLinears(layer, ({ name, weight }) => {
        const source = tunedSource(weight, linears.get(placeOf({ layer: layer.index, linear: name }))!.form);
        return { ...source, read: (into) => check().then(() => source.read(into)) };
      })
    ),
  };
}

/**
 * Checks that a difference is one from this base.
 *
 * @throws {TypeError} If these are no model and no difference.
 * @throws {RangeError} If the difference is of a model of another structure.
 */
export function expectOf(base: Model, delta: CompressedDelta, purpose: string): void {
  expectModel(base, purpose);
  expectWholeMatrices(base, purpose);
  expectDelta(delta, purpose);
  const wanted = new Map([...restOf(base)].map(([place, { shape }]): [string, string] => [place, `${shape}`]));
  for (const layer of base.layers) for (const { name, weight } of linearsOf(layer)) wanted.set(`${layer.index}/${name}`, `${weight.shape}`);
  const found = new Map([...delta.rest].map(([place, { shape }]): [string, string] => [place, `${shape}`]));
  for (const linear of delta.linears) found.set(placeOf(linear), `${linear.shape}`);
  const odd = [...wanted.keys(), ...found.keys()].find((place) => wanted.get(place) !== found.get(place));
  if (odd === undefined) return;
  const [its, here] = [found, wanted].map((shapes) => shapes.has(odd) ? `[${shapes.get(odd)}]` : "nothing");
  throw new RangeError(`Cannot ${purpose}: it is from a model of another structure, "${odd}" is ${its} there and ${here} in the base`);
}

/** @throws {RangeError} If a difference was taken from another model of this structure. */
export async function expectBase(base: Model, deltas: readonly CompressedDelta[], purpose: string): Promise<void> {
  const found = deltas.length > 0 ? await modelFingerprint(base) : "";
  if (deltas.every(({ base }) => base === found)) return;
  throw new RangeError(`Cannot ${purpose}: it was taken from another base, whose structure is the same but not its weights`);
}
