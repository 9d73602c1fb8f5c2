/**
 * Predictions of two models, side by side.
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

/** A residual stream `[tokens, hidden]` before the final norm, and what makes predictions of it. */
export interface Predicting {
  hidden: Tensor;
  predictor: Predictor;
}

/** Bytes of probabilities of one model that are held at a time. */
const PROBABILITIES = 2 ** 26;

/**
 * Calls `visit` with the predictions `[some tokens, vocabulary]` of the first stream and of each of the others, by its number: a stretch of tokens at a time,
 * the first stream's predictions once for all others. They are given back after the call.
 */
export async function predictionPairs(
  device: Device,
  first: Predicting,
  others: readonly Predicting[],
  visit: (p: Tensor, q: Tensor, other: number) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const [tokens] = first.hidden.shape, most = Math.max(1, Math.floor(PROBABILITIES / (4 * first.predictor.head.shape[0])));
  for (let start = 0; start < tokens; start += most) {
    using rows = device.tensor(Uint32Array.from({ length: Math.min(most, tokens - start) }, (_, i) => start + i), [
      Math.min(most, tokens - start),
    ]);
    const predictions = ({ hidden, predictor: { norm, head, epsilon } }: Predicting) => {
      using picked = device.gather(hidden, rows);
      using x = device.rmsNorm(picked, norm, epsilon);
      using logits = device.linear(x, head);
      return device.softmax(logits);
    };
    using p = predictions(first);
    for (const [i, other] of others.entries()) {
      await pause(signal);
      using q = predictions(other);
      await visit(p, q, i);
    }
  }
}
