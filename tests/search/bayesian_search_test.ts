import { assert, assertEquals, assertRejects } from "@std/assert";
import { bayesianSearch } from "../../lib/search/bayesian_search.ts";
import { feasible, type SearchSpace } from "../../lib/search/feasible_points.ts";
import { gaussianProcess } from "../../lib/search/gaussian_process.ts";
import { assertClose } from "../devices.ts";

const unit = (dims: number): SearchSpace["bounds"] => Array.from({ length: dims }, () => [0, 1] as const);
const total = (point: readonly number[]) => point.reduce((a, b) => a + b, 0);

Deno.test("a Gaussian process goes through its values, and knows less far from them", () => {
  const points = [0, 0.3, 0.5, 0.8, 1].map((x) => [x, 1 - x]), values = points.map(([x]) => Math.sin(3 * x));
  const expected = gaussianProcess(points, values, [1, 1]);
  assertClose(points.map((p) => expected(p).mean), values, 1e-3, "mean at the points");
  assertClose([expected([0.4, 0.6]).mean], [Math.sin(1.2)], 2e-2, "mean between them");
  assert(expected([0.4, 0.6]).deviation < expected([0.4, 0]).deviation && points.every((p) => expected(p).deviation < 0.05));
  assertEquals(gaussianProcess([[0], [1]], [5, 5], [1])([0.5]).mean, 5);
});

Deno.test("bayesianSearch() finds the least of a quadratic under a budget within 5 %, and keeps to the budget", async () => {
  // On x + y <= 1 the least of (x - 0.7)² + 2 (y - 0.6)² is at (1/2, 1/2).
  const space: SearchSpace = { bounds: unit(2), cost: total, costs: [0.5, 1] };
  for (let seed = 0; seed < 5; seed++) {
    const { best, evaluated } = await bayesianSearch(([x, y]) => (x - 0.7) ** 2 + 2 * (y - 0.6) ** 2, space, { seed });
    assertEquals(evaluated.length, 50);
    for (const { point } of evaluated) {
      assert(point.every((v) => v >= 0 && v <= 1) && total(point) >= 0.5 && total(point) <= 1, `${point}`);
    }
    assert(Math.hypot(best.point[0] - 0.5, best.point[1] - 0.5) < 0.05 && best.value < 0.06 * 1.05, `seed ${seed}: ${best.point}`);
  }
});

Deno.test("bayesianSearch() gives the same bits for a seed; starts come first, a random search is one with only initial points", async () => {
  const space: SearchSpace = { bounds: unit(3), cost: total, costs: [1, 1.5] }, objective = ([x, y, z]: readonly number[]) => x * x - y + z;
  const search = (options: object) => bayesianSearch(objective, space, { evaluations: 8, initial: 3, candidates: 50, ...options });
  assertEquals(await search({ seed: 3 }), await search({ seed: 3 }));
  assert((await search({ seed: 3 })).best.point[0] !== (await search({ seed: 4 })).best.point[0]);
  const { evaluated } = await search({ start: [[0.2, 0.9, 0.1], [1, 1, 1]] });
  assertEquals(evaluated[0].point, [0.2, 0.9, 0.1]);
  assertClose(evaluated[1].point, [0.5, 0.5, 0.5], 1e-9, "a start that costs too much, moved towards the cheapest corner");
  const random = await search({ initial: 8 }),
    other = await bayesianSearch(([x]) => -x, space, { evaluations: 8, initial: 8, candidates: 50 });
  assertEquals(random.evaluated.map(({ point }) => point), other.evaluated.map(({ point }) => point), "no value is looked at");
});

Deno.test("bayesianSearch() goes round points where the function is not finite", async () => {
  const objective = ([x]: readonly number[]) => x > 0.5 ? NaN : (x - 0.4) ** 2;
  const { best } = await bayesianSearch(objective, { bounds: [[0, 1]] }, { evaluations: 20, initial: 4 });
  assert(Math.abs(best.point[0] - 0.4) < 0.05, `${best.point}`);
});

