import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { annealTopK } from "../../lib/finetune/anneal_top_k.ts";

Deno.test("annealTopK() falls by one at a time, stays equally long on all numbers but the last, and is there exactly after its steps", () => {
  const count = fc.integer({ min: 1, max: 12 });
  fc.assert(fc.property(count, count, count, (to, more, each) => {
    const schedule = { from: to + more, to, steps: more * each }, steps = Array.from({ length: schedule.steps + 3 }, (_, step) => step);
    const used = steps.map((step) => annealTopK(step, schedule));
    assertEquals(used.slice(0, -3), Array.from({ length: more }, (_, i) => new Array(each).fill(schedule.from - i)).flat());
    assertEquals(used.slice(-3), [to, to, to]);
  }));
});

Deno.test("annealTopK() never rises, begins at the first number and ends at the last, also over fewer steps than numbers", () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 9 }), fc.integer({ min: 0, max: 9 }), fc.integer({ min: 0, max: 30 }), (to, more, steps) => {
      const used = Array.from({ length: steps + 1 }, (_, step) => annealTopK(step, { from: to + more, to, steps }));
      if (steps > 0) assertEquals(used[0], to + more);
      assertEquals(used[steps], to);
      assert(used.every((k, i) => Number.isSafeInteger(k) && (i === 0 || k <= used[i - 1])), `${used}`);
    }),
  );
});

Deno.test("annealTopK() says what is wrong with a schedule", () => {
  const schedule = { from: 2, to: 1, steps: 4 };
  assertThrows(() => annealTopK(-1, schedule), TypeError, "Cannot anneal top-k: expected a step from 0 on, found -1");
  assertThrows(() => annealTopK(0, { ...schedule, to: 0 }), TypeError, 'a whole number of at least 1 as "to", found 0');
  assertThrows(() => annealTopK(0, { ...schedule, from: 1, to: 2 }), TypeError, 'a whole number of at least 2 as "from", found 1');
  assertThrows(() => annealTopK(0, { ...schedule, steps: 0.5 }), TypeError, 'a whole number of at least 0 as "steps", found 0.5');
});
