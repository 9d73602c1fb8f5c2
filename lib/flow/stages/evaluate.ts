/**
 * Ready definitions of stages: evaluation.
 *
 * @module
 */

import { DECOMPOSITION, FORWARD, PREDICTIONS, SEARCH, TRAINING } from "../../device/kernel_texts.ts";
import { ablationLadder } from "../../evaluate/ablation_ladder.ts";
import { blockPerplexity } from "../../evaluate/block_perplexity.ts";
import { esap } from "../../evaluate/esap.ts";
import { evaluate } from "../../evaluate/evaluate.ts";
import { expertsPerToken } from "../../evaluate/experts_per_token.ts";
import { type Item, multipleChoice } from "../../evaluate/multiple_choice.ts";
import { perplexity } from "../../evaluate/perplexity.ts";
import type { Example } from "../../finetune/examples.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import { around, control, type Plain } from "./around.ts";

export const evaluateStages = {
  evaluate: around(
    { version: 1, kernels: FORWARD },
    ({ model, heldOut, items }: { model: Model; heldOut: Sequences; items?: readonly Item[] }, options: { limit?: number }, context) =>
      evaluate(context.device, model, { ...options, heldOut, items, ...control(context) }),
  ),
  /** Rows that train are there where `examples` are given. */
  ablationLadder: around(
    { version: 1, kernels: [...SEARCH, ...DECOMPOSITION, ...TRAINING] },
    (
      { model, tokens, heldOut, items, examples }: {
        model: Model;
        tokens: Sequences;
        heldOut: Sequences;
        items?: readonly Item[];
        examples?: readonly Example[];
      },
      options: Plain<typeof ablationLadder, "heldOut" | "items" | "examples">,
      context,
    ) => ablationLadder(context.device, model, tokens, { ...options, heldOut, items, examples, ...control(context) }),
  ),
  perplexity: around(
    { version: 1, kernels: FORWARD },
    ({ model, heldOut }: { model: Model; heldOut: Sequences }, _: Record<never, never>, context) =>
      perplexity(context.device, model, heldOut, control(context)),
  ),
  esap: around(
    { version: 1, kernels: PREDICTIONS },
    ({ model, other, tokens }: { model: Model; other: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      esap(context.device, model, other, tokens, control(context)),
  ),
  expertsPerToken: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      expertsPerToken(context.device, model, tokens, control(context)),
  ),
  blockPerplexity: around(
    { version: 1, kernels: FORWARD },
    ({ model, texts }: { model: Model; texts: readonly string[] }, options: Plain<typeof blockPerplexity>, context) =>
      blockPerplexity(context.device, model, texts, { ...options, ...control(context) }),
  ),
  multipleChoice: around(
    { version: 1, kernels: FORWARD },
    ({ model, items }: { model: Model; items: readonly Item[] }, options: Plain<typeof multipleChoice>, context) =>
      multipleChoice(context.device, model, items, { ...options, ...control(context) }),
  ),
};
