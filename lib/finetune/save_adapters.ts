/**
 * Adapters in the layout of the PEFT library.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { draftFolder } from "../checkpoint/draft_folder.ts";
import { expectOwnFolder } from "../checkpoint/expect_own_folder.ts";
import { heldSource } from "../checkpoint/held_source.ts";
import { writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { type Architecture, ARCHITECTURES } from "../model/architectures.ts";
import { keptOf } from "../model/kept_layers.ts";
import { keptPartsOf } from "../model/kept_parts.ts";
import { type Model, moeLayers } from "../model/model.ts";
import { expect } from "../model/expect.ts";
import { expectModel } from "../model/expect_stage.ts";
import { adapterSites } from "./adapter_sites.ts";
import { adapterOf, expectAdapters } from "./adapters.ts";
import type { TunedModel } from "./finetune.ts";

/** A matrix to be written. */
interface Matrix {
  shape: [number, number];
  values: Float32Array<ArrayBuffer>;
}

/**
 * Writes adapters as `adapter_config.json` and `adapter_model.safetensors`, which PEFT puts on the same base model (tested with PEFT 0.21 and
 * transformers 5.24). There an expert layer's gate and up projections are one parameter: their two adapters become one of twice the rank.
 *
 * @param tuned What `finetune` gave.
 * @param folder The target; one that holds adapters is replaced.
 * @param base Path or name of the checkpoint that PEFT should load under them: the untuned model as `saveModel` wrote it in native form.
 * @throws {RangeError} If the adapters do not fit the model, which was pruned since.
 * @throws {Error} If PEFT can load no such base or adapter: low-rank experts or attention, lost heads and channels, biases of experts, unequal counts of experts, another number of experts a token than in the
 * base's config, routers trained as a whole, shared experts or dense layers adapted in any but Qwen2-MoE; if the folder holds anything but adapters, or the disk does not allow it.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { finetune } from "./finetune.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const base = "notebooks/checkpoints/tiny-mixtral", folder = await Deno.makeTempDir();
 * const tuned = await finetune(device, await openModel(base), ["Sum: 1 + 1 = 2."], { targets: ["attention"], epochs: 1 });
 * await saveAdapters(tuned, folder, base);
 * assertEquals(JSON.parse(await Deno.readTextFile(`${folder}/adapter_config.json`)).r, 8);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function saveAdapters(tuned: TunedModel, folder: string, base: string): Promise<void> {
  const purpose = "write adapters";
  expectModel(tuned, purpose);
  expectAdapters(tuned.adapters, purpose);
  expect(typeof folder === "string" && folder !== "", purpose, "the path of a folder", folder);
  expect(typeof base === "string" && base !== "", purpose, "the path or name of the base model", base);
  refuseUnloadable(tuned, folder);
  const { rank, alpha } = tuned.adapters, tensors = new Map<string, Matrix>(), modules = new Set<string>();
  for (const layer of tuned.layers) {
    const place = `base_model.model.model.layers.${layer.index}`, sites = adapterSites(tuned, layer);
    const put = (name: string, down: Matrix, up: Matrix) => {
      tensors.set(`${place}.${name}.lora_A.weight`, down);
      tensors.set(`${place}.${name}.lora_B.weight`, up);
    };
    const experts: Partial<Record<"gate" | "up" | "down", ExpertAdapters>> = {};
    for (const site of sites) {
      const found = adapterOf(tuned.adapters, layer, site, "write the adapter");
      if (!found || site.kind === "router") continue;
      const { down, ...ups } = found;
      if (site.kind === "experts") {
        const [rows, columns] = site.shapes[0];
        experts[site.part.kind] = { count: site.shapes.length, rows, columns, down, up: ups.up };
        continue;
      }
      const module = moduleOf(tuned, site.key), rows = site.pieces.reduce((n, piece) => n + piece.rows, 0);
      const up = Float32Array.from(Object.values(ups).flatMap((numbers) => [...numbers]));
      modules.add(module);
      put(module, { shape: [rank, site.columns], values: down }, { shape: [rows, rank], values: up });
    }
    const { gate, up, down } = experts;
    if (!gate && !up && !down) continue;
    if (!gate || !up || !down) throw unloadable(folder, `layer ${layer.index} has adapters of some expert matrices only`);
    put("mlp.experts.base_layer", ...stacked(rank, [gate, up]));
    put("mlp.experts", ...stacked(rank, [down]));
  }
  const expertsToo = [...tensors.keys()].some((name) => name.includes(".mlp.experts."));
  const config = {
    ...{ peft_type: "LORA", task_type: "CAUSAL_LM", base_model_name_or_path: base, inference_mode: true, bias: "none" },
    ...{ r: rank, lora_alpha: alpha, lora_dropout: 0, target_modules: [...modules].sort() },
    ...(expertsToo ? { target_parameters: ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"] } : {}),
    ...(expertsToo ? { rank_pattern: { gate_up_proj: 2 * rank }, alpha_pattern: { gate_up_proj: 2 * alpha } } : {}),
  };
  await write(resolve(folder), tensors, JSON.stringify(config, null, 2) + "\n");
}

function refuseUnloadable(tuned: TunedModel, folder: string): void {
  const refuse = (why: string) => {
    throw unloadable(folder, why);
  };
  const layers = moeLayers(tuned), counts = new Set(layers.map((l) => l.block.experts.length));
  if (counts.size > 1) refuse(`layers hold ${[...counts].join(" or ")} experts, and PEFT's base models hold equally many in each`);
  const low = layers.find((l) => l.block.experts.some((e) => [e.gate, e.up, e.down].some((m) => "left" in m)));
  if (low) refuse(`layer ${low.index} has low-rank experts, which PEFT's base models have not`);
  const [part] = keptPartsOf(tuned), sliced = keptOf(tuned).find(({ channels, biases }) => channels || biases);
  const other = part ?? sliced;
  if (other) refuse(`layer ${other.layer} has lost heads or channels, or has factors or biases, which PEFT's base models have not`);
  const names = [...tuned.adapters.values.keys()], { architecture, moe: { topK } } = tuned.config;
  const { num_experts_per_tok: before } = tuned.checkpoint.config;
  if (topK !== before) refuse(`a token uses ${topK} experts, ${before} by the config of the base model`);
  if (names.length === 0) refuse("there are none");
  if (names.some((name) => name.includes("/router/"))) refuse("routers were trained as a whole, which is no adapter");
  // PEFT 0.21 takes what ends in "gate_proj" for the fused parameter of the routed experts, except on Qwen2-MoE.
  if (architecture !== "qwen2_moe" && names.some((name) => /^\d+\/(shared|dense)\//.test(name))) {
    refuse(`it has adapters of shared experts or dense layers, which PEFT takes for those of routed experts on ${architecture}`);
  }
}

function unloadable(folder: string, why: string): Error {
  return new Error(`Cannot write adapters to "${folder}": ${why}; save the merged model with saveModel instead`);
}

/** Module of a weight below its layer. */
function moduleOf({ config }: Model, key: string): string {
  const [group, name] = key.split("/"), { names }: Architecture = ARCHITECTURES[config.architecture];
  if (group === "attention") return `self_attn.${name}`;
  return group === "shared" ? `mlp.${names.shared}.${name}_proj` : `mlp.${name}_proj`;
}

