/**
 * Ready definitions of stages: sparsification.
 *
 * @module
 */

import { SPARSIFICATION } from "../../device/kernel_texts.ts";
import type { Sequences } from "../../model/batch.ts";
import type { Model } from "../../model/model.ts";
import type { BlockPattern, BlockSparsity } from "../../sparsify/amounts.ts";
import { countZeros } from "../../sparsify/count_zeros.ts";
import { type OutlierDistribution, outlierDistribution } from "../../sparsify/outlier_distribution.ts";
import { owlPattern } from "../../sparsify/owl_pattern.ts";
import { owlSparsity } from "../../sparsify/owl_sparsity.ts";
import { type SparseModel, sparsify } from "../../sparsify/sparsify.ts";
import { modelCodec } from "../model_codec.ts";
import { around, control, type Plain } from "./around.ts";

export const sparsifyStages = {
  /** Amounts that differ by block may come from stages. */
  sparsify: around(
    { version: 1, kernels: SPARSIFICATION, codec: modelCodec<SparseModel>() },
    (
      { model, tokens, ...amounts }: { model: Model; tokens: Sequences; sparsity?: BlockSparsity; pattern?: BlockPattern },
      options: Plain<typeof sparsify>,
      context,
    ) => sparsify(context.device, model, tokens, { ...options, ...amounts, ...control(context) }),
  ),
  outlierDistribution: around(
    { version: 1, kernels: SPARSIFICATION },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof outlierDistribution>, context) =>
      outlierDistribution(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  owlSparsity: around(
    { version: 1 },
    ({ outliers }: { outliers: OutlierDistribution }, options: Parameters<typeof owlSparsity>[1]) => owlSparsity(outliers, options),
  ),
  owlPattern: around(
    { version: 1 },
    ({ outliers }: { outliers: OutlierDistribution }, options: Parameters<typeof owlPattern>[1]) => owlPattern(outliers, options),
  ),
  countZeros: around(
    { version: 1 },
    ({ model }: { model: Model }, _: Record<never, never>, context) => countZeros(model, control(context)),
  ),
};
