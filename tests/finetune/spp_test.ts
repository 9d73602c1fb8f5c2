/** Adapters that keep a sparse model sparse. */

import { assert, assertAlmostEquals, assertEquals, assertNotEquals, assertRejects } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { narrow } from "../../lib/checkpoint/narrow.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import type { Device, DType, Tensor } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { adaptedSource } from "../../lib/finetune/adapted_source.ts";
import { type AdapterKind, type Adapters, adapterShapes, createAdapters, sizeOf } from "../../lib/finetune/adapters.ts";
import { adapterSites, type Target, TARGETS } from "../../lib/finetune/adapter_sites.ts";
import { finetune, type FinetuneOptions } from "../../lib/finetune/finetune.ts";
import { lossGradients } from "../../lib/finetune/loss_gradients.ts";
import { mergeAdapters } from "../../lib/finetune/merge_adapters.ts";
import { Parameters } from "../../lib/finetune/parameters.ts";
import { SPP_RECIPE } from "../../lib/finetune/recipe.ts";
import { saveAdapters } from "../../lib/finetune/save_adapters.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { loadLayer } from "../../lib/model/load_layer.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import type { Model } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { linearsOf, mapLinears } from "../../lib/sparsify/linears.ts";
import { sparsify } from "../../lib/sparsify/sparsify.ts";
import { zeroChanges } from "../../notebooks/zero_changes.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { assertClose, devices, fastDevices, noise, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** Also a software GPU takes only seconds for two short sequences. */
const gpuToo = { ...fastDevices, ...(devices.webgpu ? { webgpu: devices.webgpu } : {}) };
const ALL: readonly Target[] = ["attention", "experts", "shared", "dense"];
const EXAMPLES = ["Sum: 1 + 2 = 3.", "Fact: Dov Dane lives in Arden.", "Series: 3 8 13 18 then 23.", "Sum: 20 + 2 = 22."];
const OPTIONS: FinetuneOptions = { targets: ALL, rank: 16, alpha: 32, learningRate: 4e-3, batch: 4, epochs: 3, warmup: 0 };

/** Sparse in the ways that there are: unstructured, by patterns, whole rows and columns; of matrices whole or in factors, held in memory or saved. */
const PATTERNS: Record<string, (device: Device, model: Model, tokens: Uint32Array[]) => Promise<Model & Partial<Disposable>>> = {
  "wanda 50 %": (device, model, tokens) => sparsify(device, model, tokens, { carrier: "wanda" }),
  "wanda 2:4": (device, model, tokens) => sparsify(device, model, tokens, { carrier: "wanda", pattern: { n: 2, m: 4 } }),
  "sparsegpt 75 %": (device, model, tokens) => sparsify(device, model, tokens, { carrier: "sparsegpt", sparsity: 0.75 }),
  "rows and columns": (_, model) => Promise.resolve(structured(model)),
  "factors, 50 %": async (device, model, tokens) => {
    const plan = { layers: [{ layer: 1, sum: 9, target: 9, experts: [{ expert: 2, rank: 9 }] }] };
    return await sparsify(device, await decomposeExperts(device, model, plan), tokens, { carrier: "wanda" });
  },
};

/** Every third row and every fourth column of each linear is gone. */
function structured(model: Model): Model {
  const layers = model.layers.map((layer) =>
    mapLinears(layer, ({ weight }) => ({
      ...{ dtype: "F32", origin: weight.dtype, shape: weight.shape },
      read: async (into) => {
        const [, columns] = weight.shape, values = await readWide(weight);
        into.set(new Uint8Array(values.map((v, i) => Math.floor(i / columns) % 3 === 0 || i % columns % 4 === 0 ? 0 : v).buffer));
      },
    }))
  );
  return { ...model, layers };
}