interface ExpertAdapters {
  count: number;
  rows: number;
  columns: number;
  /** `[experts, rank, columns]` */
  down: Float32Array;
  /** `[experts, rows, rank]` */
  up: Float32Array;
}

/**
 * One adapter for matrices that PEFT sees as one, the rows of one below those of the other: its rank is the sum of theirs. `lora_A` is
 * `[experts · rank, in]`, expert after expert; `lora_B` is `[out, rank · experts]` with the expert as the faster index.
 */
function stacked(rank: number, parts: ExpertAdapters[]): [Matrix, Matrix] {
  const [{ count, columns }] = parts, ranks = parts.length * rank, rows = parts.reduce((n, part) => n + part.rows, 0);
  const down = new Float32Array(count * ranks * columns), up = new Float32Array(rows * ranks * count);
  let first = 0;
  parts.forEach((part, p) => {
    for (let e = 0; e < count; e++) {
      down.set(part.down.subarray(e * rank * columns, (e + 1) * rank * columns), (e * ranks + p * rank) * columns);
      for (let i = 0; i < part.rows; i++) {
        for (let k = 0; k < rank; k++) {
          up[((first + i) * ranks + p * rank + k) * count + e] = part.up[(e * part.rows + i) * rank + k];
        }
      }
    }
    first += part.rows;
  });
  return [{ shape: [count * ranks, columns], values: down }, { shape: [rows, ranks * count], values: up }];
}

const FILES = ["adapter_config.json", "adapter_model.safetensors"];

async function write(target: string, tensors: ReadonlyMap<string, Matrix>, config: string): Promise<void> {
  await using draft = await draftFolder(target);
  await expectOwnFolder(target, FILES, "adapters");
  await writeSafetensors(
    join(draft.path, FILES[1]),
    [...tensors].map(([name, { shape, values }]) => ({ name, ...heldSource(values, shape) })),
  );
  await Deno.writeTextFile(join(draft.path, FILES[0]), config);
  await draft.publish({ replace: true });
}
