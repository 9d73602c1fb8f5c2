/** Ranks that a search is unlikely to need are computed when a set needs them. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import { ranksNeeded } from "../../lib/importance/layer_fitness.ts";
import { pricedLayer } from "../../lib/search/layer_search.ts";
import { likelyRanks } from "../../lib/search/likely_ranks.ts";
import { partsForSets } from "../../lib/search/parts_for_sets.ts";
import { benchLayer, preparedLayer } from "../bench/layer.ts";
import { testOnDevices } from "../devices.ts";

/** All ways to choose `count` of the numbers below `all`. */
function* choices(all: number, count: number, first = 0): Generator<number[]> {
  if (count === 0) return yield [];
  for (let i = first; i <= all - count; i++) for (const rest of choices(all, count - 1, i + 1)) yield [i, ...rest];
}

for (const renormalise of [true, false]) {
  testOnDevices(
    `sets cost what they cost with all ranks, which are computed when one needs them, renormalise: ${renormalise}`,
    async (device) => {
      const shape = { hidden: 32, intermediate: 16, experts: 9, topK: 2, renormalise, drop: 4 }, { experts, topK, drop } = shape;
      using layer = await benchLayer(device, "deep", shape, 40);
      using stack = new DisposableStack();
      const ranks = ranksNeeded(layer.config, experts, drop), all = await preparedLayer(device, layer, ranks, stack);
      const listed = await device.readIndices(all[0].ranking.experts);
      const options = { layer: 0, experts, drop }, sets = [1, 2, 3, 4].flatMap((size) => [...choices(experts, size)]);
      const expected = await pricedLayer(device, () => all, options).price(sets);
      for (const likely of [2, 3, 4, 5, ranks]) {
        const needs = (set: number[]) =>
          Array.from({ length: layer.tokens }, (_, t) => listed.slice(t * ranks, t * ranks + likely))
            .some((best) => best.filter((e) => !set.includes(e)).length < topK) && likely < ranks;
        const asked: number[] = [],
          prepare = (ranks: number, stack: DisposableStack) => {
            asked.push(ranks);
            return preparedLayer(device, layer, ranks, stack);
          };
        const partsFor = await partsForSets(device, { experts, topK, likely, ranks }, prepare, stack);
        const priced = pricedLayer(device, partsFor, options), shallow = sets.filter((set) => !needs(set));
        const near = (found: number[], sets_: number[][]) =>
          found.forEach((loss, i) =>
            assertAlmostEquals(loss, expected[sets.indexOf(sets_[i])], 1e-5, `set ${sets_[i]}, ${likely} ranks first`)
          );
        near(await priced.price(shallow), shallow);
        assertEquals(asked, [likely], "sets that need no more are priced by what there is");
        // Two calls at a time prepare once.
        const [one, other] = await Promise.all([priced.price(sets), priced.price(sets.toReversed())]);
        near(one, sets), near(other, sets.toReversed());
        assertEquals(asked, shallow.length < sets.length ? [likely, ranks] : [likely]);
        assert(likely > 3 || shallow.length < sets.length, "few ranks are not enough for all sets");
      }
    },
  );
}

Deno.test("likelyRanks() takes the depth of least expected work, by counting all sets", () => {
  for (const [experts, topK, drop, tokens] of [[8, 2, 2, 100], [12, 2, 5, 10], [14, 3, 6, 1], [16, 1, 8, 3], [10, 4, 9, 5]]) {
    const ranks = Math.min(experts, topK + drop), all = [...choices(experts, drop)];
    const work = (depth: number) => {
      const needing = all.filter((set) => set.filter((e) => e < depth).length > depth - topK).length; // the best are experts 0, 1, ...
      return depth + (1 - Math.exp(-tokens * 4096 * needing / all.length)) * ranks;
    };
    const depth = likelyRanks({ experts, topK, drop, ranks, tokens }), depths = Array.from({ length: ranks - topK }, (_, i) => topK + i);
    const least = Math.min(ranks, ...depths.map(work));
    assertAlmostEquals(
      depth === ranks ? ranks : work(depth),
      least,
      1e-9,
      `${experts} experts, ${topK} used, ${drop} dropped: ${depth} ranks`,
    );
  }
  assertEquals(likelyRanks({ experts: 64, topK: 6, drop: 16, ranks: 22, tokens: 4096 }), 20, "DeepSeek-V2-Lite");
});
