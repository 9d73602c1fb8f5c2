/**
 * Ready definitions of stages: search.
 *
 * @module
 */

import type { Trace } from "../../calibrate/calibrate.ts";
import { PREDICTIONS, SEARCH } from "../../device/kernel_texts.ts";
import type { ExpertScores } from "../../importance/expert_scores.ts";
import type { ProtectedExperts } from "../../importance/super_experts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import type { PruningPlan } from "../../model/prune_experts.ts";
import type { Candidates } from "../../search/candidates.ts";
import { evolveBudget } from "../../search/evolve_budget.ts";
import { exhaustiveSearch } from "../../search/exhaustive_search.ts";
import { geneticSearch } from "../../search/genetic_search.ts";
import { greedySearch } from "../../search/greedy_search.ts";
import { planByScores } from "../../search/plan_by_scores.ts";
import { progressiveSearch } from "../../search/progressive_search.ts";
import { projectUniform } from "../../search/project_uniform.ts";
import { type PruningBudget, pruningBudget } from "../../search/pruning_budget.ts";
import { receptionField } from "../../search/reception_field.ts";
import { around, control, type Plain } from "./around.ts";

export const searchStages = {
  pruningBudget: around(
    { version: 1 },
    (
      { scores, protect }: { scores: ExpertScores; protect?: ProtectedExperts },
      options: Omit<NonNullable<Parameters<typeof pruningBudget>[1]>, "protect">,
    ) => pruningBudget(scores, { ...options, protect }),
  ),
  evolveBudget: around(
    { version: 1, kernels: PREDICTIONS },
    (
      { model, tokens, scores }: { model: Model; tokens: Sequences; scores: ExpertScores },
      options: Plain<typeof evolveBudget>,
      context,
    ) => evolveBudget(context.device, model, tokens, scores, { ...options, ...control(context) }),
  ),
  geneticSearch: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace, budget }: SearchInputs, options: Plain<typeof geneticSearch>, context) =>
      geneticSearch(context.device, model, trace, budget, { ...options, ...control(context) }),
  ),
  greedySearch: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace, budget }: SearchInputs, options: Plain<typeof greedySearch>, context) =>
      greedySearch(context.device, model, trace, budget, { ...options, ...control(context) }),
  ),
  exhaustiveSearch: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace, budget }: SearchInputs, options: Plain<typeof exhaustiveSearch>, context) =>
      exhaustiveSearch(context.device, model, trace, budget, { ...options, ...control(context) }),
  ),
  progressiveSearch: around(
    { version: 1, kernels: SEARCH },
    (
      { model, tokens, budget }: { model: Model; tokens: Sequences; budget: PruningBudget },
      options: Plain<typeof progressiveSearch>,
      context,
    ) => progressiveSearch(context.device, model, tokens, budget, { ...options, ...control(context) }),
  ),
  receptionField: around(
    { version: 1, kernels: SEARCH },
    (
      { model, tokens, candidates }: { model: Model; tokens: Sequences; candidates: Candidates },
      options: Plain<typeof receptionField>,
      context,
    ) => receptionField(context.device, model, tokens, candidates, { ...options, ...control(context) }),
  ),
  planByScores: around(
    { version: 1 },
    (
      { scores, budget, candidates, protect }: {
        scores: ExpertScores;
        budget: PruningBudget;
        candidates?: Candidates;
        protect?: ProtectedExperts;
      },
      _: Record<never, never>,
    ) => planByScores(scores, budget, candidates, { protect }),
  ),
  projectUniform: around(
    { version: 1 },
    ({ plan, scores }: { plan: PruningPlan; scores: ExpertScores }, _: Record<never, never>) => projectUniform(plan, scores),
  ),
};

interface SearchInputs {
  model: Model;
  trace: Trace;
  budget: PruningBudget;
}
