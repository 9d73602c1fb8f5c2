/**
 * What every operation asks of its tensors.
 *
 * @module
 */

import { BYTES, type Experts, type Tensor, type TensorSource } from "../device.ts";
import { type ElementType, type Home, product, StoredExperts, StoredTensor } from "../stored.ts";

/** Throws unless the tensor is of this device, alive and of one of the types. */
export function checkTensor(kind: string, home: Home, tensor: Tensor, types: readonly ElementType[]): void {
  if (!(tensor instanceof StoredTensor) || tensor.home !== home) {
    throw new TypeError(`Cannot use a tensor [${tensor.shape}] of another device on this ${kind} device`);
  }
  if (!types.includes(tensor.dtype)) {
    throw new TypeError(`Cannot use a ${tensor.dtype} tensor [${tensor.shape}] where ${types.join(" or ")} is expected`);
  }
  tensor.block; // throws if it was disposed
}

/** Throws unless the experts are of this device and alive. */
export function checkExperts(kind: string, home: Home, experts: Experts): void {
  if (!(experts instanceof StoredExperts) || experts.home !== home) {
    throw new TypeError(`Cannot use ${experts.count} experts of another device on this ${kind} device`);
  }
  if (experts.disposed) throw new Error(`Cannot use ${experts.count} experts of hidden size ${experts.hidden} that were disposed`);
}

/** Throws unless the shape holds whole numbers and has room for exactly these values. */
export function checkValues(values: Float32Array | Uint32Array, shape: readonly number[]): void {
  if (!(values instanceof Float32Array || values instanceof Uint32Array)) {
    throw new TypeError("Cannot make a tensor: values must be a Float32Array or a Uint32Array");
  }
  if (!isShape(shape) || product(shape) !== values.length) {
    throw new RangeError(`Cannot make a tensor [${shape}] of ${values.length} numbers`);
  }
}

/** Throws unless a weight of this type and shape can be kept. */
export function checkSource({ dtype, shape }: TensorSource): void {
  if (!(dtype in BYTES)) throw new TypeError(`Cannot load a ${dtype} tensor [${shape}]: ${Object.keys(BYTES).join(", ")} are known`);
  if (!isShape(shape)) throw new RangeError(`Cannot load a tensor [${shape}]: its dimensions must be whole numbers`);
}

function isShape(shape: readonly number[]): boolean {
  return shape.every(isCount);
}

/** A whole number that is not negative. */
export function isCount(value: number): boolean {
  return Number.isSafeInteger(value) && value >= 0;
}
