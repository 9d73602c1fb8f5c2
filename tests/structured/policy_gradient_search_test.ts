/** The search is its parts in order, and finds more than it begins with. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { random } from "../../lib/calibrate/random.ts";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import type { Device, TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { type DecoderLayer, type Model, moeLayers } from "../../lib/model/model.ts";
import { initialProbabilities } from "../../lib/structured/initial_probabilities.ts";
import { maskedLosses } from "../../lib/structured/masked_losses.ts";
import { planByUnits } from "../../lib/structured/plan_by_units.ts";
import { type PolicyGradientOptions, policyGradientSearch } from "../../lib/structured/policy_gradient_search.ts";
import { policyGradientStep, type PolicyState } from "../../lib/structured/policy_gradient_step.ts";
import { projectBudget } from "../../lib/structured/project_budget.ts";
import { sampleMasks } from "../../lib/structured/sample_masks.ts";
import { sliceModel } from "../../lib/structured/slice_model.ts";
import type { StructurePlan } from "../../lib/structured/structure_plan.ts";
import { unitScores } from "../../lib/structured/unit_scores.ts";
import { planOfMask, populationsOf, type UnitPopulation } from "../../lib/structured/units.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { factored, silenced, sliced } from "../model/model_forms.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** Ways to search, and by what their budgets are told apart. */
const WAYS: [what: string, options: PolicyGradientOptions, budget: (of: UnitPopulation) => string][] = [
  ["as released", {}, ({ kind }) => kind],
  ["otherwise", { scope: "layer", estimator: "unbiased", baseline: "mean", period: 2 }, ({ kind, layer }) => `${kind} ${layer}`],
  ["a quick baseline", { period: 2, residentBytes: 0 }, ({ kind }) => kind],
];

for (const [what, how, budget] of WAYS) {
  testOnDevices(
    `each step draws, runs, and moves as policyGradientStep() does, ${what}`,
    (device) =>
      withModel(ROUTERS["group-limited, scaled"], async (model, sequences) => {
        const scores = await unitScores(device, model, sequences, { kinds: ["experts", "attention groups"] });
        const initial = initialProbabilities(scores, { keep: 0.6 }), { populations } = initial;
        // Sequences of one token have nothing to predict: they are not drawn.
        const texts = [sequences[0].slice(0, 1), ...sequences], usable = sequences.filter(({ length }) => length > 1);
        const options = { ...how, learningRate: 0.5, samples: 3, batch: 2, seed: 7 }, steps = 4;
        const got = await policyGradientSearch(device, model, texts, initial, { ...options, steps });
        const again = await policyGradientSearch(device, model, texts, initial, { ...options, steps });
        assertEquals(again, got);
        const flat = populations.flatMap((population) => [...population.values].map((value) => ({ budget: budget(population), value })));
        const budgets = [...Map.groupBy(flat.keys(), (i) => flat[i].budget).values()];
        const begin = Float64Array.from(flat, ({ value }) => value);
        for (const units of budgets) {
          projectBudget(Float64Array.from(units, (i) => begin[i]), 0.6).forEach((p, k) => begin[units[k]] = p);
        }
        let state: PolicyState = { probabilities: begin };
        for (const { step, losses, baseline } of got.history) {
          const draw = random(7, `policy gradient, step ${step}`), some = draw.sample(usable, 2);
          const masks = sampleMasks(state.probabilities, 3, draw), plans = masks.map((mask) => planOfMask(populations, mask));
          const want = await maskedLosses(device, model, some, plans);
          assertEquals(losses, [...want], `step ${step}`);
          const learningRate = 0.5 * (1 + Math.cos(Math.PI * (step - 1) / steps)) / 2, { estimator, baseline: kind, period } = how;
          state = policyGradientStep(state, masks, want, { keep: 0.6, learningRate, budgets, estimator, baseline: kind, period });
          assertEquals(baseline, state.baseline);
        }
        assertEquals(got.populations.flatMap(({ values }) => [...values]), [...state.probabilities]);
        for (const units of budgets) {
          const sum = units.reduce((sum, i) => sum + state.probabilities[i], 0);
          assert(sum <= 0.6 * units.length + 1e-9, `${sum} of ${units.length}`);
        }
        assert(!got.populations.every(({ values }, i) => values.every((value, j) => value === populations[i].values[j])));
      }),
  );
}

Deno.test("losses that are not finite are passed over; where all are, the search fails", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].slice(0, 16)];
  const experts = initialProbabilities({ populations: populationsOf(model, ["experts"], "test") }, { from: "constant", keep: 0.5 });
  const poisoned = (source: TensorSource) => heldSource(new Float32Array(source.shape.reduce((a, b) => a * b)).fill(NaN), source.shape);
  const none = { ...model, norm: poisoned(model.norm) };
  await assertRejects(
    () => policyGradientSearch(device, none, tokens, experts, { steps: 2 }),
    RangeError,
    "Cannot search by policy gradient: none of 2 steps has two finite losses",
  );
  const layers = model.layers.map((layer): DecoderLayer => {
    const { block } = layer;
    return layer.index > 0 || block.kind === "dense" ? layer : {
      ...layer,
      block: { ...block, experts: block.experts.map((e) => e.id === 3 ? { ...e, down: poisoned(e.down as TensorSource) } : e) },
    };
  });
  const some = await policyGradientSearch(device, { ...model, layers }, tokens, experts, { steps: 6, samples: 4, learningRate: 0.1 });
  const losses = some.history.flatMap(({ losses }) => losses);
  assert(losses.includes(null) && losses.every((loss) => loss === null || Number.isFinite(loss)), `${losses}`);
  assertEquals(JSON.parse(JSON.stringify(some.history)), some.history);
  assert(some.populations.every(({ values }) => values.every(Number.isFinite)));
});

