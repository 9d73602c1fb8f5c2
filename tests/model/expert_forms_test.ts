import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import type { Device, MatrixSource, TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { readRecord } from "../../lib/export/read_record.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { modelCodec } from "../../lib/flow/model_codec.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { scoreExperts } from "../../lib/importance/score_experts.ts";
import { clusterExperts } from "../../lib/merge/cluster_experts.ts";
import { mergeExperts } from "../../lib/merge/merge_experts.ts";
import { mergeLayers } from "../../lib/merge/merge_layers.ts";
import { replaceByMeans } from "../../lib/merge/replace_by_means.ts";
import { basedSource } from "../../lib/model/based_source.ts";
import { changeTopK } from "../../lib/model/change_top_k.ts";
import { loadMoe } from "../../lib/model/load_layer.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Expert, type Model, type MoeBlock, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { selectRows } from "../../lib/model/row_selection.ts";
import { skipExperts } from "../../lib/model/skip_experts.ts";
import { outlierDistribution } from "../../lib/sparsify/outlier_distribution.ts";
import { sparsify } from "../../lib/sparsify/sparsify.ts";
import { assertClose, devices, fastDevices, noise, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";

type Change = (block: MoeBlock, layer: number, hidden: number) => MoeBlock;

function changed(model: Model, change: Change): Model {
  const layers = model.layers.map((layer) =>
    layer.block.kind === "moe" ? { ...layer, block: change(layer.block, layer.index, model.config.hidden) } : layer
  );
  return { ...model, layers };
}

/** Experts 3 and 6 get the matrices of expert 1. */
const merged: Change = (block) => ({
  ...block,
  experts: block.experts.map((e) => [3, 6].includes(e.id) ? { ...block.experts[1], id: e.id } : e),
});

/** Experts 2 and 5 become vectors, the router's rows for them go last. */
const constant: Change = (block, layer, hidden) => {
  const positions = [...block.experts.keys()], rest = positions.filter((i) => i !== 2 && i !== 5);
  const outputs = heldSource(noise(2 * hidden, 50 + layer), [2, hidden]);
  const router = selectRows(block.router, [...rest, 2, 5]);
  return { ...block, experts: rest.map((i) => block.experts[i]), router, constants: { ids: [2, 5], outputs } };
};

/** All matrices are expert 0's and a difference of rank 3. */
const based: Change = (block, layer) => {
  const first = block.experts[0];
  const matrix = (kind: "gate" | "up" | "down", id: number) => {
    const base = first[kind] as TensorSource, [rows, columns] = base.shape, seed = 100 * layer + id;
    const left = heldSource(noise(rows * 3, seed).map((v) => v / 4), [rows, 3]),
      right = heldSource(noise(3 * columns, seed + 7), [3, columns]);
    return basedSource({ base, left, right });
  };
  return {
    ...block,
    experts: block.experts.map(({ id }) => ({ id, gate: matrix("gate", id), up: matrix("up", id), down: matrix("down", id) })),
  };
};

/** The same, and the first product of every other expert has a bias. */
const basedBiased: Change = (block, layer, hidden) => {
  const formed = based(block, layer, hidden), bias = (rows: number, seed: number) => heldSource(noise(rows, seed), [rows]);
  return {
    ...formed,
    experts: formed.experts.map((e) => e.id % 2 ? e : { ...e, biases: { gate: bias((e.gate as TensorSource).shape[0], 900 + e.id) } }),
  };
};

const FORMS = { merged, constant, based, "based, with biases": basedBiased };

/** The same weights, each in a place of its own, without any form. */
async function plain(model: Model): Promise<Model> {
  const copy = async (matrix: MatrixSource) => {
    const source = matrix as TensorSource;
    return heldSource(await readWide(source), source.shape);
  };
  const layers = await Promise.all(model.layers.map(async (layer) => {
    if (layer.block.kind === "dense") return layer;
    const experts: Expert[] = [];
    for (const { id, gate, up, down } of layer.block.experts) {
      experts.push({ id, gate: await copy(gate), up: await copy(up), down: await copy(down) });
    }
    return { ...layer, block: { ...layer.block, experts } };
  }));
  return { ...model, layers };
}

async function bytesOfExperts(device: Device, model: Model): Promise<number> {
  const before = device.live.bytes;
  using _ = await loadMoe(device, moeLayers(model)[0].block);
  return device.live.bytes - before;
}

for (const name of Object.keys(references)) {
  const on = name === "tiny-mixtral" ? devices : fastDevices;
  testOnDevices(`experts of ${name} that share matrices, or differ from a shared one, act as if each had its own`, async (device) => {
    const { model, calibration } = await openFixture(name), ids = calibration[0].subarray(0, 24);
    for (const change of [merged, based]) {
      const formed = changed(model, change);
      assertClose(await logits(device, formed, ids), await logits(device, await plain(formed), ids), 1e-4, change.name);
    }
    const whole = await bytesOfExperts(device, model), less = await bytesOfExperts(device, changed(model, merged));
    const count = moeLayers(model)[0].block.experts.length;
    assert(Math.abs(less / whole - (count - 2) / count) < 0.02, `two of ${count} experts are not loaded: ${less} of ${whole} bytes`);
  }, on);

  testOnDevices(`constant experts of ${name} give their vectors, weighted as the router weighs them`, async (device) => {
    const { model, calibration } = await openFixture(name), ids = calibration[0].subarray(0, 24);
    // Experts that do nothing are constants of zero.
    const idle: Change = (block, layer, hidden) => {
      const formed = constant(block, layer, hidden);
      return { ...formed, constants: { ids: [2, 5], outputs: heldSource(new Float32Array(2 * hidden), [2, hidden]) } };
    };
    const still = (matrix: MatrixSource) =>
      heldSource(new Float32Array((matrix as TensorSource).shape[0] * (matrix as TensorSource).shape[1]), (matrix as TensorSource).shape);
    const silent: Change = (block) => ({
      ...block,
      experts: block.experts.map((e) => [2, 5].includes(e.id) ? { ...e, down: still(e.down) } : e),
    });
    const zero = await logits(device, changed(model, idle), ids);
    assertClose(zero, await logits(device, changed(model, silent), ids), 1e-4);
    const moved = await logits(device, changed(model, constant), ids);
    assert(moved.some((v, i) => Math.abs(v - zero[i]) > 1e-2), "constants have an effect");
  }, on);
}

Deno.test("a layer whose token goes to a constant expert alone gives that constant", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), { hidden } = model.config;
  // Top-2 of one expert, whose output is 0, and one constant: both are chosen, and weighted by the softmax.
  const lonely: Change = (block, layer) => {
    const pruned = constant(block, layer, hidden),
      zeros = (rows: number, columns: number) => heldSource(new Float32Array(rows * columns), [rows, columns]);
    const expert = { ...pruned.experts[0], down: zeros(hidden, 192) };
    const outputs = heldSource(noise(hidden, 3), [1, hidden]), router = heldSource(new Float32Array(2 * hidden), [2, hidden]);
    return { ...pruned, experts: [expert], router, constants: { ids: [5], outputs } };
  };
  const last = model.layers.length - 1,
    only = { ...model, layers: model.layers.map((l, i) => i === last ? changed(model, lonely).layers[i] : l) };
  const { walk } = await import("../../lib/model/walk.ts"), { blockOutput } = await import("../../lib/model/decoder_layer.ts");
  const { batchSequences } = await import("../../lib/model/batch.ts");
  await walk(device, only, batchSequences(only.config, [calibration[0].subarray(0, 5)], 64), {
    stage: "test",
    atBlock: async ({ layer, weights, input }) => {
      if (layer.index !== last) return;
      using output = blockOutput(device, only.config, weights.block, input);
      const rows = await device.read(output), want = noise(hidden, 3);
      assertClose(rows, Float32Array.from(rows, (_, i) => want[i % hidden] / 2), 1e-6);
    },
  });
});

