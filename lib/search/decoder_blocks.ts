/**
 * Layers that are looked at together.
 *
 * @module
 */

import type { DecoderLayer, Model } from "../model/model.ts";

/** Decoder layers from behind one block's last MoE layer to the next one's, `size` MoE layers each. Layers behind the last MoE layer are left out. */
export function decoderBlocks({ layers }: Pick<Model, "layers">, size: number): DecoderLayer[][] {
  const blocks: DecoderLayer[][] = [], last = layers.findLastIndex((l) => l.block.kind === "moe");
  let held = size;
  for (const layer of layers.slice(0, last + 1)) {
    if (held === size) blocks.push([]), held = 0;
    blocks.at(-1)!.push(layer);
    if (layer.block.kind === "moe") held++;
  }
  return blocks;
}
