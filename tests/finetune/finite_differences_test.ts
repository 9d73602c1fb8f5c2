/** Gradients of every weight of models with two layers, entry by entry: a direction along the gradient would not show what the gradient leaves out. */

import { assert, assertEquals } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import type { Model, RowSource } from "../../lib/model/model.ts";
import { assertClose, devices, fastDevices, testOnDevices } from "../devices.ts";
import { withModel } from "../small_models.ts";
import { weightGradients } from "./weight_gradients.ts";

const TOYS = {
  "query, key and value biases, gated shared expert": "qwen2_moe, old spellings",
  "norms of queries and keys, renormalising router": "olmoe, renormalised, biased",
  "latent attention, dense layer, groups of experts": "deepseek_v2, query rank, limited groups, scaled",
};

/** What a gradient is of: a weight, or one matrix of all experts, one behind the other. */
function sourcesOf({ embedding, layers, norm, head, config }: Model): Map<string, TensorSource[]> {
  const found = new Map<string, TensorSource[]>([["model.embed_tokens.weight", [embedding]], ["model.norm.weight", [norm]]]);
  found.set("lm_head.weight", [head]);
  for (const { index, inputNorm, outputNorm, attention, block } of layers) {
    const set = (name: string, ...sources: TensorSource[]) => found.set(`model.layers.${index}.${name}`, sources);
    set("input_layernorm.weight", inputNorm);
    set("post_attention_layernorm.weight", outputNorm);
    for (const [name, source] of Object.entries(attention)) set(`self_attn.${name}`, source as TensorSource);
    if (block.kind === "moe") set("mlp.gate.weight", block.router);
    for (const kind of ["gate", "up", "down"] as const) {
      if (block.kind === "dense") set(`mlp.${kind}_proj.weight`, block[kind]);
      else set(`mlp.experts.${kind}_proj`, ...block.experts.map((expert) => expert[kind] as TensorSource));
    }
    const shared = config.architecture === "deepseek_v2" ? "shared_experts" : "shared_expert";
    for (const [kind, source] of Object.entries(block.kind === "moe" ? block.shared ?? {} : {})) {
      if (source) set(kind === "scale" ? "mlp.shared_expert_gate.weight" : `mlp.${shared}.${kind}_proj.weight`, source);
    }
  }
  return found;
}

/** Anything made of weights, with one of them replaced. */
function replaced<T>(part: T, old: TensorSource, by: TensorSource): T {
  if (part as unknown === old) return by as T;
  if (Array.isArray(part)) return part.map((entry) => replaced(entry, old, by)) as T;
  if (typeof part !== "object" || part === null || "read" in part) return part;
  return Object.fromEntries(Object.entries(part).map(([key, entry]) => [key, replaced(entry, old, by)])) as T;
}

/** The model with one entry of a weight moved. */
async function moved(model: Model, source: TensorSource, at: number, step: number): Promise<Model> {
  const values = await readWide(source), width = source.shape.at(-1)!;
  values[at] += step;
  const readRows = (rows: Uint32Array, into: Uint8Array) => {
    rows.forEach((row, i) => into.set(new Uint8Array(values.buffer, 4 * row * width, 4 * width), 4 * i * width));
    return Promise.resolve();
  };
  const { embedding, layers, norm, head } = model, held = { ...heldSource(values, source.shape), readRows };
  return { ...model, ...replaced({ embedding, layers, norm, head }, source, held) } as Model & { embedding: RowSource };
}

const norm = (values: Float32Array) => Math.sqrt(values.reduce((sum, value) => sum + value ** 2, 0));

for (const [toy, variant] of Object.entries(TOYS)) {
  testOnDevices(`gradients of all weights of a model with two layers agree with finite differences: ${toy}`, async (device) => {
    await withModel(variant, async (model, all) => {
      const sequences = all.slice(0, 3), loss = async (model: Model) => (await perplexity(device, model, sequences)).nll;
      const { gradients } = await weightGradients(device, model, batchSequences(model.config, sequences, 128));
      const largest = Math.max(...[...gradients.values()].map((g) => norm(g) / Math.sqrt(g.length)));
      let compared = 0;
      for (const [name, sources] of sourcesOf(model)) {
        assert(gradients.has(name), `${name} has no gradient`);
        const gradient = gradients.get(name)!, size = gradient.length / sources.length;
        assertEquals(size, sources[0].shape.reduce((a, b) => a * b, 1), name);
        const scale = norm(gradient) / Math.sqrt(gradient.length);
        for (const [i, source] of sources.entries()) {
          // Of the embedding a row that is read; else entries from everywhere.
          for (const part of [0.1, 0.6]) {
            const row = name.includes("embed") ? sequences[0][3] * source.shape[1] : 0;
            const at = row + Math.floor(part * (row ? source.shape[1] : size)), step = 2e-3;
            const change = await loss(await moved(model, source, at, step)) - await loss(await moved(model, source, at, -step));
            const want = gradient[i * size + at], got = change / (2 * step), allowed = 0.03 * Math.max(Math.abs(want), scale, largest / 10);
            assert(Math.abs(got - want) <= allowed, `${name}[${i}][${at}] is ${want}, the loss says ${got}; allowed ${allowed}`);
            compared += +(Math.abs(want) > allowed);
          }
        }
      }
      assert(compared > 40, `only ${compared} entries are large enough to compare`);
    }, { num_hidden_layers: 2 });
  }, fastDevices);
}

const gpu = Object.fromEntries(Object.entries(devices).filter(([kind]) => kind === "webgpu"));
for (const [toy, variant] of Object.entries(TOYS)) {
  testOnDevices(`gradients of all weights of a model with two layers are those of the processor: ${toy}`, async (device) => {
    using processor = await openDevice({ kind: "cpu" });
    await withModel(variant, async (model, all) => {
      const [got, want] = await Promise.all([device, processor].map(async (on) => {
        return (await weightGradients(on, model, batchSequences(model.config, all.slice(0, 2), 128))).gradients;
      }));
      assertEquals([...got.keys()].sort(), [...want.keys()].sort());
      for (const [name, gradient] of want) assertClose(got.get(name)!, gradient, 1e-2, name);
    }, { num_hidden_layers: 2 });
  }, gpu);
}
