/**
 * Ready definitions of stages: decomposition.
 *
 * @module
 */

import type { Trace } from "../../calibrate/calibrate.ts";
import { allocateRanks, type RankPlan } from "../../decompose/allocate_ranks.ts";
import { allocateRanksGlobally } from "../../decompose/allocate_ranks_globally.ts";
import { allocateRatios } from "../../decompose/allocate_ratios.ts";
import { decomposeExperts } from "../../decompose/decompose_experts.ts";
import { deltaExperts } from "../../decompose/delta_experts.ts";
import { type ExpertSpectra, expertSpectra } from "../../decompose/expert_spectra.ts";
import { factorLinears } from "../../decompose/factor_linears.ts";
import type { RatioPlan } from "../../decompose/linear_ratios.ts";
import { recommended } from "../../decompose/recommended.ts";
import { DECOMPOSITION, SEARCH, SPARSIFICATION } from "../../device/kernel_texts.ts";
import type { ExpertScores } from "../../importance/expert_scores.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import { modelCodec } from "../model_codec.ts";
import { around, control, type Plain } from "./around.ts";

export const decomposeStages = {
  allocateRanks: around(
    { version: 1 },
    ({ scores }: { scores: ExpertScores }, options: Parameters<typeof allocateRanks>[1]) => allocateRanks(scores, options),
  ),
  expertSpectra: around(
    { version: 1, kernels: DECOMPOSITION },
    ({ model, trace }: { model: Model; trace?: Trace }, options: Plain<typeof expertSpectra, "whiten">, context) =>
      expertSpectra(context.device, model, { ...options, whiten: trace, ...control(context) }),
  ),
  allocateRanksGlobally: around(
    { version: 1 },
    ({ scores, spectra }: { scores: ExpertScores; spectra: ExpertSpectra }, options: Parameters<typeof allocateRanksGlobally>[2]) =>
      allocateRanksGlobally(scores, spectra, options),
  ),
  decomposeExperts: around(
    { version: 1, kernels: DECOMPOSITION, codec: modelCodec<Awaited<ReturnType<typeof decomposeExperts>>>() },
    (
      { model, ranks, trace }: { model: Model; ranks: RankPlan; trace?: Trace },
      options: Plain<typeof decomposeExperts, "whiten">,
      context,
    ) => decomposeExperts(context.device, model, ranks, { ...options, whiten: trace, ...control(context) }),
  ),
  deltaExperts: around(
    { version: 1, kernels: DECOMPOSITION, codec: modelCodec<Awaited<ReturnType<typeof deltaExperts>>>() },
    (
      { model, trace, ranks }: { model: Model; trace: Trace; ranks?: RankPlan },
      options: Plain<typeof deltaExperts, "ranks">,
      context,
    ) => deltaExperts(context.device, model, trace, { ...options, ranks, ...control(context) }),
  ),
  allocateRatios: around(
    { version: 1, kernels: SPARSIFICATION },
    (
      { model, tokens, validation }: { model: Model; tokens: Sequences; validation: Sequences },
      options: Plain<typeof allocateRatios>,
      context,
    ) => allocateRatios(context.device, model, tokens, validation, { ...options, ...control(context) }),
  ),
  /** Ratios are an input, or an option. */
  factorLinears: around(
    { version: 1, kernels: SPARSIFICATION, codec: modelCodec<Awaited<ReturnType<typeof factorLinears>>>() },
    (
      { model, tokens, ratios }: { model: Model; tokens: Sequences; ratios?: RatioPlan },
      options: Plain<typeof factorLinears>,
      context,
    ) => factorLinears(context.device, model, tokens, { ...options, ...(ratios && { ratios }), ...control(context) }),
  ),
  recommended: around(
    { version: 1, kernels: [...SEARCH, ...DECOMPOSITION], codec: modelCodec<Awaited<ReturnType<typeof recommended>>>() },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof recommended>, context) =>
      recommended(context.device, model, tokens, { ...options, ...control(context) }),
  ),
};
