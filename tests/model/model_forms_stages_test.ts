/** What every stage makes of models with lost heads and channels, factored attention and biases: the same as of the dense model, or a sentence. */

import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import * as winnow from "../../mod.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { matrixShape } from "../../lib/device/matrix_shape.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { type DescribedModel, describedModel } from "../../lib/model/described_model.ts";
import { ownerOf } from "../../lib/model/kept_layers.ts";
import { type MoeLayer, moeLayers } from "../../lib/model/model.ts";
import { selectRows } from "../../lib/model/row_selection.ts";
import { assertClose } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { factored, multipliedOut, silenced, sliced } from "./model_forms.ts";

const FORMS: Record<string, [form: (m: winnow.Model) => winnow.Model | Promise<winnow.Model>, dense: typeof factored | typeof silenced]> = {
  sliced: [sliced, silenced],
  factored: [factored, multipliedOut],
};

/** All numbers in plain data, in order. */
function numbersIn(value: unknown): number[] {
  if (typeof value === "number") return [value];
  if (ArrayBuffer.isView(value)) return [...value as Float64Array];
  return typeof value === "object" && value !== null ? Object.values(value).flatMap(numbersIn) : [];
}

const some = (calibration: Uint32Array[]) => calibration.slice(0, 3).map((ids) => ids.slice(0, 24));

for (const [form, [make, dense]] of Object.entries(FORMS)) {
  for (const name of ["tiny-mixtral", "tiny-deepseek-v2"]) {
    Deno.test(`stages find in ${name}, ${form}, what they find in the same dense model`, async (t) => {
      using device = await openDevice({ kind: "cpu" });
      const { model, calibration, items } = await openFixture(name), sequences = some(calibration);
      const [got, want] = [await make(model), await dense(model)];
      const stages: Record<string, (model: winnow.Model) => Promise<unknown>> = {
        perplexity: (m) => winnow.perplexity(device, m, sequences),
        expertStatistics: async (m) => (await winnow.expertStatistics(device, m, sequences)).layers, // the shape that they are of is not the dense model's
        expertSignatures: (m) => winnow.expertSignatures(device, m, sequences),
        blockInfluence: (m) => winnow.blockInfluence(device, m, sequences),
        routerSimilarity: (m) => winnow.routerSimilarity(device, m, sequences),
        leaveOneOut: async (m) => {
          using trace = await winnow.calibrate(device, m, sequences);
          return (await winnow.leaveOneOut(device, m, trace)).layers;
        },
        progressiveSearch: (m) =>
          winnow.progressiveSearch(device, m, sequences, { layers: [{ layer: 1, drop: 2 }, { layer: 2, drop: 1 }] }),
        multipleChoice: (m) => winnow.multipleChoice(device, m, items.slice(0, 3)),
        "fewer experts a token": (m) => winnow.perplexity(device, winnow.changeTopK(m, 1), sequences),
        "fewer experts": (m) => winnow.perplexity(device, winnow.pruneExperts(m, { layers: [{ layer: 1, drop: [0, 3] }] }), sequences),
        "skipped experts": (m) => winnow.perplexity(device, winnow.skipExperts(m, { layers: [{ layer: 1, share: 0.3 }] }), sequences),
        "fewer layers": (m) => winnow.perplexity(device, winnow.mergeLayers(m, [{ keep: 1, absorb: 2, ratio: 1 }]), sequences),
      };
      for (const [stage, run] of Object.entries(stages)) {
        await t.step(stage, async () => {
          const [found, wanted] = [numbersIn(await run(got)), numbersIn(await run(want))];
          assert(wanted.length > 2);
          assertClose(found, wanted, 1e-3, stage);
        });
      }
    });
  }
}

