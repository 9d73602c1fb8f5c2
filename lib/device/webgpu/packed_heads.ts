/**
 * Heads in rows of whole vectors: what the kernels of attention's gradients read and write.
 *
 * @module
 */

import source from "../../../kernels/pack_heads.wgsl" with { type: "text" };
import type { Heads } from "../device.ts";
import type { Gpu } from "./gpu.ts";
import { part, split } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const KERNEL = { name: "pack_heads", source };

/** Elements that a packed head is a multiple of: steps of the kernels along the width. */
const STEP = 16;

/** Parts of heads, side by side: `[tokens, heads, width]` with zeros at the end of each head. */
export interface Packed extends Disposable {
  readonly tensor: GpuTensor;
  readonly heads: number;
  readonly width: number;
}

/** Elements of a packed head. */
function packedWidth(parts: readonly Heads[]): number {
  return Math.ceil(parts.reduce((sum, { width }) => sum + width, 0) / STEP) * STEP;
}

/** Do these parts lie as packed ones do? */
export function isPacked(parts: readonly Heads[], heads: number): boolean {
  const [{ row, stride, offset, width }] = parts;
  return parts.length === 1 && width % STEP === 0 && row === heads * width && (stride === width || heads === 1) && offset === 0;
}

/** The parts packed; where they are so already, the tensor that they lie in. */
export function pack(gpu: Gpu, parts: readonly Heads[], heads: number): Packed {
  const width = packedWidth(parts), input = onGpu(parts[0].tensor);
  if (isPacked(parts, heads)) return { tensor: input, heads, width, [Symbol.dispose]: () => {} };
  const tensor = gpu.tensor("F32", [input.size / parts[0].row, heads, width]);
  move(gpu, parts, { tensor, heads, width }, parts.map(({ tensor }) => onGpu(tensor)), false);
  return { tensor, heads, width, [Symbol.dispose]: () => tensor[Symbol.dispose]() };
}

/** Adds packed gradients to where the parts lie in the tensors of their gradients. */
export function unpack(gpu: Gpu, packed: Omit<Packed, typeof Symbol.dispose>, parts: readonly Heads[], into: readonly GpuTensor[]): void {
  move(gpu, parts, packed, into, true);
}

function move(
  gpu: Gpu,
  parts: readonly Heads[],
  { tensor, heads, width: full }: Omit<Packed, typeof Symbol.dispose>,
  others: readonly GpuTensor[],
  back: boolean,
): void {
  let first = 0;
  parts.forEach(({ row, stride, offset, width }, i) => {
    const cover = !back && i === parts.length - 1 ? full - first : width;
    for (const run of split(gpu, others[i].size / row, [row * 4, heads * full * 4])) {
      const loose = part(others[i], row * 4, run), packed = part(tensor, heads * full * 4, run);
      gpu.run(KERNEL, {
        constants: { back: back ? 1 : 0 },
        shape: [run.count, heads, row, stride, offset, width, full, first, cover],
        bindings: back ? [packed, loose] : [loose, packed],
        groups: Math.ceil(run.count * (back && stride === 0 ? 1 : heads) * cover / 256),
        about: () => `${run.count} rows of ${heads} heads of ${width}`,
      });
    }
    first += width;
  });
}
