import { matrixParts } from "../../lib/device/matrix_parts.ts";
import type { MatrixSource } from "../../lib/device/types.ts";
import { layerBytes } from "../../lib/model/layer_store.ts";
import type { FeedForward, Model } from "../../lib/model/model.ts";
import { tensorBytes } from "../../lib/checkpoint/write_safetensors.ts";

/**
 * Work of a forward pass of sequences: two operations for each weight that a token meets (projections of attention, router, topK experts, the shared one, the
 * head), and for causal attention two for each element of a head's query with each of the (length + 1) / 2 tokens that it looks at, and two of its value.
 * Bytes: all weights once, as they are stored.
 */
export function decoderWork(model: Model, lengths: readonly number[]): { weights: number; attention: number; bytes: number } {
  const { config, layers, head } = model,
    tokens = lengths.reduce((a, b) => a + b, 0),
    pairs = lengths.reduce((n, l) => n + l * (l + 1) / 2, 0);
  const elements = (matrix: MatrixSource) =>
    matrixParts(matrix).reduce((n, { shape }) => n + (shape.length === 2 ? shape[0] * shape[1] : 0), 0);
  const three = ({ gate, up, down }: FeedForward | { gate: MatrixSource; up: MatrixSource; down: MatrixSource }) =>
    elements(gate) + elements(up) + elements(down);
  let met = head.shape[0] * head.shape[1], attention = 0;
  for (const { attention: matrices, block } of layers) {
    for (const matrix of Object.values(matrices)) met += elements(matrix);
    met += block.kind === "dense"
      ? three(block)
      : config.moe.topK * three(block.experts[0]) + elements(block.router) + (block.shared ? three(block.shared) : 0);
    const query = matrices["q_proj.weight"] ?? matrices["q_b_proj.weight"], widths = rows(query) + columns(matrices["o_proj.weight"]);
    attention += 2 * pairs * widths;
  }
  return { weights: 2 * tokens * met, attention, bytes: layers.reduce((n, layer) => n + layerBytes(layer), tensorBytes(head)) };
}

const rows = (matrix: MatrixSource) => matrixParts(matrix)[0].shape[0];
const columns = (matrix: MatrixSource) => matrixParts(matrix).at(-1)!.shape[1];