Deno.test("stages that need whole experts of one size say so", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), sequences = some(calibration), folder = await Deno.makeTempDir();
  const [cut, low] = [sliced(model), await factored(model)], clusters = { layers: [{ layer: 1, clusters: [[0, 1]] }] };
  const wholly = { ...cut, layers: cut.layers.map((layer, i) => ({ ...layer, block: model.layers[i].block })) };
  const biased = {
    ...model,
    layers: model.layers.map((layer, i) => {
      const { block } = layer, other = low.layers[i].block;
      if (block.kind === "dense" || other.kind === "dense") return layer;
      return { ...layer, block: { ...block, experts: block.experts.map((e, at) => ({ ...e, biases: other.experts[at].biases })) } };
    }),
  };
  const weights = winnow.randomScores(model), twelve = { layers: [{ layer: 1, experts: [{ expert: 0, order: new Uint32Array(192) }] }] };
  const widths = (layer: number) => `expert 0 of layer ${layer} has 144 channels and expert 1 154; do this before they are sliced`;
  const rank = "expert 0 of layer 1 has matrices of low rank", bias = "of layer 0 has biases; do this before it is given them";
  const traced = async <T>(m: winnow.Model, run: (trace: winnow.Trace) => Promise<T>) => {
    using trace = await winnow.calibrate(device, m, sequences);
    return await run(trace);
  };
  const tuned = (m: winnow.Model) => ({ ...m, history: [], adapters: { rank: 1, alpha: 1, values: new Map() } });
  const refused: [() => unknown, string][] = [
    [() => winnow.mergeExperts(cut, clusters, weights), widths(1)],
    [() => winnow.mergeExperts(low, clusters, weights), rank],
    [() => winnow.mergeExperts(biased, clusters, weights), "expert 0 of layer 1 has biases"],
    [() => winnow.alignExperts(device, cut, clusters), widths(1)],
    [() => winnow.permuteExperts(cut, twelve), "each of 144 hidden units once"],
    [() => winnow.aimer(low), "expert 0 of layer 0 has matrices of low rank"],
    [() => traced(cut, (trace) => winnow.deltaExperts(device, cut, trace)), widths(0)],
    [() => winnow.recommended(device, cut, sequences), widths(0)],
    [() => traced(biased, (trace) => winnow.deltaExperts(device, biased, trace)), bias],
    [() => traced(low, (trace) => winnow.expertSpectra(device, low, { whiten: trace })), bias],
    [() => traced(low, (trace) => winnow.decomposeExperts(device, low, { layers: [] }, { whiten: trace })), bias],
    [() => winnow.recommended(device, low, sequences), bias],
    [() => winnow.mergeLayers(cut, [{ keep: 1, absorb: 2, ratio: 0.5 }]), '"q_proj.weight" of attention is [64,128] in the one, [128,128]'],
    [() => winnow.mergeLayers(low, [{ keep: 1, absorb: 2, ratio: 0.5 }]), '"q_proj.weight" of attention has low rank'],
    [() => winnow.mergeLayers(biased, [{ keep: 1, absorb: 2, ratio: 0.5 }]), "expert 0 has biases"],
    [() => winnow.saveAdapters(tuned(wholly), `${folder}/a`, "base"), "layer 0 has lost heads or channels"],
    [() => winnow.saveAdapters(tuned(low), `${folder}/a`, "base"), "has low-rank experts"],
  ];
  for (const [run, message] of refused) await assertRejects(async () => void await run(), Error, message);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("layers that were sliced alike are merged, ranks follow each expert's own size", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe"), sequences = some(calibration);
  const alike = {
    group: (_: number, group: number) => group === 1,
    channel: (_: number, __: number, channel: number) => channel % 3 === 0,
  };
  const plan = [{ keep: 1, absorb: 2, ratio: 0.5 }], loss = (m: winnow.Model) => winnow.perplexity(device, m, sequences);
  const [got, want] = [sliced(model, alike), silenced(model, alike)].map((m) => winnow.mergeLayers(m, plan));
  assertAlmostEquals((await loss(got)).nll, (await loss(want)).nll, 1e-4);
  const cut = sliced(model), ranks = winnow.allocateRanks(winnow.randomScores(model), { averageRank: 41, alpha: 0 });
  using low = await winnow.decomposeExperts(device, cut, ranks);
  assertEquals(winnow.countParameters(low).total, winnow.countParameters(cut, { ranks }).total);
  assert(low.decomposition.some(({ rank }) => rank === null) && low.decomposition.some(({ rank }) => rank !== null));
});

