/**
 * How far a compressed model strays from the dense one on its way through the layers.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { batchSequences, batchTokens, groupBatches, type Sequences } from "../model/batch.ts";
import { forwardLayer } from "../model/decoder_layer.ts";
import { expectModel, expectStage } from "../model/expect_stage.ts";
import { LayerStore } from "../model/layer_store.ts";
import { type DecoderLayer, type Model, moeLayers } from "../model/model.ts";
import { passStreams } from "../model/pass_streams.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { decoderBlocks } from "../search/decoder_blocks.ts";

export interface BlockOutputLossOptions extends StageOptions {
  /** Consecutive MoE layers a block; the last block may be shorter. @default 3 (MoE-I²) */
  block?: number;
}

export interface BlockOutputLoss {
  /** Of each block: its MoE layers, and the norm of the change of the residual stream after the last of them. */
  blocks: { layers: number[]; loss: number }[];
  /** Sum of the blocks' losses. */
  total: number;
}

/**
 * ‖h - h'‖, the Frobenius norm over all tokens of the difference of the residual streams of two models after each block of MoE layers, before the final
 * norm. Both models run from their embeddings on, so later blocks also bear what earlier ones did. Of a pruned model, block by block, this is what
 * `receptionField` minimises.
 *
 * @param dense The model to compare with.
 * @param compressed A model of the same layers.
 * @throws {RangeError} If there are no tokens, the models have other layers, or `block` is not a positive whole number.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { pruneExperts } from "../model/prune_experts.ts";
 * import { assert, assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), pruned = pruneExperts(model, { layers: [{ layer: 3, drop: [0, 1] }] });
 * const { blocks } = await blockOutputLoss(device, model, pruned, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * assertEquals(blocks[0], { layers: [0, 1, 2], loss: 0 });
 * assert(blocks[1].loss > 0);
 * ```
 */
export async function blockOutputLoss(
  device: Device,
  dense: Model,
  compressed: Model,
  tokens: Sequences,
  options: BlockOutputLossOptions = {},
): Promise<BlockOutputLoss> {
  const purpose = "compare models", { block = 3 } = options ?? {}, { config } = dense ?? {};
  expectStage(device, dense, purpose, options);
  expectModel(compressed, purpose);
  if (!(Number.isSafeInteger(block) && block > 0)) {
    throw new RangeError(`Cannot compare models: "block" must be a positive whole number, received ${block}`);
  }
  const shape = (model: Model) => `${model.layers.map((l) => `${l.index} (${l.block.kind})`).join(", ")} of width ${model.config.hidden}`;
  moeLayers(compressed); // checks the layers
  if (shape(dense) !== shape(compressed)) {
    throw new RangeError(`Cannot compare models: one has layers ${shape(dense)}, the other ${shape(compressed)}`);
  }
  const batches = batchSequences(config, tokens, batchTokens(config, config.moe.topK));
  if (batches.length === 0) throw new RangeError("Cannot compare models: there are no tokens");
  const blocks = decoderBlocks(dense, block), squares = blocks.map(() => 0), models = [dense, compressed];
  await using first = new LayerStore(device, dense), second = new LayerStore(device, compressed);
  await passStreams<DecoderLayer[], { block: number; square: number }>(device, {
    ...options,
    stage: "compare models",
    unit: "blocks",
    batches,
    groups: groupBatches(batches, models.length * 4 * config.hidden),
    models,
    steps: blocks,
    finds: () => true,
    found: ({ block, square }) => void (squares[block] += square),
    forward: async (layers, streams, find) => {
      for (const { index } of layers) {
        for (const [m, store] of [first, second].entries()) {
          const model = models[m];
          using weights = await store.load(model.layers.find((l) => l.index === index)!);
          for (const { batch, hidden } of streams) {
            await pause(options.signal);
            forwardLayer(device, model.config, weights, hidden[m], batches[batch].segments);
          }
          await device.sync();
        }
      }
      for (const { hidden: [before, after] } of find ? streams : []) {
        using rest = device.squares(after, before);
        await find!({ block: blocks.indexOf(layers), square: (await device.read(rest)).reduce((sum, value) => sum + value, 0) });
      }
    },
  });
  const losses = blocks.map((layers, b) => ({
    layers: layers.filter((l) => l.block.kind === "moe").map((l) => l.index),
    loss: Math.sqrt(squares[b]),
  }));
  return { blocks: losses, total: losses.reduce((sum, { loss }) => sum + loss, 0) };
}
