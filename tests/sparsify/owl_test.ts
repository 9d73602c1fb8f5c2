import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import type { Model } from "../../lib/model/model.ts";
import { mapLinears } from "../../lib/sparsify/linears.ts";
import type { OutlierDistribution } from "../../lib/sparsify/outlier_distribution.ts";
import { outlierDistribution } from "../../lib/sparsify/outlier_distribution.ts";
import { owlPattern } from "../../lib/sparsify/owl_pattern.ts";
import { owlSparsity } from "../../lib/sparsify/owl_sparsity.ts";
import { sparsify } from "../../lib/sparsify/sparsify.ts";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { ROUTERS, withModel } from "../small_models.ts";

const distribution = (percents: readonly number[], sizes: readonly number[] = []): OutlierDistribution => ({
  threshold: 5,
  layers: percents.map((percent, layer) => ({
    ...{ layer, percent, outliers: 0, scored: 1, entries: sizes[layer] ?? 100, unseen: [] },
  })),
});
const spread = (percents: readonly number[], options: Parameters<typeof owlSparsity>[1], sizes?: readonly number[]) =>
  owlSparsity(distribution(percents, sizes), options).layers.map(({ sparsity }) => sparsity);
const mean = (values: readonly number[], sizes = values.map(() => 1)) =>
  values.reduce((sum, value, i) => sum + value * sizes[i], 0) / sizes.reduce((a, b) => a + b);

Deno.test("owlSparsity() gives the worked example", () => {
  assertClose(spread([1.2, 0.4, 0.9, 2.0, 0.7, 0.5], { sparsity: 0.7 }), [0.675, 0.755, 0.705, 0.595, 0.725, 0.745], 1e-12);
});

Deno.test("owlSparsity() keeps the mean, spreads by 2 λ, and gives blocks with more outliers less", () => {
  const percents = fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 1, maxLength: 12 });
  fc.assert(fc.property(
    percents.chain((p) =>
      fc.tuple(fc.constant(p), fc.array(fc.integer({ min: 1, max: 1e6 }), { minLength: p.length, maxLength: p.length }))
    ),
    fc.double({ min: 0.2, max: 0.8, noNaN: true }),
    fc.double({ min: 0, max: 0.09, noNaN: true }),
    ([percents, sizes], sparsity, lambda) => {
      const got = spread(percents, { sparsity, lambda }), most = Math.max(...percents), least = Math.min(...percents);
      assertClose([mean(got)], [sparsity], 1e-12, "mean");
      assertClose([Math.max(...got) - Math.min(...got) + 1], [most > least ? 1 + 2 * lambda : 1], 1e-12, "range");
      percents.forEach((p, i) => percents.forEach((q, j) => assert(!(p > q) || got[i] <= got[j])));
      const sized = spread(percents, { sparsity, lambda, bySize: true }, sizes);
      assertClose([mean(sized, sizes)], [sparsity], 1e-12, "share of the whole model");
    },
  ));
  assertEquals(spread([3, 3, 3], { sparsity: 0.6 }), [0.6, 0.6, 0.6]);
});

Deno.test("owlSparsity() stays within bounds and spreads what that takes", () => {
  fc.assert(fc.property(
    fc.array(fc.double({ min: 0, max: 100, noNaN: true }), { minLength: 2, maxLength: 12 }),
    fc.double({ min: 0.01, max: 0.99, noNaN: true }),
    fc.double({ min: 0, max: 0.5, noNaN: true }),
    (percents, sparsity, lambda) => {
      const got = spread(percents, { sparsity, lambda });
      assert(got.every((value) => value > 0 && value <= 0.99), `${got}`);
      if (got.some((value) => value > 0.01 && value < 0.99)) assertClose([mean(got)], [sparsity], 1e-9, "mean");
    },
  ));
  assertClose(spread([0, 1, 1, 1], { sparsity: 0.9, lambda: 0.2 }), [0.99, 0.87, 0.87, 0.87], 1e-12);
  assertClose(spread([0, 0, 0, 1], { sparsity: 0.1, lambda: 0.2 }), [0.13, 0.13, 0.13, 0.01], 1e-12);
});

Deno.test("owlPattern() gives fewer zeros where there are more outliers", () => {
  const zeros = (percents: number[], options?: Parameters<typeof owlPattern>[1]) =>
    owlPattern(distribution(percents), options).layers.map(({ n }) => n);
  assertEquals(zeros([0, 1, 2]), [6, 5, 4]);
  assertEquals(zeros([2, 2, 2]), [5, 5, 5]);
  assertEquals(zeros([0, 1, 2], { n: 1, m: 4, lambda: 4 }), [3, 1, 0]);
  assertEquals(zeros([0, 1, 2], { n: 3, m: 4, lambda: 4 }), [3, 3, 1]);
});

/** The model with some columns of every linear of a layer larger. */
function withOutliers(model: Model, index: number): Model {
  const grown = (layer: Model["layers"][number]) =>
    mapLinears(layer, ({ weight }) => ({
      ...heldSource(new Float32Array(weight.shape[0] * weight.shape[1]), weight.shape),
      read: async (into) => {
        const values = await readWide(weight), columns = weight.shape[1];
        for (let i = 0; i < values.length; i++) if (i % columns < columns / 16) values[i] *= 20;
        into.set(new Uint8Array(values.buffer));
      },
    }));
  return { ...model, layers: model.layers.map((layer) => layer.index === index ? grown(layer) : layer) };
}

testOnDevices(
  "a block with planted outliers is spared, at the same number of zeros",
  (device) =>
    withModel(ROUTERS["renormalising"], async (plain, sequences) => {
      const model = withOutliers({ ...plain, layers: plain.layers.slice(1) }, 2);
      const outliers = await outlierDistribution(device, model, sequences.slice(0, 2));
      const { layers } = owlSparsity(outliers, { sparsity: 0.5 });
      assertClose(layers.map(({ sparsity }) => sparsity), [0.58, 0.42], 1e-9);
      assert(outliers.layers[1].percent > 2 * outliers.layers[0].percent);
      using sparse = await sparsify(device, model, sequences.slice(0, 2), { sparsity: { layers } });
      const entries = outliers.layers.reduce((sum, layer) => sum + layer.entries, 0);
      const zeros = sparse.sparsification.reduce((sum, linear) => sum + linear.zeros, 0);
      assert(zeros <= entries / 2 && zeros > 0.45 * entries, `${zeros} of ${entries}`); // rows of 12 to 64: rounding down takes up to one each
    }),
);

Deno.test("outliers and what follows from them say what they cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, [sequence]) => {
    await assertRejects(() => outlierDistribution(device, model, []), RangeError, "Cannot count outliers: there are no tokens");
    await assertRejects(() => outlierDistribution(device, model, [sequence], { threshold: 0 }), RangeError, '"threshold" must be above 0');
  });
  assertThrows(() => owlSparsity({ layers: [{ layer: 0 }] } as never), TypeError, 'a "percent" of outliers');
  assertThrows(() => owlSparsity(distribution([1, 2]), { sparsity: 1 }), RangeError, '"sparsity" must be from 0.01 to 0.99, received 1');
  assertThrows(() => owlSparsity(distribution([1, 2]), { lambda: -1 }), RangeError, '"lambda" must be from 0 to 0.5, received -1');
  assertThrows(() => owlPattern(distribution([1, 2]), { n: 8 }), RangeError, "received n 8 and m 8");
  assertThrows(() => owlPattern(distribution([1, 2]), { lambda: 9 }), RangeError, '"lambda" must be from 0 to m, 8, received 9');
});
