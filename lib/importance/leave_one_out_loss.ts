/**
 * Importance of experts for the language-model loss.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { alternativeOutputs } from "../model/alternative_outputs.ts";
import { type Batch, HELD, type Sequences } from "../model/batch.ts";
import { attend, blockInput, blockOutput } from "../model/decoder_layer.ts";
import { embed } from "../model/embed.ts";
import { loadLayer, vector } from "../model/load_layer.ts";
import type { Model, MoeLayer } from "../model/model.ts";
import { advance, pause, type StageOptions } from "../model/stage_options.ts";
import { importanceBatches } from "./importance_batches.ts";

/** Model in which one layer lacks one expert: `layer` and `position` of the expert; the dense model has neither. */
interface Variant {
  layer?: number;
  position?: number;
  /** Residual stream `[tokens, hidden]`. */
  hidden: Tensor;
}

/**
 * Mean over batches of sequences of the mean token loss without expert j, minus that of the dense model, in nats.
 *
 * All variants walk through the model together: they part from the dense stream at their layer and share every later layer's weights, which are so
 * read once for as many tokens as fit.
 */
export async function leaveOneOutLoss(
  device: Device,
  model: Model,
  sequences: Sequences,
  layers: readonly MoeLayer[],
  batch: number,
  options: StageOptions,
): Promise<Map<number, Float64Array>> {
  const variants = 1 + layers.reduce((n, { block }) => n + block.experts.length, 0);
  const most = Math.max(1, Math.floor(HELD / (variants * model.config.hidden * 4)));
  const batches = importanceBatches(model.config, sequences, batch, most);
  const groups = Math.ceil(sequences.length / batch), tokens = new Float64Array(groups), dense = new Float64Array(groups);
  const sums = new Map(layers.map(({ index, block }) => [index, block.experts.map(() => new Float64Array(groups))]));
  const total = batches.length * model.layers.length;
  let done = 0;
  await advance(options, { stage: "importance", done, total, unit: "layers" });
  for (const { batch: part, group } of batches) {
    const losses = await variantLosses(device, model, part, layers, async () => {
      await advance(options, { stage: "importance", done: ++done, total, unit: "layers" });
    }, options.signal);
    tokens[group] += part.rows.length;
    for (const { layer, position, loss } of losses) {
      if (layer === undefined) dense[group] += loss;
      else sums.get(layer)![position!][group] += loss;
    }
  }
  const mean = (sum: Float64Array) => sum.reduce((all, value, g) => all + (tokens[g] > 0 ? value / tokens[g] : 0), 0) / groups;
  return new Map(
    [...sums].map(([layer, experts]) => [layer, Float64Array.from(experts, (sum) => mean(sum.map((value, g) => value - dense[g])))]),
  );
}

/** Summed token losses of the dense model and of all variants, for one batch of tokens. */
async function variantLosses(
  device: Device,
  model: Model,
  batch: Batch,
  layers: readonly MoeLayer[],
  afterLayer: () => Promise<void>,
  signal?: AbortSignal,
) {
  const { config } = model;
  using stack = new DisposableStack();
  const variants: Variant[] = [{ hidden: stack.use(await embed(device, model, batch.ids)) }];
  for (const layer of model.layers) {
    using weights = await loadLayer(device, config, layer);
    const { block } = weights, parting = block.kind === "moe" && layers.some((l) => l.index === layer.index);
    for (const { hidden, layer: own } of [...variants]) {
      await pause(signal);
      attend(device, config, weights.attention, hidden, batch.segments);
      using input = blockInput(device, config, weights, hidden);
      if (parting && own === undefined) {
        await alternativeOutputs(device, config, block, input, block.ids.map((id) => [id]), (output, position) => {
          const copy = stack.use(device.widen(hidden)); // what is wide already is copied
          device.add(copy, output);
          variants.push({ layer: layer.index, position, hidden: copy });
        });
      }
      using output = blockOutput(device, config, block, input);
      device.add(hidden, output);
    }
    await device.sync();
    await afterLayer();
  }
  if (batch.rows.length === 0) return [];
  using norm = await vector(device, model.norm);
  using head = await device.load(model.head);
  using rows = device.tensor(batch.rows, [batch.rows.length]);
  using targets = device.tensor(batch.targets, [batch.targets.length]);
  const losses: { layer?: number; position?: number; loss: number }[] = [];
  for (const { hidden, layer, position } of variants) {
    using last = device.gather(hidden, rows);
    using x = device.rmsNorm(last, norm, config.normEpsilon);
    using loss = device.crossEntropy(x, head, targets);
    losses.push({ layer, position, loss: (await device.read(loss)).reduce((a, b) => a + b, 0) });
  }
  return losses;
}
