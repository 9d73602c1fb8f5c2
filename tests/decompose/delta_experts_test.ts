import { assert, assertEquals, assertRejects, assertStrictEquals } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { RankPlan } from "../../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { deltaExperts } from "../../lib/decompose/delta_experts.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import type { BasedSource } from "../../lib/model/based_source.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { assertClose, devices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

/** The same rank for all experts of some layers. */
function ranked(model: Model, rank: number, layers = moeLayers(model).map((l) => l.index)): RankPlan {
  return {
    layers: layers.map((layer) => {
      const experts = moeLayers(model).find((l) => l.index === layer)!.block.experts.map(({ id }) => ({ expert: id, rank }));
      return { layer, experts, sum: rank * experts.length, target: rank * experts.length };
    }),
  };
}

const termsOf = (model: Model, layer: number, expert: number) =>
  (moeLayers(model).find((l) => l.index === layer)!.block.experts[expert].gate as BasedSource).terms;

/** On a software GPU the eigenvectors of one router's first layer take long enough. */
const { webgpu: _, ...processors } = devices;

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `deltaExperts() gives every expert back at full rank, around the average by counts, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const [{ index, block: { experts } }] = moeLayers(model), ranks = ranked(model, 24, device.kind === "webgpu" ? [index] : undefined);
        using trace = await calibrate(device, model, sequences);
        using whole = await deltaExperts(device, model, trace, { ranks });
        assertClose(await logits(device, whole, sequences[0]), await logits(device, model, sequences[0]), 2e-3);
        const { counts } = trace.layers[0], total = counts.reduce((a, b) => a + b);
        const gates = await Promise.all(experts.map(({ gate }) => readWide(gate as TensorSource)));
        const average = gates[0].map((_, i) => gates.reduce((sum, gate, e) => sum + counts[e] / total * gate[i], 0));
        assertClose(await readWide(termsOf(whole, index, 0).base), average, 1e-5);
        for (let e = 1; e < experts.length; e++) assertStrictEquals(termsOf(whole, index, e).base, termsOf(whole, index, 0).base);
      }),
    kind === "renormalising" ? devices : processors,
  );
}

testOnDevices(
  "deltaExperts() cuts differences where outputs suffer least, and measures how much they do",
  (device) =>
    withModel(ROUTERS.renormalising, async (model, sequences) => {
      const [{ index, block: { experts } }] = moeLayers(model), { hidden } = model.config, rank = 6, chosen = [0, 3];
      using trace = await calibrate(device, model, sequences);
      const { inputs, weights } = await routingOf(device, model, sequences, index);
      /** Σ ‖w D x‖² over the tokens of an expert. */
      const outputs = (d: Float32Array, expert: number) =>
        inputs.reduce((sum, x, t) => {
          for (let row = 0; row < d.length / hidden; row++) {
            sum += (weights[t][expert] * x.reduce((s, v, i) => s + v * d[row * hidden + i], 0)) ** 2;
          }
          return sum;
        }, 0);
      const norm = (d: Float32Array) => Math.sqrt(d.reduce((sum, v) => sum + v * v, 0));
      const errorsOf = async (ridge: number) => {
        using cut = await deltaExperts(device, model, trace, { ranks: ranked(model, rank, [index]), ridge });
        return await Promise.all(chosen.map(async (expert) => {
          const { base, left, right } = termsOf(cut, index, expert), gate = await readWide(experts[expert].gate as TensorSource);
          const [b, l, r] = await Promise.all([base, left, right].map((term) => readWide(term)));
          const difference = gate.map((value, i) => value - b[i]);
          const rest = difference.map((v, i) => {
            for (let k = 0; k < rank; k++) v -= l[Math.floor(i / hidden) * rank + k] * r[k * hidden + i % hidden];
            return v;
          });
          const got = Math.sqrt(outputs(rest, expert) / outputs(difference, expert)),
            told = cut.decomposition.find((d) => d.expert === expert)!;
          assertEquals([told.layer, told.matrix, told.rank], [index, "gate", rank]);
          assert(Math.abs(told.relativeOutputError! - got) < 3e-3, `reported ${told.relativeOutputError}, measured ${got}`);
          assertClose([told.relativeError], [norm(rest) / norm(difference)], 1e-2);
          return got;
        }));
      };
      const byOutputs = await errorsOf(0.01), byWeights = await errorsOf(1e6);
      assert(byOutputs.every((error, i) => error < byWeights[i]), `${byOutputs} by what they meet, ${byWeights} by their weights`);
    }),
);

Deno.test("deltaExperts() finds no difference between experts that are the same", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS["not renormalising"], async (model, sequences) => {
    const layers = model.layers.map((layer) => {
      const { block } = layer;
      return block.kind === "dense"
        ? layer
        : { ...layer, block: { ...block, experts: block.experts.map((e) => ({ ...block.experts[2], id: e.id })) } };
    });
    const same = { ...model, layers };
    using trace = await calibrate(device, same, sequences);
    using cut = await deltaExperts(device, same, trace, { share: 0.2 });
    assert(cut.decomposition.every((d) => d.relativeError === 0 && d.relativeOutputError === 0));
    assertEquals(await logits(device, cut, sequences[0]), await logits(device, same, sequences[0]));
  });
});

Deno.test("deltaExperts() gives tiny-mixtral the same bits again, stores one shared expert a layer, and is saved with it", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), folder = await Deno.makeTempDir();
  using trace = await calibrate(device, model, calibration.slice(0, 8));
  using once = await deltaExperts(device, model, trace, { share: 0.5 });
  using twice = await deltaExperts(device, model, trace, { share: 0.5 });
  const ids = calibration[9].slice(0, 30), want = await logits(device, once, ids), rank = Math.floor(128 * 192 * 0.5 / (128 + 192));
  assertEquals([await logits(device, twice, ids), twice.decomposition], [want, once.decomposition] as unknown[]);
  const dense = 3 * 128 * 192;
  assertEquals(countParameters(model).total - countParameters(once).total, 4 * (8 * dense - (dense + 8 * 3 * rank * (128 + 192))));
  assertEquals((await saveModel(once, `${folder}/saved`, { dtype: "F32" })).form, "remote-code");
  const again = await openModel(`${folder}/saved`);
  assertClose(await logits(device, again, ids), want, 1e-6);
  assertEquals(countParameters(again).total, countParameters(once).total);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("deltaExperts() says what it cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].slice(0, 5)], ranks = ranked(model, 4, [0]);
  using trace = await calibrate(device, model, tokens);
  const fails = (options: object, message: string, from: Model = model) =>
    assertRejects(() => deltaExperts(device, from, trace, options), Error, message);
  await fails({ share: 0 }, '"share" must be above 0 and at most 1, received 0');
  await fails({ share: 0.5, ranks }, '"share" and "ranks" are both given');
  await fails({ ranks: ranked(model, 129, [1]) }, "the rank of expert 0 in layer 1 is 129, expected at most 128");
  await fails(
    { ranks: { layers: [{ ...ranks.layers[0], experts: ranks.layers[0].experts.slice(1) }] } },
    "some experts of layer 0, expert 0 is missing",
  );
  await fails({ ridge: -1 }, '"ridge" must be above 0');
  using low = await decomposeExperts(device, model, { layers: [{ layer: 3, experts: [{ expert: 1, rank: 2 }], sum: 2, target: 2 }] });
  await fails({}, "expert 1 of layer 3 has matrices of low rank; do this before they are decomposed", low);
});
