import { assert, assertAlmostEquals, assertEquals, assertNotEquals } from "@std/assert";
import { createAdapters } from "../../lib/finetune/adapters.ts";
import { TARGETS } from "../../lib/finetune/adapter_sites.ts";
import { LayerStore } from "../../lib/model/layer_store.ts";
import { lossGradients, type LossGradientsOptions } from "../../lib/finetune/loss_gradients.ts";
import { mergeAdapters } from "../../lib/finetune/merge_adapters.ts";
import { Parameters } from "../../lib/finetune/parameters.ts";
import type { RouterTerms } from "../../lib/finetune/router_entropy.ts";
import { teacherStream } from "../../lib/finetune/teacher.ts";
import { trainedRouters } from "../../lib/finetune/trained_routers.ts";
import type { Device, Tensor } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { loadLayer } from "../../lib/model/load_layer.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import { logits } from "../../lib/model/logits.ts";
import type { DecoderLayer, Model } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { assertClose, devices, fastDevices, noise, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { factored, sliced } from "../model/model_forms.ts";
import { EXPERT_REFERENCES } from "../references/experts.ts";
import { GRADIENTS } from "../references/gradients.ts";
import { ROUTER_ENTROPIES } from "../references/router_entropies.ts";
import { ROUTERS, withModel } from "../small_models.ts";
import { weightGradients } from "./weight_gradients.ts";

/** Also a software GPU takes only seconds for two sequences. */
const gpuToo = { ...fastDevices, ...(devices.webgpu ? { webgpu: devices.webgpu } : {}) };
for (const [name, figures] of Object.entries(GRADIENTS)) {
  testOnDevices(`gradients of ${name} agree with PyTorch`, async (device) => {
    const { model, calibration } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    const { gradients } = await weightGradients(device, model, batchSequences(model.config, calibration.slice(0, 2), 128));
    for (const [tensor, { norm, first }] of Object.entries(figures)) {
      assert(gradients.has(tensor), `${tensor} has no gradient`);
      const got = gradients.get(tensor)!;
      const rms = norm / Math.sqrt(got.length);
      assertAlmostEquals(normOf([got]), norm, tolerance * norm, `norm of ${tensor}`);
      first.forEach((want, i) => assertAlmostEquals(got[i], want, tolerance * Math.max(Math.abs(want), rms), `${tensor}[${i}]`));
    }
  }, gpuToo);
}

function normOf(parts: Iterable<Float32Array>): number {
  let square = 0;
  for (const part of parts) for (const value of part) square += value ** 2;
  return Math.sqrt(square);
}

/** Loss of a model with adapters, and what it gives for each parameter. */
async function withAdapters(
  device: Device,
  model: Model,
  sequences: Uint32Array[],
  values: Map<string, Float32Array<ArrayBuffer>>,
  { dropout = 0, teacher, ...options }: { dropout?: number } & Pick<LossGradientsOptions, "teacher" | "routers"> = {},
) {
  using parameters = new Parameters(device, model, { rank: 2, alpha: 3, values }, teacher ? ["router"] : TARGETS);
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  const { loss, entropy, meanEntropy } = await lossGradients(device, model, batchSequences(model.config, sequences, 64), {
    norm,
    head,
    load: async (layer) => parameters.withRouter(layer, await loadLayer(device, model.config, layer)),
    adapters: (layer, weights) => parameters.adapters(layer, weights, { rate: dropout, seed: (name) => name.length }),
    leaves: (layer) => parameters.tensors(layer),
    collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
    ...{ teacher, ...options },
  });
  const gradients = new Map<string, Float32Array>();
  for (const [name, { gradient }] of parameters.all) gradients.set(name, gradient ? await device.read(gradient) : new Float32Array());
  return { loss, entropy, meanEntropy, gradients };
}

const SHARED = "qwen2_moe, every other layer dense, no biases", whole = (model: Model) => model;
const variants: Record<string, [variant: string, form: (model: Model) => Model | Promise<Model>]> = {
  ...Object.fromEntries(Object.entries(ROUTERS).map(([router, variant]) => [`router ${router}`, [variant, whole]])),
  "shared experts, some dense layers": [SHARED, whole],
  "lost heads and channels": ["qwen2_moe, old spellings", sliced],
  "factors with biases": ["qwen3_moe, wide heads, some dense layers", factored],
  "latent attention, all of that": ["deepseek_v2, query rank, limited groups, scaled", (model) => factored(sliced(model))],
};
for (const [name, [variant, form]] of Object.entries(variants)) {
  for (const dropout of [0, 0.25]) {
    testOnDevices(`gradients of adapters agree with finite differences, ${name}, dropout ${dropout}`, async (device) => {
      await withModel(variant, async (plain, sequences) => {
        const model = await form(plain);
        const { values } = createAdapters(model, { rank: 2, alpha: 3, targets: TARGETS, seed: 1 });
        for (const [name, numbers] of values) if (name.includes("/up")) numbers.set(noise(numbers.length, name.length).map((v) => v / 4));
        for (const [name, numbers] of await trainedRouters(model, ["router"])) values.set(name, numbers);
        const { gradients } = await withAdapters(device, model, sequences.slice(0, 2), values, { dropout });
        const total = normOf(gradients.values());
        // Along the gradient itself the loss rises by its squared norm. A short step: where a token changes experts the loss jumps.
        for (const target of ["/attention/", "/experts/", "/shared/", "/dense/", "/router/"]) {
          const chosen = [...gradients].filter(([name]) => name.includes(target));
          if (chosen.length === 0) continue;
          const slope = normOf(chosen.map(([, g]) => g));
          const step = 3e-4 / slope,
            loss = async (sign: number) => {
              const moved = new Map(values);
              for (const [name, g] of chosen) moved.set(name, values.get(name)!.map((v, i) => v + sign * step * (g[i] ?? 0)));
              return (await withAdapters(device, model, sequences.slice(0, 2), moved, { dropout })).loss;
            };
          const measured = (await loss(1) - await loss(-1)) / (2 * step);
          assertAlmostEquals(measured, slope ** 2, 0.03 * Math.max(slope ** 2, 1e-3 * total ** 2), `${target} of ${variant}`);
        }
      });
    }, fastDevices);
  }
}

const gpu = Object.fromEntries(Object.entries(devices).filter(([kind]) => kind === "webgpu"));
testOnDevices("gradients of adapters of sliced and factored models are those of the processor", async (device) => {
  using processor = await openDevice({ kind: "cpu" });
  for (const variant of ["deepseek_v2, query rank, limited groups, scaled", "qwen2_moe, old spellings"]) {
    await withModel(variant, async (plain, sequences) => {
      const model = await factored(sliced(plain)), { values } = createAdapters(model, { rank: 2, alpha: 3, targets: TARGETS, seed: 1 });
      for (const [name, numbers] of values) if (name.includes("/up")) numbers.set(noise(numbers.length, name.length).map((v) => v / 4));
      for (const [name, numbers] of await trainedRouters(model, ["router"])) values.set(name, numbers);
      const [got, want] = await Promise.all([device, processor].map((on) => withAdapters(on, model, sequences.slice(0, 2), values)));
      assertAlmostEquals(got.loss, want.loss, 1e-4 * want.loss);
      for (const [name, gradient] of want.gradients) assertClose(got.gradients.get(name)!, gradient, 1e-2, name);
    }, { num_hidden_layers: 2 });
  }
}, gpu);

testOnDevices("gradients towards a teacher are those of the Kullback-Leibler divergence", async (device) => {
  await withModel(ROUTERS["renormalising"], async (teacher, sequences) => {
    const model = pruneExperts(teacher, { layers: [{ layer: 1, drop: [2, 4] }] }), ids = sequences[0], { vocabulary } = model.config;
    const values = await trainedRouters(model, ["router"]), theirs = logSoftmax(await logits(device, teacher, ids), vocabulary);
    const divergence = async (values: Map<string, Float32Array<ArrayBuffer>>) => {
      const ours = logSoftmax(await logits(device, mergeAdapters(model, { rank: 1, alpha: 1, values }), ids), vocabulary);
      let sum = 0;
      for (let i = 0; i < (ids.length - 1) * vocabulary; i++) sum += Math.exp(theirs[i]) * (theirs[i] - ours[i]);
      return sum / (ids.length - 1);
    };
    await using store = new LayerStore(device, teacher, Infinity);
    const [batch] = batchSequences(model.config, [ids], 64);
    const { gradients } = await withAdapters(device, model, [ids], values, { teacher: () => teacherStream(device, teacher, store, batch) });
    const slope = normOf(gradients.values()), step = 1e-4 / slope;
    const moved = (sign: number) =>
      new Map([...values].map(([name, v]) => [name, v.map((x, i) => x + sign * step * gradients.get(name)![i])]));
    const measured = (await divergence(moved(1)) - await divergence(moved(-1))) / (2 * step);
    assertAlmostEquals(measured, slope ** 2, 0.03 * slope ** 2);
  });
}, fastDevices);

for (const [router, variant] of Object.entries({ ...ROUTERS, "shared experts, some dense layers": SHARED })) {
  testOnDevices(`gradients of the loss with entropies of routers agree with finite differences, router ${router}`, async (device) => {
    await withModel(variant, async (model, sequences) => {
      const { values } = createAdapters(model, { rank: 2, alpha: 3, targets: TARGETS, seed: 1 });
      for (const [name, numbers] of values) if (name.includes("/up")) numbers.set(noise(numbers.length, name.length).map((v) => v / 4));
      for (const [name, numbers] of await trainedRouters(model, ["router"])) values.set(name, numbers);
      const routers = { entropy: 3, balance: 2 }, several = sequences.slice(0, 3); // two batches: means are over both
      const run = (values: Map<string, Float32Array<ArrayBuffer>>) => withAdapters(device, model, several, values, { routers });
      const { gradients } = await run(values), total = normOf(gradients.values());
      for (const target of ["/attention/", "/experts/", "/router/"]) {
        const chosen = [...gradients].filter(([name]) => name.includes(target)), slope = normOf(chosen.map(([, g]) => g));
        const step = 3e-4 / slope,
          whole = async (sign: number) => {
            const moved = new Map(values);
            for (const [name, g] of chosen) moved.set(name, values.get(name)!.map((v, i) => v + sign * step * (g[i] ?? 0)));
            const { loss, entropy, meanEntropy } = await run(moved);
            return loss + routers.entropy * entropy - routers.balance * meanEntropy;
          };
        const measured = (await whole(1) - await whole(-1)) / (2 * step);
        assertAlmostEquals(measured, slope ** 2, 0.03 * Math.max(slope ** 2, 1e-3 * total ** 2), `${target} of ${variant}`);
      }
    });
  }, fastDevices);
}

testOnDevices("terms for routers change no bit where they weigh nothing, and are the same with activations kept or not", async (device) => {
  await withModel(ROUTERS["not renormalising"], async (model, sequences) => {
    const values = await trainedRouters(model, ["router"]), batches = batchSequences(model.config, sequences.slice(0, 3), 64);
    const run = async (routers?: RouterTerms, keep = false) => {
      using parameters = new Parameters(device, model, { rank: 1, alpha: 1, values }, ["router"]);
      await using store = new LayerStore(device, model, Infinity);
      using norm = await loadWide(device, model.norm);
      using head = await device.load(model.head);
      const { loss } = await lossGradients(device, model, batches, {
        ...{ norm, head, keep, routers },
        load: async (layer) => parameters.withRouter(layer, await store.load(layer)),
        leaves: (layer) => parameters.tensors(layer),
        collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
      });
      return [loss, ...await Promise.all([...parameters.all.values()].map(async ({ gradient }) => [...await device.read(gradient!)]))];
    };
    const plain = await run(), terms = { entropy: 0.1, balance: 0.05 }, regularised = await run(terms);
    assertEquals(await run({ entropy: 0, balance: 0 }), plain);
    assertNotEquals(regularised, plain);
    assertEquals(await run(terms, true), regularised);
  });
}, gpuToo);

for (const [name, { entropy }] of Object.entries(EXPERT_REFERENCES)) {
  testOnDevices(`entropies of the routers of ${name} are those of PyTorch`, async (device) => {
    const { model, calibration } = await openFixture(name),
      mean = (layers: Record<string, number>) => Object.values(layers).reduce((a, b) => a + b) / Object.keys(layers).length;
    using norm = await loadWide(device, model.norm);
    using head = await device.load(model.head);
    const got = await lossGradients(device, model, batchSequences(model.config, calibration, 2048), {
      ...{ norm, head, load: (layer: DecoderLayer) => loadLayer(device, model.config, layer), leaves: () => [], collect: () => {} },
    });
    assertAlmostEquals(got.entropy, mean(entropy), 1e-3);
    assertAlmostEquals(got.meanEntropy, mean(ROUTER_ENTROPIES[name].ofMean), 1e-3);
  }, fastDevices);
}

function logSoftmax(logits: Float32Array, width: number): Float64Array {
  const result = new Float64Array(logits.length);
  for (let start = 0; start < logits.length; start += width) {
    const row = logits.subarray(start, start + width), most = Math.max(...row);
    const total = most + Math.log(row.reduce((sum, v) => sum + Math.exp(v - most), 0));
    row.forEach((v, i) => result[start + i] = v - total);
  }
  return result;
}
