/**
 * A weight matrix as it multiplies.
 *
 * @module
 */

import type { Device, MatrixSource, Tensor, TensorSource } from "../device/device.ts";

/** A matrix in float32; one that is a product already is multiplied out. */
export async function denseMatrix(device: Device, source: MatrixSource): Promise<Tensor> {
  const load = async (part: TensorSource) => {
    using stored = await device.load(part);
    return device.widen(stored);
  };
  if (!("left" in source)) return await load(source);
  using left = await load(source.left);
  using right = await load(source.right);
  using columns = device.transpose(right);
  return device.linear(left, columns);
}
