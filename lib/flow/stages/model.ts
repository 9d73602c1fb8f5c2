/**
 * Ready definitions of stages: changes of models.
 *
 * @module
 */

import { changeTopK } from "../../model/change_top_k.ts";
import type { Model } from "../../model/model.ts";
import { pruneExperts, type PruningPlan } from "../../model/prune_experts.ts";
import { skipExperts, type SkipThresholds } from "../../model/skip_experts.ts";
import { around } from "./around.ts";

export const modelStages = {
  skipExperts: around(
    { version: 1, stored: false },
    ({ model, thresholds }: { model: Model; thresholds: SkipThresholds }, _: Record<never, never>) => skipExperts(model, thresholds),
  ),
  pruneExperts: around(
    { version: 1, stored: false },
    ({ model, plan }: { model: Model; plan: PruningPlan }, _: Record<never, never>) => pruneExperts(model, plan),
  ),
  changeTopK: around(
    { version: 1, stored: false },
    ({ model }: { model: Model }, { topK }: { topK: number }) => changeTopK(model, topK),
  ),
};
