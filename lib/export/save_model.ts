/**
 * Writes a model as a checkpoint.
 *
 * @module
 */

import { accompanyingFiles } from "../checkpoint/accompanying_files.ts";
import { narrow } from "../checkpoint/narrow.ts";
import { reviseJson } from "../checkpoint/revise_json.ts";
import type { Source } from "../checkpoint/source.ts";
import { writeCheckpoint } from "../checkpoint/write_checkpoint.ts";
import { BYTES, type DType, type TensorSource } from "../device/device.ts";
import { widen } from "../device/cpu/widen.ts";
import { ARCHITECTURES } from "../model/architectures.ts";
import { assembleModel, type KeptLayer } from "../model/assemble_model.ts";
import { expect, expectModel } from "../model/expect.ts";
import type { WinnowConfig } from "../model/kept_layers.ts";
import { type Model, moeLayers, type RowSource } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";

export interface SaveModelOptions extends StageOptions {
  /** Type of all weights. @default the original type of each tensor; the factors of low-rank experts get that of the embedding */
  dtype?: DType;
  /** Bytes of tensors in a file; more go into several files with an index. @default 5e9 */
  shardBytes?: number;
  /** Replace a checkpoint that stands at the target. @default false */
  overwrite?: boolean;
}

/** What was written. */
export interface SavedModel {
  path: string;
  files: string[];
  bytes: number;
  /** `native`: plain transformers loads it. `winnow`: layers differ in their experts or have low-rank ones, which only Winnow reads. */
  form: "native" | "winnow";
}

/**
 * Writes a model in Hugging Face layout: weights tensor by tensor, config.json, tokenizer and generation config. A kill at any moment leaves the target
 * as it was.
 *
 * A model whose layers have equally many, dense experts is an ordinary checkpoint of its architecture. Any other gets the `model_type` `winnow_…`, so that
 * no other program mistakes it for one. The config's `winnow` entry keeps the experts' original ids in both.
 *
 * @param path The folder to write.
 * @throws {RangeError} If a weight is too large for the type.
 * @throws {Error} If the folder exists and may not be replaced, or is the one that the model is read from.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { pruneExperts } from "../model/prune_experts.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), folder = await Deno.makeTempDir();
 * const pruned = pruneExperts(model, { layers: [{ layer: 0, drop: [7] }] });
 * assertEquals((await saveModel(pruned, `${folder}/pruned`)).form, "winnow");
 * assertEquals((await openModel(`${folder}/pruned`)).config.architecture, "mixtral");
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function saveModel(model: Model, path: string, options: SaveModelOptions = {}): Promise<SavedModel> {
  expectModel(model, "save");
  expect(typeof path === "string" && path !== "", "save", "the path of a folder", path);
  const { signal, onProgress, dtype: wanted, shardBytes } = options, { source } = model.checkpoint;
  if (wanted !== undefined && !Object.hasOwn(BYTES, wanted)) {
    throw new TypeError(`Cannot save: "dtype" must be ${Object.keys(BYTES).join(", ")}, received "${wanted}"`);
  }
  if (shardBytes !== undefined && !(shardBytes > 0)) {
    throw new RangeError(`Cannot save: "shardBytes" must be above 0, received ${shardBytes}`);
  }
  const real = (folder: string) => Deno.realPath(folder).catch(() => folder);
  if (await real(path) === await real(source.location)) {
    throw new Error(`Cannot save to "${path}": the model is read from there; choose another folder`);
  }
  const kept = keptOf(model), form = isPlain(model, kept) ? "native" : "winnow";
  const files: Map<string, string | Uint8Array> = new Map(await accompanyingFiles(source));
  files.set("config.json", reviseJson(await configOf(source), changesOf(model, kept, form, options.dtype)));
  const tensors = namedTensors(model, kept).map(({ name, source }) => {
    const dtype = options.dtype ?? (/\.(left|right)\.weight$/.test(name) ? model.embedding.dtype : source.dtype);
    return { name, ...converted(name, source, dtype) };
  });
  const written = await writeCheckpoint(path, { tensors, files }, {
    ...options,
    signal,
    onProgress: ({ bytes, total }) => onProgress?.({ stage: "save", done: bytes, total, unit: "bytes" }),
  });
  return { path, form, ...written };
}

async function configOf(source: Source): Promise<string> {
  const json = await source.text("config.json");
  if (json !== undefined) return json;
  throw new Error(`Cannot save: the model's checkpoint is gone, found no "config.json" in "${source.location}"`);
}

function keptOf(model: Model): KeptLayer[] {
  return moeLayers(model).map(({ index, block: { experts } }) => {
    const ranks = experts.map(({ gate }) => "left" in gate ? gate.right.shape[0] : null);
    return { layer: index, experts: experts.map((e) => e.id), ...(ranks.some((r) => r !== null) ? { ranks } : {}) };
  });
}

/** Can a config of the architecture describe the model? It has one number of experts for all layers, and groups of equal size. */
function isPlain({ config: { moe } }: Model, kept: KeptLayer[]): boolean {
  const counts = new Set(kept.map((k) => k.experts.length)), dense = kept.every((k) => !k.ranks);
  return dense && counts.size <= 1 && (!moe.groups || counts.has(moe.experts));
}

