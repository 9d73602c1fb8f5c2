import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { packBits } from "../../lib/delta/pack_bits.ts";
import { type BitSplit, planBits } from "../../lib/delta/plan_bits.ts";
import { unpackBits } from "../../lib/delta/unpack_bits.ts";
import { assertClose } from "../devices.ts";
import { BIT_PLANS, LOW_RANKS } from "../references/deltas.ts";

Deno.test("planBits() gives the worked examples", () => {
  const { groups, alpha, rank } = planBits(4096, 4096);
  assertEquals([groups, alpha, rank], [[{ bits: 8, count: 2 }, { bits: 3, count: 32 }, { bits: 2, count: 968 }], 1 / 16, 1002]);
  assertClose([planBits(11008, 4096, { split: [[8, 2], [3, 32], [2, 1428]] }).alpha], [0.062139], 1e-5);
});

/** Written as the references name it, such as "8x2,3x32,2xrest". */
const splitOf = (name: string): BitSplit =>
  name.split(",").map((group) => group.split("x")).map(([bits, count]) => [Number(bits), count === "rest" ? count : Number(count)]);

Deno.test("planBits() gives the references' plans, and the ranks of the low-rank baseline", () => {
  for (const [name, plans] of Object.entries(BIT_PLANS)) {
    for (const [shape, want] of Object.entries(plans)) {
      const [rows, columns] = shape.split("x").map(Number),
        { groups, alpha, alphaStored } = planBits(rows, columns, { split: splitOf(name) });
      assertEquals(groups.map(({ bits, count }) => [bits, count]), want.groups, `${name}, ${shape}`);
      assertClose([alpha, alphaStored], [want.alpha, want.alphaStored], 1e-6, `${name}, ${shape}`);
      assertEquals(planBits(rows, columns, { split: [[16, "rest"]] }).rank, LOW_RANKS[shape]);
    }
  }
});

Deno.test("planBits() stays within budget and rank, and one component more of the last group would not", () => {
  const count = fc.oneof(fc.nat(50), fc.constant("rest" as const)), bits = fc.constantFrom(1, 2, 3, 4, 8, 16, 32);
  fc.assert(fc.property(
    fc.integer({ min: 1, max: 500 }),
    fc.integer({ min: 1, max: 500 }),
    fc.double({ min: 1e-4, max: 3, noNaN: true }),
    fc.array(fc.tuple(bits, count), { minLength: 1, maxLength: 4 }),
    (rows, columns, alpha, split) => {
      const plan = planBits(rows, columns, { alpha, split }), most = Math.min(rows, columns);
      assert(plan.alpha <= alpha * (1 + 1e-12) && plan.alphaStored >= plan.alpha && plan.rank <= most);
      assertEquals(plan.rank, plan.groups.reduce((sum, { count }) => sum + count, 0));
      const [last, wanted] = split.at(-1)!;
      if (wanted !== "rest" || plan.rank === most) return;
      assert(plan.alpha + last * (rows + columns) / (16 * rows * columns) > alpha * (1 - 1e-12));
    },
  ));
});

Deno.test("packed numbers come back, at as many bits as they take", () => {
  const codes = fc.integer({ min: 1, max: 16 }).chain((bits) =>
    fc.tuple(fc.constant(bits), fc.array(fc.nat(2 ** bits - 1), { maxLength: 70 }))
  );
  fc.assert(fc.property(codes, ([bits, codes]) => {
    const words = packBits(codes, bits);
    assertEquals(words.length, Math.ceil(bits * codes.length / 32));
    assertEquals([...unpackBits(words, bits, codes.length)], codes);
  }));
});

Deno.test("planBits() says what it cannot use", () => {
  assertThrows(() => planBits(0, 4), RangeError, '"rows" must be a whole number of at least 1, received 0');
  assertThrows(() => planBits(4, 4, { alpha: 0 }), RangeError, '"alpha" must be above 0 and finite, received 0');
  assertThrows(() => planBits(4, 4, { split: [[9, 1]] }), RangeError, "received 9 and 1");
  assertThrows(() => planBits(4, 4, { split: [] }), TypeError, "Cannot plan bits: expected a split");
});
