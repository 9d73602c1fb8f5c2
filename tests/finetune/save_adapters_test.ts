import { assertEquals, assertRejects } from "@std/assert";
import { folderSource } from "../../lib/checkpoint/folder_source.ts";
import { readHeader } from "../../lib/checkpoint/read_header.ts";
import { storedTensor } from "../../lib/checkpoint/stored_tensor.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import type { Target } from "../../lib/finetune/adapter_sites.ts";
import { createAdapters } from "../../lib/finetune/adapters.ts";
import { mergeAdapters } from "../../lib/finetune/merge_adapters.ts";
import { saveAdapters } from "../../lib/finetune/save_adapters.ts";
import { changeTopK } from "../../lib/model/change_top_k.ts";
import type { Model } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { assertClose, noise } from "../devices.ts";
import { openFixture } from "../fixtures.ts";

function tunedOf(model: Model, targets: Target[]) {
  const adapters = createAdapters(model, { rank: 3, alpha: 6, targets, seed: 0 });
  for (const [name, values] of adapters.values) values.set(noise(values.length, name.length));
  return { ...mergeAdapters(model, adapters), adapters, history: [] };
}

/** Numbers of a zero matrix with the adapters added: what they add. */
async function added(source: TensorSource): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array(source.shape.reduce((a, b) => a * b));
  await source.read(new Uint8Array(values.buffer));
  return values;
}

Deno.test("saveAdapters() writes matrices that PEFT multiplies to what mergeAdapters() adds", async () => {
  const { model } = await openFixture("tiny-qwen2-moe"), folder = await Deno.makeTempDir();
  try {
    const empty = (source: TensorSource): TensorSource => ({ ...source, dtype: "F32", read: (into) => Promise.resolve(void into.fill(0)) });
    const blank = {
      ...model,
      layers: model.layers.map((layer) => {
        if (layer.block.kind === "dense") return layer;
        const experts = layer.block.experts.map((e) => ({
          ...e,
          gate: empty(e.gate as TensorSource),
          up: empty(e.up as TensorSource),
          down: empty(e.down as TensorSource),
        }));
        return {
          ...layer,
          attention: { ...layer.attention, "q_proj.weight": empty(layer.attention["q_proj.weight"] as TensorSource) },
          block: { ...layer.block, experts },
        };
      }),
    };
    const tuned = tunedOf(blank, ["attention", "experts"]);
    await saveAdapters(tuned, `${folder}/adapter`, "some/base");
    await saveAdapters(tuned, `${folder}/adapter`, "some/base"); // replaces it
    const config = JSON.parse(await Deno.readTextFile(`${folder}/adapter/adapter_config.json`));
    assertEquals([config.r, config.lora_alpha, config.base_model_name_or_path], [3, 6, "some/base"]);
    assertEquals([config.rank_pattern, config.alpha_pattern], [{ gate_up_proj: 6 }, { gate_up_proj: 12 }]);
    const source = folderSource(`${folder}/adapter`), entries = (await readHeader(source, "adapter_model.safetensors"))!;
    const read = async (name: string) => {
      const entry = entries.find((e) => e.name === `base_model.model.model.layers.1.${name}.weight`)!,
        values = new Float32Array(entry.bytes / 4);
      await storedTensor(source, { ...entry, dtype: "F32" }).read(new Uint8Array(values.buffer));
      return { shape: entry.shape, values };
    };
    const block = tuned.layers[1].block;
    if (block.kind !== "moe") throw new Error("layer 1 has experts");
    const [A, B] = [await read("self_attn.q_proj.lora_A"), await read("self_attn.q_proj.lora_B")];
    assertEquals([A.shape, B.shape], [[3, 128], [128, 3]]);
    const product = new Float64Array(128 * 128).map((_, at) => {
      let sum = 0;
      for (let k = 0; k < 3; k++) sum += 2 * B.values[Math.floor(at / 128) * 3 + k] * A.values[k * 128 + at % 128];
      return sum;
    });
    assertClose(await added(tuned.layers[1].attention["q_proj.weight"] as TensorSource), product, 1e-5, "q_proj");
    // einsum "o r e, e r i -> e o i" of lora_B as [out, rank, experts] and lora_A as [experts, rank, in], times alpha / rank.
    for (const [name, ranks, matrices] of [["mlp.experts.base_layer", 6, ["gate", "up"]], ["mlp.experts", 3, ["down"]]] as const) {
      const [A, B] = [await read(`${name}.lora_A`), await read(`${name}.lora_B`)], expert = 5, columns = A.shape[1], rows = B.shape[0];
      const want = new Float64Array(rows * columns).map((_, at) => {
        const [o, i] = [Math.floor(at / columns), at % columns];
        let sum = 0;
        for (let k = 0; k < ranks; k++) sum += 2 * B.values[(o * ranks + k) * 16 + expert] * A.values[(expert * ranks + k) * columns + i];
        return sum;
      });
      const parts = await Promise.all(matrices.map((kind) => added(block.experts[expert][kind] as TensorSource)));
      assertClose(Float32Array.from(parts.flatMap((p) => [...p])), want, 1e-5, name);
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("saveAdapters() refuses what PEFT cannot load, and folders that hold something else", async () => {
  const { model } = await openFixture("tiny-deepseek-v2"), folder = await Deno.makeTempDir();
  try {
    const refused = (model: Model, targets: Target[], why: string) =>
      assertRejects(() => saveAdapters(tunedOf(model, targets), `${folder}/adapter`, "base"), Error, why);
    await refused(pruneExperts(model, { layers: [{ layer: 1, drop: [3] }] }), ["attention"], "layers hold 15 or 16 experts");
    await refused(model, ["attention", "shared"], "takes for those of routed experts on deepseek_v2; save the merged model with saveModel");
    await refused(model, [], "there are none");
    await refused(changeTopK(model, 2), ["attention"], "a token uses 2 experts, 4 by the config of the base model");
    const some = tunedOf(model, ["experts"]);
    for (const name of some.adapters.values.keys()) if (name.startsWith("1/experts/up")) some.adapters.values.delete(name);
    await assertRejects(() => saveAdapters(some, `${folder}/adapter`, "base"), Error, "layer 1 has adapters of some expert matrices only");
    const layers = [1, 2, 3].map((layer) => ({ layer, drop: [3] })), since = pruneExperts(tunedOf(model, ["experts"]), { layers });
    await assertRejects(
      () => saveAdapters({ ...tunedOf(model, ["experts"]), ...since }, `${folder}/adapter`, "base"),
      RangeError,
      'Cannot write the adapter "1/experts/gate/dense/down": it has 6144 numbers, the model needs 5760',
    );
    assertEquals([...Deno.readDirSync(folder)], []);
    await Deno.writeTextFile(`${folder}/notes.txt`, "mine");
    await assertRejects(() => saveAdapters(tunedOf(model, ["attention"]), folder, "base"), Error, 'it holds "notes.txt"');
    await assertRejects(() => saveAdapters(tunedOf(model, ["attention"]), `${folder}/notes.txt`, "base"), Error, "it is no folder");
    assertEquals(await Deno.readTextFile(`${folder}/notes.txt`), "mine");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
