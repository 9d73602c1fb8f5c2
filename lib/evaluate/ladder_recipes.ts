/**
 * The rows of the ablation ladder.
 *
 * @module
 */

import { calibrate } from "../calibrate/calibrate.ts";
import { random } from "../calibrate/random.ts";
import { allocateRanks, largestRank, type RankPlan } from "../decompose/allocate_ranks.ts";
import { allocateRanksGlobally } from "../decompose/allocate_ranks_globally.ts";
import { decomposeExperts } from "../decompose/decompose_experts.ts";
import { expertSpectra } from "../decompose/expert_spectra.ts";
import type { Device } from "../device/device.ts";
import { finetune } from "../finetune/finetune.ts";
import { type Recipe, ROUTER_RECIPE } from "../finetune/recipe.ts";
import { leaveOneOut } from "../importance/leave_one_out.ts";
import type { Sequences } from "../model/batch.ts";
import { type Model, moeLayer, moeLayers } from "../model/model.ts";
import { pruneExperts, type PruningPlan } from "../model/prune_experts.ts";
import { geneticSearch } from "../search/genetic_search.ts";
import { greedySearch } from "../search/greedy_search.ts";
import { type PruningBudget, pruningBudget } from "../search/pruning_budget.ts";
import { receptionField } from "../search/reception_field.ts";
import type { AblationLadderOptions } from "./ladder_options.ts";
import type { SharedStages } from "./shared_stages.ts";

/** What a recipe makes: one model, or several whose mean counts. */
export interface Made {
  models: { pruned: Model; compressed: Model; plan: PruningPlan; ranks?: RankPlan }[];
  /** What is to be disposed of once they are measured. */
  held: Disposable[];
  /** What it needs, for its seconds. */
  stages: string[];
  evaluations: number;
}

export interface LadderRecipe {
  row: string;
  against: string | null;
  /** Whether it needs examples. */
  learns: boolean;
  make(): Promise<Made>;
}

/** How many experts each layer loses: the same, by importance, by relative importance. */
type Counts = "uniform" | "importance" | "relative";
type Search = "genetic" | "greedy";

/** A way to prune. */
interface Pruning {
  counts: Counts;
  search: Search;
  /** Share of the experts. */
  ratio: number;
}

type Settled = AblationLadderOptions & { ratio: number; averageRank: number; randomRuns: number; seed: number; recipe: Recipe };

