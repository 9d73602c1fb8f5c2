/**
 * Chooses among the candidates of several layers together.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { alternativeOutputs } from "../model/alternative_outputs.ts";
import { type Batch, batchSequences, batchTokens, groupBatches, type Sequences } from "../model/batch.ts";
import { attend, blockInput, forwardLayer } from "../model/decoder_layer.ts";
import { expectLayers } from "../model/expect.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { loadLayer } from "../model/load_layer.ts";
import { type DecoderLayer, type Model, type MoeLayer, moeLayer, moeLayers } from "../model/model.ts";
import { passStreams } from "../model/pass_streams.ts";
import { checkDrop, pruneExperts, type PruningPlan } from "../model/prune_experts.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import type { Candidates } from "./candidates.ts";
import { decoderBlocks } from "./decoder_blocks.ts";

export interface ReceptionFieldOptions extends StageOptions {
  /** Candidates a layer, K. @default 3 (MoE-I²) */
  keep?: number;
  /** Consecutive MoE layers chosen together, T; the last block may be shorter. @default 3 (MoE-I²) */
  block?: number;
  /** A block's input comes from the model with all earlier blocks pruned as chosen; else from the dense model. @default true */
  sequential?: boolean;
}

/** One joint choice of a block. */
export interface BlockChoice {
  /** Decoder layers. */
  layers: number[];
  /** Index of the chosen candidate of each layer. */
  choice: number[];
  /** Norm of the change of the residual stream after the block's last layer. */
  loss: number;
  /** The same for every layer's own best candidate. */
  firstChoices: number;
  /** Joint choices compared. */
  combinations: number;
}

/** A plan, and how it was found. */
export interface ReceptionFieldPlan extends PruningPlan {
  blocks: BlockChoice[];
}

/**
 * Block-wise KT-reception field (MoE-I², section 3.4): of the K best sets of each of T consecutive MoE layers, the combination that changes the residual
 * stream after the block least. The target is the dense model; the loss is the Frobenius norm over all tokens, before the final norm.
 *
 * Combinations form a prefix tree. A node is one residual stream: attention runs once a node, each expert once a node for all of its K branches, so a
 * full block costs 1 + K + … + K^(T-1) layer forwards instead of T · K^T.
 *
 * @param tokens Calibration sequences.
 * @param candidates Every MoE layer listed, best set first; the first K sets count.
 * @returns The plan, every MoE layer listed.
 * @throws {RangeError} If `keep` or `block` is not a positive whole number, there are no tokens, a layer has no candidates, or they are another model's.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const layers = [0, 1, 2, 3].map((layer) => ({ layer, sets: [{ drop: [0], loss: 1 }, { drop: [7], loss: 2 }], evaluated: 2, possible: 8, history: [1] }));
 * const plan = await receptionField(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")], { layers }, { block: 2 });
 * assertEquals(plan.blocks.map((b) => b.combinations), [4, 4]);
 * ```
 */
export async function receptionField(
  device: Device,
  model: Model,
  tokens: Sequences,
  candidates: Candidates,
  options: ReceptionFieldOptions = {},
): Promise<ReceptionFieldPlan> {
  expectStage(device, model, "choose candidates", options);
  expectOwnExperts(model, "choose candidates");
  const { keep = 3, block: size = 3, sequential = true } = options;
  for (const [name, value] of Object.entries({ keep, block: size })) {
    if (!(Number.isSafeInteger(value) && value > 0)) {
      throw new RangeError(`Cannot choose candidates: "${name}" must be a positive whole number, received ${value}`);
    }
  }
  for (const { layer } of expectLayers(candidates, 'candidates, which list "layers"', "choose candidates")) moeLayer(model, layer);
  const sets = new Map(moeLayers(model).map((layer) => [layer.index, setsOf(candidates, layer, keep)]));
  const batches = batchSequences(model.config, tokens, batchTokens(model.config, model.config.moe.topK + keep));
  if (batches.length === 0) throw new RangeError("Cannot choose candidates: there are no tokens");
  const blocks = decoderBlocks(model, size), plan: ReceptionFieldPlan = { layers: [], blocks: [] };
  await passStreams<DecoderLayer[], BlockChoice>(device, {
    ...options,
    stage: "reception field",
    unit: "blocks",
    batches,
    groups: [batches.map((_, b) => b)],
    models: sequential ? [model, model] : [model], // dense, and pruned as it goes
    steps: blocks,
    finds: () => true,
    found: ({ layers, choice, ...rest }) => {
      plan.blocks.push({ layers, choice, ...rest });
      layers.forEach((layer, i) => plan.layers.push({ layer, drop: sets.get(layer)![choice[i]] }));
    },
    forward: async (block, streams, find) => {
      const dense = streams.map(({ hidden }) => hidden[0]), pruned = streams.map(({ hidden }) => hidden.at(-1)!);
      const layers = block.filter((l) => l.block.kind === "moe").map((l) => l.index);
      if (find) {
        // The dense streams move on while the tree grows beside them.
        const losses = await blockLosses(device, model, block, sets, batches, dense, pruned, options.signal);
        const best = losses.reduce((least, { loss }, i) => loss < losses[least].loss ? i : least, 0), { choice, loss } = losses[best];
        await find({ layers, choice, loss, firstChoices: losses[0].loss, combinations: losses.length });
      } else await moveOn(device, model, block, batches, dense);
      const chosen = { layers: plan.layers.filter(({ layer }) => layers.includes(layer)) };
      if (sequential) await moveOn(device, pruneExperts(model, chosen), block, batches, pruned);
    },
  });
  return plan;
}

