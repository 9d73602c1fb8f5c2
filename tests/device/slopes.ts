/** What vector-Jacobian products are compared with. */

import type { Device, Tensor } from "../../lib/device/device.ts";

/** Σ f(x) · dy, and its slope at each element of x by central differences: what a vector-Jacobian product must give. */
export async function slopes(
  device: Device,
  x: Float32Array,
  dy: Float32Array,
  f: (x: Tensor) => Tensor,
  shape: number[],
): Promise<Float64Array> {
  const at = async (values: Float32Array<ArrayBuffer>) => {
    using input = device.tensor(values, shape);
    using output = f(input);
    return (await device.read(output)).reduce((sum, v, i) => sum + v * dy[i], 0);
  };
  const result = new Float64Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const up = Float32Array.from(x), down = Float32Array.from(x);
    up[i] += 2 ** -7, down[i] -= 2 ** -7;
    result[i] = (await at(up) - await at(down)) / (up[i] - down[i]);
  }
  return result;
}

export async function read(device: Device, tensor: Tensor): Promise<Float32Array> {
  using held = tensor;
  return await device.read(held);
}