for (const [form, change] of Object.entries(FORMS)) {
  Deno.test(`saveModel() keeps experts that are ${form}, in their own size, and openModel() opens them`, async () => {
    const folder = await Deno.makeTempDir();
    try {
      using device = await openDevice({ kind: "cpu" });
      for (const name of Object.keys(references)) {
        const { model, calibration } = await openFixture(name), formed = changed(model, change), path = `${folder}/${name}`;
        const saved = await saveModel(formed, path, { dtype: "F32" }), again = await openModel(path);
        assertEquals(saved.form, "remote-code");
        assertEquals(await logits(device, again, calibration[0]), await logits(device, formed, calibration[0]));
        const { bytes } = countParameters(again), file = await Deno.readFile(`${path}/model.safetensors`);
        assertEquals(file.length - 8 - Number(new DataView(file.buffer).getBigUint64(0, true)), bytes);
        assertEquals(countParameters(again).total, countParameters(formed).total);
        assert(
          form.startsWith("based")
            ? countParameters(formed).experts < 0.4 * countParameters(model).experts
            : bytes < 2 * countParameters(model).bytes,
        );
        assertEquals((await readRecord(path)).forms?.length, moeLayers(model).length);
        await saveModel(again, `${path} again`);
        assertEquals(countParameters(await openModel(`${path} again`)).total, countParameters(formed).total);
      }
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });

  Deno.test(`a store keeps a model whose experts are ${form}, and what they share`, async () => {
    const { model } = await openFixture("tiny-mixtral"), formed = changed(model, change), codec = modelCodec<Model>();
    const input = () => Promise.resolve(model), { json, arrays } = await codec.encode(formed, input);
    const filed = new Map([...arrays].map(([key, array]) => [key, { ...array, readRows: null, readSlice: null }]));
    const again = await codec.decode({ json: JSON.parse(JSON.stringify(json)), arrays: filed as never }, input);
    using device = await openDevice({ kind: "cpu" });
    const ids = Uint32Array.of(0, 9, 8, 7);
    assertEquals(await logits(device, again, ids), await logits(device, formed, ids));
    assertEquals(countParameters(again), countParameters(formed));
    assertEquals(
      arrays.size,
      { merged: 0, constant: 4 + 4, based: 4 * 8 * 3 * 2, "based, with biases": 4 * (8 * 3 * 2 + 4) }[form],
      "arrays beside the original's",
    );
  });
}

Deno.test("merged experts are saved in full where an ordinary checkpoint is wanted", async () => {
  const folder = await Deno.makeTempDir();
  try {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration } = await openFixture("tiny-qwen2-moe"), formed = changed(model, merged);
    assertEquals((await saveModel(formed, `${folder}/full`, { form: "native" })).form, "native");
    const again = await openModel(`${folder}/full`);
    assertEquals(await logits(device, again, calibration[0]), await logits(device, formed, calibration[0]));
    assertEquals(countParameters(again).total, countParameters(model).total);
    await assertRejects(
      () => saveModel(changed(model, constant), `${folder}/no`, { form: "native" }),
      Error,
      'layer 0 has experts that are constants; use the form "remote-code"',
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("experts beside constants can be pruned, and fine-tuned", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), formed = changed(model, constant), ids = calibration[0].subarray(0, 16);
  const pruned = pruneExperts(formed, { layers: [{ layer: 1, drop: [0, 7] }] }), { block } = moeLayers(pruned)[1];
  assertEquals([block.router.shape[0], block.experts.map((e) => e.id), block.constants?.ids], [6, [1, 3, 4, 6], [2, 5]]);
  const other = pruneExperts(model, { layers: [{ layer: 1, drop: [0, 7] }] });
  assertEquals(
    await logits(device, pruned, ids),
    await logits(device, changed(other, (b, l, h) => l === 1 ? after(b, formed) : constant(b, l, h)), ids),
  );
  const tuned = await finetune(device, formed, [{ text: "Sum: 12 + 30 = 42." }], { epochs: 2, batch: 1, dropout: 0 });
  const [first, second] = tuned.history.map(({ loss }) => loss);
  assert(second < first, `the loss of the same example falls: ${first}, ${second}`);
});

/** Layer 1 without experts 0 and 7, whose experts 2 and 5 are the constants of `formed`. */
function after(block: MoeBlock, formed: Model): MoeBlock {
  const rest = [1, 3, 4, 6], position = (id: number) => block.experts.findIndex((e) => e.id === id);
  const { constants } = moeLayers(formed)[1].block;
  return {
    ...block,
    experts: rest.map((id) => block.experts[position(id)]),
    router: selectRows(block.router, [...rest, 2, 5].map(position)),
    constants,
  };
}

Deno.test("what asks experts for their own outputs says that constants have none", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral");
  await assertRejects(
    () => calibrate(device, changed(model, constant), calibration.slice(0, 1)),
    Error,
    "Cannot calibrate: layer 0 has experts that are constants (2, 5); do this before it is given them",
  );
});

Deno.test("layers whose experts have forms of their own are merged where a mean means something", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), ids = calibration[0].subarray(0, 16);
  const plan = [{ keep: 2, absorb: 3, ratio: 0.5 }];
  assertThrows(
    () => mergeLayers(changed(model, constant), plan),
    Error,
    "Cannot merge layers 2 and 3: experts of one of them are constants",
  );
  for (const change of [merged, based]) {
    const formed = changed(model, change);
    assertClose(
      await logits(device, mergeLayers(formed, plan), ids),
      await logits(device, mergeLayers(await plain(formed), plan), ids),
      1e-4,
    );
  }
});

