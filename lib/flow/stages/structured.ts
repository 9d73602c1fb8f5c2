/**
 * Ready definitions of stages: structures.
 *
 * @module
 */

import { MASKED, SPARSIFICATION } from "../../device/kernel_texts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import { initialProbabilities } from "../../structured/initial_probabilities.ts";
import { maskedLosses } from "../../structured/masked_losses.ts";
import { planByUnits } from "../../structured/plan_by_units.ts";
import { policyGradientSearch } from "../../structured/policy_gradient_search.ts";
import { sliceModel } from "../../structured/slice_model.ts";
import type { StructurePlan } from "../../structured/structure_plan.ts";
import { unitScores } from "../../structured/unit_scores.ts";
import type { UnitProbabilities, UnitValues } from "../../structured/units.ts";
import { around, control, type Plain } from "./around.ts";

export const structuredStages = {
  unitScores: around(
    { version: 1, kernels: SPARSIFICATION },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof unitScores>, context) =>
      unitScores(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  initialProbabilities: around(
    { version: 2 },
    ({ scores }: { scores: UnitValues }, options: Parameters<typeof initialProbabilities>[1]) => initialProbabilities(scores, options),
  ),
  policyGradientSearch: around(
    { version: 2, kernels: MASKED },
    (
      { model, tokens, initial }: { model: Model; tokens: Sequences; initial: UnitProbabilities },
      options: Plain<typeof policyGradientSearch>,
      context,
    ) => policyGradientSearch(context.device, model, tokens, initial, { ...options, ...control(context) }),
  ),
  planByUnits: around(
    { version: 2 },
    ({ units }: { units: UnitValues | UnitProbabilities }, options: Parameters<typeof planByUnits>[1]) => planByUnits(units, options),
  ),
  maskedLosses: around(
    { version: 1, kernels: MASKED },
    (
      { model, tokens, plans }: { model: Model; tokens: Sequences; plans: StructurePlan[] },
      _: Record<never, never>,
      context,
    ) => maskedLosses(context.device, model, tokens, plans, control(context)),
  ),
  sliceModel: around(
    { version: 1, stored: false },
    ({ model, plan }: { model: Model; plan: StructurePlan }, _: Record<never, never>) => sliceModel(model, plan),
  ),
};
