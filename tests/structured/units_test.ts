/** Units are those of the model that they are for, also after JSON, and keep their budget. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { initialProbabilities } from "../../lib/structured/initial_probabilities.ts";
import { planByUnits } from "../../lib/structured/plan_by_units.ts";
import { policyGradientSearch } from "../../lib/structured/policy_gradient_search.ts";
import { sliceModel } from "../../lib/structured/slice_model.ts";
import type { StructurePlan } from "../../lib/structured/structure_plan.ts";
import { unitScores } from "../../lib/structured/unit_scores.ts";
import { populationsOf, type UnitKind, type UnitProbabilities } from "../../lib/structured/units.ts";
import { openFixture } from "../fixtures.ts";
import { sliced } from "../model/model_forms.ts";

const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].slice(0, 16)];
/** Probabilities of all units of a model, all the same. */
const evenly = (kinds: readonly UnitKind[], of = model) =>
  initialProbabilities({ populations: populationsOf(of, kinds, "test") }, { from: "constant", keep: 0.5 });
const dropped = ({ layers }: StructurePlan) => layers.reduce((sum, { experts = [] }) => sum + experts.length, 0);

Deno.test("a plan keeps the share and scope of the search, unless it is told otherwise", async () => {
  using device = await openDevice({ kind: "cpu" });
  const scores = await unitScores(device, model, tokens, { kinds: ["experts"] }), initial = initialProbabilities(scores, { keep: 0.25 });
  assertEquals([scores, initial].map((units) => dropped(planByUnits(units))), [10, 24]);
  const found = await policyGradientSearch(device, model, tokens, initial, { steps: 1, scope: "layer" });
  assertEquals([found.keep, found.scope], [0.25, "layer"]);
  assertEquals(planByUnits(found).layers.map(({ experts }) => experts!.length), [6, 6, 6, 6]);
  assertEquals(dropped(planByUnits(found, { keep: 0.75, scope: "global" })), 8);
  assertEquals((await policyGradientSearch(device, model, tokens, found, { steps: 1 })).scope, "layer");
});

Deno.test("units that were written as JSON make the same plan", async () => {
  using device = await openDevice({ kind: "cpu" });
  const again = <T>(value: T): T => JSON.parse(JSON.stringify(value));
  const scores = await unitScores(device, model, tokens), initial = initialProbabilities(scores);
  assertEquals(planByUnits(again(scores)), planByUnits(scores));
  assertEquals(initialProbabilities(again(scores)), initial);
  assertEquals(
    await policyGradientSearch(device, model, tokens, again(initial), { steps: 1 }),
    await policyGradientSearch(device, model, tokens, initial, { steps: 1 }),
  );
  scores.populations[1].values[5] = NaN;
  for (const units of [scores, again(scores)]) assertThrows(() => planByUnits(units), RangeError, "is NaN, expected finite numbers");
});

Deno.test("units of another model are refused before a step is taken", async () => {
  using device = await openDevice({ kind: "cpu" });
  const narrower = sliced(model), fewer = pruneExperts(model, { layers: [{ layer: 1, drop: [2] }] });
  const others = pruneExperts(model, { layers: [{ layer: 1, drop: [3] }] }),
    shorter = sliceModel(model, { layers: [{ layer: 3, whole: true }] });
  const refused = (of: typeof model, initial: UnitProbabilities, why: string) =>
    assertRejects(() => policyGradientSearch({ ...device, rmsNorm: () => assert(false) as never }, of, tokens, initial), RangeError, why);
  await refused(
    model,
    evenly(["channels"], narrower),
    "channels (expert) of layer 0 are not those of the model, expected expert 0 with 192 units",
  );
  await refused(narrower, evenly(["channels"]), "found expert 0 with 192 units");
  await refused(
    fewer,
    evenly(["experts"], others),
    "experts of layer 1 are not those of the model, expected expert 3 with 1 unit, found expert 2",
  );
  await refused(model, evenly(["experts"], fewer), "expected expert 2 with 1 unit, found expert 3");
  await refused(shorter, evenly(["attention groups"]), "attention groups of layer 3 are not those of the model");
  const twice = evenly(["experts"]), { populations } = twice;
  const doubled = { ...twice, populations: [...populations, populations[1]] };
  await refused(model, doubled, "experts of layer 1 are listed twice");
  assertThrows(() => planByUnits(doubled), RangeError, "experts of layer 1 are listed twice");
  await policyGradientSearch(device, model, tokens, { ...twice, populations: populations.slice(1, 3) }, { steps: 1 }); // some layers only
});

Deno.test("scores are no probabilities", async () => {
  using device = await openDevice({ kind: "cpu" });
  const scores = await unitScores(device, model, tokens, { kinds: ["experts"] });
  const search = (initial: unknown) => policyGradientSearch(device, model, tokens, initial as UnitProbabilities, { steps: 1 });
  await assertRejects(() => search(scores), TypeError, 'expected keep probabilities and the share "keep" that they are for');
  const initial = evenly(["experts"]);
  initial.populations[0].values[0] = 1.5;
  await assertRejects(() => search(initial), RangeError, "a value of experts is 1.5, expected probabilities");
});
