/** Gradients of the mean token loss with respect to every weight, by transformers' names. */

import type { Device, Tensor } from "../../lib/device/device.ts";
import { expertParts } from "../../lib/finetune/expert_parts.ts";
import { lossGradients } from "../../lib/finetune/loss_gradients.ts";
import type { Leaf } from "../../lib/finetune/tape.ts";
import type { Batch } from "../../lib/model/batch.ts";
import { type LoadedLayer, loadLayer } from "../../lib/model/load_layer.ts";
import { loadWide } from "../../lib/model/load_wide.ts";
import type { DecoderLayer, Model } from "../../lib/model/model.ts";

export async function weightGradients(
  device: Device,
  model: Model,
  batches: Batch[],
): Promise<{ loss: number; gradients: Map<string, Float32Array> }> {
  const names = new Map<Leaf, string>(), reads = new Map<string, Promise<Float32Array>[]>(), { hidden, vocabulary } = model.config;
  const collect = (name: string, gradient: Tensor) => {
    using held = gradient;
    reads.set(name, [...reads.get(name) ?? [], device.read(held)]);
  };
  using norm = await loadWide(device, model.norm);
  using head = await device.load(model.head);
  const embedded: [number, Promise<Float32Array>][] = [];
  const { loss } = await lossGradients(device, model, batches, {
    norm,
    head,
    load: (layer) => loadLayer(device, model.config, layer),
    leaves: (layer, weights) => {
      const named = namedLeaves(model, layer, weights);
      for (const [leaf, name] of named) names.set(leaf, name);
      return named.keys();
    },
    collect: (leaf, gradient) => collect(names.get(leaf)!, gradient),
    ends: {
      embedded: (batch, gradient) => {
        using held = gradient;
        embedded.push([batch, device.read(held)]);
      },
      norm: (gradient) => collect("model.norm.weight", gradient),
      head: (gradient) => collect("lm_head.weight", gradient),
    },
  });
  const gradients = new Map<string, Float32Array>();
  for (const [name, parts] of reads) gradients.set(name, sum(await Promise.all(parts)));
  const table = new Float32Array(vocabulary * hidden);
  for (const [batch, values] of embedded) {
    const rows = await values;
    batches[batch].ids.forEach((id, t) => {
      for (let d = 0; d < hidden; d++) table[id * hidden + d] += rows[t * hidden + d];
    });
  }
  gradients.set("model.embed_tokens.weight", table);
  return { loss, gradients: joined(gradients) };
}

function sum(parts: Float32Array[]): Float32Array {
  return parts.reduce((total, part) => total.map((v, i) => v + part[i]));
}

function namedLeaves({ config }: Model, { index }: DecoderLayer, { attention, outputNorm, block }: LoadedLayer): Map<Leaf, string> {
  const named = new Map<Leaf, string>(), set = (leaf: Leaf, name: string) => named.set(leaf, `model.layers.${index}.${name}`);
  set(attention.norm, "input_layernorm.weight");
  set(outputNorm, "post_attention_layernorm.weight");
  for (const [name, tensor] of Object.entries(attention.tensors)) set(tensor, `self_attn.${name}`);
  if (block.kind === "dense") {
    for (const kind of ["gate", "up", "down"] as const) set(block[kind], `mlp.${kind}_proj.weight`);
    return named;
  }
  set(block.router, "mlp.gate.weight");
  for (const part of expertParts(block.experts)) set(part, `mlp.experts.${part.kind}_proj`);
  const shared = config.architecture === "deepseek_v2" ? "shared_experts" : "shared_expert";
  for (const [kind, tensor] of Object.entries(block.shared ?? {})) {
    set(tensor as Tensor, kind === "scale" ? "mlp.shared_expert_gate.weight" : `mlp.${shared}.${kind}_proj.weight`);
  }
  return named;
}

/** Puts together what transformers keeps in one tensor: the joint projection of latent attention; gate and up of each expert. */
function joined(gradients: Map<string, Float32Array>): Map<string, Float32Array> {
  const all = new Map(gradients);
  for (const [name, values] of gradients) {
    const layer = name.match(/^model\.layers\.\d+/)?.[0];
    const latent = name.match(/latent\.(weight|bias)$/)?.[1];
    if (latent) {
      const rest = gradients.get(`${layer}.self_attn.rotated.${latent}`)!;
      all.set(`${layer}.self_attn.kv_a_proj_with_mqa.${latent}`, concat(values, rest));
    }
    // The first entries are those of the first expert's gate; for the norm the order does not matter.
    if (name.endsWith("experts.gate_proj")) {
      all.set(`${layer}.mlp.experts.gate_up_proj`, concat(values, gradients.get(`${layer}.mlp.experts.up_proj`)!));
    }
  }
  return all;
}

function concat(a: Float32Array, b: Float32Array): Float32Array {
  const all = new Float32Array(a.length + b.length);
  all.set(a);
  all.set(b, a.length);
  return all;
}
