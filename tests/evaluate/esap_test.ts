import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { esap } from "../../lib/evaluate/esap.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { predictionOverlaps } from "../../lib/model/prediction_overlaps.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

const withoutFirst = (model: Model) =>
  pruneExperts(model, { layers: moeLayers(model).map(({ index }) => ({ layer: index, drop: [0, 2] })) });

testOnDevices(
  "esap() is the mean over positions of the predictions' overlap: 1 for the same, symmetric",
  (device) =>
    withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      const pruned = withoutFirst(model),
        { vocabulary } = model.config,
        softmax = (row: Float32Array) => {
          const peak = Math.max(...row), powers = Array.from(row, (v) => Math.exp(v - peak)), sum = powers.reduce((a, b) => a + b, 0);
          return powers.map((v) => v / sum);
        };
      let total = 0, positions = 0;
      for (const sequence of sequences) {
        const [a, b] = [await logits(device, model, sequence), await logits(device, pruned, sequence)];
        for (let t = 0; t < sequence.length; t++, positions++) {
          const [p, q] = [a, b].map((values) => softmax(values.subarray(t * vocabulary, (t + 1) * vocabulary)));
          total += p.reduce((sum, v, i) => sum + Math.min(v, q[i]), 0);
        }
      }
      const got = await esap(device, model, pruned, sequences), back = await esap(device, pruned, model, sequences);
      assertEquals(got.tokens, positions);
      assertClose([got.esap, back.esap], [total / positions, total / positions], 1e-4);
      assert(got.esap > 0 && got.esap < 1);
      assertClose([(await esap(device, model, model, sequences)).esap], [1], 1e-5);
    }),
);

Deno.test("predictions are compared a stretch of tokens at a time where the vocabulary is large", async () => {
  using device = await openDevice({ kind: "cpu" });
  const vocabulary = 2 ** 21, tokens = 11; // eight tokens in 64 MiB
  using head = device.tensor(noise(vocabulary * 2), [vocabulary, 2]);
  using norm = device.tensor(Float32Array.of(9, 9), [2]);
  using first = device.tensor(noise(tokens * 2, 2), [tokens, 2]);
  using second = device.tensor(noise(tokens * 2, 3), [tokens, 2]);
  const predictor = { norm, head, epsilon: 1e-6, [Symbol.dispose]: () => {} };
  const [same, other] = await predictionOverlaps(
    device,
    { hidden: first, predictor },
    [first, second].map((hidden) => ({ hidden, predictor })),
  );
  assertClose([same], [tokens], 1e-3);
  assert(other > 0 && other < tokens);
});

Deno.test("esap() says which models it cannot compare", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  await assertRejects(() => esap(device, model, model, []), RangeError, "Cannot compare predictions: there are no tokens");
  const shorter = { ...model, layers: model.layers.slice(1) };
  await assertRejects(() => esap(device, model, shorter, [Uint32Array.of(1)]), RangeError, "one model has 4 layers and 1024 tokens");
});
