/**
 * Sizes and numbers that operations for training must be given.
 *
 * @module
 */

import type { Tensor } from "../device.ts";
import { partExtent, partShapes } from "../part_extent.ts";
import { product, rowsOf } from "../stored.ts";
import type { AdamOptions, ExpertPart, MatrixStack, SlotOrder } from "../vjp.ts";
import { isCount } from "./tensors.ts";

const sizeOf = ({ shape }: Tensor) => product(shape);

/** All tensors must have as many elements. @param what The operation, for the error. */
export function checkSame(what: string, ...tensors: Tensor[]): void {
  const odd = tensors.find((tensor) => sizeOf(tensor) !== sizeOf(tensors[0]));
  if (odd) throw new RangeError(`Cannot ${what}: [${odd.shape}] is not as large as [${tensors[0].shape}]`);
}

/** dy must be what an operation gives for these rows. */
export function checkGradient(what: string, dy: Tensor, shape: readonly number[]): void {
  if (sizeOf(dy) !== product(shape)) {
    throw new RangeError(`Cannot go back through ${what}: the gradient is [${dy.shape}], expected [${shape}]`);
  }
}

export function checkTable(table: Tensor, experts: number): void {
  if (table.shape.length !== 2) throw new RangeError(`Cannot sort slots of a table [${table.shape}]: [tokens, ranks] is expected`);
  if (!(isCount(experts) && experts > 0)) throw new RangeError(`Cannot sort slots of ${experts} experts: at least one is expected`);
}

/** Rows `[slots, width]`, or where `unsorted` is allowed also one a token, `[tokens, width]`, or one a slot, `[tokens, ranks, width]`. */
export function checkSorted(x: Tensor, { tokens, ranks }: SlotOrder, unsorted = false): void {
  const [first, second] = x.shape, slots = x.shape.length === 2 && first === tokens * ranks;
  const before = x.shape.length === 2 ? first === tokens : x.shape.length === 3 && first === tokens && second === ranks;
  if (!(unsorted ? before : slots)) {
    throw new RangeError(`Cannot use x [${x.shape}] with slots of ${tokens} tokens and ${ranks} ranks: the sizes do not match`);
  }
}

/** The shapes of the matrices that rows are multiplied with; the rows are as wide as the widest needs. */
export function checkMatrices(x: Tensor, matrices: ExpertPart | MatrixStack, side: 0 | 1): void {
  checkStack(partShapes(matrices), "experts" in matrices ? undefined : matrices.tensor);
  const width = partExtent(matrices)[side];
  if (x.shape[1] !== width) throw new RangeError(`Cannot multiply rows [${x.shape}] by matrices that need ${width} columns`);
}

export function checkStack(shapes: MatrixStack["shapes"], tensor?: Tensor): void {
  const wanted = shapes.reduce((n, [rows, columns]) => n + rows * columns, 0);
  if (!shapes.every((shape) => shape.length === 2 && shape.every(isCount))) {
    throw new RangeError(`Cannot use matrices of the shapes ${JSON.stringify(shapes)}: pairs of whole numbers are expected`);
  }
  if (tensor && sizeOf(tensor) !== wanted) throw new RangeError(`Cannot use [${tensor.shape}] as matrices of ${wanted} numbers`);
}

/** Matrices and an order of slots must be of as many experts. */
export function checkCount(matrices: number, experts: number): void {
  if (matrices !== experts) throw new RangeError(`Cannot use matrices of ${matrices} experts with slots that are sorted by ${experts}`);
}

export function checkDropout(rate: number, seed: number): void {
  if (!(rate >= 0 && rate < 1)) throw new RangeError(`Cannot drop a share of ${rate}: at least 0 and below 1 is expected`);
  if (!Number.isSafeInteger(seed)) throw new RangeError(`Cannot drop by the seed ${seed}: a whole number is expected`);
}

export function checkAdam(options: AdamOptions): void {
  for (const [name, value] of Object.entries(options)) {
    if (!Number.isFinite(value)) throw new RangeError(`Cannot take a step: "${name}" must be finite, received ${value}`);
  }
  if (!(isCount(options.step) && options.step > 0)) {
    throw new RangeError(`Cannot take a step: "step" counts from 1, received ${options.step}`);
  }
}

/** Rows of logits: x `[rows, in]`, as many targets and weights. */
export function checkWeights(x: Tensor, weights: Tensor): void {
  if (sizeOf(weights) !== rowsOf(x)) {
    throw new RangeError(`Cannot weigh ${rowsOf(x)} losses with [${weights.shape}]: the sizes do not match`);
  }
}
