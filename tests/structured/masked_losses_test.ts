/** Losses under masks are those of models whose structures are gone, or silent. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { random } from "../../lib/calibrate/random.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { logits } from "../../lib/model/logits.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { maskedLosses } from "../../lib/structured/masked_losses.ts";
import { planByUnits } from "../../lib/structured/plan_by_units.ts";
import { policyGradientSearch } from "../../lib/structured/policy_gradient_search.ts";
import { sampleMasks } from "../../lib/structured/sample_masks.ts";
import { sliceModel } from "../../lib/structured/slice_model.ts";
import { groupsOf, type StructurePlan } from "../../lib/structured/structure_plan.ts";
import { unitScores } from "../../lib/structured/unit_scores.ts";
import { planOfMask, populationsOf, UNIT_KINDS, type UnitKind } from "../../lib/structured/units.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";
import { silenced } from "../model/model_forms.ts";
import { ROUTERS, withModel } from "../small_models.ts";

const lossOf = async (device: Device, model: Model, sequences: Uint32Array[]) => (await perplexity(device, model, sequences)).nll;

/** A plan that leaves something of everything, of random units. */
function randomPlan(model: Model, kinds: readonly UnitKind[], keep: number): StructurePlan {
  const populations = populationsOf(model, kinds, "test"), draw = random(5, kinds.join());
  for (const { values } of populations) values.forEach((_, i) => values[i] = draw.below(1000));
  return planByUnits({ populations }, { keep });
}

/** Where queries are normalised over all heads, a group cannot go. */
const kindsOf = ({ config: { attention } }: Model) =>
  UNIT_KINDS.filter((kind) => kind !== "attention groups" || attention.kind === "latent" || attention.norm !== "whole");

const VARIANTS = [...Object.values(ROUTERS), "qwen2_moe, old spellings", "mixtral, head width of its own, tied", "olmoe, plain, tied"];
/** So that a layer has a group to lose. */
const CHANGES = { "mixtral, head width of its own, tied": { num_key_value_heads: 2 } } as Record<string, Record<string, unknown>>;

for (const variant of VARIANTS) {
  testOnDevices(`masked is sliced: ${variant}`, (device) =>
    withModel(variant, async (model, sequences) => {
      const kinds = kindsOf(model), plans: Record<string, StructurePlan> = { nothing: { layers: [] } };
      for (const kind of kinds) plans[kind] = randomPlan(model, [kind], 0.6);
      plans.all = randomPlan(model, kinds, 0.6);
      const cases = Object.entries(plans), got = await maskedLosses(device, model, sequences, Object.values(plans));
      for (const [k, [what, plan]] of cases.entries()) {
        assertClose([got[k]], [await lossOf(device, sliceModel(model, plan), sequences)], 2e-6, what);
        if (k > 0) assert(Math.abs(got[k] / got[0] - 1) > 1e-5, `${what}: nothing changes`);
      }
      assertEquals(
        (await maskedLosses(device, model, sequences, [plans.channels]))[0],
        got[cases.findIndex(([what]) => what === "channels")],
      );
    }, CHANGES[variant]));

  testOnDevices(
    `what loses all its groups, channels or experts adds nothing: ${variant}`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const kinds = kindsOf(model), [{ index }] = moeLayers(model), at = (layer: number) => layer === index;
        const emptied = (kind: UnitKind) => {
          const populations = populationsOf(model, [kind], "test");
          return planOfMask(populations, populations.flatMap(({ layer, values }) => [...values].map(() => at(layer!) ? 0 : 1)));
        };
        const silent: Partial<Record<UnitKind, Model>> = {
          "experts": silenced(model, { group: () => false, channel: (layer, network) => at(layer) && network >= 0 }),
          "channels": silenced(model, { group: () => false, channel: at }),
          ...(kinds.includes("attention groups") ? { "attention groups": silenced(model, { group: at, channel: () => false }) } : {}),
        };
        const cases = Object.entries(silent) as [UnitKind, Model][];
        const got = await maskedLosses(device, model, sequences, cases.map(([kind]) => emptied(kind)));
        for (const [k, [kind, want]] of cases.entries()) assertClose([got[k]], [await lossOf(device, want, sequences)], 2e-6, kind);
        for (const [kind] of cases) assertThrows(() => sliceModel(model, emptied(kind)), RangeError, "at least one must stay");
      }),
  );
}

