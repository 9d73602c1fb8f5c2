/**
 * Short names for what a training was begun with.
 *
 * @module
 */

import { tensorBytes } from "../checkpoint/write_safetensors.ts";
import type { MatrixSource, TensorSource } from "../device/device.ts";
import { matrixParts } from "../device/matrix_parts.ts";
import { ownerOf } from "../model/kept_layers.ts";
import type { Model } from "../model/model.ts";
import { pause } from "../model/stage_options.ts";
import type { TokenizedExample } from "./examples.ts";

/** SHA-256 of the examples' tokens. */
export async function examplesFingerprint(examples: readonly TokenizedExample[]): Promise<string> {
  return await sha256(Uint32Array.from(examples.flatMap(({ ids, first }) => [ids.length, first, ...ids])));
}

/**
 * SHA-256 over all weights, by place and shape, and over what of a model is no weight: ids of experts, which share their matrices, how many a token uses.
 * Models that were pruned, sliced, decomposed or tuned differently differ there, wherever that was; the same one elsewhere, or saved with the same types,
 * does not.
 * Reads the model once, weight by weight.
 */
export async function modelFingerprint(model: Model, signal?: AbortSignal): Promise<string> {
  const seen = new Map<TensorSource, string>(), parts: unknown[] = [model.config.architecture, model.config.moe.topK];
  const add = async (named: Readonly<Record<string, MatrixSource | undefined>>) => {
    for (const name of Object.keys(named).sort()) {
      for (const source of named[name] ? matrixParts(named[name]) : []) {
        await pause(signal);
        if (!seen.has(source)) seen.set(source, await weightsFingerprint([source]));
        parts.push([name, source.shape, seen.get(source)]);
      }
    }
  };
  const { embedding, norm, head, layers } = model;
  await add({ embedding, norm, head });
  for (const { inputNorm, outputNorm, attention, block } of layers) {
    await add({ inputNorm, outputNorm });
    await add(attention);
    if (block.kind === "dense") {
      await add({ gate: block.gate, up: block.up, down: block.down });
      continue;
    }
    const { router, experts, constants, skip, shared } = block;
    parts.push([skip, constants?.ids]);
    await add({ router, constants: constants?.outputs, ...shared });
    for (const expert of experts) {
      const { id, gate, up, down, biases } = expert, owner = ownerOf(expert, experts);
      parts.push([id, owner]);
      if (experts[owner] === expert) await add({ gate, up, down }), await add(biases ?? {});
    }
  }
  return await sha256(new TextEncoder().encode(JSON.stringify(parts)));
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

async function sha256(data: BufferSource): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", data)).toHex();
}
