/** Truncated singular value decompositions of expert matrices. */

import { type TruncatedSvd, truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { widen } from "../../lib/device/cpu/widen.ts";
import type { Device, Tensor } from "../../lib/device/device.ts";
import { bf16 } from "../numbers.ts";
import { decaying } from "./decaying.ts";
import type { Prepared } from "./row.ts";
import { timed } from "./timed.ts";

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

/** The check is ‖A - L R‖ / ‖A‖ over all matrices, outside of the time. */
export async function svd(device: Device, name: MatricesName, spectrum: Spectrum): Promise<Prepared> {
  const { count, rows, columns, rank } = MATRICES[name], stack = new DisposableStack(), matrices: { square: number; tensor: Tensor }[] = [];
  for (let n = 0; n < count; n++) {
    const values = spectrum === "flat" ? flat(`svd.flat.${n}`, rows, columns) : await decaying(device, `svd.decaying.${n}`, rows, columns);
    matrices.push({ square: values.reduce((sum, v) => sum + v * v, 0), tensor: stack.use(device.tensor(values, [rows, columns])) });
  }
  return {
    round: async () => {
      const seconds = Array<number>(name === "mixtral" ? 1 : RUNS).fill(0);
      let missing = 0, total = 0;
      for (const run of seconds.keys()) {
        for (const { square, tensor } of matrices) {
          const [factors, time] = await timed(() => truncatedSvd(device, tensor, rank));
          seconds[run] += time / count;
          if (run === 0) missing += await missingSquare(device, tensor, factors, rank), total += square;
        }
      }
      return { parts: [{ unit: "matrix", seconds, work: svdWork(MATRICES[name]), beside: "seconds" }], check: Math.sqrt(missing / total) };
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
