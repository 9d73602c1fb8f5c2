/** Traces and models come back from the disk and give the same bits. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Device, TensorSource } from "../../lib/device/device.ts";
import type { Flow } from "../../lib/flow/flow.ts";
import { modelCodec } from "../../lib/flow/model_codec.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import type { Stage } from "../../lib/flow/stage.ts";
import { stages } from "../../lib/flow/stages.ts";
import { traceCodec } from "../../lib/flow/trace_codec.ts";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { mergeLayers } from "../../lib/merge/merge_layers.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { folderOf, openFixture } from "../fixtures.ts";
import { artifactOf, run, withStore } from "./flows.ts";

const RANKS = { layers: [1, 3].map((layer) => ({ layer, experts: [0, 2].map((expert) => ({ expert, rank: 6 })), sum: 12, target: 12 })) };
const PLAN = { layers: [{ layer: 0, drop: [1, 7] }, { layer: 3, drop: [5] }] };

Deno.test("a trace from the disk gives the scores and searches of the one that was computed, whatever of it was kept", async () => {
  await withStore(async ({ open, device }) => {
    const { model, calibration } = await openFixture("tiny-qwen2-moe"),
      tokens = calibration.slice(0, 4).map((ids, i) => ids.slice(0, 20 - i));
    for (const searchTokens of [32768, 10]) {
      using trace = await calibrate(device, model, tokens, { searchTokens });
      const flow = await open(),
        base = await modelSource(flow, "model", folderOf("tiny-qwen2-moe")),
        ids = await source(flow, "tokens", tokens);
      const stage = flow.stage(`trace ${searchTokens}`, stages.calibrate({ model: base, tokens: ids }, { searchTokens }));
      const stored = await flow.run(stage), kept = trace.layers[0].inputs.tokens;
      assertEquals([stored.tokens, stored.sequences, kept], [trace.tokens, tokens, Math.min(searchTokens, trace.tokens)] as unknown[]);
      assertEquals(await leaveOneOut(device, model, stored), await leaveOneOut(device, model, trace));
      for (const [i, { layer, experts, counts, inputs }] of trace.layers.entries()) {
        const other = stored.layers[i], values = [inputs, other.inputs].map(() => new Float32Array(3 * inputs.hidden));
        assertEquals([other.layer, other.experts, other.counts], [layer, experts, counts] as unknown[]);
        await Promise.all([inputs.read(kept - 3, values[0]), other.inputs.read(kept - 3, values[1])]);
        assertEquals(values[0], values[1]);
        await assertRejects(() => other.inputs.read(kept - 2, values[1]), RangeError, "are not rows of its");
      }
      using _ = await flow.run(stage); // disposing of what everybody shares takes nothing away
      assertEquals(await leaveOneOut(device, model, await flow.run(stage)), await leaveOneOut(device, model, trace));
    }
    assertEquals(device.live.tensors, 0);
  });
});

Deno.test("inputs of a trace are written in pieces", async () => {
  const tokens = 5000, hidden = 2048, asked: number[] = []; // 40 MB
  const inputs = {
    ...{ tokens, hidden },
    read: (start: number, into: Float32Array) => {
      asked.push(into.length);
      for (let i = 0; i < into.length; i += 997) into[i] = start * hidden + i;
      return Promise.resolve();
    },
  };
  await withStore(async ({ open }) => {
    const flow = await open();
    const layers = [{ layer: 2, experts: [0, 1], counts: Uint32Array.of(tokens, 0), inputs }];
    const trace = flow.stage("trace", {
      ...{ version: 1, codec: traceCodec },
      run: () => ({ sequences: [Uint32Array.of(1, 2)], tokens, layers, [Symbol.dispose]() {} }),
    });
    const stored = await flow.run(trace), row = new Float32Array(hidden), want = new Float32Array(hidden);
    assert(asked.length === 3 && asked.every((length) => length * 4 <= 16 * 2 ** 20 && length % hidden === 0), `${asked}`);
    for (const at of [0, 2047, 2048, 4999]) {
      await stored.layers[0].inputs.read(at, row);
      const start = Math.floor(at / 2048) * 2048;
      for (let i = 0; i < hidden; i++) want[i] = ((at - start) * hidden + i) % 997 === 0 ? at * hidden + i : 0;
      assertEquals(row.filter((value) => value !== 0), want.filter((value) => value !== 0));
    }
  });
});

/** Numbers in all weights of a layer that are not as they were stored. */
function layerNumbers(value: unknown): number {
  if (typeof value !== "object" || value === null) return 0;
  if ("origin" in value) return (value as TensorSource).shape.reduce((a, b) => a * b);
  return Object.values(value).reduce((sum: number, part) => sum + layerNumbers(part), 0);
}

