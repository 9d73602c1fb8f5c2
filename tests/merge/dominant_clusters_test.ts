import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { dominantClusters } from "../../lib/merge/dominant_clusters.ts";
import { routerSimilarity } from "../../lib/merge/router_similarity.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

const scores = (layers: number[][]) => ({
  ...{ kind: "frequency", topK: 1, expertShape: { hidden: 8, intermediate: 8 }, unseen: [] },
  layers: layers.map((values, layer) => ({ layer, experts: values.map((_, i) => i), scores: Float64Array.from(values) })),
});
const similar = (cosines: number[][]) => ({
  tokens: 1,
  layers: cosines.map((values, layer) => ({
    ...{ layer, experts: Array.from({ length: Math.sqrt(values.length) }, (_, i) => i) },
    cosines: Float64Array.from(values),
  })),
});

Deno.test("dominantClusters() takes the experts of the model that are used most, the first of every layer, and the nearest of theirs", () => {
  const even = [1, 0.5, 0.4, 0.5, 1, 0.6, 0.4, 0.6, 1];
  const frequencies = scores([[10, 50, 40], [34, 33, 33]]);
  const groups = (ratio: number) => dominantClusters(frequencies, similar([even, even]), { ratio }).layers.map((l) => l.clusters);
  assertEquals(groups(0), [[[0], [1], [2]], [[0], [1], [2]]]);
  assertEquals(groups(1 / 6), [[[1, 0], [2]], [[0], [1], [2]]], "0.1 of the tokens is the smallest share");
  assertEquals(groups(0.5), [[[1, 0], [2]], [[0, 1, 2]]], "0.5, 0.4, 0.34");
  assertEquals(groups(0.9), [[[1, 0, 2]], [[0, 1, 2]]], "one a layer is the least");
});

Deno.test("dominantClusters() puts every expert in one cluster, and keeps as many as the ratio says", () => {
  const ratios = fc.double({ min: 0, max: 0.99, noNaN: true });
  fc.assert(fc.property(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 6 }), fc.nat(), ratios, (layers, count, seed, ratio) => {
    const numbers = (width: number) => Array.from({ length: layers }, (_, l) => [...noise(width, seed + l)]);
    const frequencies = scores(numbers(count).map((row) => row.map(Math.abs))), cosines = similar(numbers(count * count));
    const found = dominantClusters(frequencies, cosines, { ratio }).layers, kept = found.flatMap((l) => l.clusters).length;
    assertEquals(kept, Math.max(layers, layers * count - Math.floor(ratio * layers * count + 0.5)));
    for (const { layer, clusters } of found) {
      assertEquals(clusters.flat().toSorted(), frequencies.layers[layer].experts);
      const used = frequencies.layers[layer].scores, heads = clusters.map(([head]) => used[head]);
      assert(clusters.every(([, ...others]) => others.every((id) => used[id] <= Math.min(...heads))));
    }
  }));
});

testOnDevices(
  "routerSimilarity() is the cosine of the experts' logits over all tokens",
  (device) =>
    withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      const { tokens, layers } = await routerSimilarity(device, model, sequences);
      assertEquals(tokens, 105);
      for (const { index, block } of moeLayers(model)) {
        const { inputs } = await routingOf(device, model, sequences, index),
          router = await readWide(block.router),
          [count, hidden] = block.router.shape;
        const logits = Array.from(
          { length: count },
          (_, e) => inputs.map((x) => x.reduce((sum, v, d) => sum + v * router[e * hidden + d], 0)),
        );
        const dot = (a: number[], b: number[]) => a.reduce((sum, v, i) => sum + v * b[i], 0);
        const want = logits.flatMap((a) => logits.map((b) => dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b))));
        assertClose(layers.find((l) => l.layer === index)!.cosines, want, 1e-3, `layer ${index}`);
      }
    }),
);

Deno.test("dominantClusters() says what it cannot use", () => {
  const cosines = similar([[1, 0, 0, 1]]);
  assertThrows(() => dominantClusters(scores([[1, 2]]), cosines, { ratio: 1 }), RangeError, '"ratio" must be at least 0 and below 1');
  assertThrows(() => dominantClusters(scores([[1]]), cosines), RangeError, "expert 1 of layer 0 has no score");
  assertThrows(
    () => dominantClusters(scores([[1, 2]]), { tokens: 1, layers: [{ ...cosines.layers[0], cosines: new Float64Array(3) }] }),
    TypeError,
    "a cosine for any two experts of layer 0",
  );
});
