/** Layers on their way from disk: one at a time in memory, the next one meanwhile in the system's page cache. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { fillPageCache } from "../../lib/checkpoint/fill_page_cache.ts";
import type { StoredTensor } from "../../lib/checkpoint/stored_tensor.ts";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { averagedSource } from "../../lib/model/averaged_source.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { LayerStore } from "../../lib/model/layer_store.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { prefetchLayer } from "../../lib/model/prefetch_layer.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { selectRows } from "../../lib/model/row_selection.ts";
import { walk } from "../../lib/model/walk.ts";
import { peakOf } from "../peak_of.ts";
import { ROUTERS, withModel } from "../small_models.ts";

await fillPageCache("notebooks/checkpoints/tiny-mixtral/config.json", 0, 1); // loads the system's library, which stays

/** Layers of a part of the file: those with a tensor in it, the whole of which must be in it. */
function layersIn(model: Model, path: string, start: number, bytes: number): number[] {
  const found = new Set<number>();
  for (const { name, ranges } of model.checkpoint.tensors.values()) {
    const [range] = ranges!, layer = /^model\.layers\.(\d+)\./.exec(name)?.[1];
    if (range.path !== path || range.start >= start + bytes || range.start + range.bytes <= start) continue;
    assert(layer !== undefined && range.start >= start && range.start + range.bytes <= start + bytes, `${name} is fetched by the way`);
    found.add(Number(layer));
  }
  return [...found];
}

/** Notes what is asked of the model's source: "fetch 1", "read 1" for the layers of what it is asked for. */
function record(model: Model, fetched: (notes: string[]) => Promise<void> = () => Promise.resolve()): { notes: string[]; read: string[] } {
  const { source } = model.checkpoint, read = source.read.bind(source), notes: string[] = [], parts: string[] = [];
  const note = (text: string) => void (notes.at(-1) === text || notes.push(text));
  source.read = async (path, start, into) => {
    const [tensor] = [...model.checkpoint.tensors.values()].filter(({ ranges }) => ranges![0].path === path && ranges![0].start === start);
    const layer = /^model\.layers\.(\d+)\./.exec(tensor?.name ?? "")?.[1];
    if (layer !== undefined) note(`read ${layer}`), parts.push(tensor.name);
    await read(path, start, into);
  };
  source.prefetch = async (path, start, bytes) => {
    for (const layer of layersIn(model, path, start, bytes)) note(`fetch ${layer}`);
    await fetched(notes);
  };
  return { notes, read: parts };
}

Deno.test("walk() has the next layer fetched before this one is used, and reads each weight once", () =>
  withModel(ROUTERS["renormalising"], async (model, sequences) => {
    using device = cpuDevice("asked for by a test", undefined);
    const { notes, read } = record(model);
    await walk(device, model, batchSequences(model.config, sequences, 64), {
      stage: "test",
      atBlock: ({ layer: { index } }) => Promise.resolve(void (notes.at(-1) === `use ${index}` || notes.push(`use ${index}`))),
    });
    const last = model.layers.length - 1;
    const expected = model.layers.flatMap((_, i) => [`read ${i}`, ...(i < last ? [`fetch ${i + 1}`] : []), `use ${i}`]);
    assertEquals(notes, expected);
    const stored = [...model.checkpoint.tensors.keys()].filter((name) => name.startsWith("model.layers."));
    assertEquals(read.toSorted(), stored.toSorted());
  }));

Deno.test("finetune() has the layer below fetched on the way back", () =>
  withModel(ROUTERS["renormalising"], async (model) => {
    using device = cpuDevice("asked for by a test", undefined);
    const encode = (text: string) => Uint32Array.from(text, (character) => character.charCodeAt(0) % 96);
    const small = { ...model, tokenizer: { encode, decode: () => "", bos: 0, addsBos: true } }, top = model.layers.length - 1;
    const { notes } = record(model);
    await finetune(device, small, ["abc"], { rank: 1, targets: ["attention"], epochs: 1, residentBytes: 0 });
    const way = model.layers.map((_, i) => [`read ${i}`, ...(i < top ? [`fetch ${i + 1}`] : [])]);
    const back = model.layers.map((_, i) => [`read ${i}`, `fetch ${i === 0 ? 1 : i - 1}`]).toReversed();
    const wanted = [...way, ...back].flat().filter((note, i, all) => note !== all[i - 1]);
    assertEquals(notes.filter((note, i) => note !== notes[i - 1]), wanted);
  }));

