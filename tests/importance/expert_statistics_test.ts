import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { scoreExperts, type StatisticsScore } from "../../lib/importance/score_experts.ts";
import { assertClose, devices, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { EXPERT_REFERENCES } from "../references/experts.ts";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { Device, TensorSource } from "../../lib/device/device.ts";
import { batchSequences, batchTokens } from "../../lib/model/batch.ts";
import { routerProbabilities, routerRule } from "../../lib/model/decoder_layer.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { tokenIds } from "../numbers.ts";
import { route, ROUTERS, withModel } from "../small_models.ts";

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

/** By expert and column Σ x² and Σ (g x)² over the inputs `[tokens, hidden]` that an expert gets, from probabilities and the definition of routing. */
async function squaresOf(device: Device, model: Model, i: number, rows: Float32Array<ArrayBuffer>) {
  const { config } = model, { block } = moeLayers(model)[i], ids = block.experts.map((e) => e.id), { hidden } = config;
  const plain = new Float64Array(ids.length * hidden), gated = plain.slice(), tokens = rows.length / hidden;
  using router = await device.load(block.router);
  using x = device.tensor(rows, [tokens, hidden]);
  using probabilities = routerProbabilities(device, { router, ids }, x);
  const p = await device.read(probabilities), rule = routerRule(config, ids);
  for (let t = 0; t < tokens; t++) {
    const weights = route(p.subarray(t * ids.length, (t + 1) * ids.length), ids.map(() => false), rule),
      sum = weights.reduce((a, b) => a + b, 0);
    for (const [e, weight] of weights.entries()) {
      if (weight === 0) continue;
      for (let d = 0; d < hidden; d++) {
        const square = rows[t * hidden + d] ** 2;
        plain[e * hidden + d] += square;
        gated[e * hidden + d] += square * (weight / sum) ** 2;
      }
    }
  }
  return { plain, gated };
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
          const { plain, gated } = await squaresOf(device, model, i, rows);
          assertClose(layer.inputSquares, plain, 1e-4, "squares of the inputs");
          assertClose(layer.gatedInputSquares, gated, 1e-4, "squares of the inputs times shares");
          assert(
            layer.probabilities.every((p, e) => p <= layer.allProbabilities[e]),
            "probabilities over its tokens are part of those over all",
          );
          const largest = layer.peaks.map((_, e) => Math.max(...parts.map(({ layers }) => layers[i].peaks[e])));
          assertClose(layer.peaks, largest, 1e-4, "the largest of both");
          assert(layer.peaks.every((peak, e) => peak ** 2 <= layer.squaredNorms[e] * (1 + 1e-6)), "a number is no larger than its vector");
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

Deno.test("expertStatistics() adds up over batches, in the order of the tokens", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model) => {
    const sequences = Array.from({ length: 140 }, (_, i) => tokenIds(`batches.${i}`, 64, 96)),
      size = batchTokens(model.config, model.config.moe.topK);
    assert(batchSequences(model.config, sequences, size).length > 1, "there are several batches");
    const whole = await expertStatistics(device, model, sequences);
    const parts = [
      await expertStatistics(device, model, sequences.slice(0, 70)),
      await expertStatistics(device, model, sequences.slice(70)),
    ];
    for (const [i, layer] of whole.layers.entries()) {
      const [a, b] = parts.map(({ layers }) => layers[i]);
      for (const key of ["counts", "outputs", "gatedInputSquares"] as const) {
        assertClose(layer[key], a[key].map((value, at) => value + b[key][at]), 1e-4, key);
      }
      assertClose(layer.topRatios, [...a.topRatios, ...b.topRatios], 1e-4, "ratios");
      assertClose([layer.entropy], [a.entropy + b.entropy], 1e-5, "entropy");
    }
  });
});

Deno.test("REAP: other tokens leave an expert's score as it is, and a down projection scales only its own expert's", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, [a, b]) => {
    const one = await expertStatistics(device, model, [a]), both = await expertStatistics(device, model, [a, b.subarray(0, 2)]);
    let same = 0;
    for (const [i, { experts, scores }] of scoreExperts(one, "REAP").layers.entries()) {
      const idle = [...experts.keys()].filter((e) => one.layers[i].counts[e] > 0 && both.layers[i].counts[e] === one.layers[i].counts[e]);
      for (const e of idle) assertClose([scoreExperts(both, "REAP").layers[i].scores[e]], [scores[e]], 1e-5);
      same += idle.length;
    }
    assert(same > 0, "two tokens do not reach all experts");

    const last = model.layers.length - 1, e = one.layers.at(-1)!.counts.findIndex((count) => count > 0);
    const layers = await Promise.all(model.layers.map(async (layer) => {
      if (layer.index !== last || layer.block.kind === "dense") return layer;
      const down = layer.block.experts[e].down as TensorSource, tripled = heldSource((await readWide(down)).map((w) => 3 * w), down.shape);
      return { ...layer, block: { ...layer.block, experts: layer.block.experts.with(e, { ...layer.block.experts[e], down: tripled }) } };
    }));
    const [before, after] = [one, await expertStatistics(device, { ...model, layers }, [a])].map((s) => scoreExperts(s, "REAP").layers);
    for (const [i, { scores }] of after.entries()) {
      assertClose(scores, before[i].scores.map((score, at) => i === after.length - 1 && at === e ? 3 * score : score), 1e-5, `layer ${i}`);
    }
  });
});

Deno.test("expertStatistics() of a pruned model is by the original's ids; one expert a token has no second weight", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS["group-limited, scaled"], async (model, sequences) => {
    const { layer, experts } = (await expertStatistics(device, model, sequences)).layers[0], drop = experts.slice(0, experts.length - 2);
    const pruned = pruneExperts(model, { layers: [{ layer, drop }] }), statistics = await expertStatistics(device, pruned, sequences);
    assertEquals(statistics.layers[0].experts, experts.slice(-2));
    const placed = statistics.layers[0].counts.reduce((a, b) => a + b, 0);
    assert(placed > 0 && placed <= 2 * statistics.tokens, `${placed} places filled`);
    assert(statistics.layers[0].outputs.every(Number.isFinite));
  });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    const { layers } = await expertStatistics(device, model, sequences);
    for (const { topRatios } of layers) assert(topRatios.every((ratio) => ratio === 0));
  }, { num_experts_per_tok: 1 });
});

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
