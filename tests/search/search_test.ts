import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { geneticSearch } from "../../lib/search/genetic_search.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { distance, routedOutputs, ROUTERS, withModel } from "../small_models.ts";

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `exhaustiveSearch() ranks all sets by running the layer without them, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const [{ index, block }] = moeLayers(model), count = block.experts.length;
        const { layers } = await exhaustiveSearch(device, model, trace, { layers: [{ layer: index, drop: 2 }] }, { keep: 100 });
        const whole = await routedOutputs(device, model, sequences, index, []), want: { drop: number[]; loss: number }[] = [];
        for (let a = 0; a < count; a++) {
          for (let b = a + 1; b < count; b++) {
            want.push({ drop: [a, b], loss: distance(whole, await routedOutputs(device, model, sequences, index, [a, b])) });
          }
        }
        want.sort((a, b) => a.loss - b.loss);
        assertEquals(layers[0].sets.map((s) => s.drop), want.map((s) => s.drop));
        assertClose(layers[0].sets.map((s) => s.loss), want.map((s) => s.loss), 1e-4);
        assertEquals([layers[0].evaluated, layers[0].possible, layers[0].history], [want.length, want.length, [layers[0].sets[0].loss]]);
        assertEquals(
          layers.slice(1).map((l) => l.sets),
          layers.slice(1).map(() => [{ drop: [], loss: 0 }]),
          "layers without a budget lose nothing",
        );
      }),
  );
}

Deno.test("geneticSearch() never gets worse, prices no set twice, and depends on nothing but its options", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), budget = { layers: [{ layer: 1, drop: 6 }, { layer: 2, drop: 5 }] };
  using trace = await calibrate(device, model, calibration.slice(0, 3));
  const options = { population: 20, generations: 12, keep: 5, seed: 7 };
  const run = (change = {}) => geneticSearch(device, model, trace, budget, { ...options, ...change });
  const { layers } = await run();
  for (const { layer, sets, history, evaluated, possible } of layers.filter((l) => l.evaluated > 0)) {
    assertEquals(history.length, 13);
    assert(history.every((loss, i) => i === 0 || loss <= history[i - 1]), `the best loss of layer ${layer} rises: ${history}`);
    assertEquals(sets[0].loss, history.at(-1));
    assertEquals(evaluated, 20 + 12 * 16, "every set is a new one");
    assert(evaluated < possible);
    const drop = budget.layers.find((b) => b.layer === layer)!.drop;
    for (const set of sets) assertEquals(new Set(set.drop).size, drop, "a set has the budgeted size and no expert twice");
    assertEquals(sets.map((s) => s.drop), sets.map((s) => s.drop.toSorted((a, b) => a - b)), "ids rise");
    assertEquals(new Set(sets.map((s) => s.drop.join())).size, 5, "kept sets differ");
  }
  assertEquals(await run(), { layers }, "the same seed finds the same");
  assert(
    JSON.stringify((await run({ seed: 8 })).layers.map((l) => l.history)) !== JSON.stringify(layers.map((l) => l.history)),
    "another seed searches elsewhere",
  );
  assert(JSON.stringify((await run({ generations: 0 })).layers[1].history.length) === "1", "no generation, one population");
});

Deno.test("geneticSearch() tries all sets of a layer where that is cheaper, also where there are fewer than a population", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"),
    budget = { layers: [0, 1, 2, 3].map((layer) => ({ layer, drop: layer + 1 })) };
  using trace = await calibrate(device, model, calibration.slice(0, 2));
  const found = await geneticSearch(device, model, trace, budget);
  assertEquals(found, await exhaustiveSearch(device, model, trace, budget));
  assertEquals(found.layers.map((l) => l.evaluated), [8, 28, 56, 70]);
});

Deno.test("searches say what they cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), budget = { layers: [{ layer: 0, drop: 8 }] };
  using trace = await calibrate(device, model, calibration.slice(0, 1));
  await assertRejects(() => exhaustiveSearch(device, model, trace, budget, { limit: 1000 }), RangeError, "all 12870 sets of layer 0");
  await assertRejects(
    () => exhaustiveSearch(device, model, trace, { layers: [{ layer: 3, drop: 16 }] }),
    RangeError,
    "the budget drops 16 experts, but it can lose 0 to 15",
  );
  await assertRejects(
    async () => await geneticSearch(device, model, trace, budget, { population: 1 }),
    RangeError,
    '"population" must be a whole number of at least 2',
  );
  await assertRejects(async () => await geneticSearch(device, model, trace, budget, { parents: 0 }), RangeError, '"parents"');
  await assertRejects(() => geneticSearch(device, model, trace, budget, { keep: 0 }), RangeError, '"keep"');
  for (const layers of [[{ layer: 17, drop: 1 }], [{ layer: 0, drop: 1 }, { layer: 0, drop: 2 }]]) {
    await assertRejects(
      () => geneticSearch(device, model, trace, { layers }),
      RangeError,
      layers.length === 1 ? "layer 17" : "listed twice",
    );
  }
  await assertRejects(() => geneticSearch(device, model, trace, budget, { seed: NaN }), RangeError, '"seed"');
  await assertRejects(() => exhaustiveSearch(device, model, trace, budget, { limit: NaN }), RangeError, '"limit"');
  assertEquals(device.live.tensors, 0);
});

Deno.test("searches stop within a layer, between two generations or two chunks of sets", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), budget = { layers: [{ layer: 0, drop: 8 }] };
  using trace = await calibrate(device, model, calibration.slice(0, 1));
  const small = { population: 20, generations: 10 },
    searches: Record<string, (device: Device, signal: AbortSignal) => Promise<unknown>> = {
      "genetic": (device, signal) => geneticSearch(device, model, trace, budget, { ...small, signal }),
      "genetic, of all sets": (device, signal) => geneticSearch(device, model, trace, budget, { generations: 1000, signal }),
      "exhaustive": (device, signal) => exhaustiveSearch(device, model, trace, budget, { signal }),
    };
  const live = { ...device.live };
  for (const [name, search] of Object.entries(searches)) {
    const stop = new AbortController();
    let calls = 0;
    const fitness: typeof device.fitness = (...args) => {
      if (++calls === 3) stop.abort(new Error("stopped by the user"));
      return device.fitness(...args);
    };
    await assertRejects(() => search({ ...device, fitness }, stop.signal), Error, "stopped by the user", name);
    assertEquals(calls, 3, `${name}: sets were priced after the stop`);
    assertEquals(device.live, live, name);
  }
});
