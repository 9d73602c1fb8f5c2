/**
 * The arguments that stages have in common.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import type { Device } from "../device/device.ts";
import { matrixShape } from "../device/matrix_shape.ts";
import { expect } from "./expect.ts";
import { type Expert, type Model, moeLayers } from "./model.ts";
import type { StageOptions } from "./stage_options.ts";

/** The two arguments that every stage begins with, and its options. */
export function expectStage(device: Device, model: Pick<Model, "config" | "layers">, purpose: string, options: StageOptions = {}): void {
  expect(typeof device?.linear === "function", purpose, "a device from openDevice()", device);
  expectModel(model, purpose);
  expectOptions(options, purpose);
}

/** Options of anything: what is no object would have no effect, such as a number that was meant for one of them. */
export function expectOptions(options: object, purpose: string): void {
  expect(isObject(options) && !(options instanceof Promise), purpose, "options by name, in an object", options);
  const { signal, onProgress } = options as StageOptions, absent = (value: unknown) => value === undefined || value === null;
  const stops = absent(signal) || typeof signal!.throwIfAborted === "function";
  expect(stops, purpose, 'the signal of an AbortController as "signal"', signal);
  expect(absent(onProgress) || typeof onProgress === "function", purpose, 'a function as "onProgress"', onProgress);
}

export function expectModel(model: Pick<Model, "config" | "layers">, purpose: string): void {
  expect(Array.isArray(model?.layers) && model.config?.moe !== undefined, purpose, "a model from openModel()", model);
}

/** @throws {Error} If a layer of the model skips experts (see `skipExperts`): thresholds are the last thing that a model gets. */
export function expectNoSkipping(model: Pick<Model, "layers">, purpose: string): void {
  const skipping = moeLayers(model).find(({ block }) => block.skip !== undefined);
  if (!skipping) return;
  throw new Error(`Cannot ${purpose}: layer ${skipping.index} skips experts, expected the model as it was before skipExperts()`);
}

/** What runs or changes experts one by one has nothing to say of constants, nor of experts that are skipped. */
export function expectOwnExperts(model: Pick<Model, "layers">, purpose: string): void {
  expectNoSkipping(model, purpose);
  const layer = moeLayers(model).find(({ block }) => block.constants);
  if (layer) {
    throw new Error(
      `Cannot ${purpose}: layer ${layer.index} has experts that are constants (${
        layer.block.constants!.ids.join(", ")
      }); do this before it is given them`,
    );
  }
}

/** @throws {Error} If an expert has biases (as feature-based factors have): what reads an expert by its matrices alone would miss them. */
export function expectNoBiases(model: Pick<Model, "layers">, purpose: string): void {
  for (const { index, block } of moeLayers(model)) {
    const biased = block.experts.find(({ biases }) => biases);
    if (biased) throw new Error(`Cannot ${purpose}: expert ${biased.id} of layer ${index} has biases; do this before it is given them`);
  }
}

/** @throws {Error} If some of these experts have other intermediate sizes than the first: their channels cannot be paired, nor their ranks compared. */
export function expectEqualWidths(experts: readonly { layer: number; expert: Expert }[], purpose: string): void {
  const [first, ...others] = experts.map(({ layer, expert: { id, gate } }) => ({ layer, id, width: matrixShape(gate)[0] }));
  const odd = others.find(({ width }) => width !== first.width);
  if (!odd) return;
  const where = odd.layer === first.layer ? "" : ` of layer ${odd.layer}`;
  throw new Error(
    `Cannot ${purpose}: expert ${first.id} of layer ${first.layer} has ${first.width} channels and expert ${odd.id}${where} ${odd.width}; do this before they are sliced`,
  );
}
