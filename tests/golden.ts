/** The layer of golden vectors: numbers that follow from a generator of one line, so that any program can make them. */

import { heldSource } from "../lib/checkpoint/held_source.ts";
import type { Device, Tensor } from "../lib/device/device.ts";
import type { LoadedMoe } from "../lib/model/load_layer.ts";

/** x ← 1664525 x + 1013904223 (mod 2³²); x / 2³¹ - 1, in [-1, 1). */
export function golden(length: number, seed: number): Float64Array {
  let x = BigInt(seed);
  return Float64Array.from({ length }, () => {
    x = (1664525n * x + 1013904223n) & 0xffffffffn;
    return Number(x) / 2 ** 31 - 1;
  });
}

const HIDDEN = 4, INTERMEDIATE = 6, EXPERTS = 5, TOKENS = 16;

/** Weights of five experts and a router, and inputs of sixteen tokens; top-2, renormalised. */
export async function goldenLayer(device: Device): Promise<{ moe: LoadedMoe; x: Tensor }> {
  const numbers = (size: number, seed: number, factor = 1) => Float32Array.from(golden(size, seed), (v) => factor * v);
  const [gate, up, down] = [11, 12, 13].map((seed) => numbers(EXPERTS * INTERMEDIATE * HIDDEN, seed));
  const each = INTERMEDIATE * HIDDEN, of = (all: Float32Array<ArrayBuffer>, e: number) => all.slice(e * each, (e + 1) * each);
  const experts = await device.loadExperts(Array.from({ length: EXPERTS }, (_, e) => ({
    gate: heldSource(of(gate, e), [INTERMEDIATE, HIDDEN]),
    up: heldSource(of(up, e), [INTERMEDIATE, HIDDEN]),
    down: heldSource(of(down, e), [HIDDEN, INTERMEDIATE]),
  })));
  const router = device.tensor(numbers(EXPERTS * HIDDEN, 14, 2), [EXPERTS, HIDDEN]),
    x = device.tensor(numbers(TOKENS * HIDDEN, 15), [TOKENS, HIDDEN]);
  const ids = Array.from({ length: EXPERTS }, (_, e) => e);
  const dispose = () => [experts, router].forEach((held) => held[Symbol.dispose]());
  return { moe: { kind: "moe", ids, router, experts, [Symbol.dispose]: dispose }, x };
}

/** The part of a config that routing and statistics look at. */
export const GOLDEN_CONFIG = { hidden: HIDDEN, moe: { topK: 2, renormalise: true, scale: 1, experts: EXPERTS, groups: null } };