for (const name of Object.keys(references)) {
  testOnDevices(`masked is sliced, saved and opened again: ${name}`, async (device) => {
    const { model, heldOut } = await openFixture(name), folder = await Deno.makeTempDir(), some = heldOut.slice(0, 4);
    try {
      const plan = randomPlan(model, UNIT_KINDS, 0.75), sliced = sliceModel(model, plan);
      const [masked] = await maskedLosses(device, model, some, [plan]);
      assertClose([masked], [await lossOf(device, sliced, some)], device.kind === "cpu" ? 1e-5 : 1e-4, "loss");
      const { path, form } = await saveModel(sliced, `${folder}/sliced`), again = await openModel(path);
      assertEquals(form, "remote-code");
      assertEquals(countParameters(again).total, countParameters(sliced).total);
      assert(countParameters(again).total < 0.8 * countParameters(model).total);
      assertEquals(await logits(device, again, some[0]), await logits(device, sliced, some[0]));
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }, fastDevices);
}

Deno.test("several masks share one reading of the weights", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), populations = populationsOf(model, ["experts"], "test");
  const plans = sampleMasks(new Float64Array(32).fill(0.7), 6, random(0, "masks")).map((mask) => planOfMask(populations, mask));
  let loads = 0;
  const counted = { ...device, loadExperts: (experts: Parameters<Device["loadExperts"]>[0]) => (loads++, device.loadExperts(experts)) };
  const losses = await maskedLosses(counted, model, [calibration[0].slice(0, 16)], plans);
  assertEquals([losses.length, loads], [6, model.layers.length]);
});

Deno.test("plans that do not fit are refused in a sentence", () =>
  withModel(ROUTERS.renormalising, async (model, sequences) => {
    using device = await openDevice({ kind: "cpu" });
    const [{ index }] = moeLayers(model), dense = model.layers.find(({ block }) => block.kind === "dense")!.index;
    const cases: [StructurePlan["layers"][number], string][] = [
      [{ layer: 99 }, "layer 99: the model's layers are"],
      [{ layer: index, experts: [77] }, "it has no expert 77"],
      [{ layer: dense, experts: [0] }, "it has no expert 0"],
      [{ layer: index, experts: [1, 1] }, "expected rising numbers"],
      [{ layer: index, groups: [50] }, "it has no attention group 50"],
      ...(["experts", "groups", "channels"].map((name) => [{ layer: index, [name]: null }, "found null"]) as [
        StructurePlan["layers"][number],
        string,
      ][]),
      [{ layer: index, channels: [{ of: "dense", drop: [0] }] }, 'it has no network "dense"'],
      [{ layer: index, channels: [{ of: "expert", id: 0, drop: [4000] }] }, "it has no channel of expert 0 4000"],
    ];
    for (const [entry, message] of cases) {
      await assertRejects(() => maskedLosses(device, model, sequences, [{ layers: [entry] }]), Error, message);
      assertThrows(() => sliceModel(model, { layers: [entry] }), Error, message);
    }
    assertThrows(() => sliceModel(model, { layers: model.layers.map(({ index: layer }) => ({ layer, whole: true })) }), RangeError, "all");
    await assertRejects(() => maskedLosses(device, model, [Uint32Array.of(1)], [{ layers: [] }]), RangeError, "no token to predict");
  }));

Deno.test("groups stay where queries are normalised over all heads, and are no units there", () =>
  withModel("olmoe, plain, tied", async (model, sequences) => {
    using device = await openDevice({ kind: "cpu" });
    assertThrows(() => sliceModel(model, { layers: [{ layer: 0, groups: [0] }] }), Error, "normalised over all heads");
    const { populations } = await unitScores(device, model, sequences);
    assertEquals(new Set(populations.map(({ kind }) => kind)), new Set(["channels"] as const));
    const idle = { ...device, rmsNorm: () => Promise.reject(new Error("the model ran")) as never };
    await assertRejects(() => unitScores(idle, model, sequences, { kinds: ["attention groups"] }), Error, "normalised over all heads");
    const groups = { kind: "attention groups" as const, layer: 0, parts: [{ of: "attention" as const, units: 4 }] };
    const initial = { populations: [{ ...groups, values: new Float64Array(4).fill(0.5) }], keep: 0.5 };
    await assertRejects(() => policyGradientSearch(idle, model, sequences, initial), Error, "choose other kinds");
  }));

for (const variant of [ROUTERS.renormalising, "olmoe, plain, tied"]) {
  Deno.test(`a layer that goes whole may be said to lose all that it has: ${variant}`, () =>
    withModel(variant, async (model, sequences) => {
      using device = await openDevice({ kind: "cpu" });
      const [{ index, block }] = moeLayers(model),
        groups = Array.from({ length: groupsOf(model.config, moeLayers(model)[0]) }, (_, i) => i);
      const plan: StructurePlan = { layers: [{ layer: index, whole: true, groups, experts: block.experts.map(({ id }) => id) }] };
      const bare: StructurePlan = { layers: [{ layer: index, whole: true }] };
      assertEquals(sliceModel(model, plan).merges, sliceModel(model, bare).merges);
      const [masked, want] = await maskedLosses(device, model, sequences, [plan, bare]);
      assertEquals(masked, want);
      assertThrows(() => sliceModel(model, { layers: [{ ...plan.layers[0], experts: [77] }] }), RangeError, "it has no expert 77");
    }));
}
