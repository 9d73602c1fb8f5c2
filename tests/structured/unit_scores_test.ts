/** Scores and first probabilities of the fixtures' units against PyTorch. */

import { assertEquals } from "@std/assert";
import { initialProbabilities } from "../../lib/structured/initial_probabilities.ts";
import { unitScores } from "../../lib/structured/unit_scores.ts";
import type { UnitPopulation } from "../../lib/structured/units.ts";
import { blockInfluence } from "../../lib/importance/block_influence.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { UNIT_REFERENCES } from "../references/bypass.ts";

/** What the reference calls a population. */
function nameOf({ kind, parts: [{ of }] }: UnitPopulation, shared: string): string {
  if (kind !== "channels") return kind;
  return { expert: "routed expert channels", dense: "mlp channels", shared: `mlp.${shared} channels` }[of as "expert"];
}

for (const [name, layers] of Object.entries(UNIT_REFERENCES)) {
  testOnDevices(`scores of the units of ${name} are those of PyTorch`, async (device) => {
    const { model, calibration } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    const scores = await unitScores(device, model, calibration, { kinds: ["experts", "channels", "attention groups"] });
    const { populations } = initialProbabilities(scores, { keep: 0.7 });
    const shared = name === "tiny-deepseek-v2" ? "shared_experts" : "shared_expert", seen: string[] = [];
    scores.populations.forEach((population, p) => {
      const { layer, values, parts } = population,
        what = `${nameOf(population, shared)} of layer ${layer}`,
        probabilities = populations[p].values;
      const want = layers[layer!][nameOf(population, shared)], mean = (v: Float64Array) => v.reduce((a, b) => a + b, 0) / v.length;
      seen.push(what);
      assertEquals(values.length, want.units, what);
      const centre = mean(values), deviation = Math.sqrt(values.reduce((sum, v) => sum + (v - centre) ** 2, 0) / (values.length - 1));
      assertClose([centre, deviation], [want.mean, want.deviation], tolerance, `mean and deviation, ${what}`);
      assertClose(values.subarray(0, want.scores.length), want.scores, tolerance, `scores, ${what}`);
      assertClose(probabilities.subarray(0, want.probabilities.length), want.probabilities, tolerance, `probabilities, ${what}`);
      assertClose([mean(probabilities)], [want["mean probability"]], tolerance, `mean probability, ${what}`);
      const { units } = parts[0], each = (want.experts ?? []).map((_, e) => mean(probabilities.subarray(e * units, (e + 1) * units)));
      assertClose(each, want.experts ?? [], tolerance, `mean probability by expert, ${what}`);
    });
    const all = Object.entries(layers).flatMap(([layer, kinds]) => Object.keys(kinds).map((kind) => `${kind} of layer ${layer}`));
    assertEquals(seen.toSorted(), all.toSorted());
  }, fastDevices);
}

testOnDevices("layers score by their block influence", async (device) => {
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 2);
  const { populations } = await unitScores(device, model, tokens, { kinds: ["layers"] });
  const { influence } = await blockInfluence(device, model, tokens);
  assertEquals(populations, [{
    kind: "layers",
    layer: null,
    parts: [0, 1, 2, 3].map((id) => ({ of: "layer", id, units: 1 })),
    values: influence,
  }]);
}, fastDevices);