function setsOf(candidates: Candidates, layer: MoeLayer, keep: number): number[][] {
  const sets = candidates.layers.find((l) => l.layer === layer.index)?.sets?.slice(0, keep).map((set) => set.drop);
  if (!sets?.length) throw new RangeError(`Cannot choose candidates: layer ${layer.index} has none`);
  for (const drop of sets) checkDrop(layer, drop);
  return sets;
}

/**
 * Losses of all combinations of a block, in lexicographic order: the layers' own best candidates first. Moves the dense streams to the block's end.
 */
async function blockLosses(
  device: Device,
  model: Model,
  layers: DecoderLayer[],
  sets: ReadonlyMap<number, number[][]>,
  batches: Batch[],
  dense: Tensor[],
  roots: Tensor[],
  signal?: AbortSignal,
): Promise<{ choice: number[]; loss: number }[]> {
  const { config } = model, last = layers.at(-1)!, leaves = new Map<string, { choice: number[]; square: number }>();
  for (const group of groupBatches(batches, config.hidden * 4 * treeWidth(layers, sets))) {
    using stack = new DisposableStack();
    // The nodes of one level of the tree, for each batch of the group: the choices so far and their residual stream.
    let level = group.map((b) => [{ choice: [] as number[], hidden: stack.use(device.widen(roots[b])) }]);
    for (const layer of layers) {
      using weights = await loadLayer(device, config, layer);
      const { block } = weights, next: typeof level = [];
      for (const [i, b] of group.entries()) {
        const { segments } = batches[b], children: typeof level[0] = [];
        forwardLayer(device, config, weights, dense[b], segments);
        for (const node of level[i]) {
          await pause(signal);
          if (block.kind === "dense") {
            forwardLayer(device, config, weights, node.hidden, segments);
            children.push(node);
            continue;
          }
          attend(device, config, weights.attention, node.hidden, segments);
          using input = blockInput(device, config, weights, node.hidden);
          await alternativeOutputs(device, config, block, input, sets.get(layer.index)!, async (output, c) => {
            device.add(output, node.hidden);
            const choice = [...node.choice, c];
            if (layer !== last) return void children.push({ choice, hidden: stack.use(device.widen(output)) });
            using squares = device.squares(output, dense[b]);
            const leaf = leaves.get(choice.join()) ?? { choice, square: 0 };
            leaf.square += (await device.read(squares)).reduce((sum, value) => sum + value, 0);
            leaves.set(choice.join(), leaf);
          });
          node.hidden[Symbol.dispose]();
        }
        next.push(children);
      }
      level = next;
    }
  }
  return [...leaves.values()].map(({ choice, square }) => ({ choice, loss: Math.sqrt(square) }));
}

/** Most nodes alive at a time: those of the last level but one, and their parents. */
function treeWidth(layers: DecoderLayer[], sets: ReadonlyMap<number, number[][]>): number {
  const choices = layers.filter((l) => l.block.kind === "moe").slice(0, -1).map((l) => sets.get(l.index)!.length);
  return 2 * choices.reduce((nodes, count) => nodes * count, 1);
}

/** Takes residual streams through a block of a model. */
async function moveOn(device: Device, model: Model, block: DecoderLayer[], batches: Batch[], streams: Tensor[]): Promise<void> {
  for (const { index } of block) {
    using weights = await loadLayer(device, model.config, model.layers.find((l) => l.index === index)!);
    streams.forEach((hidden, b) => forwardLayer(device, model.config, weights, hidden, batches[b].segments));
    await device.sync();
  }
}
