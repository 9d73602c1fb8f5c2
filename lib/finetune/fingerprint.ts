/**
 * Short names for what a training was begun with.
 *
 * @module
 */

import { tensorBytes } from "../checkpoint/write_safetensors.ts";
import type { MatrixSource, TensorSource } from "../device/device.ts";
import { matrixParts } from "../device/matrix_parts.ts";
import { ownerOf } from "../model/kept_layers.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import type { TokenizedExample } from "./examples.ts";

/** SHA-256 of the examples' tokens. */
export async function examplesFingerprint(examples: readonly TokenizedExample[]): Promise<string> {
  return await sha256(Uint32Array.from(examples.flatMap(({ ids, first }) => [ids.length, first, ...ids])));
}

/**
 * SHA-256 over which experts every layer has, how many of them a token uses, their ranks, which share their matrices, and weights of the last layer:
 * attention, router, one expert. Models that were pruned, decomposed or tuned differently differ there, wherever they lie; reading all weights would take
 * long.
 */
export async function modelFingerprint(model: Model): Promise<string> {
  const { attention, block } = model.layers.at(-1)!,
    shape = JSON.stringify([model.config.architecture, model.config.moe.topK, model.layers.map(expertsOf)]);
  const { gate, up, down } = block.kind === "moe" ? block.experts[0] : block;
  const biases = block.kind === "moe" ? Object.values(block.experts[0].biases ?? {}) : [];
  const sources: TensorSource[] = [
    ...Object.values(attention).flatMap(matrixParts),
    ...(block.kind === "moe" ? [block.router, ...(block.constants ? [block.constants.outputs] : [])] : []),
    ...[gate, up, down].flatMap(matrixParts),
    ...biases,
  ];
  return await sha256(new TextEncoder().encode(shape + await weightsFingerprint(sources)));
}

/** SHA-256 over the bytes of weights, one by one. */
export async function weightsFingerprint(sources: readonly TensorSource[]): Promise<string> {
  const parts: string[] = [];
  for (const source of sources) {
    const bytes = new Uint8Array(tensorBytes(source));
    await source.read(bytes);
    parts.push(source.dtype, await sha256(bytes));
  }
  return await sha256(new TextEncoder().encode(parts.join()));
}

function expertsOf({ block }: DecoderLayer): unknown {
  if (block.kind === "dense") return null;
  const rank = (matrix: MatrixSource) => "left" in matrix ? matrix.right.shape[0] : null;
  return [block.experts.map((e) => [e.id, ownerOf(e, block.experts), ...[e.gate, e.up, e.down].map(rank)]), block.constants?.ids];
}

async function sha256(data: BufferSource): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
}
