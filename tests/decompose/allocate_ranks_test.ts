import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { allocateRanks, type AllocateRanksOptions, largestRank } from "../../lib/decompose/allocate_ranks.ts";

function scoresOf(importance: number[], hidden = 4096, intermediate = 14336) {
  const layer = { layer: 3, experts: importance.map((_, i) => 2 * i), scores: Float64Array.from(importance) };
  return { kind: "test", topK: 2, expertShape: { hidden, intermediate }, layers: [layer], unseen: [] };
}

const ranksOf = (importance: number[], options: AllocateRanksOptions, hidden?: number, intermediate?: number) =>
  allocateRanks(scoresOf(importance, hidden, intermediate), options).layers[0].experts.map((e) => e.rank);

const importances = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 20 });

Deno.test("allocateRanks() gives the worked example of the paper's formula", () => {
  assertEquals(ranksOf([1, 2, 4, 8, 16, 32], { averageRank: 2048 }), [1554, 1724, 1913, 2123, 2356, 2614]);
  assertEquals(allocateRanks(scoresOf([1, 2, 4, 8, 16, 32]), { averageRank: 2048 }).layers[0].sum, 12284);
});

Deno.test("allocateRanks() gives equal ranks for equal importance, for alpha 0 and for none at all", () => {
  assertEquals(ranksOf([7, 7, 7], { averageRank: 512 }), [512, 512, 512]);
  assertEquals(ranksOf([1, 100, 0], { averageRank: 512, alpha: 0 }), [512, 512, 512]);
  assertEquals(ranksOf([0, 0, 0], { averageRank: 512 }), [512, 512, 512]);
  assertEquals(ranksOf([1, 3], { averageRank: 100, alpha: 1, epsilon: 0 }), [50, 150]);
});

Deno.test("allocateRanks() rises with importance and spends its target, no more, up to rounding down", () => {
  fc.assert(
    fc.property(
      importances,
      fc.integer({ min: 60, max: 1000 }),
      fc.double({ min: 0, max: 0.3, noNaN: true }),
      (importance, averageRank, alpha) => {
        const { experts, sum, target } = allocateRanks(scoresOf(importance), { averageRank, alpha, minimumRank: 1 }).layers[0],
          ranks = experts.map((e) => e.rank);
        assertEquals([sum, target], [ranks.reduce((a, b) => a + b), averageRank * importance.length]);
        assert(sum <= target && sum > target - 2 * importance.length, `${sum} of ${target}`);
        importance.forEach((a, i) =>
          importance.forEach((b, j) => a > b && assert(ranks[i] >= ranks[j], `importance ${a} has rank ${ranks[i]}, ${b} has ${ranks[j]}`))
        );
      },
    ),
  );
});

Deno.test("allocateRanks() gives equal experts the average, however many they are", () => {
  for (let count = 1; count <= 160; count++) {
    for (const averageRank of [16, 333, 512]) {
      assertEquals(ranksOf(Array(count).fill(0.1), { averageRank }, 2048, 1408), Array(count).fill(averageRank));
    }
  }
});

Deno.test("allocateRanks() never reaches break-even, and gives what it cuts off to the others", () => {
  const most = largestRank(64, 48), ranks = ranksOf([1e6, 1, 1, 1], { averageRank: 20, alpha: 0.5 }, 64, 48);
  assertEquals(most, 27);
  assert(most * (64 + 48) < 64 * 48 && (most + 1) * (64 + 48) >= 64 * 48);
  assertEquals(ranks, [27, 17, 17, 17]);
  assertEquals(ranksOf([1e6, 1, 1, 1], { averageRank: 20, alpha: 0.5, cap: false, minimumRank: 1 }, 64, 48), [48, 10, 10, 10]);
  assertEquals(ranksOf([3, 1], { averageRank: 1000 }, 64, 48), [27, 27], "more than everything is not given");
  assertEquals(ranksOf([0, 0, 5], { averageRank: 15, alpha: 1, epsilon: 0 }, 64, 48), [9, 9, 27], "also to those of no weight");
  assertEquals(ranksOf([1e-3, 1e6], { averageRank: 16, alpha: 1000 }, 64, 48), [5, 27]);
});

Deno.test("allocateRanks() keeps a minimum for experts that nothing was routed to", () => {
  assert(Math.min(...ranksOf([0, 5, 9], { averageRank: 10, alpha: 1 })) === 4);
  assertEquals(ranksOf([0, 5, 5], { averageRank: 10, alpha: 1, minimumRank: 7 })[0], 7);
});

Deno.test("allocateRanks() depends on ratios of importance alone, be it as large or as small as numbers go", () => {
  const options = { averageRank: 100, alpha: 1 }, ranks = ranksOf([0, 1, 3], { ...options, epsilon: 0.01 });
  assertEquals(ranks.slice(1).map((rank) => Math.round(rank / ranks[1])), [1, 3]);
  for (const scale of [5e-324, 5e307]) assertEquals(ranksOf([0, scale, 3 * scale], { ...options, epsilon: 0.01 }), ranks);
  assertEquals(ranksOf([1e-3, 1e6], { averageRank: 16, alpha: 1000 }), [4, 32]);
  assertEquals(ranksOf([1, 2], { averageRank: 16, epsilon: 1e308 }), [16, 16]);
});

Deno.test("allocateRanks() names what it cannot use", () => {
  assertThrows(() => ranksOf([1], { averageRank: 0 }), RangeError, '"averageRank" must be at least 1, received 0');
  assertThrows(() => ranksOf([1], { averageRank: 8, alpha: -1 }), RangeError, '"alpha"');
  assertThrows(() => ranksOf([1], { averageRank: 8, minimumRank: 4.5 }), RangeError, '"minimumRank" must be a whole number, received 4.5');
  assertThrows(
    () => ranksOf([1, -2], { averageRank: 8 }),
    RangeError,
    "score of expert 2 in layer 3 must be finite and at least 0, received -2",
  );
});