for (const adapter of ["spp", "masked-lora"] as const) {
  testOnDevices(`finetune() with ${adapter} keeps every zero, bit for bit, also saved and opened again`, async (device, test) => {
    const { model, calibration } = await openFixture("tiny-deepseek-v2"), tokens = calibration.slice(0, 4);
    for (const [name, make] of Object.entries(PATTERNS)) {
      await test.step(name, async () => {
        using stack = new DisposableStack();
        const sparse = await make(device, model, tokens);
        stack.defer(() => sparse[Symbol.dispose]?.());
        const tuned = await finetune(device, sparse, EXAMPLES, { ...OPTIONS, adapter });
        assertEquals(await zeroChanges(sparse, tuned), 0);
        assert(tuned.history.at(-1)!.loss < tuned.history[0].loss, "the loss does not fall");
        const [before, after] = [sparse, tuned].map((m) => linearsOf(m.layers[1])[0].weight);
        assertNotEquals(await readWide(after), await readWide(before));
        await using folder = await temporaryFolder();
        await saveModel(tuned, `${folder.path}/saved`);
        const reopened = await openModel(`${folder.path}/saved`);
        // Factors that were float32 are bfloat16 there, other numbers with the same zeros.
        assertEquals(await zeroChanges(sparse, reopened), 0);
        if (name === "wanda 50 %") {
          const again = await finetune(device, reopened, EXAMPLES, { ...OPTIONS, adapter });
          assertEquals(await zeroChanges(sparse, again), 0);
          if (adapter === "spp") return;
          assert(await zeroChanges(sparse, mergeAdapters(sparse, { ...tuned.adapters, kind: "lora" })) > 100_000, "plain LoRA fills zeros");
        }
      });
    }
  }, fastDevices);
}

testOnDevices("SPP begins at the sparse model, and what it merges is what it trained", async (device) => {
  const { model, calibration } = await openFixture("tiny-qwen2-moe"),
    text = EXAMPLES.slice(0, 1),
    still = { learningRate: 1e-30, epochs: 1 };
  using sparse = await sparsify(device, model, calibration.slice(0, 4), { carrier: "wanda" });
  const ids = [Uint32Array.from([model.tokenizer.bos!, ...model.tokenizer.encode(text[0])])];
  // One step of learning rate next to nothing tells the loss before it: b is 0, whatever A is.
  const [{ loss }] = (await finetune(device, sparse, text, { ...SPP_RECIPE, ...still, dropout: 0 })).history;
  assertAlmostEquals((await perplexity(device, sparse, ids)).nll, loss, 1e-6);
  const dropped = (await finetune(device, sparse, text, { ...SPP_RECIPE, ...still, dropout: 0.5 })).history;
  assertAlmostEquals(dropped[0].loss, loss, 1e-5);

  // The loss with adapters that have been trained, before a step that follows, is that of the merged model.
  const options: FinetuneOptions = { ...OPTIONS, adapter: "spp", batch: 1, epochs: 4, schedule: "constant" };
  const { history } = await finetune(device, sparse, text, options),
    shorter = await finetune(device, sparse, text, { ...options, epochs: 3 });
  assertAlmostEquals((await perplexity(device, shorter, ids)).nll, history[3].loss, 1e-4);
}, fastDevices);

testOnDevices("SPP gives the same bits every time, stopped or not, layer by layer or not", async (device) => {
  const { model, calibration } = await openFixture("tiny-deepseek-v2"),
    options: FinetuneOptions = { ...OPTIONS, adapter: "spp", dropout: 0.1 };
  using sparse = await sparsify(device, model, calibration.slice(0, 4), { carrier: "wanda" });
  const outcome = (values: Adapters["values"]) => [...values].map(([name, numbers]) => [name, [...numbers]]);
  const whole = outcome((await finetune(device, sparse, EXAMPLES, options)).adapters.values);
  assertEquals(outcome((await finetune(device, sparse, EXAMPLES, { ...options, residentBytes: 0 })).adapters.values), whole);
  await using folder = await temporaryFolder();
  const stop = new AbortController(), checkpoint = `${folder.path}/state`;
  const stopped = {
    ...options,
    checkpoint,
    signal: stop.signal,
    onStep: ({ step }: { step: number }) => step === 3 && stop.abort(new Error("stopped")),
  };
  await assertRejects(() => finetune(device, sparse, EXAMPLES, stopped), Error, "stopped");
  await assertRejects(
    () => finetune(device, sparse, EXAMPLES, { ...options, checkpoint, adapter: "lora" }),
    Error,
    'its "adapter" is "spp", now it is "lora"',
  );
  assertEquals(outcome((await finetune(device, sparse, EXAMPLES, { ...options, checkpoint })).adapters.values), whole);
}, fastDevices);

