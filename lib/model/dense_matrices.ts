/**
 * Experts whose matrices are what they are stored as.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import type { Expert } from "./model.ts";

/** The matrices of an expert that are whole. @throws {Error} If one is a product of low rank, or a difference from a shared one, or has a bias. */
export function denseMatrices(
  { id, gate, up, down, biases }: Expert,
  layer: number,
  purpose: string,
): Record<"gate" | "up" | "down", TensorSource> {
  if ([gate, up, down].some((matrix) => "left" in matrix || "terms" in matrix)) {
    throw new Error(`Cannot ${purpose}: expert ${id} of layer ${layer} has matrices of low rank; do this before they are decomposed`);
  }
  if (biases) throw new Error(`Cannot ${purpose}: expert ${id} of layer ${layer} has biases; do this before it is given them`);
  return { gate, up, down } as Record<"gate" | "up" | "down", TensorSource>;
}
