/** The search is its parts in order, and finds more than it begins with. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { random } from "../../lib/calibrate/random.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { initialProbabilities } from "../../lib/structured/initial_probabilities.ts";
import { maskedLosses } from "../../lib/structured/masked_losses.ts";
import { planByUnits } from "../../lib/structured/plan_by_units.ts";
import { policyGradientSearch } from "../../lib/structured/policy_gradient_search.ts";
import { policyGradientStep, type PolicyState } from "../../lib/structured/policy_gradient_step.ts";
import { projectBudget } from "../../lib/structured/project_budget.ts";
import { sampleMasks } from "../../lib/structured/sample_masks.ts";
import { sliceModel } from "../../lib/structured/slice_model.ts";
import type { StructurePlan } from "../../lib/structured/structure_plan.ts";
import { unitScores } from "../../lib/structured/unit_scores.ts";
import { planOfMask } from "../../lib/structured/units.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { factored, silenced, sliced } from "../model/model_forms.ts";
import { ROUTERS, withModel } from "../small_models.ts";

testOnDevices(
  "each step draws, runs, and moves as policyGradientStep() does",
  (device) =>
    withModel(ROUTERS["group-limited, scaled"], async (model, sequences) => {
      const scores = await unitScores(device, model, sequences, { kinds: ["experts", "attention groups"] });
      const initial = initialProbabilities(scores, { keep: 0.6 }), { populations } = initial;
      const options = { keep: 0.6, learningRate: 0.5, samples: 3, batch: 2, seed: 7 }, steps = 4;
      const got = await policyGradientSearch(device, model, sequences, initial, { ...options, steps });
      const again = await policyGradientSearch(device, model, sequences, initial, { ...options, steps });
      assertEquals(again, got);
      const flat = populations.flatMap(({ kind, values }) => [...values].map((value) => ({ kind, value })));
      const budgets = (["experts", "attention groups"] as const).map((kind) => [...flat.keys()].filter((i) => flat[i].kind === kind));
      const begin = Float64Array.from(flat, ({ value }) => value);
      for (const units of budgets) projectBudget(Float64Array.from(units, (i) => begin[i]), 0.6).forEach((p, k) => begin[units[k]] = p);
      let state: PolicyState = { probabilities: begin };
      for (const { step, losses, baseline } of got.history) {
        const draw = random(7, `policy gradient, step ${step}`),
          some = draw.sample(sequences, 2),
          masks = sampleMasks(state.probabilities, 3, draw);
        assertEquals(losses, [
          ...await maskedLosses(
            device,
            model,
            some,
            masks.map((mask) => planOfMask(populations, mask)),
          ),
        ], `step ${step}`);
        const learningRate = 0.5 * (1 + Math.cos(Math.PI * (step - 1) / steps)) / 2;
        state = policyGradientStep(state, masks, losses, { keep: 0.6, learningRate, budgets });
        assertEquals(baseline, state.baseline);
      }
      assertEquals(got.populations.flatMap(({ values }) => [...values]), [...state.probabilities]);
    }),
);

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
  const units = await unitScores(device, model, tokens, { kinds: ["attention groups"] });
  for (
    const [options, message] of [
      [{ samples: 1 }, '"samples" must be a whole number of at least 2'],
      [{ keep: 0 }, '"keep" must be above 0'],
      [{ steps: 0.5 }, '"steps"'],
      [{ learningRate: 0 }, '"learningRate"'],
    ] as const
  ) {
    await assertRejects(() => policyGradientSearch(device, model, tokens, initialProbabilities(units), options), RangeError, message);
  }
});