/** Logits of what a function makes of the model, and of what the disk gives back, in this flow and in the next. */
async function assertSame(
  device: Device,
  model: Model,
  open: () => Promise<Flow>,
  define: (flow: Flow, model: Stage<Model>) => Stage<Model> | Promise<Stage<Model>>,
) {
  const ids = Uint32Array.from([0, 389, 26, 7, 300]), want = await logits(device, model, ids), found: Model[] = [];
  for (const _ of [1, 2]) {
    const flow = await open(), base = await modelSource(flow, "model", folderOf("tiny-qwen2-moe"));
    found.push(await run(flow, await define(flow, base)));
    assertEquals(await logits(device, found.at(-1)!, ids), want);
    for (const [i, { index, block }] of moeLayers(found.at(-1)!).entries()) {
      const other = moeLayers(model)[i];
      assertEquals([index, block.experts.map((e) => e.id)], [other.index, other.block.experts.map((e) => e.id)] as unknown[]);
    }
  }
  return found[1];
}

Deno.test("models come back: pruned, decomposed, both, and tuned; only what is new in them is stored", async (t) => {
  await withStore(async ({ open, device, store }) => {
    const model = await openModel(folderOf("tiny-qwen2-moe")), pruned = pruneExperts(model, PLAN);
    const sizeOf = (name: string) =>
      [...Deno.readDirSync(`${store}/${name}`)].reduce(
        (sum, { name: key }) =>
          sum + [...Deno.readDirSync(`${store}/${name}/${key}`)].reduce((n, file) =>
            n + Deno.statSync(`${store}/${name}/${key}/${file.name}`).size, 0),
        0,
      );
    const plan = (flow: Flow) => source(flow, "plan", PLAN), ranks = (flow: Flow) => source(flow, "ranks", RANKS);
    await t.step("pruned, stored", async () => {
      await assertSame(
        device,
        pruned,
        open,
        async (flow, model) =>
          flow.stage("pruned", { ...stages.pruneExperts({ model, plan: await plan(flow) }), codec: modelCodec(), stored: true }),
      );
      assert(sizeOf("pruned") < 60_000, `${sizeOf("pruned")} bytes`); // two routers and the names of what stays
    });
    await t.step("decomposed", async () => {
      using decomposed = await decomposeExperts(device, model, RANKS);
      const back = await assertSame(
        device,
        decomposed,
        open,
        async (flow, model) => flow.stage("decomposed", stages.decomposeExperts({ model, ranks: await ranks(flow) })),
      );
      assertEquals((back as typeof decomposed).decomposition, decomposed.decomposition);
      assert(sizeOf("decomposed") < 200_000, `${sizeOf("decomposed")} bytes`); // 12 matrices of 2 x 128 x 6 numbers
    });
    using small = await decomposeExperts(device, pruned, RANKS);
    const defineSmall = async (flow: Flow, model: Stage<Model>) => {
      const pruned = flow.stage("pruned view", stages.pruneExperts({ model, plan: await plan(flow) }));
      return flow.stage("small", stages.decomposeExperts({ model: pruned, ranks: await ranks(flow) }));
    };
    await t.step("decomposed after pruning", async () => {
      const back = await assertSame(device, small, open, defineSmall);
      assertEquals(Object.keys(back).sort(), Object.keys(small).sort());
    });
    const merges = [{ keep: 2, absorb: 3, ratio: 0.75 }], merged = mergeLayers(model, merges);
    const defineMerged = async (flow: Flow, model: Stage<Model>) =>
      flow.stage("merged", stages.mergeLayers({ model, plan: await source(flow, "merges", merges) }));
    await t.step("merged, stored, with the config of fewer layers", async () => {
      const back = await assertSame(
        device,
        merged,
        open,
        async (flow, model) =>
          flow.stage("merged, stored", {
            ...stages.mergeLayers({ model, plan: await source(flow, "merges", merges) }),
            codec: modelCodec(),
            stored: true,
          }),
      );
      assertEquals([back.config, back.merges], [merged.config, merges] as unknown[]);
      const numbers = layerNumbers(merged.layers[2]), bytes = sizeOf("merged, stored");
      assert(bytes > 4 * numbers && bytes < 4 * numbers + 60_000, `${bytes} bytes of ${numbers} numbers`); // the merged layer
    });
    await t.step("decomposed after merging", async () => {
      const first = { layers: [RANKS.layers[0]] };
      using small = await decomposeExperts(device, merged, first);
      const back = await assertSame(
        device,
        small,
        open,
        async (flow, model) =>
          flow.stage(
            "small and shorter",
            stages.decomposeExperts({ model: await defineMerged(flow, model), ranks: await source(flow, "one", first) }),
          ),
      );
      assertEquals([back.config, back.merges], [merged.config, merges] as unknown[]);
    });
    const examples = ["Sum: 1 + 1 = 2.", { prompt: "Sum: 2 + 2 =", completion: " 4." }],
      recipe = { rank: 2, epochs: 2, batch: 1, topK: { to: 3, over: 0.5 } };
    await t.step("tuned after both, and decomposed again", async () => {
      const tuned = await finetune(device, small, examples, recipe), emitted: unknown[] = [];
      const define = async (flow: Flow, model: Stage<Model>) => {
        const inputs = { model: await defineSmall(flow, model), examples: await source(flow, "examples", examples) };
        return flow.stage("tuned", stages.finetune(inputs, recipe));
      };
      const back = await assertSame(device, tuned, open, async (flow, model) => {
        const stage = await define(flow, model);
        await run(flow, stage, { emit: (value) => emitted.push(value) });
        return stage;
      }) as typeof tuned;
      assertEquals(
        [back.history, back.adapters, emitted.length, emitted.at(-1)],
        [tuned.history, tuned.adapters, 4, tuned.history] as unknown[],
      );
      using twice = await decomposeExperts(device, tuned, { layers: [RANKS.layers[0]] });
      const last = await assertSame(
        device,
        twice,
        open,
        async (flow, model) =>
          flow.stage(
            "twice",
            stages.decomposeExperts({ model: await define(flow, model), ranks: await source(flow, "one", { layers: [RANKS.layers[0]] }) }),
          ),
      );
      assertEquals((last as unknown as typeof tuned).history, tuned.history);
      assert(sizeOf("twice") < 150_000, `${sizeOf("twice")} bytes`); // adapters are found in the model that it was made from
    });
    assertEquals(device.live.tensors, 0);
  });
});

