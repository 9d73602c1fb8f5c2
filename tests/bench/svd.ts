/** Truncated singular value decompositions of expert matrices. */

import { svdPool } from "../../lib/decompose/svd_pool.ts";
import type { TruncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { widen } from "../../lib/device/cpu/widen.ts";
import type { Device, Tensor } from "../../lib/device/device.ts";
import { bf16 } from "../numbers.ts";
import { decaying } from "./decaying.ts";
import type { Prepared } from "./row.ts";
import { repeated } from "./timed.ts";

export const MATRICES = {
  "expert-small": { count: 2, rows: 352, columns: 512, rank: 128 },
  expert: { count: 8, rows: 1408, columns: 2048, rank: 512 },
  mixtral: { count: 1, rows: 4096, columns: 14336, rank: 2048 },
} as const;

export type MatricesName = keyof typeof MATRICES;
export type Spectrum = "decaying" | "flat";

const RUNS = 3;

/**
 * Work by the Gram matrix of the smaller side m, a yardstick whatever is done instead: m² n for it, which is symmetric, 4/3 m³ to make it tridiagonal,
 * 2 m² rank to turn its eigenvectors back, 2 m n rank to project. Bytes: the matrix is read twice, both factors are written.
 */
function svdWork({ rows, columns, rank }: { rows: number; columns: number; rank: number }): { flops: number; bytes: number } {
  const m = Math.min(rows, columns), n = Math.max(rows, columns);
  return { flops: m * m * n + 4 / 3 * m ** 3 + 2 * m * m * rank + 2 * m * n * rank, bytes: 4 * (2 * m * n + rank * (m + n)) };
}

/** ‖A - L R‖² from the factors, as the peers take it. */
async function missingSquare(device: Device, matrix: Tensor, { left, right }: TruncatedSvd, rank: number): Promise<number> {
  const [rows, columns] = matrix.shape;
  using l = device.tensor(left, [rows, rank]);
  using r = device.tensor(right, [rank, columns]);
  using upright = device.transpose(r);
  using rebuilt = device.linear(l, upright);
  using missing = device.squares(matrix, rebuilt);
  return (await device.read(missing)).reduce((a, b) => a + b, 0);
}

/** All matrices together, as the experts of a layer are decomposed. The check is ‖A - L R‖ / ‖A‖ over all of them, outside of the time. */
export async function svd(device: Device, name: MatricesName, spectrum: Spectrum): Promise<Prepared> {
  const { count, rows, columns, rank } = MATRICES[name], stack = new DisposableStack(), matrices: { square: number; tensor: Tensor }[] = [];
  for (let n = 0; n < count; n++) {
    const values = spectrum === "flat" ? flat(`svd.flat.${n}`, rows, columns) : await decaying(device, `svd.decaying.${n}`, rows, columns);
    matrices.push({ square: values.reduce((sum, v) => sum + v * v, 0), tensor: stack.use(device.tensor(values, [rows, columns])) });
  }
  return {
    round: async () => {
      using pool = svdPool(device, [rows, columns]);
      const all = () => Promise.all(matrices.map(({ tensor }) => pool.decompose(tensor, rank)));
      if (count > 1) await all(); // the workers start and compile, as they do once for a layer
      const [factors, seconds] = await repeated(count > 1 ? RUNS : 1, all);
      let missing = 0, total = 0;
      for (const [i, { square, tensor }] of matrices.entries()) {
        missing += await missingSquare(device, tensor, factors[i], rank), total += square;
      }
      const part = { unit: "matrix", seconds: seconds.map((s) => s / count), work: svdWork(MATRICES[name]), beside: "seconds" } as const;
      return { parts: [part], check: Math.sqrt(missing / total) };
    },
    [Symbol.dispose]: () => stack[Symbol.dispose](),
  };
}

/** A matrix of independent numbers, whose singular values fall slowly. */
function flat(name: string, rows: number, columns: number): Float32Array<ArrayBuffer> {
  const values = new Float32Array(rows * columns);
  widen(new Uint8Array(bf16(name, values.length, Math.sqrt(3 / columns)).buffer), "BF16", 0, values);
  return values;
}
