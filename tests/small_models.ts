/** Small random models whose routers behave differently, and the change of a layer's output by brute force. */

import type { Device, RouterRule } from "../lib/device/device.ts";
import { batchSequences } from "../lib/model/batch.ts";
import { routerProbabilities, routerRule } from "../lib/model/decoder_layer.ts";
import { type Model, moeLayer } from "../lib/model/model.ts";
import { openModel } from "../lib/model/open_model.ts";
import { walk } from "../lib/model/walk.ts";
import { VARIANTS } from "./interop/variants.ts";
import { tokenIds, writeRandomCheckpoint } from "./numbers.ts";

/** One model for each way to weigh experts. */
export const ROUTERS = {
  "renormalising": "qwen3_moe, wide heads, some dense layers",
  "not renormalising": "deepseek_v2, one query matrix, all layers sparse",
  "group-limited, scaled": "deepseek_v2, query rank, limited groups, scaled",
} as const;

/** Opens a random model in a folder that is removed at the end; `changes` are made to the variant's config. */
export async function withModel(
  variant: string,
  run: (model: Model, sequences: Uint32Array[]) => Promise<void>,
  changes: Record<string, unknown> = {},
): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await writeRandomCheckpoint(`${folder}/model`, { ...VARIANTS[variant], ...changes }, { spread: 0.2 });
    const sequences = [24, 7, 40, 1, 33].map((length, i) => tokenIds(`small.${i}`, length, 96));
    await run(await openModel(`${folder}/model`), sequences);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

/** Routed outputs `[tokens][hidden]` of one layer for the inputs that the model gives it, without `dropped` experts, straight from the definition. */
export async function routedOutputs(
  device: Device,
  model: Model,
  sequences: Uint32Array[],
  index: number,
  dropped: number[],
): Promise<Float64Array[]> {
  const rows: Float64Array[] = [], { config } = model, ids = moeLayer(model, index).block.experts.map((e) => e.id);
  await walk(device, model, batchSequences(config, sequences, 64), {
    stage: "test",
    atBlock: async ({ layer, weights: { block }, input }) => {
      if (layer.index !== index || block.kind === "dense") return;
      using probabilities = routerProbabilities(device, block, input);
      const p = await device.read(probabilities), tokens = p.length / ids.length;
      using table = device.tensor(Uint32Array.from({ length: tokens * ids.length }, (_, i) => i % ids.length), [tokens, ids.length]);
      using outputs = device.experts(input, table, block.experts);
      const o = await device.read(outputs);
      for (let t = 0; t < tokens; t++) {
        const weights = route(
          p.subarray(t * ids.length, (t + 1) * ids.length),
          ids.map((id) => dropped.includes(id)),
          routerRule(config, ids),
        );
        const row = new Float64Array(config.hidden);
        weights.forEach((w, e) => row.forEach((_, d) => row[d] += w * o[(t * ids.length + e) * config.hidden + d]));
        rows.push(row);
      }
    },
  });
  return rows;
}

/** Inputs `[tokens][hidden]` of one layer's experts and routing weights `[tokens][experts]`, straight from the definition. */
export async function routingOf(
  device: Device,
  model: Model,
  sequences: Uint32Array[],
  index: number,
): Promise<{ inputs: Float32Array[]; weights: number[][] }> {
  const result = { inputs: [] as Float32Array[], weights: [] as number[][] }, { config } = model;
  const ids = moeLayer(model, index).block.experts.map((e) => e.id);
  await walk(device, model, batchSequences(config, sequences, 64), {
    stage: "test",
    atBlock: async ({ layer, weights: { block }, input }) => {
      if (layer.index !== index || block.kind === "dense") return;
      using probabilities = routerProbabilities(device, block, input);
      const p = await device.read(probabilities), x = await device.read(input);
      for (let t = 0; t < p.length / ids.length; t++) {
        result.inputs.push(x.slice(t * config.hidden, (t + 1) * config.hidden));
        result.weights.push(route(p.subarray(t * ids.length, (t + 1) * ids.length), ids.map(() => false), routerRule(config, ids)));
      }
    },
  });
  return result;
}

/** Masked softmax, groups, top-k, renormalisation, scale. */
export function route(p: Float32Array, masked: boolean[], { topK, renormalise, scale, groups }: RouterRule): number[] {
  const left = Array.from(p, (v, e) => masked[e] ? 0 : v), total = left.reduce((a, b) => a + b), q = left.map((v) => v / total);
  const best = (group: number) => Math.max(...q.filter((_, e) => groups!.of[e] === group && !masked[e]));
  const admitted = groups && [...new Set(groups.of.filter((_, e) => !masked[e]))].sort((a, b) => best(b) - best(a)).slice(0, groups.keep);
  const open = [...q.keys()].filter((e) => !masked[e] && (!admitted || admitted.includes(groups!.of[e])));
  const chosen = open.sort((a, b) => q[b] - q[a] || a - b).slice(0, topK),
    share = renormalise ? chosen.reduce((sum, e) => sum + q[e], 0) : 1;
  return q.map((v, e) => chosen.includes(e) ? scale * v / share : 0);
}

/** ‖a - b‖ over rows. */
export function distance(a: Float64Array[], b: Float64Array[]): number {
  return Math.sqrt(a.reduce((sum, row, i) => row.reduce((s, v, d) => s + (v - b[i][d]) ** 2, sum), 0));
}
