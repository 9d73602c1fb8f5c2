/** Reproducible weights: element i of a tensor follows from the tensor's name and i alone. The PyTorch peers of BENCHMARKS.md make the same numbers. */

import { narrow } from "../lib/checkpoint/narrow.ts";
import { writeCheckpoint } from "../lib/checkpoint/write_checkpoint.ts";
import { assembleModel } from "../lib/model/assemble_model.ts";
import type { RowSource } from "../lib/model/model.ts";
import { parseConfig } from "../lib/model/parse_config.ts";

/** FNV-1a, 32 bit. */
export function seedOf(name: string): number {
  return new TextEncoder().encode(name).reduce((h, byte) => Math.imul(h ^ byte, 0x01000193) >>> 0, 0x811c9dc5);
}

function mix(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** A 32-bit hash of seed and index. */
export function bits(seed: number, i: number): number {
  return mix(mix(i) ^ mix((seed + 0x9e3779b9) | 0));
}

/** Uniform numbers in [-scale, scale), elements `start` and on. */
export function uniform(name: string, length: number, scale: number, start = 0): Float32Array<ArrayBuffer> {
  const values = new Float32Array(length), key = mix((seedOf(name) + 0x9e3779b9) | 0), factor = Math.fround(scale);
  for (let i = 0; i < length; i++) values[i] = ((mix(mix(start + i) ^ key) >>> 8) * 2 ** -23 - 1) * factor;
  return values;
}

const CHUNK = 2 ** 16;

/** The same numbers rounded to bfloat16, a word each: what a checkpoint holds. */
export function bf16(name: string, length: number, scale: number, start = 0): Uint16Array<ArrayBuffer> {
  const halves = new Uint16Array(length), key = mix((seedOf(name) + 0x9e3779b9) | 0), factor = Math.fround(scale);
  const values = new Float32Array(CHUNK), words = new Uint32Array(values.buffer); // they stay in the processor's cache
  for (let first = 0; first < length; first += CHUNK) {
    const count = Math.min(CHUNK, length - first);
    for (let i = 0; i < count; i++) values[i] = ((mix(mix(start + first + i) ^ key) >>> 8) * 2 ** -23 - 1) * factor;
    for (let i = 0; i < count; i++) halves[first + i] = (words[i] + 0x7fff + ((words[i] >>> 16) & 1)) >>> 16;
  }
  return halves;
}

/** Token ids. */
export function tokenIds(name: string, length: number, vocabulary: number): Uint32Array {
  const seed = seedOf(name);
  return Uint32Array.from({ length }, (_, i) => bits(seed, i) % vocabulary);
}

/**
 * Writes a checkpoint of random bf16 weights for a config: matrices of unit gain, embeddings of unit variance, biases below 0.1, norm weights `1 + spread`.
 *
 * @param spread Norm weights are uniform within so much of 1.
 */
export async function writeRandomCheckpoint(
  folder: string,
  config: Record<string, unknown>,
  { spread = 0, shardBytes }: { spread?: number; shardBytes?: number } = {},
): Promise<void> {
  const tensors = new Map<string, { name: string; dtype: "BF16"; shape: number[]; read: (into: Uint8Array) => Promise<void> }>();
  assembleModel(parseConfig(config), (name, shape) => {
    const size = shape.reduce((a, b) => a * b), norm = shape.length === 1 && name.endsWith("norm.weight");
    const scale = norm
      ? spread
      : name.endsWith(".bias")
      ? 0.1
      : name.endsWith("embed_tokens.weight")
      ? Math.sqrt(3)
      : Math.sqrt(3 / shape[1]);
    const read = (into: Uint8Array) => {
      const chunk = 2 ** 20;
      for (let start = 0; start < size; start += chunk) {
        const count = Math.min(chunk, size - start);
        into.set(
          norm
            ? narrow(uniform(name, count, scale, start).map((v) => 1 + v), "BF16")
            : new Uint8Array(bf16(name, count, scale, start).buffer),
          2 * start,
        );
      }
      return Promise.resolve();
    };
    tensors.set(name, { name, dtype: "BF16", shape, read });
    return { dtype: "BF16", shape, read } as unknown as RowSource;
  });
  await writeCheckpoint(folder, { tensors: [...tensors.values()], files: new Map([["config.json", JSON.stringify(config, null, 2)]]) }, {
    shardBytes,
  });
}
