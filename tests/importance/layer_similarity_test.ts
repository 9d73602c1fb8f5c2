import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { blockInfluence } from "../../lib/importance/block_influence.ts";
import { layerSimilarity } from "../../lib/importance/layer_similarity.ts";
import { batchSequences, batchTokens } from "../../lib/model/batch.ts";
import { embed } from "../../lib/model/embed.ts";
import { forwardLayer } from "../../lib/model/decoder_layer.ts";
import { loadLayer } from "../../lib/model/load_layer.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { tokenIds } from "../numbers.ts";
import { LAYER_REFERENCES } from "../references/layers.ts";
import { ROUTERS, withModel } from "../small_models.ts";

for (const [name, want] of Object.entries(LAYER_REFERENCES)) {
  testOnDevices(`similarity and influence of the layers of ${name} are those of PyTorch`, async (device) => {
    const { model, calibration } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    const { layers, similarity, influence, states, information } = await layerSimilarity(device, model, calibration);
    assertEquals(layers, [0, 1, 2, 3]);
    assertEquals(states.length, want.states.length);
    for (const [h, state] of want.states.entries()) {
      const { norms, sigma, eigenvalues, coordinates } = states[h], what = (part: string) => `${part}, state ${h}`;
      assertEquals([norms.length, coordinates.length], [calibration.length, 2 * calibration.length]);
      assertClose(norms.subarray(0, 8), state.norms, tolerance, what("norms"));
      assertClose([sigma], [state.sigma], tolerance, what("sigma"));
      assertClose(eigenvalues.subarray(0, 5), state.eigenvalues, tolerance, what("eigenvalues"));
      assertClose(coordinates.subarray(0, 16), state.coordinates, tolerance, what("coordinates"));
      assertEquals(information[h][h], Infinity);
      if (h < want.information.length) assertClose(information[h].subarray(h + 1), want.information[h], tolerance, what("information"));
    }
    want.similarity.forEach((row, i) => assertClose(similarity[i], row, tolerance, `similarity of layer ${i}`));
    assertClose(influence, want.influence, tolerance, "influence");
  }, fastDevices);
}

testOnDevices(
  "influence and mean vectors are those of the streams, token by token",
  (device) =>
    withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      const { hidden } = model.config, all = [...sequences, ...sequences.map((ids) => ids.toReversed())];
      const { influence, states } = await layerSimilarity(device, model, all),
        want = { turned: [0, 0, 0], norms: states.map(() => [] as number[]) };
      let tokens = 0;
      for (const ids of all) {
        using stream = await embed(device, model, ids);
        const look = async () => {
          const values = await device.read(stream), mean = new Float64Array(hidden);
          values.forEach((value, i) => mean[i % hidden] += value / ids.length);
          return { values, norm: Math.sqrt(mean.reduce((sum, x) => sum + x * x, 0)) };
        };
        let before = await look();
        want.norms[0].push(before.norm);
        tokens += ids.length;
        for (const [i, layer] of model.layers.entries()) {
          using weights = await loadLayer(device, model.config, layer);
          forwardLayer(device, model.config, weights, stream, [{ start: 0, length: ids.length, position: 0 }]);
          const after = await look(), dot = (a: Float32Array, b: Float32Array) => a.reduce((sum, x, k) => sum + x * b[k], 0);
          for (let t = 0; t < ids.length; t++) {
            const [a, b] = [before, after].map(({ values }) => values.subarray(t * hidden, (t + 1) * hidden));
            want.turned[i] += 1 - dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
          }
          want.norms[i + 1].push(after.norm);
          before = after;
        }
      }
      assertClose(influence, want.turned.map((sum) => sum / tokens), 1e-4, "influence");
      want.norms.forEach((norms, h) => assertClose(states[h].norms, norms, 1e-4, `norms, state ${h}`));
      assertEquals(await blockInfluence(device, model, all), { layers: [0, 1, 2], influence });
    }),
);

Deno.test("layerSimilarity() is the same however sequences fall into batches", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model) => {
    const many = Array.from({ length: 140 }, (_, i) => tokenIds(`batches.${i}`, 64, 96)),
      size = batchTokens(model.config, model.config.moe.topK);
    assert(batchSequences(model.config, many, size).length > 1, "there are several batches");
    const whole = await layerSimilarity(device, model, many);
    const parts = [await blockInfluence(device, model, many.slice(0, 35)), await blockInfluence(device, model, many.slice(35))];
    assertClose(whole.influence, parts[0].influence.map((value, i) => (value + 3 * parts[1].influence[i]) / 4), 1e-5);
    const last = await layerSimilarity(device, model, many.slice(-9));
    whole.states.forEach(({ norms }, h) => assertClose(norms.subarray(-9), last.states[h].norms, 1e-5, `norms, state ${h}`));
  });
});

Deno.test("layerSimilarity() says what it cannot compare", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    await assertRejects(
      () => layerSimilarity(device, model, sequences),
      RangeError,
      "expected at least 6 sequences for 2 coordinates, found 5",
    );
    await assertRejects(
      () => layerSimilarity(device, model, Array(9).fill(sequences[0])),
      RangeError,
      "the median of their distances is 0",
    );
    await assertRejects(() => layerSimilarity(device, model, sequences, { dims: -1 }), TypeError, '"dims"');
    await assertRejects(() => blockInfluence(device, model, []), RangeError, "Cannot follow tokens through layers: there are none");
  });
});
