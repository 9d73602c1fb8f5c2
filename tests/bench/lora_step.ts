/** One step of LoRA: rank 8 on attention and experts, 8 x 128 tokens, AdamW. */

import type { Device, Tensor } from "../../lib/device/device.ts";
import { widen } from "../../lib/device/cpu/widen.ts";
import { adamStep } from "../../lib/finetune/adam_step.ts";
import { adapterSites } from "../../lib/finetune/adapter_sites.ts";
import { type Adapters, createAdapters } from "../../lib/finetune/adapters.ts";
import { lossGradients } from "../../lib/finetune/loss_gradients.ts";
import { Parameters } from "../../lib/finetune/parameters.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { LayerStore } from "../../lib/model/layer_store.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import type { DecoderLayer, Model } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { bf16, tokenIds } from "../numbers.ts";
import { decoderWork } from "./decoder_work.ts";
import type { Prepared } from "./row.ts";
import { timed } from "./timed.ts";

const RANK = 8, ALPHA = 16, STEPS = 10, BATCH = 8, LENGTH = 128, TARGETS = ["attention", "experts"] as const;

/** The peers' first adapters: PyTorch's names, all experts of a kind in one tensor, uniform within 1 / √in, bfloat16. */
function firstAdapters(model: Model): Adapters {
  const adapters = createAdapters(model, { rank: RANK, alpha: ALPHA, targets: TARGETS, seed: 0 });
  for (const layer of model.layers) {
    for (const site of adapterSites(model, layer)) {
      const values = adapters.values.get(`${layer.index}/${site.key}/down`), [group, part] = site.key.split("/");
      if (!values || site.kind === "router") continue;
      const columns = site.kind === "linear" ? site.columns : site.shapes[0][1];
      const module = `model.layers.${layer.index}.${group === "attention" ? "self_attn" : "mlp.experts"}.${part}`;
      widen(new Uint8Array(bf16(`lora.${module}.a`, values.length, Math.sqrt(1 / columns)).buffer), "BF16", 0, values);
    }
  }
  return adapters;
}

/**
 * Work of a step: forward, and backward to the activations, which takes as many operations as forward for weights that are frozen and twice as many for
 * attention; adapters come on top, 6 · rank · (in + out) a token, and are not counted. Bytes: weights twice.
 */
function stepWork(model: Model): { flops: number; bytes: number } {
  const { weights, attention, bytes } = decoderWork(model, Array(BATCH).fill(LENGTH));
  return { flops: 2 * weights + 3 * attention, bytes: 2 * bytes };
}

/**
 * Ten steps from the same start in every round, by the functions that `finetune` is made of; the check is the loss after them.
 *
 * @param make Writes the checkpoint, where it is not there.
 */
export async function loraStep(device: Device, folder: string, make?: () => Promise<void>): Promise<Prepared> {
  await make?.();
  const model = await openModel(folder), work = stepWork(model), ids = tokenIds("lora.tokens", BATCH * LENGTH, model.config.vocabulary);
  const sequences = Array.from({ length: BATCH }, (_, i) => ids.subarray(i * LENGTH, (i + 1) * LENGTH));
  const batches = batchSequences(model.config, sequences, BATCH * LENGTH);
  return {
    round: async () => {
      using parameters = new Parameters(device, model, firstAdapters(model), TARGETS);
      await using store = new LayerStore(device, model, Infinity);
      using norm = await loadWide(device, model.norm);
      using head = await device.load(model.head);
      const gradients = () =>
        lossGradients(device, model, batches, {
          ...{ norm, head, keep: true, load: (layer: DecoderLayer) => store.load(layer) },
          adapters: (layer, weights) => parameters.adapters(layer, weights, { rate: 0, seed: () => 0 }),
          leaves: (layer) => parameters.tensors(layer),
          collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
        });
      const seconds: number[] = [];
      for (let step = 1; step <= STEPS; step++) {
        const [, time] = await timed(async () => {
          await gradients();
          await adamStep(device, parameters, Infinity, { learningRate: 1e-3, weightDecay: 0, step });
        });
        seconds.push(time);
      }
      const { loss } = await gradients();
      return { parts: [{ unit: "step", seconds, work, beside: "seconds" }], check: loss };
    },
    [Symbol.dispose]: () => make && Deno.removeSync(folder, { recursive: true }),
  };
}
