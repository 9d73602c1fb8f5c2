/**
 * How much rank each expert of the whole model gets.
 *
 * @module
 */

import { checkedLayers, type ExpertScores } from "../importance/expert_scores.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { largestRank, type RankPlan } from "./allocate_ranks.ts";
import type { ExpertSpectra } from "./expert_spectra.ts";

export interface AllocateRanksGloballyOptions {
  /** Mean rank of all experts of the model. To spend what another plan spends: the sum of its ranks / the number of experts. */
  averageRank: number;
  /**
   * Power of an expert's importance that its relative squared error is multiplied with. 2 would be consistent, importance being a norm and the error a
   * square; but errors of different experts partly cancel, and on the fixtures 1 is better.
   *
   * @default 1
   */
  alpha?: number;
  /** @default 4 */
  minimumRank?: number;
  /** No rank at which the two factors would be as large as the matrix. @default true */
  cap?: boolean;
}

/**
 * The ranks that minimise Σ over experts of I^α · Σ over its three matrices of ‖W - W_r‖² / ‖W‖², for a given sum of ranks over the whole model (ours;
 * MoE-I² gives every layer the same average). As all experts have one shape, a rank costs the same parameters everywhere (where slices left
 * them different widths this is not so: the cap is that of the widest, and matrices of narrower ones stay dense where their rank would not make them smaller).
 *
 * The gain of a further rank falls with the rank, so taking the largest gains first is not only greedy but exact: all gains are sorted once.
 *
 * @param scores Of the pruned model. Scores of different layers are weighed against each other, so their scale matters: see `leaveOneOut`'s `loss`.
 * @param spectra Of the same model.
 * @returns A rank for every expert, every MoE layer listed. `target` is `averageRank` times the layer's experts, `sum` what the layer got. All ranks
 * together are floor(averageRank · experts), unless minimum or cap forbid it.
 * @throws {RangeError} If an option is out of range, a score or share is negative or not finite, or scores and spectra are not of the same experts.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const expertShape = { hidden: 8, intermediate: 8 }, shares = Float64Array.of(1.5, 0.8, 0.4, 0.2, 0.1, 0, 0, 0);
 * const scores = { kind: "example", topK: 1, expertShape, layers: [{ layer: 0, experts: [0, 1], scores: Float64Array.of(1, 3) }], unseen: [] };
 * const spectra = { kind: "weights", expertShape, layers: [{ layer: 0, experts: [{ expert: 0, shares }, { expert: 1, shares }] }] };
 * const { layers } = allocateRanksGlobally(scores, spectra, { averageRank: 2, minimumRank: 1 });
 * assertEquals(layers[0].experts, [{ expert: 0, rank: 1 }, { expert: 1, rank: 3 }]);
 * ```
 */
export function allocateRanksGlobally(scores: ExpertScores, spectra: ExpertSpectra, options: AllocateRanksGloballyOptions): RankPlan {
  const purpose = "allocate ranks", layers = checkedLayers(scores, purpose), { hidden, intermediate } = scores.expertShape ?? {};
  expect(hidden > 0 && intermediate > 0, purpose, 'scores with "expertShape", the sizes of an expert', scores.expertShape);
  const { averageRank, alpha = 1, minimumRank = 4, cap = true } = options ?? {};
  for (const [name, value, least] of [["averageRank", averageRank, 1], ["alpha", alpha, 0], ["minimumRank", minimumRank, 1]] as const) {
    if (!(typeof value === "number" && value >= least && value < Infinity)) {
      throw new RangeError(`Cannot allocate ranks: "${name}" must be at least ${least}, received ${value}`);
    }
  }
  if (!Number.isSafeInteger(minimumRank)) {
    throw new RangeError(`Cannot allocate ranks: "minimumRank" must be a whole number, received ${minimumRank}`);
  }
  const full = Math.min(hidden, intermediate), most = cap ? Math.max(1, largestRank(hidden, intermediate)) : full;
  const least = Math.min(minimumRank, most), shares = matched(layers, spectra, full);
  const peak = Math.max(...layers.flatMap((l) => [...l.scores])) || 1; // a common factor changes nothing, and keeps powers finite
  const ranks = layers.map(({ experts }) => experts.map(() => least));
  const gains = layers.flatMap(({ scores }, l) =>
    shares[l].flatMap((share, e) =>
      [...share.subarray(least, most)].map((gain, i) => ({ gain: gain * (scores[e] / peak) ** alpha, rank: least + i + 1, l, e }))
    )
  );
  const count = layers.reduce((n, { experts }) => n + experts.length, 0), budget = Math.floor(averageRank * count + 1e-6);
  // Equal gains, such as those of experts without importance, go to the lower ranks first: they share evenly.
  gains.sort((a, b) => b.gain - a.gain || a.rank - b.rank || a.l - b.l || a.e - b.e);
  for (const { l, e } of gains.slice(0, Math.max(0, budget - least * count))) ranks[l][e]++;
  return {
    layers: layers.map(({ layer, experts }, l) => ({
      layer,
      experts: experts.map((expert, e) => ({ expert, rank: ranks[l][e] })),
      sum: ranks[l].reduce((a, b) => a + b, 0),
      target: averageRank * experts.length,
    })),
  };
}

/** The shares of each expert that has a score. */
function matched(layers: { layer: number; experts: number[] }[], spectra: ExpertSpectra, size: number): Float64Array[][] {
  const purpose = "allocate ranks", listed = expectLayers(spectra, 'spectra of experts, which list "layers"', purpose);
  return layers.map(({ layer, experts }) => {
    const found = listed.find((l) => l.layer === layer)?.experts;
    expect(found === undefined || Array.isArray(found), `${purpose} of layer ${layer}`, "the spectra of its experts", found);
    return experts.map((expert) => {
      const shares = Float64Array.from(Object.values(found?.find((e) => e?.expert === expert)?.shares ?? [])); // JSON makes an object of a typed array
      if (shares.length !== size) {
        throw new RangeError(
          `Cannot allocate ranks: expert ${expert} of layer ${layer} needs a spectrum of ${size} shares, found ${shares.length || "none"}`,
        );
      }
      const bad = shares.find((share) => !(share >= 0 && share < Infinity));
      if (bad === undefined) return shares;
      throw new RangeError(
        `Cannot allocate ranks: the spectrum of expert ${expert} in layer ${layer} must be finite and at least 0, found ${bad}`,
      );
    });
  });
}