Deno.test("of experts with different numbers of channels, those that have the same are merged", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), sequences = some(calibration), cut = sliced(model);
  const clusters = { layers: [{ layer: 1, clusters: [[0, 4], [1]] }] }, weights = winnow.randomScores(cut);
  const { layers: [{ experts }] } = await winnow.alignExperts(device, cut, clusters);
  assertEquals(experts.map(({ expert, order }) => [expert, order.length]), [[4, 144]]);
  const merged = winnow.mergeExperts(cut, clusters, weights), [own, now] = [cut, merged].map((m) => moeLayers(m)[1].block.experts);
  const [first, second, mean] = await Promise.all([own[0], own[4], now[4]].map(({ gate }) => readWide(gate as TensorSource)));
  const [a, b] = [0, 4].map((id) => weights.layers[1].scores[id]);
  assertClose(mean, first.map((v, i) => (a * v + b * second[i]) / (a + b)), 1e-6, "merged gate");
  assertEquals([now[0].gate === now[4].gate, now[1].gate === own[1].gate], [true, true]);
  assert(Number.isFinite((await winnow.perplexity(device, merged, sequences)).nll));
});

Deno.test("recommended() and what plans ranks take the width that experts have, not that of the config", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), sequences = some(calibration), share = 0.5;
  const half = sliced(model, { group: () => false, channel: (_, __, channel) => channel % 2 === 1 });
  using small = await winnow.recommended(device, half, sequences, { share });
  const left = winnow.countParameters(small).experts / winnow.countParameters(half).experts;
  assert(left <= share && left > share - 0.01, `${left} are left`);
  assert(small.decomposition.every(({ rank }) => rank !== null));
  const [shape, statistics] = [{ hidden: 128, intermediate: 96 }, await winnow.expertStatistics(device, half, sequences)];
  const spectra = await winnow.expertSpectra(device, half);
  const shapes = [winnow.randomScores(half), await winnow.aimer(half), statistics, spectra].map((of) => of.expertShape);
  for (const found of shapes) assertEquals(found, shape);
  assertEquals(spectra.layers[0].experts[0].shares.length, 96);
  const most = Math.max(...winnow.allocateRanks(winnow.randomScores(half), { averageRank: 90 }).layers[0].experts.map(({ rank }) => rank));
  assertEquals(most, 54); // 128 · 96 / (128 + 96) is 54.9
  using trace = await winnow.calibrate(device, half, sequences);
  assertEquals((await winnow.leaveOneOut(device, half, trace)).expertShape, shape);
  using differences = await winnow.deltaExperts(device, half, trace, { share: 0.5 });
  assertEquals(differences.decomposition[0].rank, 27);
});