/** What the config has to say differently. */
function changesOf({ config }: Model, kept: KeptLayer[], form: SavedModel["form"], dtype?: DType): Record<string, unknown> {
  const { loader } = ARCHITECTURES[config.architecture], winnow: WinnowConfig = { experts: config.moe.experts, layers: kept };
  const present = (keys: string[], value: unknown) =>
    Object.fromEntries(keys.filter((key) => config.raw[key] !== undefined).map((key) => [key, value]));
  const plain = form === "native",
    left = kept[0]?.experts.length ?? config.moe.topK,
    names = { F32: "float32", BF16: "bfloat16", F16: "float16" };
  return {
    model_type: plain ? config.architecture : `winnow_${config.architecture}`,
    architectures: [plain ? loader : `Winnow${loader}`],
    ...(plain && kept.length > 0 ? present(["num_experts", "num_local_experts", "n_routed_experts"], left) : {}),
    ...(plain && left < config.moe.topK ? { num_experts_per_tok: left } : {}),
    ...(dtype ? present(["dtype", "torch_dtype"], names[dtype]) : {}),
    winnow,
  };
}

/** Every tensor of a model with the name it has in a checkpoint: the same assembly that opens one, asked only for names. */
function namedTensors(model: Model, kept: KeptLayer[]): { name: string; source: TensorSource }[] {
  const named = assembleModel(model.config, (name, shape) => ({ name, shape }) as unknown as RowSource, kept);
  const found = new Map<string, TensorSource>();
  const pair = (names: object, tensors: object) => {
    if ("name" in names) return void found.set(names.name as string, tensors as TensorSource);
    for (const [key, value] of Object.entries(names)) {
      if (typeof value === "object" && value !== null) pair(value, (tensors as Record<string, object>)[key]);
    }
  };
  pair(named, model);
  return [...found].map(([name, source]) => ({ name, source }));
}

/** Largest number that rounds to a finite one in float16. */
const HALF_MAX = 65519.99;

/** The tensor in another type, rounded to nearest even. */
function converted(name: string, source: TensorSource, dtype: DType): TensorSource {
  if (dtype === source.dtype) return { dtype, shape: source.shape, read: (into) => source.read(into) };
  return {
    dtype,
    shape: source.shape,
    read: async (into) => {
      const size = source.shape.reduce((a, b) => a * b, 1), raw = new Uint8Array(size * BYTES[source.dtype]), wide = new Float32Array(size);
      await source.read(raw);
      widen(raw, source.dtype, 0, wide);
      const large = dtype === "F16" ? wide.find((value) => Math.abs(value) > HALF_MAX) : undefined;
      if (large !== undefined) {
        throw new RangeError(`Cannot save tensor "${name}" as F16: it holds ${large}, beyond 65504; choose BF16 or F32`);
      }
      into.set(narrow(wide, dtype));
    },
  };
}
