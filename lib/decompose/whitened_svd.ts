/**
 * The product of given rank whose outputs are nearest to a matrix's, over the inputs that calibration saw.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { balance } from "./balance.ts";

/** What calibration knows of the inputs x of a matrix, held on the smaller side of the matrix. */
export interface Responses extends Disposable {
  /** Of a matrix that is taller than wide, Σ x xᵀ `[in, in]`; of any other, that of its outputs y = W x, Σ y yᵀ `[out, out]`. */
  gram: Tensor;
  /** Σ ‖x‖². */
  energy: number;
}

export interface WhitenedSvdOptions {
  /**
   * Added to every eigenvalue of the inputs' Gram matrix, as a share of their mean: what an error costs in directions that calibration never saw.
   *
   * @default 0.03 (on the fixtures anything from 0.001 to 0.1 does about as well)
   */
  ridge?: number;
}

/** W ≈ left · right. */
export interface WhitenedSvd {
  /** `[rows, rank]` */
  left: Float32Array;
  /** `[rank, columns]` */
  right: Float32Array;
  /** ‖W - left · right‖ / ‖W‖. */
  relativeError: number;
  /** ‖(W - left · right) X‖ / ‖W X‖ over the calibration inputs X, without the ridge; below about 1e-3 rounding blurs it. 0 where there are none. */
  relativeOutputError: number;
}

/**
 * Minimises Σ ‖(W - left · right) x‖² + λ ‖W - left · right‖² over all products of the given rank: the truncated SVD of W S, S Sᵀ = H = Σ x xᵀ + λ I, taken
 * back through S (the aim of SVD-LLM, section 3, whose S is a Cholesky factor; the two routes here are ours).
 *
 * A wide W needs no S: with U the leading eigenvectors of W H Wᵀ, the Gram matrix of the outputs, the best product is Uᵀ (U W). A tall W takes S from the
 * eigenvectors V of H: S = V √Λ, and the leading eigenvectors Z of (W S)ᵀ (W S) give left = W S Zᵀ, right = Z Λ^(-1/2) Vᵀ. Neither breaks down where there are
 * fewer inputs than columns; without any, λ = 1 makes it the plain SVD.
 *
 * @param matrix W `[rows, columns]` in F32.
 * @param rank From 1 to the smaller side.
 * @throws {RangeError} If the rank or `ridge` is out of range, the Gram matrix is not of the smaller side, or values are not finite.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertAlmostEquals } from "@std/assert";
 * using device = await openDevice();
 * using matrix = device.tensor(Float32Array.of(3, 0, 0, 0, 4, 0), [2, 3]);
 * // Inputs (10, 0, 0) and (0, 1, 0): outputs (30, 0) and (0, 4). By its weights alone the second row would count for more.
 * using gram = device.tensor(Float32Array.of(900, 0, 0, 16), [2, 2]);
 * const { left, right, relativeOutputError } = await whitenedSvd(device, matrix, { gram, energy: 101, [Symbol.dispose]() {} }, 1);
 * assertAlmostEquals(left[0] * right[0], 3, 1e-5);
 * assertAlmostEquals(relativeOutputError, 4 / Math.sqrt(916), 1e-3);
 * ```
 */
export async function whitenedSvd(
  device: Device,
  matrix: Tensor,
  responses: Responses,
  rank: number,
  options: WhitenedSvdOptions = {},
): Promise<WhitenedSvd> {
  const [rows, columns] = matrix.shape, smaller = Math.min(rows, columns);
  if (!(Number.isSafeInteger(rank) && rank >= 1 && rank <= smaller)) {
    throw new RangeError(
      `Cannot decompose a matrix [${rows}, ${columns}]: the rank must be a whole number from 1 to ${smaller}, received ${rank}`,
    );
  }
  using white = await whitened(device, matrix, responses, options);
  using best = (await device.eigen(white.core, rank)).vectors; // [rank, smaller]
  using factors = white.factors(best);
  using back = device.transpose(factors.right);
  using rebuilt = device.linear(factors.left, back);
  const total = await sumOf(device, device.squares(matrix)), missing = await sumOf(device, device.squares(matrix, rebuilt));
  const left = await device.read(factors.left), right = await device.read(factors.right);
  balance(left, right, rank);
  return {
    left,
    right,
    relativeError: total > 0 ? Math.sqrt(missing / total) : 0,
    relativeOutputError: await white.outputError(rebuilt, best),
  };
}