/** Loss of a model with adapters, and what it gives for each parameter. */
async function withAdapters(device: Device, model: Model, sequences: Uint32Array[], adapters: Adapters, dropout: number) {
  using parameters = new Parameters(device, model, adapters, ALL);
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  const { loss } = await lossGradients(device, model, batchSequences(model.config, sequences, 64), {
    ...{ norm, head, load: (layer) => loadLayer(device, model.config, layer) },
    adapters: (layer, weights) => parameters.adapters(layer, weights, { rate: dropout, seed: (name) => name.length }),
    leaves: (layer) => parameters.tensors(layer),
    collect: (leaf, gradient) => parameters.collect(device, leaf as Tensor, gradient),
  });
  const read = async ([name, { gradient }]: [string, { gradient?: Tensor }]) => [name, await device.read(gradient!)] as const;
  return { loss, gradients: new Map(await Promise.all([...parameters.all].filter(([, { gradient }]) => gradient).map(read))) };
}

const norm = (parts: Iterable<Float32Array>) => Math.sqrt([...parts].reduce((sum, part) => part.reduce((s, v) => s + v ** 2, sum), 0));

for (const variant of [ROUTERS["not renormalising"], "qwen2_moe, every other layer dense, no biases"]) {
  for (const dropout of [0, 0.25]) {
    testOnDevices(`gradients of SPP's adapters agree with finite differences, ${variant}, dropout ${dropout}`, async (device) => {
      await withModel(variant, async (model, sequences) => {
        const sparse = structured(model), adapters = createAdapters(sparse, { kind: "spp", rank: 4, alpha: 8, targets: ALL, seed: 1 });
        for (const [name, numbers] of adapters.values) if (name.includes("/up")) numbers.set(noise(numbers.length, name.length));
        const run = (values: Adapters["values"]) => withAdapters(device, sparse, sequences.slice(0, 2), { ...adapters, values }, dropout);
        const { gradients } = await run(adapters.values), total = norm(gradients.values());
        for (const part of ["/attention/", "/experts/", "/shared/", "/dense/"].flatMap((place) => [[place, "/down"], [place, "/up"]])) {
          const chosen = [...gradients].filter(([name]) => part.every((word) => name.includes(word)));
          if (chosen.length === 0) continue;
          // Along the gradient itself the loss rises by its squared norm. A short step: where a token changes experts the loss jumps.
          const slope = norm(chosen.map(([, g]) => g)),
            step = 3e-4 / slope,
            loss = async (sign: number) => {
              const moved = new Map(adapters.values);
              for (const [name, g] of chosen) moved.set(name, adapters.values.get(name)!.map((v, i) => v + sign * step * g[i]));
              return (await run(moved)).loss;
            };
          const measured = (await loss(1) - await loss(-1)) / (2 * step);
          assertAlmostEquals(measured, slope ** 2, 0.03 * Math.max(slope ** 2, 1e-3 * total ** 2), `${part} of ${variant}`);
        }
      });
    }, gpuToo);
  }
}

Deno.test("mergeAdapters() multiplies each weight by 1 + alpha / rank · R(down) · up, of both factors and of matrices in pieces", async () => {
  const { model } = await openFixture("tiny-deepseek-v2"),
    adapters = createAdapters(model, { kind: "spp", rank: 6, alpha: 9, targets: TARGETS, seed: 0 });
  for (const [name, values] of adapters.values) values.set(noise(values.length, name.length));
  for (const layer of [0, 1]) {
    const merged = linearsOf(mergeAdapters(model, adapters).layers[layer]);
    for (const [i, { name, weight }] of linearsOf(model.layers[layer]).entries()) {
      const expert = Number(name.match(/^experts\/(\d+)/)?.[1] ?? 0), key = name.replace(/^experts\/\d+\/(.*)$/, "experts/$1/dense");
      const site = adapterSites(model, model.layers[layer]).find((s) => s.key === key)!, shapes = adapterShapes(site, adapters).down;
      const up = [...adapters.values].filter(([n]) => n.startsWith(`${layer}/${key}/up`)).flatMap(([, v]) => [...v]);
      const down = adapters.values.get(`${layer}/${key}/down`)!, [rows, columns] = weight.shape, [blocks] = shapes[expert];
      assert(rows % blocks === 0 && 6 % blocks === 0, `${blocks} blocks of ${rows} rows`);
      const at = sizeOf(shapes.slice(0, expert)), first = shapes.length > 1 ? expert * rows : 0;
      const want = (await readWide(weight)).map((v, j) => {
        const row = Math.floor(j / columns), block = Math.floor(row / (rows / blocks));
        return v * (1 + 1.5 * down[at + block * columns + j % columns] * up[first + row]);
      });
      assertClose(await readWide(merged[i].weight), want, 1e-6, `${layer} ${name}`);
    }
  }
});