Deno.test("layers that stay on the device are fetched once", () =>
  withModel(ROUTERS["renormalising"], async (model) => {
    using device = cpuDevice("asked for by a test", undefined);
    const { notes } = record(model);
    {
      await using store = new LayerStore(device, model, Infinity);
      for (const _ of [1, 2]) {
        for (const layer of [...model.layers, ...model.layers.toReversed()]) (await store.load(layer))[Symbol.dispose]();
      }
    }
    const last = model.layers.length - 1;
    assertEquals(notes, model.layers.flatMap((_, i) => [`read ${i}`, ...(i < last ? [`fetch ${i + 1}`] : [])]));
    assertEquals(device.live.tensors, 0);
  }));

Deno.test("a source that cannot fetch does not disturb a walk", () =>
  withModel(ROUTERS["renormalising"], async (model, sequences) => {
    using device = cpuDevice("asked for by a test", undefined);
    model.checkpoint.source.prefetch = () => Promise.reject(new Error("no such place"));
    await walk(device, model, batchSequences(model.config, sequences, 64), {
      stage: "test",
      atBlock: () => new Promise((resolve) => setTimeout(resolve, 1)), // time to notice that nobody waits for what failed
    });
  }));

Deno.test("what is fetched of a layer are its own bytes, in one piece where they lie together", () =>
  withModel(ROUTERS["renormalising"], async (model) => {
    const parts: number[][] = [], { source, tensors } = model.checkpoint;
    source.prefetch = (_, start, bytes) => Promise.resolve(void parts.push([start, start + bytes]));
    const bytesOf = () => parts.reduce((sum, [start, end]) => sum + end - start, 0);
    const inLayer = (index: number) => [...tensors.values()].filter(({ name }) => name.startsWith(`model.layers.${index}.`));
    const sum = (some: readonly Pick<StoredTensor, "bytes">[]) => some.reduce((n, { bytes }) => n + bytes, 0);

    const [{ index }] = moeLayers(model), place = model.layers.findIndex((layer) => layer.index === index);
    await prefetchLayer(model.layers[place]);
    assertEquals([parts.length, bytesOf()], [1, sum(inLayer(index))], "a whole layer");

    parts.length = 0;
    const pruned = pruneExperts(model, { layers: [{ layer: index, drop: [1] }] });
    await prefetchLayer(pruned.layers[place]);
    const dropped = inLayer(index).filter(({ name }) => name.includes(".experts.1."));
    assertEquals([parts.length, bytesOf()], [2, sum(inLayer(index)) - sum(dropped)], "without an expert");

    parts.length = 0;
    const { gate, up } = moeLayers(model)[0].block.experts[0], norm = model.layers[place].inputNorm;
    const made = { dtype: "F32", shape: [2, 3], read: () => Promise.resolve() } as const;
    const block = {
      kind: "dense",
      gate: averagedSource([gate, up] as StoredTensor[], [1, 2]),
      up: selectRows(up as StoredTensor, [0]),
      down: made,
    } as const;
    await prefetchLayer({ index: 0, inputNorm: norm, outputNorm: norm, attention: {}, block });
    assertEquals(bytesOf(), sum([gate, up, norm] as StoredTensor[]), "weights that are worked out, one of them from nothing");
  }));

Deno.test({
  name: "a walk that fails ends when fetching has ended, and leaves neither files nor operations behind",
  sanitizeOps: true,
  sanitizeResources: true,
  fn: () =>
    withModel(ROUTERS["renormalising"], async (model, sequences) => {
      using device = cpuDevice("asked for by a test", undefined);
      const batches = batchSequences(model.config, sequences, 64), fail = () => Promise.reject(new Error("stop"));
      await assertRejects(() => walk(device, model, batches, { stage: "the system's own way", atBlock: fail }), Error, "stop");
      let done = false;
      record(model, async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        done = true;
      });
      await assertRejects(() => walk(device, model, batches, { stage: "a slow one", atBlock: fail }), Error, "stop");
      assert(done, "the walk ended while a layer was being fetched");
      assertEquals(device.live.tensors, 0);
    }),
});

Deno.test("calibrating eight layers takes the memory of two, within a tenth", async () => {
  const peak = async (layers: number) => {
    let found = 0;
    await withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      assertEquals(model.layers.length, layers);
      found = await peakOf(async (device) => (await calibrate(device, model, sequences))[Symbol.dispose]());
    }, { num_hidden_layers: layers });
    return found;
  };
  const two = await peak(2), eight = await peak(8);
  assert(eight <= 1.1 * two, `two layers take ${two} bytes at most, eight take ${eight}`);
});
