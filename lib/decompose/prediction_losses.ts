/**
 * What a change of a model does to its predictions.
 *
 * @module
 */

import { Scratch, type Stored } from "../checkpoint/scratch.ts";
import type { Device } from "../device/device.ts";
import type { Batch } from "../model/batch.ts";
import type { Model } from "../model/model.ts";
import { predictionDivergence } from "../model/prediction_divergence.ts";
import { loadPredictor } from "../model/prediction_pairs.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { walk } from "../model/walk.ts";

export interface PredictionLosses {
  /** Mean negative log-likelihood of a scored token, in nats. */
  nll: number;
  /** Σ over tokens of KL(changed ‖ original), in nats. */
  divergence: number;
}

/** Compares changed models with the one that they were made from: its last residual streams are kept, off the device. */
export class Predictions implements Disposable {
  readonly #scratch = new Scratch();
  #streams: Promise<Map<number, Stored>> | undefined;

  constructor(readonly device: Device, readonly original: Model, readonly batches: readonly Batch[]) {}

  /** @param changed Of the same width and vocabulary, with the same final norm and head. */
  async lossesOf(changed: Model, { signal }: Pick<StageOptions, "signal">): Promise<PredictionLosses> {
    const { device, batches } = this, sums: PredictionLosses = { nll: 0, divergence: 0 };
    const streams = await (this.#streams ??= this.#originalStreams(signal));
    const scored = batches.reduce((n, { rows }) => n + rows.length, 0);
    using predictor = await loadPredictor(device, changed);
    await walk<PredictionLosses>(device, changed, batches, {
      ...{ signal, stage: "predict" },
      atEnd: async (ends) => {
        const found: PredictionLosses = { nll: 0, divergence: 0 };
        for (const [b, hidden] of ends) {
          const { rows, targets, ids } = batches[b], values = new Float32Array(ids.length * hidden.shape[1]);
          await streams.get(b)!.read(0, values);
          using before = device.tensor(values, hidden.shape);
          found.divergence += await predictionDivergence(device, { hidden: before, predictor }, { hidden, predictor }, signal);
          if (rows.length === 0) continue;
          using picked = device.tensor(rows, [rows.length]);
          using wanted = device.tensor(targets, [targets.length]);
          using last = device.gather(hidden, picked);
          using x = device.rmsNorm(last, predictor.norm, predictor.epsilon);
          using losses = device.crossEntropy(x, predictor.head, wanted);
          for (const loss of await device.read(losses)) found.nll += loss / scored;
        }
        return found;
      },
      found: ({ nll, divergence }) => void (sums.nll += nll, sums.divergence += divergence),
    });
    return sums;
  }

  async #originalStreams(signal: AbortSignal | undefined): Promise<Map<number, Stored>> {
    const streams = new Map<number, Stored>();
    await walk<object>(this.device, this.original, this.batches, {
      ...{ signal, stage: "predict" },
      atEnd: async (ends) => {
        for (const [b, hidden] of ends) streams.set(b, await this.#scratch.store(await this.device.read(hidden)));
        return {};
      },
    });
    return streams;
  }

  [Symbol.dispose](): void {
    this.#scratch[Symbol.dispose]();
  }
}
