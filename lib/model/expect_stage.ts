/**
 * The arguments that stages have in common.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { expect } from "./expect.ts";
import type { Model } from "./model.ts";

/** The two arguments that every stage begins with. */
export function expectStage(device: Device, model: Pick<Model, "config" | "layers">, purpose: string): void {
  expect(typeof device?.linear === "function", purpose, "a device from openDevice()", device);
  expectModel(model, purpose);
}

export function expectModel(model: Pick<Model, "config" | "layers">, purpose: string): void {
  expect(Array.isArray(model?.layers) && model.config?.moe !== undefined, purpose, "a model from openModel()", model);
}
