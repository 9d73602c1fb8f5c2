/**
 * Keep probabilities to begin with.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { expectShare } from "./expect_share.ts";
import { expectUnits } from "./expect_units.ts";
import type { UnitProbabilities, UnitValues } from "./units.ts";

export interface InitialProbabilitiesOptions {
  /** Share of the units that is to stay: κ in the paper. @default 0.7 */
  keep?: number;
  /** `scores`; the same for all; or random ones. @default "scores" */
  from?: "scores" | "constant" | "random";
  /** Of random ones. @default 0 */
  seed?: number;
}

/**
 * Keep probabilities of units from their scores, population by population (Bypass Back-propagation, arXiv 2406.10576, released code): z-scores (standard
 * deviation with n - 1), their sigmoids, shifted so that the mean is κ, and cut off at 0 and 1; so the mean can end up off κ. Random ones are uniform in place of
 * the sigmoids.
 *
 * @param scores Of units, the larger the more important.
 * @returns The same populations with probabilities, and κ.
 * @throws {TypeError} If these are no units.
 * @throws {RangeError} If a score is not finite, or `keep` no share above 0.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const parts = [{ of: "attention" as const, units: 3 }], values = Float64Array.of(1, 2, 3);
 * const scores = { populations: [{ kind: "attention groups" as const, layer: 0, parts, values }] };
 * const [{ values: s }] = initialProbabilities(scores, { keep: 0.5 }).populations;
 * assertEquals(Array.from(s, (p) => Number(p.toFixed(3))), [0.269, 0.5, 0.731]);
 * ```
 */
export function initialProbabilities(scores: UnitValues, options: InitialProbabilitiesOptions = {}): UnitProbabilities {
  const purpose = "begin with probabilities", populations = expectUnits(scores, purpose);
  expectOptions(options, purpose);
  const { keep = 0.7, from = "scores", seed = 0 } = options, draw = random(seed, purpose);
  expectShare(keep, "keep", purpose);
  const begin = { scores: spread, constant: (values: Float64Array) => values.map(() => keep), random: uniform };
  if (!Object.hasOwn(begin, from)) throw new TypeError(`Cannot ${purpose} from "${from}": choose "scores", "constant" or "random"`);
  return {
    populations: populations.map((population) => {
      const raw = begin[from](population.values), shift = keep - raw.reduce((a, b) => a + b, 0) / raw.length;
      return { ...population, values: raw.map((p) => Math.min(1, Math.max(0, p + shift))) };
    }),
    keep,
  };

  function uniform(values: Float64Array): Float64Array {
    return values.map(() => draw.below(2 ** 32) / 2 ** 32);
  }
}

/** Sigmoids of z-scores; one alone is 1/2. */
function spread(values: Float64Array): Float64Array {
  const mean = values.reduce((a, b) => a + b, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - mean) ** 2, 0) / Math.max(1, values.length - 1));
  return values.map((v) => 1 / (1 + Math.exp(-(v - mean) / (deviation + 1e-8))));
}
