import { assert, assertEquals, assertThrows } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { readRecord } from "../../lib/export/read_record.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { mergeLayers } from "../../lib/merge/merge_layers.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { assertClose, fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { LAYER_REFERENCES } from "../references/layers.ts";
import { ROUTERS, withModel } from "../small_models.ts";

for (const [name, { ratios, perplexity: want }] of Object.entries(LAYER_REFERENCES)) {
  testOnDevices(`perplexity of ${name} with its last two layers merged is that of PyTorch`, async (device) => {
    const { model, heldOut } = await openFixture(name), shares = { ...ratios, half: 0.5, first: 1, second: 0 };
    for (const [ratio, share] of Object.entries(shares)) {
      const merged = mergeLayers(model, [{ keep: 2, absorb: 3, ratio: share }]);
      const { perplexity: got } = await perplexity(device, merged, heldOut);
      assertClose([got], [want[ratio as "alpha"]], device.kind === "cpu" ? 1e-3 : 1e-2, ratio);
    }
  }, fastDevices);
}

/** Every weight of a layer by its place, such as "block/experts/0/gate". */
function weightsOf(value: unknown, place = ""): [string, TensorSource][] {
  if (typeof value !== "object" || value === null) return [];
  if ("read" in value) return [[place, value as TensorSource]];
  return Object.entries(value).flatMap(([key, part]) => weightsOf(part, place ? `${place}/${key}` : key));
}

const isNorm = (place: string) => /Norm$|norm\.weight$/.test(place);

for (const kind of ["qwen2_moe, old spellings", "deepseek_v2, query rank, limited groups, scaled", "olmoe, renormalised, biased"]) {
  Deno.test(`mergeLayers() interpolates all but norms, ${kind}`, () =>
    withModel(kind, async (model) => {
      const before = [1, 2].map((i) => new Map(weightsOf(model.layers[i])));
      const places = [...before[0].keys()], [, merged] = mergeLayers(model, [{ keep: 1, absorb: 2, ratio: 0.75 }]).layers;
      assertEquals(weightsOf(merged).map(([place]) => place), places);
      for (const [place, weight] of weightsOf(merged)) {
        const [a, b] = before.map((weights) => weights.get(place)!);
        if (isNorm(place)) {
          assert(weight === a, `${place} is that of the first`);
          continue;
        }
        const [x, y] = [await readWide(a), await readWide(b)], got = await readWide(weight);
        assertEquals([weight.origin, weight.shape], [a.dtype, a.shape]);
        assertClose(got, x.map((value, i) => 0.75 * value + 0.25 * y[i]), 1e-6, place);
      }
      assert(places.filter(isNorm).length >= 2 && places.some((place) => place.endsWith(".bias")), "there are norms and biases");
    }));
}

Deno.test("a layer merged with its own weights, or with ratio 1, is the layer", async () => {
  await withModel(ROUTERS["not renormalising"], async (model) => {
    const copy = { ...model, layers: [model.layers[0], model.layers[1], { ...model.layers[1], index: 2 }] };
    const [, same] = mergeLayers(copy, [{ keep: 1, absorb: 2, ratio: 0.3 }]).layers;
    for (const [place, weight] of weightsOf(same)) {
      assertEquals(await readWide(weight), await readWide(new Map(weightsOf(model.layers[1])).get(place)!), place);
    }
    assertEquals(mergeLayers(model, [{ keep: 1, absorb: 2, ratio: 1 }]).layers, model.layers.slice(0, 2));
    assert(mergeLayers(model, []) === model);
  });
});

/** Saves a model, and compares what is opened again with it: the same logits, a config and files of the layers that are left. */
async function roundTrip(model: Model, ids: Uint32Array, form: "native" | "remote-code") {
  using device = await openDevice({ kind: "cpu" });
  await using folder = await temporaryFolder();
  const want = await logits(device, model, ids);
  const saved = await saveModel(model, `${folder.path}/merged`, { dtype: "F32", shardBytes: 200_000 });
  assertEquals(saved.form, form);
  const again = await openModel(saved.path), config = JSON.parse(await Deno.readTextFile(`${saved.path}/config.json`));
  assertEquals(await logits(device, again, ids), want);
  assertEquals(countParameters(again).total, countParameters(model).total);
  assertEquals([config.num_hidden_layers, config.layer_types?.length ?? model.layers.length], [model.layers.length, model.layers.length]);
  const { weight_map } = JSON.parse(await Deno.readTextFile(`${saved.path}/model.safetensors.index.json`));
  const layers = Object.keys(weight_map).flatMap((name) => name.match(/^model\.layers\.(\d+)/)?.slice(1).map(Number) ?? []);
  assertEquals([...new Set(layers)].sort(), model.layers.map(({ index }) => index));
  return { again, record: await readRecord(saved.path) };
}

for (const name of Object.keys(LAYER_REFERENCES)) {
  Deno.test(`${name} merged, and pruned before or after, is saved and opened again`, async () => {
    const { model, heldOut } = await openFixture(name), ids = heldOut[0].subarray(0, 24), drop = [0, 3], first = moeLayers(model)[0].index;
    const plan = [{ keep: 2, absorb: 3, ratio: 0.75 }], merged = mergeLayers(model, plan);
    const { again, record } = await roundTrip(merged, ids, "native");
    assertEquals([record.merges, record.plan.layers.length], [plan, moeLayers(merged).length]);
    const even = (model: Model) => pruneExperts(model, { layers: moeLayers(model).map(({ index }) => ({ layer: index, drop })) });
    using device = await openDevice({ kind: "cpu" });
    const [before, after] = [mergeLayers(even(model), plan), even(merged)];
    await roundTrip(before, ids, "native");
    assertEquals(await logits(device, before, ids), await logits(device, after, ids));
    const twice = mergeLayers(again, [{ keep: 1, absorb: 2, ratio: 0.5 }]);
    assertEquals(twice.layers.map(({ index }) => index), [0, 1]);
    const uneven = pruneExperts(merged, { layers: [{ layer: first, drop }] });
    await roundTrip(uneven, ids, "remote-code");
  });
}

Deno.test("a merged model that was saved is merged on, and its record has all merges and no scores of layers that were", async () => {
  const { model, heldOut } = await openFixture("tiny-mixtral");
  await using folder = await temporaryFolder();
  const once = mergeLayers(model, [{ keep: 2, absorb: 3, ratio: 0.75 }]), experts = [0, 1, 2, 3, 4, 5, 6, 7];
  const layers = [0, 1, 2].map((layer) => ({ layer, experts, scores: new Float64Array(8).fill(layer) }));
  const scores = { kind: "example", topK: 2, expertShape: { hidden: 128, intermediate: 192 }, layers, unseen: [] };
  await saveModel(once, `${folder.path}/once`, { record: { scores, seed: 5 } });
  const pruned = pruneExperts(await openModel(`${folder.path}/once`), { layers: [{ layer: 1, drop: [7] }] });
  await saveModel(pruned, `${folder.path}/pruned`);
  assertEquals((await readRecord(`${folder.path}/pruned`)).scores, scores);
  const opened = await openModel(`${folder.path}/pruned`);
  assertThrows(() => mergeLayers(opened, [{ keep: 1, absorb: 2, ratio: 0.5 }]), Error, "ratio 1 drops layer 2");
  const twice = mergeLayers(opened, [{ keep: 0, absorb: 1, ratio: 1 }]);
  await saveModel(twice, `${folder.path}/twice`, { dtype: "F32" });
  const record = await readRecord(`${folder.path}/twice`), saved = await openModel(`${folder.path}/twice`);
  assertEquals(record.merges, [{ keep: 2, absorb: 3, ratio: 0.75 }, { keep: 0, absorb: 1, ratio: 1 }]);
  assertEquals([record.scores, record.seed, record.plan.layers], [undefined, 5, [{ layer: 0, drop: [] }, { layer: 1, drop: [] }]]);
  using device = await openDevice({ kind: "cpu" });
  assertEquals(await logits(device, saved, heldOut[0]), await logits(device, twice, heldOut[0]));
  await assertSmallStages(saved, heldOut[0]);
});

/** Decomposition and training take merged models like others. */
async function assertSmallStages(model: Model, ids: Uint32Array): Promise<void> {
  using device = await openDevice({ kind: "cpu" });
  const [{ index, block }] = moeLayers(model), experts = block.experts.map(({ id }) => ({ expert: id, rank: 8 }));
  using small = await decomposeExperts(device, model, { layers: [{ layer: index, experts, sum: 64, target: 64 }] });
  const tuned = await finetune(device, small, ["Sum: 1 + 1 = 2."], { rank: 1, epochs: 1 });
  assert((await logits(device, tuned, ids)).every(Number.isFinite));
}

/** Which layers have experts in the config of what is left. */
function configOf(model: Model, plan: Parameters<typeof mergeLayers>[1]): Record<string, unknown> {
  const { config, layers } = mergeLayers(model, plan);
  assertEquals(config.sparse, layers.map(({ block }) => block.kind === "moe"));
  assertEquals(layers.map(({ index }) => index), [...layers.keys()]);
  const { num_hidden_layers: count, mlp_only_layers: only, decoder_sparse_step: step, first_k_dense_replace: first } = config.raw;
  return Object.fromEntries(Object.entries({ count, only, step, first }).filter(([, value]) => value !== undefined));
}

Deno.test("the config of a merged model says which layers have experts, by the rule it had where that still holds", async () => {
  const drop = (keep: number, absorb: number) => [{ keep, absorb, ratio: 1 }];
  await withModel("qwen3_moe, wide heads, some dense layers", (model) => {
    assertEquals(configOf(model, [{ keep: 1, absorb: 2, ratio: 0.5 }]), { count: 2, only: [0], step: 1 });
    assertEquals(configOf(model, drop(1, 0)), { count: 2, only: [], step: 1 });
    return Promise.resolve();
  });
  await withModel("qwen2_moe, every other layer dense, no biases", (model) => {
    assertEquals(configOf(model, [{ keep: 0, absorb: 2, ratio: 0.5 }]), { count: 2, only: [], step: 2 });
    assertEquals(configOf(model, [{ keep: 2, absorb: 0, ratio: 0.5 }]), { count: 2, only: [1], step: 1 });
    assertEquals(configOf(model, drop(0, 1)), { count: 2, only: [0, 1], step: 1 });
    return Promise.resolve();
  });
  await withModel(ROUTERS["group-limited, scaled"], (model) => {
    assertEquals(configOf(model, [{ keep: 1, absorb: 2, ratio: 0.5 }]), { count: 2, first: 1 });
    assertEquals(configOf(model, drop(1, 0)), { count: 2, first: 0 });
    return Promise.resolve();
  });
  await withModel(ROUTERS["not renormalising"], (model) => {
    assertEquals(configOf(model, drop(2, 3)), { count: 3, first: 0 });
    assertThrows(() => mergeLayers(model, drop(0, 1)), Error, "no config of deepseek_v2 says so");
    return Promise.resolve();
  }, { num_hidden_layers: 4, moe_layer_freq: 2 });
});

Deno.test("mergeLayers() says what it cannot merge", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-deepseek-v2"), pair = (keep: number, absorb: number, ratio = 0.5) => [{ keep, absorb, ratio }];
  const refused = (model: Model, plan: Parameters<typeof mergeLayers>[1], why: string, kind: typeof Error = Error) =>
    assertThrows(() => mergeLayers(model, plan), kind, why);
  refused(model, pair(0, 1), "Cannot merge layers 0 and 1: layer 1 alone has experts; ratio 1 drops layer 1");
  refused(model, pair(1, 0), "layer 1 alone has experts");
  const pruned = pruneExperts(model, { layers: [{ layer: 3, drop: Array.from({ length: 13 }, (_, i) => i + 3) }] });
  refused(pruned, pair(2, 3), "the experts 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 are left of the one, 0, 1, 2 of the other");
  using small = await decomposeExperts(device, model, { layers: [{ layer: 3, experts: [{ expert: 5, rank: 4 }], sum: 4, target: 4 }] });
  refused(small, pair(2, 3), "expert 5 has low rank");
  assertEquals(mergeLayers(small, pair(2, 3, 1)).layers.length, 3);
  refused(model, pair(2, 4), "Cannot absorb layer 4: the layers that are left are 0, 1, 2, 3", RangeError);
  refused(model, [...pair(2, 3), ...pair(3, 1)], "Cannot keep layer 3: the layers that are left are 0, 1, 2", RangeError);
  refused(model, pair(2, 2), "Cannot merge layer 2 with itself", RangeError);
  refused(model, pair(2, 3, -0.1), '"ratio" is -0.1, expected a share from 0 to 1', RangeError);
  refused(model, pair(2, 3, "half" as never), 'expected a number as "ratio"', TypeError);
});