for (const dtype of ["F32", "BF16", "F16"] as const) {
  Deno.test(`a merged ${dtype} weight has no zero that it had not, whatever its adapter makes of it, and keeps the signs of zeros`, async () => {
    const least = { F32: 2 ** -149, BF16: 2 ** -133, F16: 2 ** -24 }[dtype as DType];
    const weights = Float32Array.of(0, -0, 1, -1, 2 * least, -2 * least, 3, -4), source = { ...heldSource(weights, [4, 2]), origin: dtype };
    const merged = async (kind: AdapterKind, down: number[], up: number[]) => {
      const bytes = new Uint8Array(32);
      await adaptedSource(source, { down: Float32Array.from(down), up: Float32Array.from(up) }, {
        kind,
        rank: 1,
        alpha: 1,
        values: new Map(),
      }).read(bytes);
      return new Float32Array(bytes.buffer);
    };
    const patterns = {
      // Factors 1 + up · down: -1, 0, 1/8 and a hair below 1/4: some products vanish, or are half of the smallest number.
      spp: await merged("spp", [1, 1], [-2, -1, -7 / 8, -1 + 2 ** -2]),
      "masked-lora": await merged("masked-lora", [1, 1], [5, -1, -2 * least, -3]),
    };
    for (const [kind, got] of Object.entries(patterns)) {
      const stored = new Float32Array(8), bytes = narrow(got, dtype);
      stored.set(dtype === "F32" ? new Float32Array(bytes.buffer) : dtype === "F16" ? new Float16Array(bytes.buffer) : widened(bytes));
      for (const values of [got, stored]) {
        assert(Object.is(values[0], 0) && Object.is(values[1], -0), `${kind}: zeros are ${values.slice(0, 2)}`);
        assertEquals([...values.keys()].filter((i) => values[i] === 0), [0, 1], `${kind}: ${values}`);
      }
    }
    assertEquals(patterns.spp.slice(2, 6), Float32Array.of(least, -least, least, -least));
  });
}

Deno.test("factors of a merged model have no zero that they had not when they are saved in the type of an F16 embedding", async () => {
  const { model } = await openFixture("tiny-mixtral"),
    plan = { layers: [{ layer: 1, sum: 9, target: 9, experts: [{ expert: 2, rank: 9 }] }] };
  using device = await openDevice({ kind: "cpu" });
  const { shape } = model.embedding, half = narrow(await readWide(model.embedding), "F16");
  const embedding: Model["embedding"] = {
    ...{ dtype: "F16", shape, read: (into) => Promise.resolve(into.set(half)) },
    readRows: () => Promise.reject(new Error("not needed")),
  };
  const low = { ...await decomposeExperts(device, model, plan), embedding };
  const adapters = createAdapters(low, { kind: "spp", rank: 1, alpha: 1, targets: ["experts"], seed: 0 });
  // 1 + up · down is 0 for every element: all products vanish.
  for (const [name, values] of adapters.values) values.fill(name.endsWith("down") ? 1 : -1);
  await using folder = await temporaryFolder();
  await saveModel(mergeAdapters(low, adapters), `${folder.path}/saved`);
  assertEquals(await zeroChanges(low, await openModel(`${folder.path}/saved`)), 0);
});

function widened(bytes: Uint8Array<ArrayBuffer>): Float32Array {
  return new Float32Array(Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16).buffer);
}

testOnDevices("adapters of sparse models refuse what they cannot be", async (device) => {
  const { model } = await openFixture("tiny-mixtral");
  await assertRejects(
    () => finetune(device, model, EXAMPLES, { adapter: "dora" as AdapterKind }),
    RangeError,
    '"adapter" must be one of lora, masked-lora, spp, received "dora"',
  );
  for (const [adapter, why] of [["spp", "does not know"], ["masked-lora", "would merge without the mask"]] as const) {
    const tuned = await finetune(device, model, EXAMPLES, { ...OPTIONS, adapter, epochs: 1, targets: ["attention"] });
    await assertRejects(
      () => saveAdapters(tuned, "never", "base"),
      Error,
      `Cannot write adapters to "never": they are "${adapter}", which PEFT ${why}`,
    );
    const odd = { ...tuned.adapters, kind: "dora" as AdapterKind };
    await assertRejects(() => Promise.resolve().then(() => mergeAdapters(model, odd)), TypeError, 'a "kind" among lora');
  }
}, fastDevices);
