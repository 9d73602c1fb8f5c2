/**
 * Prunes layer after layer, each for what the layers before it give by then.
 *
 * @module
 */

import { SEARCH_TOKENS } from "../calibrate/calibrate.ts";
import type { Device, FitnessInputs, Tensor } from "../device/device.ts";
import { layerFitness, ranksNeeded } from "../importance/layer_fitness.ts";
import { type Batch, batchSequences, batchTokens, type Sequences } from "../model/batch.ts";
import { attend, blockInput, blockOutput, changed, forwardLayer } from "../model/decoder_layer.ts";
import { expectLayers } from "../model/expect.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { LayerStore } from "../model/layer_store.ts";
import type { LoadedLayer, LoadedMoe } from "../model/load_layer.ts";
import { type DecoderLayer, type Model, moeLayer, moeLayers } from "../model/model.ts";
import { passStreams } from "../model/pass_streams.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { pause, type StageOptions } from "../model/stage_options.ts";
import { combinations } from "./candidates.ts";
import { tryAll } from "./exhaustive_search.ts";
import { removeAndSwap } from "./greedy_search.ts";
import { dropOf, pricedLayer } from "./layer_search.ts";
import type { PruningBudget } from "./pruning_budget.ts";

export interface ProgressiveSearchOptions extends StageOptions {
  /** A layer with no more sets than this is searched exhaustively, any other by greedy removal and swaps. @default 4096 */
  limit?: number;
  /** Sequences are used as long as they have so many tokens together, the first one in any case: two streams and a layer's inner products of all are held. @default 32768 */
  searchTokens?: number;
}

/** A plan, and how each layer's set was found. */
export interface ProgressivePlan extends PruningPlan {
  layers: {
    layer: number;
    drop: number[];
    /** Norm of the difference of the layer's output from the dense model's; with no drop, that of what the layers before left. */
    loss: number;
    /** Different sets priced, and sets there are. */
    evaluated: number;
    possible: number;
  }[];
}

/** Rounds of swaps at most. */
const ROUNDS = 100;

/**
 * NAEE's progressive variant (section 3.2 of arXiv 2402.14800): the layers lose their experts in order; a set D of a layer is priced by
 * ‖Z - Z'(x; D)‖, Z the output of the layer in the dense model and x its input in the model whose earlier layers are pruned already. The layer-wise
 * searches take both from the dense model. The paper finds no clear gain in it.
 *
 * With R = Z - F(x), F(x) what the layer gives for x with all experts, the loss is ‖R + F(x) - F(x; D)‖: inner products of the experts' outputs among
 * themselves and with R price all sets, as in the layer-wise search, without running the layer again. Z is the whole output, shared experts included:
 * those see another input too.
 *
 * All of them go through together: two residual streams are held, and for one layer at a time the inner products of each token's topK + drop best experts.
 *
 * @param tokens Calibration sequences.
 * @param budget How many experts each layer loses; a layer that it does not list loses none.
 * @returns The plan, every MoE layer listed.
 * @throws {RangeError} If there are no tokens, the budget is of another model, or a layer must lose more experts than it can.
 * @throws {Error} If experts are constants, or are skipped.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const budget = { layers: [{ layer: 0, drop: 2 }, { layer: 1, drop: 2 }] };
 * const plan = await progressiveSearch(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")], budget);
 * assertEquals(plan.layers.map(({ drop }) => drop.length), [2, 2, 0, 0]);
 * ```
 */
