/**
 * One group of a difference's components, in few bits.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { ComponentGroup } from "./compressed_delta.ts";
import type { Components } from "./delta_svd.ts";
import { dequantised, type FactorMatrix } from "./factor_matrix.ts";
import { gptq, type GptqOptions } from "./gptq.ts";

/**
 * Rounds components: the right vectors with the curvature of the linear's inputs, then the left ones with that of y = S V x, the right vectors as they are
 * rounded. Of 16 or 32 bits they are only rounded to that type.
 *
 * @param products Σ x xᵀ, columns² numbers, of the linear's inputs; missing where there are none.
 */
export async function quantiseGroup(
  device: Device,
  { left, singularValues, right }: Components,
  products: Tensor | undefined,
  options: GptqOptions,
): Promise<ComponentGroup> {
  const { bits } = options, count = singularValues.length, rows = left.length / count, columns = right.length / count;
  const scales = Float32Array.from(singularValues, bits === 32 ? Math.fround : Math.f16round);
  if (bits === 16 || bits === 32) {
    const matrix = (rows: number, columns: number, values: Float32Array): FactorMatrix => ({
      ...{ bits, rows, columns, values: bits === 16 ? values.map(Math.f16round) : values },
    });
    return { left: matrix(rows, count, left), singularValues: scales, right: matrix(count, columns, right) };
  }
  const sums = products && await device.read(products);
  const rounded = await gptq(device, right, columns, sums, options);
  const inner = sums && await innerProducts(device, dequantised(rounded), scales, sums);
  return { left: await gptq(device, left, count, inner, options), singularValues: scales, right: rounded };
}

/** Σ y yᵀ of y = S V x. */
async function innerProducts(device: Device, right: Float32Array, scales: Float32Array, sums: Float32Array): Promise<Float32Array> {
  const columns = right.length / scales.length;
  using rows = device.tensor(right.map((value, i) => value * scales[Math.floor(i / columns)]), [scales.length, columns]);
  using products = device.tensor(sums, [columns, columns]);
  using half = device.linear(rows, products); // Σ x xᵀ is its own transpose
  using whole = device.linear(rows, half);
  return await device.read(whole);
}
