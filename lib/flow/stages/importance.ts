/**
 * Ready definitions of stages: importance.
 *
 * @module
 */

import type { Trace } from "../../calibrate/calibrate.ts";
import { FORWARD, SEARCH, SIGNATURES } from "../../device/kernel_texts.ts";
import { aimer } from "../../importance/aimer.ts";
import { blockInfluence } from "../../importance/block_influence.ts";
import { expertSignatures } from "../../importance/expert_signatures.ts";
import { type ExpertStatistics, expertStatistics } from "../../importance/expert_statistics.ts";
import { layerSimilarity } from "../../importance/layer_similarity.ts";
import { leaveOneOut } from "../../importance/leave_one_out.ts";
import { randomScores } from "../../importance/random_scores.ts";
import { scoreExperts, type StatisticsScore } from "../../importance/score_experts.ts";
import { skipThresholds } from "../../importance/skip_thresholds.ts";
import { superExperts } from "../../importance/super_experts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import { around, control, type Plain } from "./around.ts";

export const importanceStages = {
  leaveOneOut: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace }: { model: Model; trace: Trace }, options: Plain<typeof leaveOneOut>, context) =>
      leaveOneOut(context.device, model, trace, { ...options, ...control(context) }),
  ),
  expertStatistics: around(
    { version: 2, kernels: SEARCH },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof expertStatistics>, context) =>
      expertStatistics(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  blockInfluence: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof blockInfluence>, context) =>
      blockInfluence(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  layerSimilarity: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof layerSimilarity>, context) =>
      layerSimilarity(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  scoreExperts: around(
    { version: 1 },
    ({ statistics }: { statistics: ExpertStatistics }, { kind }: { kind: StatisticsScore }) => scoreExperts(statistics, kind),
  ),
  aimer: around({ version: 1 }, ({ model }: { model: Model }, _: Record<never, never>, context) => aimer(model, control(context))),
  randomScores: around(
    { version: 1 },
    ({ model }: { model: Model }, options: Parameters<typeof randomScores>[1]) => randomScores(model, options),
  ),
  expertSignatures: around(
    { version: 1, kernels: SIGNATURES },
    ({ model, tokens }: { model: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      expertSignatures(context.device, model, tokens, control(context)),
  ),
  superExperts: around(
    { version: 1 },
    ({ statistics }: { statistics: ExpertStatistics }, options: Parameters<typeof superExperts>[1]) => superExperts(statistics, options),
  ),
  skipThresholds: around(
    { version: 1 },
    ({ statistics }: { statistics: ExpertStatistics }, options: Parameters<typeof skipThresholds>[1]) =>
      skipThresholds(statistics, options),
  ),
};
