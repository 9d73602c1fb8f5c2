/**
 * Biases of experts for rows that are sorted by expert.
 *
 * @module
 */

import type { Device, Experts, Tensor } from "../device/device.ts";
import type { SlotOrder } from "../device/vjp.ts";

/**
 * What is added to each sorted row of a product with the experts' matrices, `[slots, width]`; zeros for slots without an expert.
 *
 * @param table Experts of each token `[tokens, ranks]`, which the order is of.
 * @returns Nothing where no expert has such a bias.
 */
export function sortedBiases(
  device: Device,
  { biases }: Experts,
  kind: "gate" | "up" | "down",
  table: Tensor,
  order: SlotOrder,
): Tensor | undefined {
  const rows = biases[kind];
  if (!rows) return undefined;
  using unsorted = device.gather(rows, table);
  return device.sortRows(unsorted, order);
}