Deno.test("what changes matrices changes those that experts share once, and refuses forms that it would undo", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 2).map((ids) => ids.subarray(0, 32));
  const formed = changed(model, merged), whole = countParameters(formed), all = moeLayers(model);
  using sparse = await sparsify(device, formed, tokens, { carrier: "sparsegpt", scope: "experts" });
  assertEquals([countParameters(sparse).total, sparse.sparsification.length], [whole.total, 4 * 6 * 3]);
  const ranks = (of: (id: number) => number) => ({
    layers: all.map(({ index, block }) => ({
      layer: index,
      experts: block.experts.map(({ id }) => ({ expert: id, rank: of(id) })),
      sum: 0,
      target: 0,
    })),
  });
  using low = await decomposeExperts(device, formed, ranks(() => 10));
  assertEquals(countParameters(low).experts, 4 * 6 * 3 * 10 * (128 + 192));
  assertEquals(low.decomposition.length, 4 * 8 * 3);
  await assertRejects(
    () => decomposeExperts(device, formed, ranks((id) => 10 + id)),
    RangeError,
    "Cannot decompose: experts 1 and 3 of layer 0 share their matrices, expected the same rank for both",
  );
  const back = modelCodec<Model>(), input = () => Promise.resolve(model), { json, arrays } = await back.encode(low, input);
  assertEquals(
    countParameters(await back.decode({ json: JSON.parse(JSON.stringify(json)), arrays: arrays as never }, input)),
    countParameters(low),
  );
  const refused: [Model, RegExp][] = [[changed(model, constant), /layer 0 has experts that are constants/], [
    changed(model, based),
    /is a difference from a shared one/,
  ]];
  for (const [other, message] of refused) {
    for (const run of [() => sparsify(device, other, tokens), () => outlierDistribution(device, other, tokens)]) {
      const { message: found } = await assertRejects(run, Error);
      assert(message.test(found), found);
    }
  }
  const skipping = skipExperts(model, { layers: [{ layer: 1, share: 0.3 }] }), statistics = await expertStatistics(device, model, tokens);
  await assertRejects(() => sparsify(device, skipping, tokens), Error, "layer 1 skips experts");
  assertThrows(() => replaceByMeans(skipping, statistics, { layers: [{ layer: 1, drop: [2] }] }), Error, "layer 1 skips experts");
  for (const run of [() => mergeExperts(skipping, { layers: [] }, scoreExperts(statistics, "REAP")), () => mergeLayers(skipping, [])]) {
    assertThrows(run, Error, "layer 1 skips experts");
  }
  await assertRejects(() => decomposeExperts(device, skipping, { layers: [] }), Error, "layer 1 skips experts");
  for (const change of [merged, based]) {
    const tune = (targets: ("attention" | "experts")[]) =>
      finetune(device, changed(model, change), ["Sum: 1 + 1 = 2."], { epochs: 1, rank: 1, targets });
    await assertRejects(() => tune(["experts"]), Error, "shares matrices with others");
    assertEquals(countParameters(await tune(["attention"])).total, countParameters(changed(model, change)).total);
  }
  using trace = await calibrate(device, model, tokens);
  await assertRejects(
    () => leaveOneOut(device, changeTopK(model, 1), trace),
    RangeError,
    "its tokens use in layer 0 2 experts, the model's use 1",
  );
  const features = { layers: statistics.layers } as unknown as Parameters<typeof clusterExperts>[0];
  assertThrows(
    () => clusterExperts(features, { layers: [] }),
    TypeError,
    "Cannot cluster experts: expected a row of numbers for each expert of layer 0",
  );
});

Deno.test("a difference that does not fit its base is refused", () => {
  const zeros = (rows: number, columns: number) => heldSource(new Float32Array(rows * columns), [rows, columns]);
  assertThrows(
    () => basedSource({ base: zeros(4, 3), left: zeros(4, 2), right: zeros(1, 3) }),
    RangeError,
    "Cannot add a product [4,2] · [1,3] to a matrix [4,3]: the sizes do not match",
  );
});
