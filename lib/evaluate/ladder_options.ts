/**
 * What an ablation ladder is told.
 *
 * @module
 */

import type { Example } from "../finetune/examples.ts";
import type { Recipe } from "../finetune/recipe.ts";
import type { Sequences } from "../model/batch.ts";
import type { StageOptions } from "../model/stage_options.ts";
import type { Item } from "./multiple_choice.ts";

export interface AblationLadderOptions extends StageOptions {
  /** Sequences for the perplexity, the model's BOS first where it has one. */
  heldOut: Sequences;
  /** Multiple-choice items. @default none */
  items?: readonly Item[];
  /** Only the first so many items of each task. @default all */
  limit?: number;
  /** Share of all experts that every row drops. @default 0.25 (MoE-I²) */
  ratio?: number;
  /** Mean rank of the rows that decompose. @default 8/13 of the rank at which factors save nothing, as the paper's 512 for experts of 2048 x 1408 */
  averageRank?: number;
  /** Random choices, of which the first row gives the mean. @default 5 */
  randomRuns?: number;
  /** Of the random choices and the genetic search. @default 0 */
  seed?: number;
  /** Of the genetic search. @default 100 (MoE-I²) */
  population?: number;
  /** Of the genetic search. @default 50 (MoE-I²) */
  generations?: number;
  /** Candidates a layer for the reception field. @default 3 (MoE-I²) */
  keep?: number;
  /** MoE layers a block, of the reception field and of the loss. @default 3 (MoE-I²) */
  block?: number;
  /** Only these rows, and "dense". @default all */
  rows?: readonly string[];
  /** What the rows "+ fine-tuning" and "router distillation" learn from; without them there are no such rows. @default none */
  examples?: readonly Example[];
  /** Of the fine-tuning; the distillation takes from it all but targets and learning rate, which are those of `ROUTER_RECIPE`. @default that of `finetune` */
  recipe?: Partial<Recipe>;
}
