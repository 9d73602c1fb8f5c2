/**
 * How much predictions of two models have in common.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { loadWide } from "./load_wide.ts";
import type { Model } from "./model.ts";
import { pause } from "./stage_options.ts";

/** Final norm and head of a model, on a device. */
export interface Predictor extends Disposable {
  norm: Tensor;
  head: Tensor;
  epsilon: number;
}

export async function loadPredictor(device: Device, { norm, head, config }: Model): Promise<Predictor> {
  using stack = new DisposableStack();
  const parts = { norm: stack.use(await loadWide(device, norm)), head: stack.use(await device.load(head)), epsilon: config.normEpsilon };
  const held = stack.move();
  return { ...parts, [Symbol.dispose]: () => held[Symbol.dispose]() };
}

/** Bytes of probabilities of one model that are held at a time. */
const PROBABILITIES = 2 ** 26;

/**
 * Σ over tokens of Σ_v min(p(v), q(v)), p the predictions of the first stream, q those of each of the others: all from residual streams `[tokens, hidden]`
 * before the final norm. A stretch of tokens at a time, the first stream's predictions once for all others.
 */
export async function predictionOverlaps(
  device: Device,
  first: { hidden: Tensor; predictor: Predictor },
  others: readonly { hidden: Tensor; predictor: Predictor }[],
  signal?: AbortSignal,
): Promise<number[]> {
  const [tokens] = first.hidden.shape, most = Math.max(1, Math.floor(PROBABILITIES / (4 * first.predictor.head.shape[0])));
  const sums = others.map(() => 0);
  for (let start = 0; start < tokens; start += most) {
    using rows = device.tensor(Uint32Array.from({ length: Math.min(most, tokens - start) }, (_, i) => start + i), [
      Math.min(most, tokens - start),
    ]);
    const predictions = ({ hidden, predictor: { norm, head, epsilon } }: typeof first) => {
      using picked = device.gather(hidden, rows);
      using x = device.rmsNorm(picked, norm, epsilon);
      using logits = device.linear(x, head);
      return device.softmax(logits);
    };
    using p = predictions(first);
    for (const [i, other] of others.entries()) {
      await pause(signal);
      using q = predictions(other);
      using common = device.overlap(p, q);
      sums[i] += (await device.read(common)).reduce((sum, value) => sum + value, 0);
    }
  }
  return sums;
}
