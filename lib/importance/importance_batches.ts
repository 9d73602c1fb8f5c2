/**
 * Batches over which importance is summed.
 *
 * @module
 */

import { type Batch, batchSequences, type Sequences } from "../model/batch.ts";
import type { ModelConfig } from "../model/parse_config.ts";

/**
 * Batches for the decoder, none of which straddles two importance batches, each with the number of the one it belongs to.
 *
 * @param size Sequences an importance batch.
 * @param tokens The decoder's batches have at most so many tokens.
 */
export function importanceBatches(
  config: ModelConfig,
  sequences: Sequences,
  size: number,
  tokens: number,
): { batch: Batch; group: number }[] {
  return Array.from(
    { length: Math.ceil(sequences.length / size) },
    (_, group) => batchSequences(config, sequences.slice(group * size, (group + 1) * size), tokens).map((batch) => ({ batch, group })),
  ).flat();
}