Deno.test("sparsify() finds the same zeros in what is left of a model, and what its biases give the next matrix", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), sequences = some(calibration);
  const matrixOf = async (m: winnow.Model, expert: number, kind: "gate" | "down") => {
    const { block } = m.layers[0];
    if (block.kind === "dense") throw new Error("layer 0 has experts");
    return await readWide(block.experts[expert][kind] as TensorSource);
  };
  const zerosOf = (values: Float32Array) => [...values].map((v) => v === 0);
  {
    using got = await winnow.sparsify(device, sliced(model), sequences, { carrier: "wanda", scope: "experts" });
    using want = await winnow.sparsify(device, silenced(model), sequences, { carrier: "wanda", scope: "experts" });
    const rows = [...Array(192).keys()].filter((c) => (c + 7) % 4 !== 0).flatMap((c) => Array.from({ length: 128 }, (_, i) => c * 128 + i));
    const [few, all] = [zerosOf(await matrixOf(got, 0, "gate")), zerosOf(await matrixOf(want, 0, "gate"))];
    assertEquals(few, rows.map((i) => all[i]));
  }
  using got = await winnow.sparsify(device, await factored(model), sequences, { carrier: "wanda" });
  using want = await winnow.sparsify(device, await multipliedOut(model), sequences, { carrier: "wanda" });
  // The down projections of experts 2 and 7 of layer 0 stay dense; what they meet depends on the factors and biases before.
  for (const expert of [2, 7]) {
    const [few, all] = [zerosOf(await matrixOf(got, expert, "down")), zerosOf(await matrixOf(want, expert, "down"))];
    const different = few.filter((zero, i) => zero !== all[i]).length;
    assert(different <= 0.002 * few.length, `${different} of ${few.length} zeros of expert ${expert} are elsewhere`);
  }
});