Deno.test("a model that was not made from the input is refused", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), model = await modelSource(flow, "model", folderOf("tiny-qwen2-moe"));
    const other = flow.stage("other", {
      version: 1,
      inputs: { model },
      codec: modelCodec(),
      run: () => openModel(folderOf("tiny-mixtral")),
    });
    const why = 'Cannot keep a model: its "checkpoint" is not that of the input "model", which it must have been made from';
    await assertRejects(() => flow.run(other), Error, why);
    const lonely = flow.stage("lonely", { version: 1, codec: modelCodec(), run: () => openModel(folderOf("tiny-mixtral")) });
    await assertRejects(
      () => flow.run(lonely),
      Error,
      'Cannot keep the result of "lonely": it has no input "model", which its codec takes',
    );
  });
});

Deno.test("a model source is known by its content, wherever it lies", async () => {
  await withStore(async ({ open }) => {
    const folder = await Deno.makeTempDir(), flow = await open(), from = folderOf("tiny-mixtral"), hashes: (string | undefined)[] = [];
    try {
      for await (const { name, isFile } of Deno.readDir(from)) if (isFile) await Deno.copyFile(`${from}/${name}`, `${folder}/${name}`);
      const note = async (location: string) =>
        hashes.push((await flow.resolve([(await modelSource(flow, "model", location)).name]))[0].hash);
      await note(from);
      await note(folder);
      await Deno.writeTextFile(`${folder}/notes.txt`, "not of the model");
      await note(folder);
      const weights = `${folder}/model.safetensors`, bytes = await Deno.readFile(weights);
      bytes[bytes.length - 1000] ^= 1;
      await Deno.writeFile(weights, bytes);
      await note(folder);
      await Deno.writeTextFile(`${folder}/generation_config.json`, "{}");
      await note(folder);
      assertEquals([hashes[1] === hashes[0], hashes[2] === hashes[0], new Set(hashes).size], [true, true, 3]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
    assert((await artifactOf(flow, { name: "model" })).length > 0);
  });
});
