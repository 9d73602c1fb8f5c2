/**
 * Does a trace belong to a model?
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { expectNoSkipping } from "../model/expect_stage.ts";
import { type Model, moeLayers } from "../model/model.ts";
import type { Trace } from "./calibrate.ts";

/**
 * Compares what a trace saw with what a model has: the same layers, the same experts in each, inputs of the same width.
 *
 * @param purpose Begins the message, such as "score experts".
 * @throws {TypeError} If it is no trace.
 * @throws {Error} If the model skips experts, which losses and scores would not see.
 * @throws {RangeError} If it is that of another model, such as the one before pruning.
 */
export function checkTrace(model: Model, trace: Trace, purpose: string): void {
  expect(Array.isArray(trace?.layers) && Array.isArray(trace.sequences), purpose, "a trace from calibrate()", trace);
  expectNoSkipping(model, purpose);
  const { hidden } = model.config,
    of = (what: string, found: string, wanted: string) => {
      throw new RangeError(
        `Cannot ${purpose}: the trace is of another model, its ${what} ${found}, the model's ${wanted}; calibrate this model`,
      );
    };
  const wanted = moeLayers(model).map((l) => l.index).join(", "), found = trace.layers.map((l) => l.layer).join(", ");
  if (found !== wanted) of("MoE layers are", found, `are ${wanted}`);
  const { topK, groups } = model.config.moe;
  for (const [i, { index, block }] of moeLayers(model).entries()) {
    const ids = block.experts.map((e) => e.id).join(", "), { experts, inputs, counts } = trace.layers[i];
    if (experts.join(", ") !== ids) of(`layer ${index} has experts`, experts.join(", "), `has ${ids}`);
    // With groups a token may find fewer experts than top-k.
    const used = counts.reduce((sum, count) => sum + count, 0) / Math.max(1, trace.tokens), wanted = Math.min(topK, experts.length);
    if (groups ? used > wanted : used !== wanted && trace.tokens > 0) {
      of(`tokens use in layer ${index}`, `${used} experts`, `use ${wanted}`);
    }
    if (inputs.hidden !== hidden) of(`layer ${index} takes inputs of width`, `${inputs.hidden}`, `of ${hidden}`);
  }
}