Deno.test("finetune() trains factors and what is left, and its model can be saved, kept in a store, and cut again", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-deepseek-v2"), sequences = some(calibration), folder = await Deno.makeTempDir();
  try {
    const formed = await factored(sliced(model)), targets = ["attention", "experts", "shared", "dense", "router"] as const;
    const options = { rank: 2, epochs: 6, batch: 1, dropout: 0, warmup: 0, learningRate: 2e-3, targets: [...targets] };
    const tuned = await winnow.finetune(device, formed, ["Sum: 12 + 30 = 42."], options);
    assert(tuned.history.at(-1)!.loss < 0.7 * tuned.history[0].loss, `the loss falls: ${tuned.history.map(({ loss }) => loss)}`);
    const names = [...tuned.adapters.values.keys()];
    for (const place of ["0/attention/kv_a_proj_with_mqa/right/down", "0/attention/kv_a_proj_with_mqa/left/up.1"]) {
      assert(names.includes(place), place);
    }
    const path = (await winnow.saveModel(tuned, `${folder}/tuned`, { dtype: "F32" })).path, again = await winnow.openModel(path);
    const loss = async (m: winnow.Model) => (await winnow.perplexity(device, m, sequences)).nll;
    assertEquals(await loss(again), await loss(tuned));
    // A layer less: what the config says about the others goes by new numbers.
    const fewer = winnow.mergeLayers(again, [{ keep: 1, absorb: 2, ratio: 1 }]);
    assertEquals(winnow.countParameters(describedModel(fewer.config.raw)).total, winnow.countParameters(fewer).total);
    await winnow.saveModel(fewer, `${folder}/fewer`);
    assertEquals(await loss(await winnow.openModel(`${folder}/fewer`)), await loss(fewer));
    const codec = winnow.modelCodec<winnow.Model>(), input = () => Promise.resolve(model);
    const { json, arrays } = await codec.encode(formed, input);
    const filed = new Map([...arrays].map(([key, array]) => [key, { ...array, readRows: null, readSlice: null }]));
    const kept = await codec.decode({ json: JSON.parse(JSON.stringify(json)), arrays: filed as never }, input);
    assertEquals([await loss(kept), winnow.countParameters(kept)], [await loss(formed), winnow.countParameters(formed)]);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("a model whose projections hold parts of heads is not saved, nor one whose matrices do not fit each other", async () => {
  const { model } = await openFixture("tiny-mixtral"), folder = await Deno.makeTempDir(), [first, ...others] = model.layers;
  const save = (change: Record<string, TensorSource>) =>
    winnow.saveModel({ ...model, layers: [{ ...first, attention: { ...first.attention, ...change } }, ...others] }, `${folder}/no`);
  const queries = first.attention["q_proj.weight"] as TensorSource, rows = (count: number) => selectRows(queries, [...Array(count).keys()]);
  await assertRejects(
    () => save({ "q_proj.weight": rows(48) }),
    Error,
    "Cannot describe layer 0: its attention has 1.5 query heads and 2 key heads, expected whole ones in groups",
  );
  await assertRejects(() => save({ "q_proj.weight": rows(96) }), Error, "has 3 query heads and 2 key heads");
  await assertRejects(
    () => save({ "q_proj.weight": rows(64) }),
    Error,
    'Cannot save tensor "model.layers.0.self_attn.o_proj.weight": it is [128,128], expected [128,64] beside the others of its layer',
  );
  assertEquals([...Deno.readDirSync(folder)], []);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a config that says what a layer cannot have lost is refused", async () => {
  const { model } = await openFixture("tiny-mixtral"), experts = [0, 1, 2, 3, 4, 5, 6, 7];
  const layers = [0, 1, 2, 3].map((layer) => ({ layer, experts })), whole = { ...model.config.raw, model_type: "winnow_mixtral" };
  const described = (parts: unknown, change = {}): DescribedModel =>
    describedModel({ ...whole, winnow: { experts: 8, parts, layers: layers.map((l) => ({ ...l, ...l.layer === 2 ? change : {} })) } });
  const { attention, block } = described([{ layer: 2, heads: 2, keyHeads: 1 }], { channels: [1, 2, 3, 4, 5, 6, 7, 8] }).layers[2];
  assertEquals(["q_proj", "k_proj", "o_proj"].map((name) => matrixShape(attention[`${name}.weight`])), [[64, 128], [32, 128], [128, 64]]);
  assertEquals(block.kind === "moe" && block.experts.map(({ down }) => matrixShape(down)[1]), [1, 2, 3, 4, 5, 6, 7, 8]);
  for (
    const [part, change] of [
      [{ layer: 4, heads: 2 }],
      [{ layer: "1", heads: 2 }],
      [{ layer: "length", heads: 2 }],
      [{ layer: 1, channels: 100 }],
      [{ layer: 1, heads: 0 }],
      [{ layer: 1, heads: 6 }],
      [{ layer: 1, heads: 3 }],
      [{ layer: 1, keyHeads: 4 }],
      [{ layer: 1, channels: 1.5 }],
      [{ layer: 1, ranks: { q_norm: 3 } }],
      [{ layer: 1, ranks: { q_proj: 0 } }],
      [{ layer: 1, biases: ["q_proj", "q_proj"] }],
      [{ layer: 1, biases: "q_proj" }],
      [{ layer: 2, heads: 2, keyHeads: 1 }, { channels: [1, 2, 3] }],
      [{ layer: 2, heads: 2, keyHeads: 1 }, { channels: [0, 1, 1, 1, 1, 1, 1, 1] }],
      [{ layer: 2, heads: 2, keyHeads: 1 }, { ranks: [[1, 2], 1, 1, 1, 1, 1, 1, 1] }],
      [{ layer: 2, heads: 2, keyHeads: 1 }, { biases: [["sideways"], [], [], [], [], [], [], []] }],
      ...[{ channels: [9, 8, 7, 6, 5, 4, 3, 2] }, { ranks: [1, 2, 3, 4, 5, 6, 7, 8] }, { biases: [["up"], [], [], [], [], [], [], []] }]
        .map((
          told,
        ) => [{ layer: 2, heads: 2, keyHeads: 1 }, { merged: [0, 0, 2, 3, 4, 5, 6, 7], ...told }]),
    ] as [unknown, object?][]
  ) {
    await assertRejects(() => Promise.resolve().then(() => described([part], change)), TypeError, 'Cannot open "the config"');
  }
  await assertRejects(() => Promise.resolve().then(() => described(null)), TypeError, "found null");
  const alike = { merged: [0, 0, 2, 3, 4, 5, 6, 7], channels: [9, 9, 7, 6, 5, 4, 3, 2], ranks: [3, 3, null, 4, 4, 4, 4, 4] };
  const shared = (described([], alike).layers[2] as MoeLayer).block.experts;
  assertEquals(shared.map((expert) => ownerOf(expert, shared)), alike.merged);
});
