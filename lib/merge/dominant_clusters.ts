/**
 * Groups around the experts that are used most.
 *
 * @module
 */

import type { ExpertScores } from "../importance/expert_scores.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import { type ExpertClusters, scoreOf } from "./expert_clusters.ts";
import type { RouterSimilarity } from "./router_similarity.ts";

export interface DominantClustersOptions {
  /** Share of all experts that are not stored any more, 0 ≤ ratio < 1. Each layer keeps at least one. @default 0.25 */
  ratio?: number;
}

/**
 * The groups of MC-SMoE (arXiv 2310.01334, section 3.1): those experts of the whole model are dominant that serve the largest shares of their layer's tokens,
 * and the first of each layer whatever its share; every other expert joins the dominant one of its layer with the largest cosine of router logits. Ties go to
 * the lower layer and id.
 *
 * @param frequencies How often experts are used, such as `scoreExperts(statistics, "frequency")`.
 * @param similarity What the routers give them, of the same model.
 * @returns Every expert in one cluster, the dominant one first and the others rising.
 * @throws {TypeError} If an argument is something else.
 * @throws {RangeError} If `ratio` is outside [0, 1), a frequency is negative or not finite, or an expert is without one.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const similarity = { tokens: 9, layers: [{ layer: 0, experts: [0, 1, 2], cosines: Float64Array.of(1, 0.2, 0.9, 0.2, 1, 0.1, 0.9, 0.1, 1) }] };
 * const layer = { layer: 0, experts: [0, 1, 2], scores: Float64Array.of(1, 3, 5) };
 * const frequencies = { kind: "frequency", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, layers: [layer], unseen: [] };
 * assertEquals(dominantClusters(frequencies, similarity, { ratio: 0.34 }).layers[0].clusters, [[1], [2, 0]]);
 * ```
 */
export function dominantClusters(
  frequencies: ExpertScores,
  similarity: RouterSimilarity,
  options: DominantClustersOptions = {},
): ExpertClusters {
  const purpose = "group experts";
  expectOptions(options, purpose);
  const { ratio = 0.25 } = options;
  if (!(ratio >= 0 && ratio < 1)) throw new RangeError(`Cannot group experts: "ratio" must be at least 0 and below 1, received ${ratio}`);
  const layers = expectLayers(similarity, 'what routerSimilarity() gives, which lists "layers"', purpose);
  const frequencyOf = scoreOf(frequencies, purpose);
  const ranked = layers.map(({ layer, experts, cosines }) => {
    const fits = Array.isArray(experts) && experts.length > 0 && cosines?.length === experts.length ** 2;
    expect(fits, purpose, `a cosine for any two experts of layer ${layer}`, cosines);
    const counts = experts.map((id) => frequencyOf(layer, id)), total = counts.reduce((a, b) => a + b, 0);
    const shares = experts.map((id, i) => ({ layer, id, share: total > 0 ? counts[i] / total : 0 }));
    return shares.sort((a, b) => b.share - a.share || a.id - b.id);
  });
  const all = ranked.flat().sort((a, b) => b.share - a.share || a.layer - b.layer || a.id - b.id);
  const firsts = ranked.map(([first]) => first), kept = all.length - Math.floor(ratio * all.length + 0.5);
  const others = all.filter((expert) => !firsts.includes(expert)),
    dominant = [...firsts, ...others.slice(0, Math.max(0, kept - firsts.length))];
  return {
    layers: layers.map(({ layer, experts, cosines }) => {
      const heads = dominant.filter((d) => d.layer === layer).map((d) => d.id).sort((a, b) => a - b), clusters = heads.map((id) => [id]);
      const cosine = (a: number, b: number) => cosines[experts.indexOf(a) * experts.length + experts.indexOf(b)];
      for (const id of experts.filter((id) => !heads.includes(id))) {
        const nearest = heads.reduce((a, b) => cosine(id, b) > cosine(id, a) ? b : a);
        clusters[heads.indexOf(nearest)].push(id);
      }
      return { layer, clusters };
    }),
  };
}