Deno.test("weights that may stay on the device are read once, and layers that all masks drop never", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].slice(0, 16)];
  let loads = 0;
  const counted = { ...device, loadExperts: (experts: Parameters<Device["loadExperts"]>[0]) => (loads++, device.loadExperts(experts)) };
  const initial = initialProbabilities({ populations: populationsOf(model, ["experts"], "test") }, { from: "constant" });
  const found = await Promise.all([undefined, 0].map((residentBytes) => {
    return policyGradientSearch(counted, model, tokens, initial, { steps: 3, residentBytes });
  }));
  assertEquals([loads, found[0]], [4 + 3 * 4, found[1]]);
  const without = { layers: [{ layer: 2, whole: true }] };
  await maskedLosses(counted, model, tokens, [without, without]);
  assertEquals(loads, 4 + 3 * 4 + 3);
  await maskedLosses(counted, model, tokens, [without, { layers: [] }]);
  assertEquals(loads, 4 + 3 * 4 + 3 + 4);
});

testOnDevices("policy gradient finds better experts than it begins with", async (device) => {
  const { model, calibration, heldOut } = await openFixture("tiny-mixtral"), pieces = calibration.map((ids) => ids.slice(0, 32));
  const initial = initialProbabilities(await unitScores(device, model, calibration.slice(0, 8), { kinds: ["experts"] }), { keep: 0.75 });
  const learned = await policyGradientSearch(device, model, pieces, initial, {
    ...{ keep: 0.75, steps: 40, samples: 8, batch: 1, learningRate: 0.4, baseline: "mean" },
  });
  const plans = [{ layers: [] }, planByUnits(initial, { keep: 0.75 }), planByUnits(learned, { keep: 0.75 })];
  const [dense, before, after] = await maskedLosses(device, model, heldOut.slice(0, 8), plans);
  assert(after - dense < 0.25 * (before - dense), `the loss of ${dense} rises to ${before} at first, to ${after} after the search`);
}, fastDevices);

Deno.test("a budget for each layer leaves each layer its share", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), tokens = [calibration[0].slice(0, 16)];
  const scores = await unitScores(device, model, tokens, { kinds: ["experts", "channels"] });
  const { layers } = planByUnits(scores, { keep: 0.75, scope: "layer" });
  assertEquals(layers.map(({ experts }) => experts!.length), [4, 4, 4, 4]);
  for (const { channels } of layers) assertEquals(channels!.reduce((sum, { drop }) => sum + drop.length, 0), 360); // a quarter of 16 * 80 + 160
});

Deno.test("structures of models that were sliced before are masked and sliced again", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-deepseek-v2"), tokens = [calibration[0].slice(0, 40)], cut = sliced(model);
  const [{ index, block: { experts: [{ id }] } }] = moeLayers(model);
  const plan = { layers: [{ layer: index, experts: [3], groups: [0], channels: [{ of: "expert" as const, id, drop: [0, 1, 2] }] }] };
  const loss = async (m: Model, plans: StructurePlan[] = [{ layers: [] }]) => (await maskedLosses(device, m, tokens, plans))[0];
  assertClose([await loss(cut)], [await loss(silenced(model))], 1e-5);
  assertClose([await loss(cut, [plan])], [await loss(sliceModel(cut, plan))], 1e-5);
  const { populations } = await unitScores(device, cut, tokens, { kinds: ["channels"] });
  assert(populations.every(({ values }) => values.every((value) => value >= 0)) && populations[0].values.length < 256);
});

Deno.test("factors and biases are refused, and options that make no sense", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].slice(0, 8)], low = await factored(model);
  await assertRejects(() => maskedLosses(device, low, tokens, [{ layers: [] }]), Error, "do this before it is");
  await assertRejects(() => unitScores(device, low, tokens), Error, "do this before it is");
  const units = await unitScores(device, model, tokens, { kinds: ["attention groups"] }), initial = initialProbabilities(units);
  const idle = { ...device, rmsNorm: () => Promise.reject(new Error("the model ran")) as never };
  for (
    const [options, message] of [
      [{ samples: 1 }, '"samples" must be a whole number of at least 2'],
      [{ keep: 0 }, 'Cannot search by policy gradient: "keep" must be above 0'],
      [{ steps: 0.5 }, '"steps"'],
      [{ learningRate: 0 }, '"learningRate"'],
      [{ period: 0 }, '"period"'],
      [{ estimator: "biased" as "released" }, 'by "biased"'],
      [{ baseline: "none" as "mean" }, 'with the baseline "none"'],
      [{ scope: "all" as "global" }, 'with the scope "all"'],
      [{ residentBytes: -1 }, '"residentBytes"'],
    ] as const
  ) {
    await assertRejects(() => policyGradientSearch(idle, model, tokens, initial, options), Error, message);
  }
  const short = [tokens[0].slice(0, 1)];
  for (const some of [[], short]) {
    await assertRejects(
      () => policyGradientSearch(idle, model, some, initial),
      RangeError,
      `${some.length} sequences have no token to predict`,
    );
  }
});
