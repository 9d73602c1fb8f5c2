import { assert, assertEquals, assertRejects } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { allocateRatios } from "../../lib/decompose/allocate_ratios.ts";
import { type FactoredModel, factorLinears } from "../../lib/decompose/factor_linears.ts";
import { roleOf, ROLES } from "../../lib/decompose/linear_ratios.ts";
import { rankFor } from "../../lib/decompose/rank_for.ts";
import type { MatrixSource, TensorSource } from "../../lib/device/device.ts";
import { symmetricEigen } from "../../lib/device/cpu/symmetric_eigen.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayer, moeLayers } from "../../lib/model/model.ts";
import { linearsOf } from "../../lib/sparsify/linears.ts";
import { assertClose, fastDevices, full, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { FACTOR_REFERENCES } from "../references/factored_linears.ts";
import { sliced } from "../model/model_forms.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

for (const [name, { ranks, reduced, retained, perplexity: expected }] of Object.entries(FACTOR_REFERENCES)) {
  testOnDevices(`ranks, kept variance and perplexity of ${name} with factored linears are those of PyTorch`, async (device, test) => {
    const { model, calibration, heldOut } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    for (const ratio of full ? [0.8, 0.6, 0.4] : [0.8, 0.4]) {
      await test.step(`${ratio}`, async () => {
        using factored = await factorLinears(device, model, calibration, { ratios: ratio });
        const low = factored.factorization.filter(({ rank }) => rank !== null);
        assertClose(low.map(({ retained }) => retained), retained[ratio], tolerance, "kept variance");
        const shapes = new Map(model.layers.flatMap((l) => linearsOf(l).map(({ name, weight }) => [`${l.index} ${name}`, weight.shape])));
        const of = ({ layer, linear }: { layer: number; linear: string }) => `${layer} ${linear}`;
        for (const linear of low) {
          const wanted = ranks[ratio][shapes.get(of(linear))!.join("x")], rank = reduced[ratio][of(linear)] ?? wanted;
          assertEquals([linear.wanted, linear.rank], [wanted, rank], of(linear));
        }
        assert(factored.factorization.every(({ rank, tokens }) => rank !== null || tokens === 0));
        assertClose([(await perplexity(device, factored, heldOut)).perplexity], [expected[ratio]], tolerance, "perplexity");
      });
    }
  }, fastDevices);
}

async function denseOf(matrix: MatrixSource): Promise<{ values: Float64Array; rank: number | null }> {
  if (!("left" in matrix)) return { values: Float64Array.from(await readWide(matrix)), rank: null };
  const { left, right } = matrix, [out, rank] = left.shape, [, into] = right.shape, values = new Float64Array(out * into);
  const [l, r] = [await readWide(left), await readWide(right)];
  for (let o = 0; o < out; o++) {
    for (let k = 0; k < rank; k++) for (let i = 0; i < into; i++) values[o * into + i] += l[o * rank + k] * r[k * into + i];
  }
  return { values, rank };
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `factored gates are those that the outputs' covariance gives, straight from the definition, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const index = moeLayers(model).at(-1)!.index, groups = [sequences.slice(0, 2), sequences.slice(2, 4), sequences.slice(4)];
        using factored = await factorLinears(device, model, sequences, { ratios: 0.5, group: 2, multiple: 3 });
        const met = await Promise.all(groups.map((group) => routingOf(device, model, group, index)));
        let seen = 0;
        for (const [e, { id, gate }] of moeLayer(model, index).block.experts.entries()) {
          const [out, into] = (gate as TensorSource).shape, w = await readWide(gate as TensorSource);
          const covariance = new Float64Array(out * out), mean = new Float64Array(out);
          const outputs = met.map(({ inputs, weights }) =>
            inputs.filter((_, t) => weights[t][e] > 0).map((x) =>
              Float64Array.from({ length: out }, (_, o) => x.reduce((sum, v, i) => sum + v * w[o * into + i], 0))
            )
          ).filter((rows) => rows.length >= 2);
          for (const rows of outputs) {
            const center = Float64Array.from({ length: out }, (_, o) => rows.reduce((sum, y) => sum + y[o], 0) / rows.length);
            center.forEach((v, o) => mean[o] += v / outputs.length);
            for (const y of rows) {
              for (let a = 0; a < out; a++) {
                for (let b = 0; b < out; b++) {
                  covariance[a * out + b] += (y[a] - center[a]) * (y[b] - center[b]) / (rows.length - 1) / outputs.length;
                }
              }
            }
          }
          const told = factored.factorization.find((f) => f.layer === index && f.linear === `experts/${id}/gate`)!;
          const now = moeLayer(factored, index).block.experts[e], { values: product, rank } = await denseOf(now.gate);
          assertEquals([told.rank, told.tokens], [rank, outputs.reduce((sum, rows) => sum + rows.length, 0)]);
          if (rank === null) {
            assertEquals([outputs.length, now.biases?.gate], [0, undefined]);
            continue;
          }
          seen++;
          const { values, vectors } = symmetricEigen(covariance, out, out),
            want = new Float64Array(out * into),
            bias = Float64Array.from(mean);
          for (let r = 0; r < rank; r++) {
            const u = vectors.subarray(r * out, (r + 1) * out), along = u.reduce((sum, v, o) => sum + v * mean[o], 0);
            u.forEach((v, o) => bias[o] -= v * along);
            for (let i = 0; i < into; i++) {
              const projected = u.reduce((sum, v, o) => sum + v * w[o * into + i], 0);
              u.forEach((v, o) => want[o * into + i] += v * projected);
            }
          }
          assertClose(product, want, 5e-3, `product of expert ${id}`);
          assertClose(await readWide(now.biases!.gate!), bias, 5e-3, `bias of expert ${id}`);
          const sum = (numbers: Float64Array) => numbers.reduce((a, b) => a + b, 0);
          assertClose([told.retained], [sum(values.slice(0, rank)) / sum(values)], 1e-4, "kept variance");
        }
        assert(seen > 1);
      }),
  );
}

testOnDevices(
  "a factored model at full rank gives the logits of the whole one; original biases stay",
  (device) =>
    withModel("olmoe, renormalised, biased", async (model, sequences) => {
      // A ratio just below 1 at a multiple of 1: with inputs of rank below the matrix's, factors and bias are smaller and nothing is lost on these tokens.
      const few = [sequences[1]]; // seven tokens
      using factored = await factorLinears(device, model, few, { ratios: 0.99, multiple: 1 });
      assert(factored.factorization.some(({ rank }) => rank !== null) && factored.layers[0].attention["q_proj.bias"] !== undefined);
      assert(factored.factorization.every(({ rank, retained }) => rank === null || retained > 1 - 1e-5));
      assertClose(await logits(device, factored, few[0]), await logits(device, model, few[0]), 2e-3, "logits");
      assert(factored.layers[1].attention["v_proj.weight"] === model.layers[1].attention["v_proj.weight"]);
    }),
);

Deno.test("kinds of linears have ratios of their own, and each layer may have; 1 is dense", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS["not renormalising"], async (model, sequences) => {
    const ratios = { qk: 0.4, o: 1, gate: 0.5, up: 2, down: 0.3 };
    using factored = await factorLinears(device, model, sequences, { ratios, multiple: 2 });
    for (const { linear, role, wanted, rank, entries, retained } of factored.factorization) {
      assertEquals(role, roleOf(linear));
      if (ratios[role] >= 1) assertEquals([wanted, rank, retained, entries.after], [null, null, 1, entries.before]);
      else if (rank !== null) assert(rank <= wanted! && entries.after < entries.before && retained > 0.2);
    }
    const fewer = factored.factorization.reduce((sum, { entries }) => sum + entries.before - entries.after, 0);
    assertEquals(countParameters(model).total - countParameters(factored).total, fewer);
    const dense = Object.fromEntries(ROLES.map((role) => [role, 1])) as typeof ratios;
    const plan = { layers: model.layers.map(({ index }, i) => ({ layer: index, ...(i === 1 ? ratios : dense) })) };
    using planned = await factorLinears(device, model, sequences, { ratios: plan, multiple: 2 });
    const changed = planned.factorization.filter(({ rank }) => rank !== null).map(({ layer }) => layer);
    assertEquals([...new Set(changed)], [model.layers[1].index]);
    const inLayer = ({ factorization }: FactoredModel) => factorization.filter(({ layer }) => layer === model.layers[1].index);
    assertEquals(inLayer(planned), inLayer(factored));
  });
});

Deno.test("a model with lost heads and channels is factored by what is left of it", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), cut = sliced(model), tokens = calibration.slice(0, 16);
  using factored = await factorLinears(device, cut, tokens, { ratios: { qk: 0.9, o: 0.9, gate: 0.9, up: 0.9, down: 0.9 } });
  assert(factored.factorization.filter(({ rank }) => rank !== null).length > 90);
  const [before, after] = [await perplexity(device, cut, tokens), await perplexity(device, factored, tokens)];
  assert(Math.abs(after.nll - before.nll) < 0.05, `${before.nll} -> ${after.nll}`);
});

Deno.test("outputs that are not centred need no bias", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    using factored = await factorLinears(device, model, sequences, { ratios: 0.5, centred: false, multiple: 1 });
    const biases = (m: Model) =>
      m.layers.flatMap(({ attention, block }) => [
        ...Object.keys(attention).filter((name) => name.endsWith(".bias")),
        ...(block.kind === "moe" ? block.experts.flatMap((expert) => Object.keys(expert.biases ?? {})) : []),
      ]);
    assert(factored.factorization.every(({ rank }) => rank !== null));
    assertEquals(biases(factored), biases(model));
  });
});

testOnDevices(
  "allocateRatios() keeps to the share, and reports what factorLinears() then gives",
  (device) =>
    withModel(ROUTERS.renormalising, async (model, sequences) => {
      const options = { share: 0.6, slack: 0.2, evaluations: 6, initial: 2, candidates: 20, layerGroups: 2, group: 2, multiple: 2 };
      const tokens = sequences.slice(0, 4), validation = sequences.slice(2);
      const { layers, best, tried } = await allocateRatios(device, model, tokens, validation, options);
      assertEquals(tried.length, 6);
      for (const { share, ratios, perplexity, divergence, objective } of tried) {
        assert(share >= 0.4 && share <= 0.6 && ratios.length === 2 && divergence > 0);
        assertClose([objective], [perplexity + 1e-3 * divergence], 1e-9, "objective");
        assert(objective >= tried[best].objective);
      }
      assertEquals(new Set(Object.values(tried[0].ratios[0])).size, 1, "even ratios come first");
      using factored = await factorLinears(device, model, tokens, { ratios: { layers }, group: 2, multiple: 2 });
      const all = model.layers.flatMap((layer) => linearsOf(layer).map(({ weight: { shape: [out, into] } }) => out * into)).reduce((a, b) =>
        a + b
      );
      const gone = factored.factorization.reduce((sum, { entries }) => sum + entries.before - entries.after, 0);
      assertClose([1 - gone / all], [tried[best].share], 1e-9, "share");
      assertClose([(await perplexity(device, factored, validation)).perplexity], [tried[best].perplexity], 1e-4, "perplexity");
      // The divergence straight from the logits of both models.
      let divergence = 0;
      for (const ids of validation) {
        const [before, after] = [await logits(device, model, ids), await logits(device, factored, ids)], width = before.length / ids.length;
        for (let t = 0; t < ids.length; t++) {
          const [p, q] = [before, after].map((all) => logSoftmax(all.subarray(t * width, (t + 1) * width)));
          q.forEach((value, v) => divergence += Math.exp(value) * (value - p[v]) / validation.length);
        }
      }
      assertClose([tried[best].divergence], [divergence], 1e-3, "divergence");
    }),
);

Deno.test("allocateRatios() passes over ratios whose predictions are not finite, and says so where all are", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    const [tokens, validation] = [sequences.slice(0, 4), sequences.slice(2)];
    const options = { share: 0.6, slack: 0.3, evaluations: 4, initial: 4, group: 2, multiple: 2 };
    const norm = heldSource(new Float32Array(model.config.hidden).fill(NaN), [model.config.hidden]);
    await assertRejects(
      () => allocateRatios(device, { ...model, norm }, tokens, validation, options),
      RangeError,
      "Cannot allocate ratios: under none of 4 ratios are the model's predictions finite",
    );
    const { tried } = await allocateRatios(device, model, tokens, validation, options);
    // As kept by an earlier call: the first ones, and all but the third, without a finite loss.
    for (const odd of [[0], [0, 1], [0, 1, 3]]) {
      const get = (part: string) => {
        const place = Number(/^ratios (\d+)$/.exec(part)?.[1]) - 1;
        return Promise.resolve(odd.includes(place) ? { nll: NaN, divergence: NaN } : undefined);
      };
      const left = await allocateRatios(device, model, tokens, validation, { ...options, resume: { get, put: () => Promise.resolve() } });
      const among = tried.map(({ objective }, i) => odd.includes(i) ? Infinity : objective);
      assertEquals(left.best, among.indexOf(Math.min(...among)), `${odd}`);
      assertEquals({ ...left.layers[0], layer: undefined }, { ...left.tried[left.best].ratios[0], layer: undefined });
    }
  });
});

function logSoftmax(values: Float32Array): Float64Array {
  const total = Math.log(values.reduce((sum, value) => sum + Math.exp(value), 0));
  return Float64Array.from(values, (value) => value - total);
}

Deno.test("rankFor() rounds down to a multiple, from the multiple to the smaller side", () => {
  assertEquals([0.8, 0.05, 9].map((ratio) => rankFor(64, 128, ratio)), [32, 8, 64]);
  assertEquals(rankFor(5, 9, 0.1), 5);
});

Deno.test("linears that cannot be factored are refused, and so is what makes no sense", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    const factor = (options: Parameters<typeof factorLinears>[3], of: Model = model) => factorLinears(device, of, sequences, options);
    const once = await factor({ ratios: 0.5, multiple: 1 }), one = { qk: 1, o: 1, gate: 1, up: 1, down: 1 };
    await assertRejects(() => factor({}, once), Error, "matrices of low rank");
    await assertRejects(
      () => factor({}, { ...model, layers: [{ ...model.layers[0], attention: once.layers[0].attention }] }),
      Error,
      '"q_proj.weight" of layer 0 is of low rank already',
    );
    once[Symbol.dispose]();
    await assertRejects(() => logits(device, once, sequences[0]), Error, "disposed");
    const [layer] = moeLayers(model), [first, second, ...rest] = layer.block.experts;
    const merged = { ...layer, block: { ...layer.block, experts: [first, { ...first, id: second.id }, ...rest] } };
    await assertRejects(() => factor({}, { ...model, layers: [merged] }), Error, "shares its matrices");
    await assertRejects(() => factorLinears(device, model, []), RangeError, "Cannot factor linears: there are no tokens");
    await assertRejects(() => factor({ ratios: 0 }), RangeError, 'the ratio "qk" must be above 0 and finite, received 0');
    await assertRejects(() => factor({ ratios: { ...one, up: "1" } as never }), TypeError, 'a number as "up"');
    await assertRejects(() => factor({ ratios: { layers: [{ layer: 0, ...one }] } }), RangeError, "the plan has no ratios of layer 1");
    await assertRejects(() => factor({ group: 0 }), RangeError, '"group" must be a whole number of at least 1, received 0');
    await assertRejects(() => factor({ multiple: 1.5 }), RangeError, '"multiple" must be a whole number');
    const allocate = (options: Parameters<typeof allocateRatios>[4]) => allocateRatios(device, model, sequences, sequences, options);
    await assertRejects(() => allocate({ share: 1.5 }), RangeError, '"share" must be from 0 to 1, received 1.5');
    await assertRejects(
      () => allocate({ layerGroups: 9 }),
      RangeError,
      '"layerGroups" must be a whole number from 1 to the number of layers, 3, received 9',
    );
    const reach = "of the weights: they leave 0.";
    await assertRejects(
      () => allocate({ share: 0.01, slack: 0 }),
      RangeError,
      `Cannot allocate ratios: no ratios leave 0.01 to 0.01 ${reach}`,
    );
    await assertRejects(() => allocate({ slack: 0 }), RangeError, `Cannot allocate ratios: no ratios leave 0.8 to 0.8 ${reach}`);
    await assertRejects(
      () => allocateRatios(device, model, [sequences[3]], sequences),
      RangeError,
      "Cannot allocate ratios: no linear met two tokens in a group of calibration sequences",
    );
    await assertRejects(
      () => allocateRatios(device, model, sequences, [sequences[3]], {}),
      RangeError,
      "the validation text has no token to predict",
    );
    assertEquals(device.live.tensors, 0);
  });
});