/** A matrix seen through its inputs. */
export interface Whitened extends Disposable {
  /** Symmetric `[smaller, smaller]`: its eigenvalues are the squared singular values of W S. */
  core: Tensor;
  /** The factors that some of its leading eigenvectors `[rank, smaller]` stand for: `[rows, rank]` and `[rank, columns]`. */
  factors(best: Tensor): { left: Tensor; right: Tensor } & Disposable;
  /** Relative error of the outputs of what the factors multiply out to. */
  outputError(rebuilt: Tensor, best: Tensor): Promise<number>;
}

/** See {@linkcode whitenedSvd}. */
export async function whitened(
  device: Device,
  matrix: Tensor,
  { gram, energy }: Responses,
  { ridge = 0.03 }: WhitenedSvdOptions = {},
): Promise<Whitened> {
  const [rows, columns] = matrix.shape, smaller = Math.min(rows, columns);
  if (!(ridge > 0 && ridge < Infinity)) throw new RangeError(`Cannot decompose: "ridge" must be above 0 and finite, received ${ridge}`);
  if (gram.shape.length !== 2 || gram.shape.some((size) => size !== smaller)) {
    throw new RangeError(
      `Cannot decompose a matrix [${rows}, ${columns}] by a Gram matrix [${gram.shape}]: [${smaller},${smaller}] is expected`,
    );
  }
  if (!(energy >= 0 && energy < Infinity)) {
    throw new RangeError(`Cannot decompose a matrix [${rows}, ${columns}]: its inputs have a sum of squares of ${energy}`);
  }
  const weight = energy > 0 ? ridge * energy / columns : 1; // λ
  return rows > columns ? await tall(device, matrix, gram, weight) : await wide(device, matrix, gram, weight);
}

async function wide(device: Device, matrix: Tensor, gram: Tensor, weight: number): Promise<Whitened> {
  using stack = new DisposableStack();
  using products = device.linear(matrix, matrix);
  const outputs = await device.read(gram),
    core = stack.use(device.tensor((await device.read(products)).map((v, i) => outputs[i] + weight * v), gram.shape));
  const columns = stack.use(device.transpose(matrix)), held = stack.move(), total = trace(outputs, gram.shape[0]);
  return {
    core,
    factors: (best) => pair(device.transpose(best), () => device.linear(best, columns)),
    outputError: async (_, best) => {
      using turned = device.linear(best, gram); // the Gram matrix is its own transpose
      const [u, g] = [await device.read(best), await device.read(turned)];
      const kept = u.reduce((sum, value, i) => sum + value * g[i], 0);
      return total > 0 ? Math.sqrt(Math.max(0, 1 - kept / total)) : 0;
    },
    [Symbol.dispose]: () => held[Symbol.dispose](),
  };
}

async function tall(device: Device, matrix: Tensor, gram: Tensor, weight: number): Promise<Whitened> {
  using stack = new DisposableStack();
  const size = gram.shape[0], { values, vectors } = await device.eigen(gram, size);
  using axes = vectors;
  const rows = await device.read(axes);
  const scaled = (factor: (value: number) => number) =>
    device.tensor(rows.map((v, i) => v * factor(Math.max(0, values[Math.floor(i / size)]))), axes.shape);
  using out = scaled((value) => Math.sqrt(value + weight));
  const images = stack.use(device.linear(matrix, out)); // W S
  using columns = device.transpose(images);
  const core = stack.use(device.linear(columns, columns));
  using inverse = scaled((value) => 1 / Math.sqrt(value + weight));
  const back = stack.use(device.transpose(inverse)), seen = stack.use(scaled(Math.sqrt)), held = stack.move();
  return {
    core,
    factors: (best) => pair(device.linear(images, best), () => device.linear(best, back)),
    outputError: async (rebuilt) => {
      using whole = device.linear(matrix, seen);
      using left = device.linear(rebuilt, seen);
      const total = await sumOf(device, device.squares(whole));
      return total > 0 ? Math.sqrt(await sumOf(device, device.squares(whole, left)) / total) : 0;
    },
    [Symbol.dispose]: () => held[Symbol.dispose](),
  };
}

/** Two factors; the first is given back if there is no second one. */
function pair(left: Tensor, other: () => Tensor): { left: Tensor; right: Tensor } & Disposable {
  using stack = new DisposableStack();
  stack.use(left);
  const right = stack.use(other()), held = stack.move();
  return { left, right, [Symbol.dispose]: () => held[Symbol.dispose]() };
}

async function sumOf(device: Device, tensor: Tensor): Promise<number> {
  using values = tensor;
  return (await device.read(values)).reduce((sum, value) => sum + value, 0);
}

function trace(values: Float32Array, size: number): number {
  let sum = 0;
  for (let i = 0; i < size; i++) sum += values[i * (size + 1)];
  return sum;
}
