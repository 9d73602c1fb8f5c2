/**
 * Leading eigenvectors of large symmetric matrices, nearly.
 *
 * @module
 */

import type { Eigen } from "./eigen.ts";
import type { Gemm } from "./gemm.ts";
import type { Rebase } from "./orthonormal.ts";
import { spectrum } from "./spectrum.ts";

/** What the search is made of. */
export interface NearEigenParts {
  gemm: Gemm;
  eigen: Eigen;
  orthonormal: Rebase;
  steady: Rebase;
}

/** What may be lost of the sum of the eigenvalues, as a share of what the best subspace leaves. */
const LOSS = 1e-3;

/** If the best subspace leaves less than this share of the whole sum, float32 cannot tell what is lost: LAPACK is asked. */
const DEEP = 1e-5;

/** Below this size nothing is gained. */
const SMALL = 256;

/** By how much the largest eigenvalue may outgrow the cut before float32 loses sight of the cut. */
const RANGE = 1e5;

/** How much the filter lifts the last wanted eigenvector above the unwanted; the rows beyond `count` do the rest. */
const LIFT = 16;

/** Beyond this quotient of the largest eigenvalue and the cut, the first estimate of the cut can be several times too high, and few steps are needed. */
const STEEP = 100;

/** The filter for such a first round: what share of the estimate is taken for c, and the degree. */
const CAREFUL = { share: 0.2, degree: 3 };

/** Rounds before LAPACK has to find all eigenvectors. */
const ROUNDS = 3;

/**
 * {@linkcode Eigen}, of a matrix without negative eigenvalues, with orthonormal vectors that need not be eigenvectors: what they leave of the trace is
 * within 0.2 % of the least possible.
 *
 * Chebyshev-filtered subspace iteration (Zhou, Saad, Tiago and Chelikowsky, 2006): `count` + 20 % random rows times Π (matrix - zᵢ), with the roots zᵢ of
 * a Chebyshev polynomial over [0, c]. c is about the first eigenvalue that the rows have no room for, or less; what is above grows the faster the higher it
 * is. Then Rayleigh and Ritz: the best `count` directions of that span. How the eigenvalues are spread, which c and the degree follow from, is estimated first.
 *
 * With residuals ρ = ‖matrix · u - θ u‖, about Σ ρ² / (θ - c) was lost. If that is too much, or a wanted value lies within [0, c], where the filter does not
 * lift it, another round starts from what was found.
 */
export function nearEigen({ gemm, eigen, orthonormal, steady }: NearEigenParts): Eigen {
  // What no result is part of is used again by the next call: the system clears new memory page by page.
  const kept = new Map<string, Float32Array<ArrayBuffer>>();
  const room = (name: string, length: number) => {
    const known = kept.get(name), space = known?.length === length ? known : new Float32Array(length);
    kept.set(name, space);
    return space;
  };
  return (matrix, n, count) => {
    const width = count + Math.max(16, Math.ceil(count / 5));
    if (n < SMALL || width > 0.6 * n) return eigen(matrix, n, count);
    const block = (data: Float32Array<ArrayBuffer>, stride = n) => ({ data, stride });
    const times = (from: Float32Array<ArrayBuffer>, into: Float32Array<ArrayBuffer>, scale = 1) =>
      gemm(width, n, n, scale, block(from), block(matrix), "NT", 0, block(into));

    let rows = randomSigns(room("rows", width * n)), images = room("images", width * n);
    const at = spectrum(gemm, matrix, n, rows), largest = at(0);
    let cut = Math.max(at(width), 1e-7 * largest), last = at(count);
    if (!(largest > 0)) return eigen(matrix, n, count);
    for (let round = 0; round < ROUNDS; round++) {
      const blind = round === 0 && largest > STEEP * cut, degree = blind ? CAREFUL.degree : degreeFor(last / cut);
      const end = blind ? CAREFUL.share * cut : cut;
      const roots = Array.from({ length: degree }, (_, i) => end / 2 * (1 + Math.cos(Math.PI * (i + 0.5) / degree)));
      let range = 1;
      roots.forEach((root) => {
        const growth = 2 * largest / cut;
        if (range * growth > RANGE && range > 1) steady(rows, width, n), range = 1;
        range *= growth;
        shifted(matrix, n, root, () => times(rows, images, 1 / cut));
        [rows, images] = [images, rows];
      });
      orthonormal(rows, width, n);
      times(rows, images);
      const small = room("small", width * width);
      gemm(width, width, n, 1, block(images), block(rows), "NT", 0, block(small, width));
      const { values, vectors: turn } = eigen(small, width, width), wanted = values.slice(0, count);
      cut = Math.max(values[width - 1], 1e-7 * largest), last = values[count - 1];

      const vectors = new Float32Array(count * n);
      gemm(count, n, width, 1, block(turn, width), block(rows), "NN", 0, block(vectors));
      const residuals = room("residuals", count * n);
      gemm(count, n, width, 1, block(turn, width), block(images), "NN", 0, block(residuals));
      const whole = trace(matrix, n), left = whole - wanted.reduce((sum, value) => sum + value, 0);
      if (left <= DEEP * whole) break;
      const lifted = !blind || last > end;
      if (lifted && loss(wanted, vectors, residuals, cut) <= LOSS * left) return { values: wanted, vectors };
    }
    return eigen(matrix, n, count);
  };
}

/** T_d(x) = cosh(d arcosh x) lifts the eigenvalue that is x times c / 2 above the middle of [0, c]. */
function degreeFor(quotient: number): number {
  return Math.min(10, Math.max(3, Math.ceil(Math.acosh(LIFT) / Math.acosh(Math.max(1, 2 * quotient - 1)))));
}

/** Calls `use` while `root` is taken from the diagonal. */
function shifted(matrix: Float32Array, n: number, root: number, use: () => void): void {
  const diagonal = Float32Array.from({ length: n }, (_, i) => matrix[i * (n + 1)]);
  for (let i = 0; i < n; i++) matrix[i * (n + 1)] -= root;
  use();
  for (let i = 0; i < n; i++) matrix[i * (n + 1)] = diagonal[i];
}

function loss(values: Float64Array, vectors: Float32Array, images: Float32Array, cut: number): number {
  const n = vectors.length / values.length;
  return values.reduce((sum, value, i) => {
    let square = 0;
    for (let k = i * n; k < (i + 1) * n; k++) square += (images[k] - value * vectors[k]) ** 2;
    return sum + Math.min(Math.abs(value), value > cut ? square / (value - cut) : Infinity);
  }, 0);
}

function trace(matrix: Float32Array, n: number): number {
  let sum = 0;
  for (let i = 0; i < n; i++) sum += matrix[i * (n + 1)];
  return sum;
}

/** Random signs, always the same: Marsaglia's xorshift of 32 bits. */
function randomSigns(signs: Float32Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  const { length } = signs;
  for (let i = 0, word = 0x9e3779b9; i < length;) {
    word ^= word << 13, word ^= word >>> 17, word ^= word << 5;
    for (let bit = 0; bit < 32 && i < length; bit++) signs[i++] = (word >>> bit & 1) * 2 - 1;
  }
  return signs;
}
