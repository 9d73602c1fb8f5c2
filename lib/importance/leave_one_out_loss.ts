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
import { loadLayer } from "../model/load_layer.ts";
import { loadWide } from "../model/load_wide.ts";
import type { Model, MoeLayer } from "../model/model.ts";
import { advance, part, pause, type StageOptions } from "../model/stage_options.ts";
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
  options: StageOptions & { stage: string },
): Promise<Map<number, Float64Array>> {
  const variants = 1 + layers.reduce((n, { block }) => n + block.experts.length, 0);
  const most = Math.max(1, Math.floor(HELD / (variants * model.config.hidden * 4)));
  const batches = importanceBatches(model.config, sequences, batch, most);
  const groups = Math.ceil(sequences.length / batch), tokens = new Float64Array(groups), dense = new Float64Array(groups);
  const sums = new Map(layers.map(({ index, block }) => [index, block.experts.map(() => new Float64Array(groups))]));
  const total = batches.length * model.layers.length;
  const report = (done: number) => advance(options, { stage: options.stage, done, total, unit: "layers" });
  for (const [b, { batch, group }] of batches.entries()) {
    const before = (layer: number) => report(b * model.layers.length + layer);
    const losses = await part(
      options,
      `batch ${b + 1} of ${batches.length}`,
      () => variantLosses(device, model, batch, layers, before, options.signal),
    );
    tokens[group] += batch.rows.length;
    dense[group] += losses.dense;
    for (const { layer, position, loss } of losses.without) sums.get(layer)![position][group] += loss;
  }
  await report(total);
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
  before: (layer: number) => Promise<void>,
  signal?: AbortSignal,
): Promise<{ dense: number; without: { layer: number; position: number; loss: number }[] }> {
  const { config } = model;
  using stack = new DisposableStack();
  const variants: Variant[] = [{ hidden: stack.use(await embed(device, model, batch.ids)) }];
  for (const [l, layer] of model.layers.entries()) {
    await before(l);
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
  }
  const losses = { dense: 0, without: [] as { layer: number; position: number; loss: number }[] };
  if (batch.rows.length === 0) return losses;
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  using rows = device.tensor(batch.rows, [batch.rows.length]);
  using targets = device.tensor(batch.targets, [batch.targets.length]);
  for (const { hidden, layer, position } of variants) {
    using last = device.gather(hidden, rows);
    using x = device.rmsNorm(last, norm, config.normEpsilon);
    using each = device.crossEntropy(x, head, targets);
    const loss = (await device.read(each)).reduce((a, b) => a + b, 0);
    if (layer === undefined) losses.dense = loss;
    else losses.without.push({ layer, position: position!, loss });
  }
  return losses;
}
