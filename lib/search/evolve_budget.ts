/**
 * Evolves how many experts each layer loses.
 *
 * @module
 */

import { type Random, random } from "../calibrate/random.ts";
import type { Device } from "../device/device.ts";
import type { ExpertScores } from "../importance/expert_scores.ts";
import { batchSequences, batchTokens, countTokens, type Sequences } from "../model/batch.ts";
import { expectOwnExperts, expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import { checkPlan } from "../model/prune_experts.ts";
import { advance, part, type StageOptions } from "../model/stage_options.ts";
import { planByScores } from "./plan_by_scores.ts";
import { type PruningBudget, pruningBudget, spread } from "./pruning_budget.ts";
import { variantOverlaps } from "./variant_overlaps.ts";

export interface EvolveBudgetOptions extends StageOptions {
  /** Share of all experts to drop, 0 ≤ ratio < 1. @default 0.25 */
  ratio?: number;
  /** Budgets in a generation. @default 32 (EvoESAP) */
  population?: number;
  /** @default 50 (EvoESAP) */
  generations?: number;
  /** Budgets that survive a generation and breed; never the whole population. @default 4 (EvoESAP) */
  elites?: number;
  /** Most experts that a mutation moves from one layer to another. @default 4 (EvoESAP) */
  step?: number;
  /** Most mutations of a child. @default 3 (EvoESAP) */
  mutations?: number;
  /** @default 0 */
  seed?: number;
}

/** A budget, and how it was found. */
export interface EvolvedBudget extends PruningBudget {
  /** See `esap`: how much of the whole model's predictions is left. */
  esap: number;
  /** The same under the even budget that all begins with. */
  even: number;
  /** The best after the first population and each generation. */
  history: number[];
  /** Different budgets tried. */
  evaluated: number;
}

/** Attempts at a child that was not seen before. */
const ATTEMPTS = 32;

/**
 * Evolves a budget that need not be even, for a fixed order of the experts within each layer (EvoESAP, arXiv 2603.06003): of each layer the lowest scores
 * go, and what changes is how many. Fitness is the ESAP of the pruned model with the whole one on the same text, so it sees all layers together, where
 * `pruningBudget` compares their scores.
 *
 * The first population is the even budget, ramps up, down, to the middle and from it, and random ones; the best of a generation survive, and the others
 * are children of one of them: a child moves experts' places from one layer to another, a few times. The total stays, and every layer keeps topK. No budget
 * is tried twice. All of a generation run together (see `variantOverlaps`), at about a model's forward pass each, with one read of the weights.
 *
 * @param tokens Text to compare predictions on; the paper takes 64 samples.
 * @param scores Of all experts of the model, by any score.
 * @returns The best budget of all generations, every MoE layer listed.
 * @throws {RangeError} If an option is out of range, there are no tokens, or the scores are of another model.
 * @throws {Error} If experts are constants, or are skipped.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { aimer } from "../importance/aimer.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * const { esap, even } = await evolveBudget(device, model, tokens, await aimer(model), { population: 6, generations: 2 });
 * assert(esap >= even);
 * ```
 */
export async function evolveBudget(
  device: Device,
  model: Model,
  tokens: Sequences,
  scores: ExpertScores,
  options: EvolveBudgetOptions = {},
): Promise<EvolvedBudget> {
  const purpose = "evolve a budget";
  expectStage(device, model, purpose, options);
  expectOwnExperts(model, purpose);
  const { ratio = 0.25, population = 32, generations = 50, elites = 4, step = 4, mutations = 3, seed = 0 } = options;
  const least = { population: 2, generations: 0, elites: 1, step: 1, mutations: 1 };
  for (const [name, value] of Object.entries({ population, generations, elites, step, mutations })) {
    const lowest = least[name as keyof typeof least];
    if (!(Number.isSafeInteger(value) && value >= lowest)) {
      throw new RangeError(`Cannot ${purpose}: "${name}" must be a whole number of at least ${lowest}, received ${value}`);
    }
  }
  const { config } = model, survivors = Math.min(elites, population - 1), draw = random(seed, purpose);
  // Scores may be of another top-k than the model has now.
  const even = pruningBudget({ ...scores, topK: config.moe.topK }, { ratio, strategy: "uniform" });
  checkPlan(model, planByScores(scores, even), purpose);
  const found = even.layers.map((l) => l.layer).join(", "), wanted = moeLayers(model).map((l) => l.index).join(", ");
  if (found !== wanted) throw new RangeError(`Cannot ${purpose}: the scores are of layers ${found}, the model's MoE layers are ${wanted}`);
  const batches = batchSequences(config, tokens, batchTokens(config, config.moe.topK));
  const positions = countTokens(batches, purpose);
  const budgetOf = (drops: readonly number[]) => ({ layers: even.layers.map(({ layer }, i) => ({ layer, drop: drops[i] })) });
  const room = moeLayers(model).map(({ block }) => Math.max(0, block.experts.length - config.moe.topK));

  const known = new Map<string, Candidate>(), history: number[] = [];
  const ranked = () => [...known.values()].sort((a, b) => b.esap - a.esap);
  let next = firstPopulation(even.layers.map((l) => l.drop), room, population, draw);
  for (let generation = 0; generation <= generations; generation++) {
    await advance(options, { stage: "evolve a budget", done: generation, total: generations + 1, unit: "generations" });
    const plans = next.map((drops) => planByScores(scores, budgetOf(drops)));
    const values = plans.length === 0
      ? []
      : await part(options, `generation ${generation}`, () => variantOverlaps(device, model, batches, plans, options.signal));
    next.forEach((drops, i) => known.set(drops.join(), { drops, esap: values[i] / positions }));
    history.push(ranked()[0].esap);
    next = children(ranked().slice(0, survivors), population - survivors, known, { room, step, mutations }, draw);
  }
  await advance(options, { stage: "evolve a budget", done: generations + 1, total: generations + 1, unit: "generations" });
  const [{ drops, esap }] = ranked(), first = known.get(even.layers.map((l) => l.drop).join())!;
  return { ...budgetOf(drops), esap, even: first.esap, history, evaluated: known.size };
}

interface Candidate {
  drops: number[];
  esap: number;
}

/** The even budget, four shapes, and random ones; without repetition, so there may be fewer. */
function firstPopulation(even: number[], room: readonly number[], population: number, draw: Random): number[][] {
  const count = even.length, total = even.reduce((a, b) => a + b, 0), middle = (count - 1) / 2, none = room.map(() => 0);
  const shapes: ((i: number) => number)[] = [
    (i) => i + 1,
    (i) => count - i,
    (i) => middle + 1 - Math.abs(i - middle),
    (i) => 1 + Math.abs(i - middle),
  ];
  const budgets = new Map([[even.join(), even]]);
  const admit = (weight: (i: number) => number) => {
    const drops = spread(room.map((_, i) => weight(i)), total, none, room);
    if (budgets.size < population) budgets.set(drops.join(), drops);
  };
  shapes.forEach(admit);
  for (let attempt = 0; attempt < ATTEMPTS * population && budgets.size < population; attempt++) {
    const weights = room.map(() => 1 + draw.below(1000));
    admit((i) => weights[i]);
  }
  return [...budgets.values()];
}

interface Mutation {
  /** Most experts each layer can lose. */
  room: readonly number[];
  step: number;
  mutations: number;
}

/** New budgets, each from one of the parents; fewer where no new ones are found. */
function children(
  parents: readonly Candidate[],
  count: number,
  known: ReadonlyMap<string, unknown>,
  how: Mutation,
  draw: Random,
): number[][] {
  const made = new Map<string, number[]>();
  for (let attempt = 0; attempt < ATTEMPTS * count && made.size < count; attempt++) {
    const drops = mutate(parents[draw.below(parents.length)].drops, how, draw);
    if (!known.has(drops.join())) made.set(drops.join(), drops);
  }
  return [...made.values()];
}

/** Moves up to `step` of the experts that one layer loses to another one, as often as the lower of two draws says; the total and all bounds hold. */
export function mutate(drops: readonly number[], { room, step, mutations }: Mutation, draw: Random): number[] {
  const child = [...drops], low = (most: number) => 1 + Math.min(draw.below(most), draw.below(most));
  for (let left = low(mutations); left > 0; left--) {
    const givers = [...child.keys()].filter((i) => child[i] > 0), takers = [...child.keys()].filter((i) => child[i] < room[i]);
    if (givers.length === 0 || takers.length === 0) break;
    const from = givers[draw.below(givers.length)], to = takers[draw.below(takers.length)];
    if (from === to) continue;
    const moved = Math.min(low(step), child[from], room[to] - child[to]);
    child[from] -= moved, child[to] += moved;
  }
  return child;
}
