import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { expertsPerToken } from "../../lib/evaluate/experts_per_token.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { skipThresholds } from "../../lib/importance/skip_thresholds.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { blockOutput } from "../../lib/model/decoder_layer.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { skipExperts } from "../../lib/model/skip_experts.ts";
import { walk } from "../../lib/model/walk.ts";
import { receptionField } from "../../lib/search/reception_field.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

/** The same share in every layer. */
const everywhere = (model: Model, share: number) =>
  skipExperts(model, { layers: moeLayers(model).map((l) => ({ layer: l.index, share })) });

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `a layer that skips experts gives the weighted sum of the others, within the bound, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const { config } = model, { hidden } = config, [{ index, block: { experts: own } }] = moeLayers(model), count = own.length;
        const { weights } = await routingOf(device, model, sequences, index);
        let seen = 0, skipped = 0;
        await walk(device, model, batchSequences(config, sequences, 64), {
          stage: "test",
          atBlock: async ({ layer, weights: { block }, input }) => {
            if (layer.index !== index || block.kind === "dense") return;
            const [tokens] = input.shape, routed = { ...block, shared: undefined };
            using table = device.tensor(Uint32Array.from({ length: tokens * count }, (_, i) => i % count), [tokens, count]);
            using all = device.experts(input, table, block.experts);
            const f = await device.read(all),
              at = (t: number, e: number) => f.subarray((t * count + e) * hidden, (t * count + e + 1) * hidden);
            using dense = blockOutput(device, config, routed, input);
            const whole = await device.read(dense);
            for (const share of [0, 0.25, 0.6, 1]) {
              using output = blockOutput(device, config, { ...routed, skip: share }, input);
              const got = await device.read(output), want = new Float64Array(got.length);
              for (let t = 0; t < tokens; t++) {
                const w = weights[seen + t], order = [...w.keys()].filter((e) => w[e] > 0).sort((a, b) => w[b] - w[a] || a - b);
                const total = order.reduce((sum, e) => sum + w[e], 0),
                  tail = (i: number) => order.slice(i).reduce((sum, e) => sum + w[e], 0);
                let left = 1;
                while (tail(left) > share * total * (1 + 1e-6)) left++;
                skipped += order.length - left;
                for (const e of order.slice(0, left)) {
                  at(t, e).forEach((v, d) => want[t * hidden + d] += w[e] * v * total / (total - tail(left)));
                }
                const apart = (a: Float32Array, b: Float32Array) => Math.hypot(...a.map((v, d) => v - b[d]));
                const widest = Math.max(0, ...order.flatMap((a) => order.map((b) => apart(at(t, a), at(t, b)))));
                const row = (values: Float32Array) => values.subarray(t * hidden, (t + 1) * hidden), moved = apart(row(got), row(whole));
                assert(moved <= tail(left) * widest + 1e-5 * Math.hypot(...row(whole)), `token ${t} moves by ${moved}, share ${share}`);
              }
              assertClose(got, want, 1e-4, `share ${share}`);
            }
            seen += tokens;
          },
        });
        assert(seen === weights.length && skipped > 0);
      }),
  );
}

testOnDevices(
  "a share of 0 changes no bit; one of 1 leaves one expert a token; none undoes both",
  (device) =>
    withModel(ROUTERS.renormalising, async (model, [sequence]) => {
      const dense = await logits(device, model, sequence), one = everywhere(model, 1);
      assertEquals(await logits(device, everywhere(model, 0), sequence), dense);
      assertEquals((await expertsPerToken(device, one, [sequence])).mean, 1);
      assertEquals((await expertsPerToken(device, model, [sequence])).mean, model.config.moe.topK);
      assertEquals(await logits(device, skipExperts(one, { layers: [] }), sequence), dense);
      const alone = { ...model, config: { ...model.config, moe: { ...model.config.moe, topK: 1 } } };
      assertClose(await logits(device, one, sequence), await logits(device, alone, sequence), 1e-5, "top-1");
    }),
);

Deno.test("a threshold at the median skips half of the calibration tokens, also of a pruned model", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 5);
  const drop = moeLayers(model).map(({ index }) => ({ layer: index, drop: [0, 6] })), pruned = pruneExperts(model, { layers: drop });
  const [of, whole] = [
    skipThresholds(await expertStatistics(device, pruned, tokens)),
    skipThresholds(await expertStatistics(device, model, tokens)),
  ];
  assert(of.layers.every(({ share }, i) => share !== whole.layers[i].share), "thresholds follow the routing");
  for (const { layer, share } of of.layers) {
    const used = await expertsPerToken(device, skipExperts(pruned, { layers: [{ layer, share }] }), tokens);
    assert(Math.abs(used.layers.find((l) => l.layer === layer)!.mean - 1.5) <= 1 / used.tokens);
  }
});

Deno.test("a model that skips experts is saved with its thresholds, and in one form only", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration: [tokens] } = await openFixture("tiny-mixtral"), folder = await Deno.makeTempDir();
  const skipping = skipExperts(model, { layers: [{ layer: 1, share: 0.3 }, { layer: 3, share: 0.25 }] });
  await assertRejects(() => saveModel(skipping, `${folder}/native`, { form: "native" }), Error, "layer 1 skips experts");
  assertEquals((await saveModel(skipping, `${folder}/saved`)).form, "remote-code");
  const again = await openModel(`${folder}/saved`);
  assertEquals(moeLayers(again).map(({ block }) => block.skip), [undefined, 0.3, undefined, 0.25]);
  assertEquals(await logits(device, again, tokens), await logits(device, skipping, tokens));
  const config = JSON.parse(await Deno.readTextFile(`${folder}/saved/config.json`));
  config.winnow.layers[1].skip = 3;
  await Deno.writeTextFile(`${folder}/saved/config.json`, JSON.stringify(config));
  await assertRejects(() => openModel(`${folder}/saved`), TypeError, '"skip":3');
  await Deno.remove(folder, { recursive: true });
});

Deno.test("skipping comes last: nothing prunes, searches or tunes a model that skips experts", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"),
    tokens = [calibration[0].subarray(0, 9)],
    skipping = everywhere(model, 0.2);
  using trace = await calibrate(device, model, tokens);
  const layers = moeLayers(model).map((l) => ({ layer: l.index, sets: [{ drop: [0], loss: 1 }], evaluated: 1, possible: 8, history: [1] }));
  const refused: Record<string, () => Promise<unknown>> = {
    "prune": () => Promise.resolve().then(() => pruneExperts(skipping, { layers: [] })),
    "calibrate": () => calibrate(device, skipping, tokens),
    "take statistics of experts": () => expertStatistics(device, skipping, tokens),
    "score experts": () => leaveOneOut(device, skipping, trace),
    "choose candidates": () => receptionField(device, skipping, tokens, { layers }),
    "fine-tune": () => finetune(device, skipping, ["Sum: 1 + 1 = 2."]),
  };
  for (const [purpose, call] of Object.entries(refused)) {
    await assertRejects(call, Error, `Cannot ${purpose}: layer 0 skips experts, expected the model as it was before skipExperts()`);
  }
  assertThrows(
    () => skipExperts(model, { layers: [{ layer: 0, share: 2 }] }),
    RangeError,
    "the share of layer 0 must be from 0 to 1, received 2",
  );
  assertThrows(() => skipExperts(model, { layers: [{ layer: 0 } as never] }), TypeError, 'each with its "share"');
  const { model: qwen, calibration: [ids] } = await openFixture("tiny-qwen2-moe");
  const statistics = await expertStatistics(device, qwen, [ids.subarray(0, 9)]);
  assertThrows(() => skipThresholds(statistics), RangeError, 'with 4 experts a token, give the "share"');
  assertEquals(skipThresholds(statistics, { share: 0.2 }).layers.map((l) => l.share), [0.2, 0.2, 0.2, 0.2]);
});
