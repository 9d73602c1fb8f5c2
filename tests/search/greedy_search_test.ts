import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { geneticSearch } from "../../lib/search/genetic_search.ts";
import { greedySearch } from "../../lib/search/greedy_search.ts";
import { testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `greedySearch() ends where no exchange of one expert helps, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const [{ index, block }] = moeLayers(model), count = block.experts.length, drop = Math.floor(count / 2);
        const budget = { layers: [{ layer: index, drop }] };
        const { sets, history, evaluated } = (await greedySearch(device, model, trace, budget, { keep: 4 })).layers[0];
        const every = (await exhaustiveSearch(device, model, trace, budget, { keep: 1e6 })).layers[0].sets;
        const lossOf = new Map(every.map((s) => [s.drop.join(), s.loss])), near = (a: number, b: number) => Math.abs(a - b) <= 1e-4 * b;
        for (const set of sets) assert(near(set.loss, lossOf.get(set.drop.join())!), `${set.drop} costs ${set.loss}`);
        for (const other of every) {
          const shared = other.drop.filter((e) => sets[0].drop.includes(e)).length;
          if (shared >= drop - 1) assert(other.loss >= sets[0].loss * (1 - 1e-4), `${other.drop} is one exchange away and better`);
        }
        assertEquals(history.at(-1), sets[0].loss);
        assert(history.every((loss, i) => i === 0 || loss < history[i - 1]), "every round of swaps helps");
        assert(evaluated >= sets.length && sets.every((s) => s.drop.length === drop), "smaller sets on the way are no candidates");
      }),
  );
}

for (const name of Object.keys(references)) {
  Deno.test(`greedySearch() finds the best set of all on ${name}, or one as good to 1 %, from a fraction of the evaluations`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture(name), sequences = calibration.slice(0, 4);
    using trace = await calibrate(device, model, sequences);
    for (const share of [0.25, 0.5]) {
      const budget = { layers: moeLayers(model).map(({ index, block }) => ({ layer: index, drop: share * block.experts.length })) };
      const found = await greedySearch(device, model, trace, budget), all = await exhaustiveSearch(device, model, trace, budget);
      found.layers.forEach(({ layer, sets, evaluated, possible }, i) => {
        const least = all.layers[i].sets[0].loss;
        assert(sets[0].loss >= least * (1 - 1e-6) && sets[0].loss <= 1.01 * least, `layer ${layer}: ${sets[0].loss}, least ${least}`);
        assert(possible < 100 || evaluated < possible / 4, `${evaluated} of ${possible} sets priced`);
        assertEquals(sets.length, 3);
      });
    }
  });
}

Deno.test("greedySearch() is the same every time, keeps what it is asked for, and can leave the swaps out", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), budget = { layers: [{ layer: 1, drop: 6 }, { layer: 2, drop: 1 }] };
  using trace = await calibrate(device, model, calibration.slice(0, 2));
  const found = await greedySearch(device, model, trace, budget, { keep: 6 });
  assertEquals(await greedySearch(device, model, trace, budget, { keep: 6 }), found);
  assertEquals(found.layers.map((l) => l.sets.length), [1, 6, 6, 1]);
  const { layers } = await greedySearch(device, model, trace, budget, { rounds: 0 });
  assertEquals(layers[1].history.length, 1);
  assertEquals(layers[1].sets.length, 3);
  assert(layers[1].sets[0].loss >= found.layers[1].sets[0].loss);
  const genetic = await geneticSearch(device, model, trace, { layers: [{ layer: 2, drop: 1 }] });
  assertEquals(layers[2].sets, genetic.layers[2].sets, "one expert: all are tried");
  const edge = await greedySearch(device, model, trace, { layers: [{ layer: 0, drop: 15 }] });
  assertEquals(edge.layers[0].sets[0].drop.length, 15);
});

Deno.test("greedySearch() stops when told to, and says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), budget = { layers: [{ layer: 0, drop: 8 }] };
  using trace = await calibrate(device, model, calibration.slice(0, 1));
  await assertRejects(() => greedySearch(device, model, trace, budget, { rounds: -1 }), RangeError, '"rounds" must be a whole number');
  await assertRejects(() => greedySearch(device, model, trace, budget, { keep: 0 }), RangeError, '"keep"');
  await assertRejects(
    () => greedySearch(device, model, trace, { layers: [{ layer: 0, drop: 16 }] }),
    RangeError,
    "the budget drops 16 experts",
  );
  await assertRejects(() => greedySearch(device, model, trace, budget, { signal: AbortSignal.abort(new Error("stop")) }), Error, "stop");
  assertEquals(device.live.tensors, 0);
});
