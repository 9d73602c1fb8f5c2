/**
 * Tensors that must be there.
 *
 * @module
 */

import { BYTES } from "../device/device.ts";
import type { Checkpoint } from "./open_checkpoint.ts";
import type { StoredTensor } from "./stored_tensor.ts";

/**
 * Gets a tensor by name, and checks its shape against what the config asks for.
 *
 * @param checkpoint The checkpoint.
 * @param name Name of the tensor.
 * @param shape Expected sizes.
 * @returns The tensor.
 * @throws {Error} If there is no such tensor, its shape is another, or its type cannot be read.
 *
 * @example
 * ```ts
 * import { openCheckpoint } from "./open_checkpoint.ts";
 * import { assertThrows } from "@std/assert";
 * const checkpoint = await openCheckpoint("notebooks/checkpoints/tiny-mixtral");
 * requireTensor(checkpoint, "model.norm.weight", [128]);
 * assertThrows(() => requireTensor(checkpoint, "model.norm.weight", [64]), Error, "found [128], expected [64]");
 * ```
 */
export function requireTensor({ source, tensors, unreadable }: Checkpoint, name: string, shape: readonly number[]): StoredTensor {
  const tensor = tensors.get(name), entry = tensor ?? unreadable.get(name);
  if (entry === undefined) {
    throw new Error(`Found no tensor "${name}" in "${source.location}", expected one of shape [${shape.join(", ")}]`);
  }
  const shown = `tensor "${name}" of "${source.location}/${entry.file}"`;
  if (entry.shape.length !== shape.length || shape.some((size, i) => size !== entry.shape[i])) {
    throw new Error(
      `Cannot use ${shown}: its shape does not fit the config, found [${entry.shape.join(", ")}], expected [${shape.join(", ")}]`,
    );
  }
  if (tensor === undefined) {
    throw new Error(`Cannot use ${shown}: its type cannot be read, found ${entry.dtype}, expected ${Object.keys(BYTES).join(", ")}`);
  }
  return tensor;
}
