/** Prefill of a whole model whose weights are in memory. */

import type { Device } from "../../lib/device/device.ts";
import { batchSequences, batchTokens } from "../../lib/model/batch.ts";
import { forwardLayer } from "../../lib/model/decoder_layer.ts";
import { embed } from "../../lib/model/embed.ts";
import { LayerStore } from "../../lib/model/layer_store.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { batchLosses } from "../../lib/model/token_losses.ts";
import { tokenIds } from "../numbers.ts";
import { benchCheckpoint } from "./checkpoint.ts";
import { decoderWork } from "./decoder_work.ts";
import type { Prepared, Scale } from "./row.ts";
import { repeated, timed } from "./timed.ts";
import { trimHeap } from "./trim_heap.ts";

export const PREFILL = {
  small: { layers: 2, batch: 2, length: 64, runs: 5 },
  full: { layers: 4, batch: 4, length: 512, runs: 3 },
} as const;

/**
 * From token ids to the loss of every prediction; the check is its mean. Ours takes the logits' softmax within that time, the peers' is over with the logits.
 * The weights leave memory between rounds, when it is the peers' turn.
 */
export async function forward(device: Device, folder: string, scale: Scale): Promise<Prepared> {
  const { layers, batch, length, runs } = PREFILL[scale];
  await benchCheckpoint(folder, scale, layers);
  const model = await openModel(folder), { config } = model, ids = tokenIds("forward.tokens", batch * length, config.vocabulary);
  const sequences = Array.from({ length: batch }, (_, i) => ids.subarray(i * length, (i + 1) * length));
  const batches = batchSequences(config, sequences, batchTokens(config, config.moe.topK));
  const { weights, attention, bytes } = decoderWork(model, sequences.map((s) => s.length));
  return {
    round: async () => {
      using _last = { [Symbol.dispose]: trimHeap }; // what is declared first is disposed last: when all weights are freed
      await using store = new LayerStore(device, model, Infinity);
      const [ends, loading] = await timed(async () => {
        for (const layer of model.layers) await store.load(layer);
        const ends = { norm: await loadWide(device, model.norm), head: await device.load(model.head) };
        await device.sync();
        return ends;
      });
      using norm = ends.norm;
      using head = ends.head;
      const [nll, seconds] = await repeated(runs, async () => {
        let sum = 0;
        for (const packed of batches) {
          using hidden = await embed(device, model, packed.ids);
          for (const layer of model.layers) forwardLayer(device, config, await store.load(layer), hidden, packed.segments);
          sum += (await batchLosses(device, model, { norm, head }, packed, hidden)).reduce((a, b) => a + b, 0);
        }
        return sum / (batch * (length - 1));
      });
      const work = { flops: weights + attention, bytes };
      return {
        parts: [
          { unit: `prefill of ${batch} x ${length} tokens`, seconds, work, beside: "seconds" },
          { unit: "loading", seconds: [loading], beside: "setup_seconds" },
        ],
        check: nll,
      };
    },
    [Symbol.dispose]: () => Deno.removeSync(folder, { recursive: true }),
  };
}