Deno.test("bayesianSearch() takes what is not finite for the worst, wherever it comes, and lets the function keep its point", async () => {
  const search = (values: number[], options: object = {}) => {
    let next = 0;
    return bayesianSearch(() => values[next++], { bounds: unit(2) }, { evaluations: values.length, initial: values.length, ...options });
  };
  for (const odd of [-Infinity, Infinity, NaN]) {
    for (const values of [[odd, 3, 1, 2], [3, 1, odd, 2], [3, 2, 1, odd], [odd, odd, odd, 1], [odd, 1, odd, odd]]) {
      assertEquals((await search(values)).best.value, 1, `${values}`);
    }
    await assertRejects(() => search([odd, odd, odd]), RangeError, "Cannot search: the function is finite at none of 3 points");
  }
  // The next point is looked for near the best ones: with many local candidates and few others, next to the only one below 1.
  const local = { evaluations: 8, initial: 7, candidates: 20, seed: 1 };
  for (const values of [[NaN, 5, NaN, 0.1, NaN, 4, 6, 1], [-Infinity, 5, Infinity, 0.1, NaN, 4, 6, 1]]) {
    const finite = values.map((value) => Number.isFinite(value) ? value : 6),
      [odd, plain] = [await search(values, local), await search(finite, local)];
    assertEquals(odd.evaluated.map(({ point }) => point), plain.evaluated.map(({ point }) => point), "as if it were the worst");
  }
  const wiping = await bayesianSearch((point) => (point as number[]).fill(0)[0] + 1, { bounds: unit(2) }, { evaluations: 3 });
  assert(wiping.evaluated.every(({ point }) => point[0] > 0));
});

Deno.test("points that cost too much or too little are moved until they do not, also where costs go in steps", () => {
  const steps = (point: readonly number[]) => point.reduce((sum, v) => sum + Math.floor(4 * v) / 4, 0);
  const space: SearchSpace = { bounds: unit(2), cost: steps, costs: [0.5, 1] };
  for (const point of [[1, 1], [0, 0], [0.9, 0.3], [0.1, 0.2], [2, -1]]) {
    const moved = feasible(space, point);
    assert(moved && steps(moved) >= 0.5 && steps(moved) <= 1 && moved.every((v) => v >= 0 && v <= 1), `${point} -> ${moved}`);
  }
  assertEquals(feasible(space, [0.5, 0.5]), [0.5, 0.5]);
  const both: SearchSpace = { bounds: unit(2), cost: steps, costs: [0.2, 0.3] }; // on the diagonal costs fall from 0.5 to 0
  assertClose(feasible(both, [0.6, 0.6])!, [0.25, 0.25], 1e-3, "one of the two takes the step");
  assertEquals(feasible({ bounds: unit(1), cost: ([x]) => x < 0.5 ? 0 : 1, costs: [0.4, 0.6] }, [0.7]), undefined);
});

Deno.test("bayesianSearch() says what it cannot search", async () => {
  const objective = ([x]: readonly number[]) => x, space: SearchSpace = { bounds: unit(1) };
  await assertRejects(() => bayesianSearch(objective, { bounds: [[1, 0]] }), TypeError, 'a space with "bounds"');
  await assertRejects(() => bayesianSearch(objective, { bounds: unit(1), cost: total }), TypeError, 'a function as "cost"');
  await assertRejects(
    () => bayesianSearch(objective, space, { evaluations: 0 }),
    RangeError,
    '"evaluations" must be a whole number of at least 1, received 0',
  );
  await assertRejects(() => bayesianSearch(objective, space, { start: [[1, 2]] }), TypeError, 'points of 1 numbers as "start"');
  await assertRejects(() => bayesianSearch(objective, space, { lengthScales: [0] }), TypeError, '1 numbers above 0 as "lengthScales"');
  for (const value of ["3", undefined, null]) {
    await assertRejects(() => bayesianSearch(() => value as never, space), TypeError, "a number as the function's value");
  }
  const none: SearchSpace = { bounds: unit(1), cost: total, costs: [2, 3] };
  await assertRejects(() => bayesianSearch(objective, none), RangeError, "Cannot search: no point costs from 2 to 3");
});
