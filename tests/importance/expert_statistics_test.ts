import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { scoreExperts, type StatisticsScore } from "../../lib/importance/score_experts.ts";
import { assertClose, devices, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { EXPERT_REFERENCES } from "../references/experts.ts";
import { ROUTERS, withModel } from "../small_models.ts";

for (const [name, { scores, entropy, topRatio }] of Object.entries(EXPERT_REFERENCES)) {
  testOnDevices(`statistics of the experts of ${name} are those of PyTorch`, async (device) => {
    const { model, calibration } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    const statistics = await expertStatistics(device, model, calibration);
    for (const [kind, layers] of Object.entries(scores)) {
      const got = scoreExperts(statistics, kind as StatisticsScore);
      assertEquals(got.layers.map(({ layer }) => `${layer}`), Object.keys(layers));
      for (const { layer, scores } of got.layers) assertClose(scores, layers[layer], tolerance, `${kind}, layer ${layer}`);
    }
    for (const { layer, entropy: sum, topRatios } of statistics.layers) {
      const sorted = topRatios.toSorted(), middle = sorted.length / 2;
      assertClose([sum / statistics.tokens], [entropy[layer]], tolerance, `entropy, layer ${layer}`);
      assertClose([(sorted[middle - 1] + sorted[middle]) / 2], [topRatio[layer]], tolerance, `median ratio, layer ${layer}`);
    }
  }, name === "tiny-mixtral" ? devices : fastDevices);
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `expertStatistics() conserves tokens and squares, and adds up over sequences, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const whole = await expertStatistics(device, model, sequences), { topK, hidden } = { ...model.config.moe, ...model.config };
        const parts = [
          await expertStatistics(device, model, sequences.slice(0, 2)),
          await expertStatistics(device, model, sequences.slice(2)),
        ];
        using trace = await calibrate(device, model, sequences);
        for (const [i, layer] of whole.layers.entries()) {
          const sum = (values: Float64Array) => values.reduce((a, b) => a + b, 0), { inputs, counts } = trace.layers[i];
          assertEquals([...layer.counts], [...counts]);
          assertClose([sum(layer.allProbabilities)], [whole.tokens], 1e-5);
          const rows = new Float32Array(whole.tokens * hidden);
          await inputs.read(0, rows);
          assertClose(
            [sum(layer.inputSquares)],
            [topK * rows.reduce((sum, x) => sum + x * x, 0)],
            1e-4,
            "every token is seen by topK experts",
          );
          assert(layer.gatedInputSquares.every((square, at) => square <= layer.inputSquares[at]), "shares are at most 1");
          assert(layer.norms.every((norm, e) => norm ** 2 <= layer.counts[e] * layer.squaredNorms[e] * (1 + 1e-6)), "Cauchy and Schwarz");
          for (const key of ["weights", "probabilities", "norms", "gatedNorms", "outputs", "gatedInputSquares"] as const) {
            const [a, b] = parts.map(({ layers }) => layers[i][key]);
            assertClose(layer[key], a.map((value, at) => value + b[at]), 1e-4, key);
          }
          assertEquals(layer.topRatios.length, whole.tokens);
          assertClose(layer.topRatios, parts.flatMap(({ layers }) => [...layers[i].topRatios]), 1e-4, "ratios, in the order of the tokens");
        }
      }),
  );
}

Deno.test("expertStatistics() and scoreExperts() say what they cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  await assertRejects(() => expertStatistics(device, model, []), RangeError, "Cannot take statistics of experts: there are no tokens");
  const statistics = await expertStatistics(device, model, [Uint32Array.of(0, 389, 26, 7)]);
  assertThrows(() => scoreExperts(statistics, "luck" as never), TypeError, 'one of "frequency", "soft frequency"');
  assertThrows(() => scoreExperts({} as never, "REAP"), TypeError, "expected what expertStatistics() gives");
  assertEquals(
    scoreExperts(statistics, "MAN").unseen.length,
    statistics.layers.flatMap(({ counts }) => [...counts]).filter((n) => n === 0).length,
  );
});
