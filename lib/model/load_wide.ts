/**
 * Weights in float32 on a device.
 *
 * @module
 */

import type { Device, Tensor, TensorSource } from "../device/device.ts";

/** Brings a weight to the device and widens it. */
export async function loadWide(device: Device, source: TensorSource): Promise<Tensor> {
  using stored = await device.load(source);
  return device.widen(stored);
}
