/**
 * What each part of the method is worth.
 *
 * @module
 */

import { largestRank, type RankPlan } from "../decompose/allocate_ranks.ts";
import type { Device } from "../device/device.ts";
import { tokenizeExamples } from "../finetune/examples.ts";
import { checkedRecipe } from "../finetune/recipe.ts";
import type { Sequences } from "../model/batch.ts";
import { expect } from "../model/expect.ts";
import { expertShape } from "../model/expert_shape.ts";
import { expectStage } from "../model/expect_stage.ts";
import type { Model } from "../model/model.ts";
import type { PruningPlan } from "../model/prune_experts.ts";
import { advance, part } from "../model/stage_options.ts";
import type { AblationLadderOptions } from "./ladder_options.ts";
import { type LadderRecipe, ladderRecipes } from "./ladder_recipes.ts";
import { measure, type Measurement } from "./measure.ts";
import { SharedStages } from "./shared_stages.ts";

/** One way to compress, and what came of it. */
export interface LadderRow extends Measurement {
  row: string;
  /** The row that this one changes in one respect; null where it stands alone. */
  against: string | null;
  /** Time of all stages that the row needs, had it been run alone; without evaluation. The only figures that differ from run to run. */
  seconds: number;
  /** Sets priced by the search and joint choices compared by the reception field. */
  evaluations: number;
  plan: PruningPlan;
  ranks?: RankPlan;
  /** The random choices one by one; the row itself has their means. */
  runs?: (Measurement & { plan: PruningPlan })[];
}

export interface AblationLadder {
  ratio: number;
  averageRank: number;
  /** The dense model first. */
  rows: LadderRow[];
}

/**
 * The ablation ladder of MoE-I² and the options beyond it, all at one ratio: random choice, the least important experts, genetic search with the same
 * count in every layer, with counts by importance, with the reception field, with decomposition, with fine-tuning; then rows that change one thing each.
 *
 * - All rows that only prune have the same size, and so have, but for ranks rounded down, all that prune and decompose. Rows that are "half pruned" or "decomposed only"
 *   drop half as many experts or none, and save the rest by ranks: they have the size of the former, those called "smaller" the size of the latter.
 * - Two rows learn from `examples`, and exist only with them: "+ fine-tuning" trains adapters on the decomposed model, "router distillation" the routers
 *   of the pruned one and nothing else, by the predictions of the dense model.
 * - Stages that several rows need run once: one calibration, one importance of each kind, one search of each kind.
 * - The losses are those of `blockOutputLoss` on the calibration tokens. The reception field can only lower that of the first block, by construction;
 *   the rest of the order is what is measured here.
 *
 * @param tokens Calibration sequences.
 * @throws {RangeError} If `heldOut` has no token to predict, a row is unknown or needs examples where there are none, or an option is out of range for its
 *   stage.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * const { rows } = await ablationLadder(device, model, tokens, { heldOut: tokens, rows: ["random", "+ reception field"] });
 * assertEquals(rows.map((r) => r.row), ["dense", "random", "+ reception field"]);
 * ```
 */
export async function ablationLadder(
  device: Device,
  model: Model,
  tokens: Sequences,
  options: AblationLadderOptions,
): Promise<AblationLadder> {
  const purpose = "climb the ladder";
  expectStage(device, model, purpose);
  const { hidden, intermediate } = expertShape(model);
  expect(typeof options === "object" && options !== null, purpose, 'options with "heldOut" sequences', options);
  const {
    ratio = 0.25,
    averageRank = Math.max(1, Math.floor(8 / 13 * (largestRank(hidden, intermediate) + 1))),
    randomRuns = 5,
    seed = 0,
  } = options;
  if (!(Number.isSafeInteger(randomRuns) && randomRuns > 0)) {
    throw new RangeError(`Cannot ${purpose}: "randomRuns" must be a positive whole number, received ${randomRuns}`);
  }
  using stages = new SharedStages();
  const { examples } = options, recipe = checkedRecipe(options.recipe ?? {});
  const all = ladderRecipes(device, model, tokens, stages, { ...options, ratio, averageRank, randomRuns, seed, recipe });
  const chosen = chosenRecipes(all, options, purpose), total = 1 + chosen.length;
  if (chosen.some(({ learns }) => learns)) tokenizeExamples(model, examples!, recipe.maxLength); // what is wrong with them is found before the work
  const measured = { ...options, resume: undefined }; // a row is kept whole
  const rows = [
    await part(options, "dense", async (): Promise<LadderRow> => ({
      ...{ row: "dense", against: null, ...await measure(device, model, model, tokens, measured) },
      ...{ seconds: 0, evaluations: 0, plan: { layers: [] } },
    })),
  ];
  for (const { row, against, make } of chosen) {
    await advance(options, { stage: "ladder", done: rows.length, total, unit: "rows" });
    rows.push(
      await part(options, row, async (): Promise<LadderRow> => {
        const runs: (Measurement & { plan: PruningPlan })[] = [], made = await make();
        using stack = new DisposableStack();
        for (const model of made.held) stack.use(model);
        for (const { pruned, compressed, plan, ranks } of made.models) {
          runs.push({ ...await measure(device, model, compressed, tokens, { ...measured, ranks, sized: pruned }), plan });
        }
        return {
          row,
          against,
          ...(runs.length > 1 ? { ...meanOf(runs), runs } : runs[0]),
          seconds: stages.seconds(made.stages),
          evaluations: made.evaluations,
          plan: made.models[0].plan,
          ...(made.models[0].ranks ? { ranks: made.models[0].ranks } : {}),
        };
      }),
    );
  }
  await advance(options, { stage: "ladder", done: total, total, unit: "rows" });
  return { ratio, averageRank, rows };
}

/** @throws {RangeError} If a row is asked for that does not exist, or that needs examples where there are none. */
function chosenRecipes(all: readonly LadderRecipe[], { rows, examples }: AblationLadderOptions, purpose: string): LadderRecipe[] {
  expect(rows === undefined || Array.isArray(rows), purpose, 'a list of names as "rows"', rows);
  const possible = all.filter(({ learns }) => !learns || examples !== undefined);
  for (const name of rows ?? []) {
    if (possible.some(({ row }) => row === name)) continue;
    if (all.some(({ row }) => row === name)) throw new RangeError(`Cannot ${purpose}: the row "${name}" needs "examples" to learn from`);
    throw new RangeError(`Cannot ${purpose}: there is no row "${name}"; the rows are ${possible.map(({ row }) => `"${row}"`).join(", ")}`);
  }
  return possible.filter(({ row }) => !rows || rows.includes(row));
}

function meanOf(runs: readonly Measurement[]): Measurement {
  const [first] = runs, mean = (of: (run: Measurement) => number) => runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  return {
    ...first,
    perplexity: mean((r) => r.perplexity),
    tasks: first.tasks.map((task, t) => ({
      ...task,
      acc: mean((r) => r.tasks[t].acc),
      accNorm: mean((r) => r.tasks[t].accNorm),
      stderr: mean((r) => r.tasks[t].stderr),
    })),
    accuracy: first.accuracy === null ? null : mean((r) => r.accuracy!),
    accuracyError: first.accuracyError === null ? null : mean((r) => r.accuracyError!),
    blocks: first.blocks.map(({ layers }, b) => ({ layers, loss: mean((r) => r.blocks[b].loss) })),
    blockLoss: mean((r) => r.blockLoss),
  };
}