export async function progressiveSearch(
  device: Device,
  model: Model,
  tokens: Sequences,
  budget: PruningBudget,
  options: ProgressiveSearchOptions = {},
): Promise<ProgressivePlan> {
  const purpose = "search layer after layer";
  expectStage(device, model, purpose, options);
  expectOwnExperts(model, purpose);
  for (const { layer } of expectLayers(budget, 'a pruning budget, which lists "layers"', purpose)) moeLayer(model, layer);
  const { limit = 4096, searchTokens = SEARCH_TOKENS, signal } = options, { config } = model;
  if (!(searchTokens >= 1)) throw new RangeError(`Cannot ${purpose}: "searchTokens" must be at least 1, received ${searchTokens}`);
  if (!(limit >= 1)) throw new RangeError(`Cannot ${purpose}: "limit" must be at least 1, received ${limit}`);
  const drops = new Map(moeLayers(model).map((layer) => [layer.index, dropOf(budget, layer)]));
  const batches = batchSequences(
    config,
    firstOf(tokens, searchTokens),
    batchTokens(config, config.moe.topK + Math.max(0, ...drops.values())),
  );
  if (batches.length === 0) throw new RangeError(`Cannot ${purpose}: there are no tokens`);
  await using store = new LayerStore(device, model);
  const plan: ProgressivePlan = { layers: [] };
  await passStreams<DecoderLayer, ProgressivePlan["layers"][number]>(device, {
    ...options,
    stage: "progressive search",
    unit: "layers",
    batches,
    groups: [batches.map((_, b) => b)],
    models: [model, model], // dense, and pruned as it goes
    steps: model.layers.slice(0, 1 + model.layers.findLastIndex(({ block }) => block.kind === "moe")),
    finds: ({ block }) => block.kind === "moe",
    found: (layer) => void plan.layers.push(layer),
    forward: async (layer, streams, find) => {
      using weights = await store.load(layer);
      const { block } = weights, pairs = streams.map(({ batch, hidden: [dense, pruned] }) => ({ ...batches[batch], dense, pruned }));
      if (block.kind === "dense") {
        for (const { segments, dense, pruned } of pairs) {
          await pause(signal);
          for (const hidden of [dense, pruned]) forwardLayer(device, config, weights, hidden, segments);
        }
        return await device.sync();
      }
      const drop = drops.get(layer.index)!, parts: FitnessInputs[] = [];
      using stack = new DisposableStack();
      let constant = 0;
      for (const pair of pairs) {
        await pause(signal);
        using lacking = denseLess(device, model, { ...weights, block }, pair);
        if (!find) continue;
        constant += await sumOfSquares(device, lacking);
        if (drop > 0) parts.push(stack.use(lackingFitness(device, model, { ...weights, block }, pair.pruned, drop, lacking)));
        await device.sync();
      }
      if (find) {
        const priced = pricedLayer(device, () => parts, { layer: layer.index, experts: block.ids.length, drop, constant });
        const possible = combinations(block.ids.length, drop);
        if (drop > 0) await (possible <= limit ? tryAll(priced, signal) : removeAndSwap(priced, ROUNDS, signal));
        const { set, loss } = drop > 0 ? priced.best(1)[0] : { set: [], loss: Math.sqrt(constant) };
        const positions = set.map((position) => block.ids[position]);
        await find({ layer: layer.index, drop: positions, loss, evaluated: priced.evaluated(), possible });
      }
      const gone = plan.layers.find((l) => l.layer === layer.index)!.drop;
      for (const { pruned } of pairs) {
        using input = blockInput(device, config, weights, pruned);
        using output = blockOutput(device, config, block, input, gone);
        device.add(pruned, output);
      }
      await device.sync();
    },
  });
  return plan;
}

type MoeWeights = LoadedLayer & { block: LoadedMoe };
type Pair = Batch & { dense: Tensor; pruned: Tensor };

/** Takes the dense stream through the layer and the pruned one through its attention. @returns What the whole layer's output for the latter lacks. */
function denseLess(device: Device, { config }: Model, weights: MoeWeights, { segments, dense, pruned }: Pair): Tensor {
  for (const hidden of [dense, pruned]) attend(device, config, weights.attention, hidden, segments);
  const output = (hidden: Tensor) => {
    using input = blockInput(device, config, weights, hidden);
    return blockOutput(device, config, weights.block, input);
  };
  using target = output(dense);
  device.add(dense, target);
  const lacking = output(pruned);
  return changed(lacking, () => {
    device.scale(lacking, -1);
    device.add(lacking, target);
  });
}

function lackingFitness(device: Device, { config }: Model, weights: MoeWeights, hidden: Tensor, drop: number, lacking: Tensor) {
  using input = blockInput(device, config, weights, hidden);
  return layerFitness(device, config, weights.block, input, ranksNeeded(config, weights.block.ids.length, drop), lacking);
}

async function sumOfSquares(device: Device, x: Tensor): Promise<number> {
  using squares = device.squares(x);
  return (await device.read(squares)).reduce((sum, value) => sum + value, 0);
}

/** The first sequences that together have at most so many tokens, and at least one. */
function firstOf(sequences: Sequences, most: number): Sequences {
  let tokens = 0;
  return Array.isArray(sequences) ? sequences.filter((ids, i) => (tokens += ids?.length ?? 0) <= most || i === 0) : sequences;
}
