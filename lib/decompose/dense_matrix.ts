/**
 * A weight matrix as it multiplies.
 *
 * @module
 */

import type { Device, MatrixSource, Tensor } from "../device/device.ts";
import { loadWide } from "../model/load_wide.ts";

/** A matrix in float32; one that is a product already is multiplied out. */
export async function denseMatrix(device: Device, source: MatrixSource): Promise<Tensor> {
  if (!("left" in source)) return await loadWide(device, source);
  using left = await loadWide(device, source.left);
  using right = await loadWide(device, source.right);
  using columns = device.transpose(right);
  return device.linear(left, columns);
}
