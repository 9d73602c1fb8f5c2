/**
 * Differences as matrices.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import { openBlas } from "../device/cpu/blas.ts";
import { gemm } from "../device/cpu/gemm.ts";
import type { TensorSource } from "../device/device.ts";
import type { ComponentGroup, DeltaLinear } from "./compressed_delta.ts";
import { dequantised } from "./factor_matrix.ts";

/** The factors of a group, `[rows, components]` with the singular values and `[components, columns]`, in float32. */
export function factorsOf(
  { left, singularValues, right }: ComponentGroup,
): { left: Float32Array<ArrayBuffer>; right: Float32Array<ArrayBuffer> } {
  const scaled = dequantised(left), components = singularValues.length;
  for (let i = 0; i < scaled.length; i++) scaled[i] *= singularValues[i % components];
  return { left: scaled, right: dequantised(right) };
}

/** into `[rows, columns]` += the difference. */
export function addDelta(into: Float32Array<ArrayBuffer>, form: DeltaLinear["form"]): void {
  if (!Array.isArray(form)) {
    const { negative, scale } = form;
    for (let i = 0; i < into.length; i++) into[i] += negative[i >>> 5] >>> (i & 31) & 1 ? -scale : scale;
    return;
  }
  for (const group of form) {
    const { left, right } = factorsOf(group), { rows, columns: components } = group.left, { columns } = group.right;
    const [a, b, c] = [[left, components], [right, columns], [into, columns]].map(([data, stride]) => ({ data, stride })) as Block[];
    (openBlas()?.gemm ?? gemm)(rows, columns, components, 1, a, b, "NN", 1, c);
  }
}

type Block = Parameters<typeof gemm>[4];

/** base + difference, worked out when it is read: the base's matrix and the difference's factors are in memory then. */
export function tunedSource(base: TensorSource, form: DeltaLinear["form"]): TensorSource {
  return {
    dtype: "F32",
    origin: base.origin ?? base.dtype,
    shape: base.shape,
    read: async (into) => {
      const values = await readWide(base);
      addDelta(values, form);
      into.set(new Uint8Array(values.buffer));
    },
  };
}