/** All rows, each against the one that it changes. To add one, add it here: a name, what it changes, and how it is made. */
export function ladderRecipes(device: Device, model: Model, tokens: Sequences, stages: SharedStages, options: Settled): LadderRecipe[] {
  const { ratio, averageRank, randomRuns, seed, examples = [], signal, onProgress } = options, { hidden, moe } = model.config;
  const control = { signal, onProgress }, keep = options.keep ?? 3;
  const calibration = (of: Model, name: string) => stages.run(`calibrate${name}`, [], () => calibrate(device, of, tokens, control));
  const importance = async (of: Model, name: string, loss: "output" | "relative" = "output") => {
    const trace = await calibration(of, name), stage = `${loss} importance${name}`;
    return await stages.run(stage, [`calibrate${name}`], () => leaveOneOut(device, of, trace, { ...control, loss }));
  };
  const budget = async (counts: Counts, ratio: number): Promise<PruningBudget> =>
    pruningBudget(await importance(model, "", counts === "relative" ? "relative" : "output"), {
      ratio,
      strategy: counts === "uniform" ? "uniform" : "inverse",
    });
  const nameOf = ({ counts, search, ratio }: Pruning) => `${search}, ${counts}, ${ratio}`;
  const searched = async (pruning: Pruning) => {
    const { counts, search, ratio } = pruning, drop = await budget(counts, ratio), trace = await calibration(model, "");
    const needs = [{ uniform: "calibrate", importance: "output importance", relative: "relative importance" }[counts]],
      { population, generations } = options;
    const candidates = await stages.run(
      `search ${nameOf(pruning)}`,
      needs,
      () =>
        search === "greedy"
          ? greedySearch(device, model, trace, drop, { ...control, keep })
          : geneticSearch(device, model, trace, drop, { ...control, keep, population, generations, seed }),
    );
    return { candidates, evaluations: candidates.layers.reduce((n, l) => n + l.evaluated, 0), stage: `search ${nameOf(pruning)}` };
  };
  const chosen = async (pruning: Pruning) => {
    if (pruning.ratio === 0) return { plan: { layers: [] }, stage: "", evaluations: 0 };
    const { candidates, evaluations, stage } = await searched(pruning), name = `reception field ${nameOf(pruning)}`;
    const { layers, blocks } = await stages.run(
      name,
      [stage],
      () => receptionField(device, model, tokens, candidates, { ...control, keep, block: options.block }),
    );
    return { plan: { layers }, stage: name, evaluations: evaluations + blocks.reduce((n, b) => n + b.combinations, 0) };
  };
  const pruned = (plan: PruningPlan, stages: string[], evaluations = 0): Made => {
    const pruned = pruneExperts(model, plan);
    return { models: [{ pruned, compressed: pruned, plan }], held: [], stages, evaluations };
  };
  const searchOnly = async (pruning: Pruning) => {
    const { candidates, evaluations, stage } = await searched(pruning);
    return pruned({ layers: candidates.layers.map(({ layer, sets }) => ({ layer, drop: sets[0].drop })) }, [stage], evaluations);
  };
  const withField = async (pruning: Pruning) => {
    const { plan, stage, evaluations } = await chosen(pruning);
    return pruned(plan, [stage], evaluations);
  };
  /** Chosen by `withField`, then decomposed. Every way to do it spends the ranks that the paper's allocation spends, no more. */
  const decomposed = async (pruning: Pruning, { white = false, global = false, averageRank: mean = averageRank } = {}): Promise<Made> => {
    const { plan, stage, evaluations } = await chosen(pruning),
      left = pruneExperts(model, plan),
      name = pruning.ratio > 0 ? ` of ${nameOf(pruning)}` : "";
    const scores = await importance(left, name), trace = await calibration(left, name), whiten = white ? trace : undefined;
    let ranks = allocateRanks(scores, { averageRank: mean }), needs = [stage, `output importance${name}`];
    if (global) {
      const spent = ranks.layers.reduce((n, l) => n + l.sum, 0) / moeLayers(left).reduce((n, l) => n + l.block.experts.length, 0);
      const spectra = await stages.run(`spectra ${white}${name}`, needs, () => expertSpectra(device, left, { ...control, whiten }));
      ranks = allocateRanksGlobally(scores, spectra, { averageRank: spent }), needs = [`spectra ${white}${name}`];
    }
    const last = `decompose ${white} ${global} ${mean}${name}`;
    const compressed = await stages.once(last, needs, () => decomposeExperts(device, left, ranks, { ...control, whiten }));
    return { models: [{ pruned: left, compressed, plan, ranks }], held: [compressed], stages: [last], evaluations };
  };
  const paper: Pruning = { counts: "importance", search: "genetic", ratio }, beyond: Pruning = { ...paper, search: "greedy" };
  /** Drops fewer experts, and saves by ranks what that leaves to save: to the size of the rows that only prune, or of those that also decompose. */
  const traded = async (pruning: Pruning, target: "pruned" | "decomposed", beyondPaper: boolean) => {
    const count = moeLayers(model).reduce((n, l) => n + l.block.experts.length, 0), inner = hidden + moe.intermediate;
    const left = async (ratio: number) => count - (await budget("importance", ratio)).layers.reduce((n, l) => n + l.drop, 0);
    const whole = await left(ratio), kept = await left(pruning.ratio), dense = 3 * hidden * moe.intermediate;
    // Parameters of the target, less the rows of the routers, by those of one rank in all experts that are left.
    const size = whole * ((target === "pruned" ? dense : 3 * averageRank * inner) + hidden) - kept * hidden;
    const mean = Math.min(largestRank(hidden, moe.intermediate), size / (3 * inner * kept));
    return await decomposed(pruning, { white: beyondPaper, global: beyondPaper, averageRank: mean });
  };
  const half: Pruning = { ...beyond, ratio: ratio / 2 }, whole: Pruning = { ...beyond, ratio: 0 };
  const finetuned = async (): Promise<Made> => {
    const made = await decomposed(paper), [one] = made.models;
    using stack = new DisposableStack();
    for (const model of made.held) stack.use(model);
    const tune = () => finetune(device, one.compressed, examples, { ...options.recipe, ...control });
    const compressed = await stages.once("fine-tuning", made.stages, tune);
    return { ...made, models: [{ ...one, compressed }], held: [stack.move()], stages: ["fine-tuning"] };
  };
  const distilled = async (): Promise<Made> => {
    const made = await withField(paper), [one] = made.models;
    const distill = () => finetune(device, one.pruned, examples, { ...options.recipe, ...ROUTER_RECIPE, ...control, teacher: model });
    const compressed = await stages.once("router distillation", made.stages, distill);
    return { ...made, models: [{ ...one, compressed }], stages: ["router distillation"] };
  };
  const recipe = (row: string, against: string | null, make: () => Promise<Made>, learns = false): LadderRecipe => {
    return { row, against, learns, make };
  };
  return [
    recipe("random", null, async () => {
      const drop = await budget("uniform", ratio),
        runs = Array.from({ length: randomRuns }, (_, run) => pruned(randomPlan(model, drop, seed + run), []));
      return { models: runs.flatMap((run) => run.models), held: [], stages: [], evaluations: 0 };
    }),
    recipe("least important", "random", async () => {
      const { layers } = await importance(model, ""), drop = await budget("uniform", ratio);
      const least = layers.map(({ layer, experts, scores }, l) => {
        const order = [...experts.keys()].sort((a, b) => scores[a] - scores[b] || a - b);
        return { layer, drop: order.slice(0, drop.layers[l].drop).map((i) => experts[i]).sort((a, b) => a - b) };
      });
      return pruned({ layers: least }, ["output importance"]);
    }),
    recipe("genetic, uniform counts", "least important", () => searchOnly({ ...paper, counts: "uniform" })),
    recipe("genetic", "genetic, uniform counts", () => searchOnly(paper)),
    recipe("+ reception field", "genetic", () => withField(paper)),
    recipe("+ decomposition", "+ reception field", () => decomposed(paper)),
    recipe("+ fine-tuning", "+ decomposition", finetuned, true),
    recipe("uniform counts", "+ reception field", () => withField({ ...paper, counts: "uniform" })),
    recipe("relative importance", "+ reception field", () => withField({ ...paper, counts: "relative" })),
    recipe("greedy + swaps", "+ reception field", () => withField(beyond)),
    recipe("relative, greedy + swaps", "+ reception field", () => withField({ ...beyond, counts: "relative" })),
    recipe("router distillation", "+ reception field", distilled, true),
    recipe("whitened", "+ decomposition", () => decomposed(paper, { white: true })),
    recipe("global ranks", "+ decomposition", () => decomposed(paper, { global: true })),
    recipe("whitened, global ranks", "+ decomposition", () => decomposed(paper, { white: true, global: true })),
    recipe("greedy, whitened, global ranks", "+ decomposition", () => decomposed(beyond, { white: true, global: true })),
    recipe("all options", "+ decomposition", () => decomposed({ ...beyond, counts: "relative" }, { white: true, global: true })),
    recipe("half pruned, decomposed", "+ reception field", () => traded({ ...half, search: "genetic" }, "pruned", false)),
    recipe("half pruned, whitened, global ranks", "half pruned, decomposed", () => traded(half, "pruned", true)),
    recipe("decomposed only", "+ reception field", () => traded(whole, "pruned", false)),
    recipe("decomposed only, whitened, global ranks", "decomposed only", () => traded(whole, "pruned", true)),
    recipe("half pruned, whitened, global ranks, smaller", "whitened, global ranks", () => traded(half, "decomposed", true)),
    recipe("decomposed only, whitened, global ranks, smaller", "whitened, global ranks", () => traded(whole, "decomposed", true)),
  ];
}

function randomPlan(model: Model, budget: PruningBudget, seed: number): PruningPlan {
  return {
    layers: budget.layers.map(({ layer, drop }) => {
      const ids = moeLayer(model, layer).block.experts.map((e) => e.id), { sample } = random(seed, `random experts, layer ${layer}`);
      return { layer, drop: sample(ids, drop).sort((a, b) => a - b) };
    }),
  };
}
