/**
 * Matrices that are a shared one and a difference of low rank.
 *
 * @module
 */

import { heldSource } from "../checkpoint/held_source.ts";
import { readWide } from "../checkpoint/read_wide.ts";
import type { Device, TensorSource } from "../device/device.ts";
import { loadWide } from "./load_wide.ts";

/** base + left · right: the form of an expert's matrix in D²-MoE. It is read as the sum; saved and counted as its terms. */
export interface BasedSource extends TensorSource {
  readonly terms: {
    /** `[out, in]`, the same object in all that share it. */
    readonly base: TensorSource;
    /** `[out, rank]` */
    readonly left: TensorSource;
    /** `[rank, in]` */
    readonly right: TensorSource;
  };
}

/** @throws {RangeError} If the shapes do not fit. */
export function basedSource(terms: BasedSource["terms"]): BasedSource {
  const { base, left, right } = terms, [rows, columns] = base.shape, rank = right.shape[0];
  if (`${left.shape}` !== `${[rows, rank]}` || `${right.shape}` !== `${[rank, columns]}`) {
    throw new RangeError(`Cannot add a product [${left.shape}] · [${right.shape}] to a matrix [${base.shape}]: the sizes do not match`);
  }
  return {
    dtype: "F32",
    origin: base.origin ?? base.dtype,
    shape: base.shape,
    ranges: [base, left, right].flatMap(({ ranges }) => ranges ?? []),
    terms,
    read: async (into) => {
      const total = await readWide(base), [l, r] = [await readWide(left), await readWide(right)];
      for (let i = 0; i < rows; i++) {
        for (let k = 0; k < rank; k++) {
          const factor = l[i * rank + k];
          for (let j = 0; j < columns; j++) total[i * columns + j] += factor * r[k * columns + j];
        }
      }
      into.set(new Uint8Array(total.buffer));
    },
  };
}

/** The same sum, worked out by a device: at the speed of its products. It is held: a device that is loading something cannot be asked for a product. */
export async function summedMatrix(device: Device, { terms: { base, left, right }, shape, origin }: BasedSource): Promise<TensorSource> {
  using l = await loadWide(device, left);
  using r = await loadWide(device, right);
  using columns = device.transpose(r);
  using sum = device.linear(l, columns);
  using first = await loadWide(device, base);
  device.add(sum, first);
  return { ...heldSource(await device.read(sum) as Float32Array<ArrayBuffer>, shape), origin };
}
