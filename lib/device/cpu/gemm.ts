/**
 * Matrix product and sum in TypeScript, for machines without a BLAS.
 *
 * @module
 */

/** A matrix inside an array: `rows` of `stride` elements each, starting at element 0 of `data`. */
export interface Block {
  data: Float32Array<ArrayBuffer>;
  stride: number;
}

/** How the operands of a product lie, as BLAS says it: `NT` has a `[m, k]` and b `[n, k]` (as weights are stored), `NN` b `[k, n]`, `TN` a `[k, m]` too. */
export type Form = "NT" | "NN" | "TN";

/**
 * c `[m, n]` = alpha · a · b + beta · c, with a and b in the form that `form` tells.
 *
 * `beta` is 0 or 1; at 0 the old contents of c do not matter.
 */
export type Gemm = (m: number, n: number, k: number, alpha: number, a: Block, b: Block, form: Form, beta: 0 | 1, c: Block) => void;

/** y += alpha · x, element by element. */
export type Axpy = (alpha: number, x: Float32Array<ArrayBuffer>, y: Float32Array<ArrayBuffer>) => void;

export const axpy: Axpy = (alpha, x, y) => {
  for (let i = 0; i < y.length; i++) y[i] += alpha * x[i];
};

/** Rows of b in one panel: 64 rows of up to 2,048 floats stay in a second-level cache. */
const PANEL = 64;

/**
 * A {@linkcode Gemm} that computes 4 × 4 outputs at a time, so that 8 loads feed 16 multiply-adds. Sums are taken in float64.
 */
export const gemm: Gemm = (m, n, k, alpha, a, b, form, beta, c) => {
  if (form === "TN") a = turned(a, k, m);
  if (form !== "NT") b = turned(b, k, n);
  for (let first = 0; first < n; first += PANEL) {
    const last = Math.min(n, first + PANEL);
    for (let i = 0; i < m; i += 4) {
      for (let j = first; j < last; j += 4) tile(i, Math.min(m, i + 4), j, Math.min(last, j + 4), k, alpha, a, b, beta, c);
    }
  }
};

function turned(x: Block, rows: number, columns: number): Block {
  const data = new Float32Array(columns * rows);
  turn(x, rows, columns, data);
  return { data, stride: rows };
}

/** y `[columns, rows]` = xᵀ. */
export function turn(x: Block, rows: number, columns: number, y: Float32Array): void {
  const tile = 32; // both sides of a tile stay in the first-level cache
  for (let top = 0; top < rows; top += tile) {
    for (let left = 0; left < columns; left += tile) {
      for (let i = top; i < Math.min(rows, top + tile); i++) {
        for (let j = left; j < Math.min(columns, left + tile); j++) y[j * rows + i] = x.data[i * x.stride + j];
      }
    }
  }
}

function tile(
  i: number,
  iEnd: number,
  j: number,
  jEnd: number,
  k: number,
  alpha: number,
  a: Block,
  b: Block,
  beta: number,
  c: Block,
): void {
  const x = a.data, y = b.data;
  // At the edges the last row or column is computed more than once and stored once.
  const i1 = Math.min(i + 1, iEnd - 1), i2 = Math.min(i + 2, iEnd - 1), i3 = Math.min(i + 3, iEnd - 1);
  const j1 = Math.min(j + 1, jEnd - 1), j2 = Math.min(j + 2, jEnd - 1), j3 = Math.min(j + 3, jEnd - 1);
  const x0 = i * a.stride, x1 = i1 * a.stride, x2 = i2 * a.stride, x3 = i3 * a.stride;
  const y0 = j * b.stride, y1 = j1 * b.stride, y2 = j2 * b.stride, y3 = j3 * b.stride;
  let s00 = 0, s01 = 0, s02 = 0, s03 = 0, s10 = 0, s11 = 0, s12 = 0, s13 = 0;
  let s20 = 0, s21 = 0, s22 = 0, s23 = 0, s30 = 0, s31 = 0, s32 = 0, s33 = 0;
  for (let p = 0; p < k; p++) {
    const a0 = x[x0 + p], a1 = x[x1 + p], a2 = x[x2 + p], a3 = x[x3 + p];
    const b0 = y[y0 + p], b1 = y[y1 + p], b2 = y[y2 + p], b3 = y[y3 + p];
    s00 += a0 * b0, s01 += a0 * b1, s02 += a0 * b2, s03 += a0 * b3;
    s10 += a1 * b0, s11 += a1 * b1, s12 += a1 * b2, s13 += a1 * b3;
    s20 += a2 * b0, s21 += a2 * b1, s22 += a2 * b2, s23 += a2 * b3;
    s30 += a3 * b0, s31 += a3 * b1, s32 += a3 * b2, s33 += a3 * b3;
  }
  const z = c.data;
  const store = (row: number, column: number, value: number) => {
    const at = row * c.stride + column;
    z[at] = beta === 0 ? alpha * value : z[at] + alpha * value;
  };
  store(i, j, s00);
  if (j1 > j) store(i, j1, s01);
  if (j2 > j1) store(i, j2, s02);
  if (j3 > j2) store(i, j3, s03);
  if (i1 > i) {
    store(i1, j, s10);
    if (j1 > j) store(i1, j1, s11);
    if (j2 > j1) store(i1, j2, s12);
    if (j3 > j2) store(i1, j3, s13);
  }
  if (i2 > i1) {
    store(i2, j, s20);
    if (j1 > j) store(i2, j1, s21);
    if (j2 > j1) store(i2, j2, s22);
    if (j3 > j2) store(i2, j3, s23);
  }
  if (i3 > i2) {
    store(i3, j, s30);
    if (j1 > j) store(i3, j1, s31);
    if (j2 > j1) store(i3, j2, s32);
    if (j3 > j2) store(i3, j3, s33);
  }
}
