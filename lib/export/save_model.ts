/**
 * Writes a model as a checkpoint.
 *
 * @module
 */

import { accompanyingFiles } from "../checkpoint/accompanying_files.ts";
import { narrow } from "../checkpoint/narrow.ts";
import { readWide } from "../checkpoint/read_wide.ts";
import { reviseJson } from "../checkpoint/revise_json.ts";
import type { Source } from "../checkpoint/source.ts";
import { writeCheckpoint } from "../checkpoint/write_checkpoint.ts";
import { BYTES, type DType, type TensorSource } from "../device/device.ts";
import { ARCHITECTURES } from "../model/architectures.ts";
import { assembleModel, type KeptLayer } from "../model/assemble_model.ts";
import { expect } from "../model/expect.ts";
import { expectModel, expectOptions } from "../model/expect_stage.ts";
import { keptOf, type WinnowConfig } from "../model/kept_layers.ts";
import { keptPartsOf } from "../model/kept_parts.ts";
import type { Model, RowSource } from "../model/model.ts";
import { parseConfig } from "../model/parse_config.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { type Form, formOf } from "./form.ts";
import modelingWinnow from "./modeling_winnow.py" with { type: "text" };
import type { Provenance } from "./model_record.ts";
import { recordOf } from "./record.ts";

export interface SaveModelOptions extends StageOptions {
  /** See {@linkcode Form}. @default "native" where that can hold the model, else "remote-code" */
  form?: Form;
  /** What winnow.json shall say about how the model was made, beyond what the model itself shows: its plan and ranks. */
  record?: Provenance;
  /** Type of all weights. @default the original type of each tensor, also where adapters were merged into it; the factors of low-rank experts get that of the embedding */
  dtype?: DType;
  /** Bytes of tensors in a file; more go into several files with an index. @default 5e9 */
  shardBytes?: number;
  /** Replace a checkpoint that stands at the target. @default false */
  overwrite?: boolean;
}

/** What was written. */
export interface SavedModel {
  path: string;
  form: Form;
  /** Names, sorted. */
  files: string[];
  /** Of all files. */
  bytes: number;
  /** See {@linkcode ModelRecord}. */
  recipe: string;
}

/**
 * Writes a model in Hugging Face layout: weights tensor by tensor, config.json, tokenizer and generation config, and winnow.json, from which it can be
 * cut again (see {@linkcode readRecord}). A kill at any moment leaves the target as it was.
 *
 * In the form `native` it is an ordinary checkpoint: all layers have equally many, dense experts. The form `remote-code` takes any model. Its
 * `modeling_winnow.py` subclasses the architecture's classes in transformers 5, for `AutoModelForCausalLM.from_pretrained(path, trust_remote_code=True)`,
 * and its `model_type` is `winnow_…`, so that no other program mistakes it for an ordinary one. `openModel` opens both, and both keep the experts'
 * original ids in the config's `winnow` entry.
 *
 * @param model Any model.
 * @param path The folder to write.
 * @param options Form, record, type of the weights, files.
 * @returns What was written.
 * @throws {Error} If the form cannot hold the model, or the folder exists and may not be replaced, or is the one that the model is read from.
 * @throws {TypeError} If the record does not fit the model.
 * @throws {RangeError} If a weight is too large for the type.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { pruneExperts } from "../model/prune_experts.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), folder = await Deno.makeTempDir();
 * const pruned = pruneExperts(model, { layers: [{ layer: 0, drop: [7] }] });
 * assertEquals((await saveModel(pruned, `${folder}/pruned`)).form, "remote-code");
 * assertEquals((await openModel(`${folder}/pruned`)).config.architecture, "mixtral");
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function saveModel(model: Model, path: string, options: SaveModelOptions = {}): Promise<SavedModel> {
  expectModel(model, "save");
  expectOptions(options, "save");
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
  const left = keptOf(model), form = formOf(model, left, options.form);
  const kept = form === "native" ? left.map(({ merged: _, ...layer }) => layer) : left,
    changes = changesOf(model, kept, form, options.dtype);
  const { json, record } = await recordOf(model, left, options.record);
  const files: Map<string, string | Uint8Array> = new Map(await accompanyingFiles(source));
  files.set("config.json", reviseJson(await configOf(source), changes));
  files.set("winnow.json", json);
  if (form === "remote-code") files.set("modeling_winnow.py", modelingWinnow);
  const tensors = namedTensors(model, { ...model.config.raw, ...changes }, kept).map(({ name, source }) => {
    const dtype = options.dtype ?? (/\.(left|right)\.weight$/.test(name) ? model.embedding.dtype : source.origin ?? source.dtype);
    return { name, ...converted(name, source, dtype) };
  });
  const written = await writeCheckpoint(path, { tensors, files }, {
    ...options,
    signal,
    onProgress: ({ bytes, total }) => onProgress?.({ stage: "save", done: bytes, total, unit: "bytes" }),
  });
  return { path, form, ...written, recipe: record.recipe };
}

async function configOf(source: Source): Promise<string> {
  const json = await source.text("config.json");
  if (json !== undefined) return json;
  throw new Error(`Cannot save: the model's checkpoint is gone, found no "config.json" in "${source.location}"`);
}

/** What the config has to say differently; undefined removes a key. */
function changesOf(model: Model, kept: KeptLayer[], form: Form, dtype?: DType): Record<string, unknown> {
  const { config, checkpoint } = model, { architecture, moe, raw } = config, { loader } = ARCHITECTURES[architecture];
  const parts = keptPartsOf(model), winnow: WinnowConfig = { experts: moe.experts, layers: kept, ...(parts.length > 0 ? { parts } : {}) };
  // Merged layers change the config itself.
  const own = Object.fromEntries(Object.entries(raw).filter(([key, value]) => value !== checkpoint.config[key]));
  const present = (keys: string[], value: unknown) =>
    Object.fromEntries(keys.filter((key) => raw[key] !== undefined).map((key) => [key, value]));
  const names = { F32: "float32", BF16: "bfloat16", F16: "float16" }, typed = dtype ? present(["dtype", "torch_dtype"], names[dtype]) : {};
  if (form === "remote-code") {
    const [config, model] = [loader.replace("ForCausalLM", "Config"), loader].map((name) => `modeling_winnow.Winnow${name}`);
    return {
      ...own,
      model_type: `winnow_${architecture}`,
      architectures: [`Winnow${loader}`],
      auto_map: { AutoConfig: config, AutoModelForCausalLM: model },
      // The loss that balances experts is not defined over layers with different numbers of them.
      ...present(["output_router_logits"], false),
      num_experts_per_tok: moe.topK,
      ...typed,
      winnow,
    };
  }
  const count = kept[0]?.experts.length ?? moe.experts;
  return {
    ...own,
    model_type: architecture,
    architectures: [loader],
    auto_map: undefined, // the original's own code does not come along
    ...present(["num_experts", "num_local_experts", "n_routed_experts"], count),
    num_experts_per_tok: Math.min(count, moe.topK),
    ...typed,
    winnow,
  };
}

/** Every tensor of a model with the name it has in a checkpoint with this config: the same assembly that opens one, asked only for names. */
function namedTensors(model: Model, raw: Record<string, unknown>, kept: KeptLayer[]): { name: string; source: TensorSource }[] {
  const named = assembleModel(parseConfig(raw), (name, shape) => ({ name, shape }) as unknown as RowSource, kept, keptPartsOf(model));
  const found = new Map<string, TensorSource>();
  const pair = (names: object, tensors: object) => {
    if ("name" in names) {
      const { name, shape } = names as { name: string; shape: number[] }, tensor = tensors as TensorSource;
      if (`${tensor.shape}` !== `${shape}`) {
        throw new Error(`Cannot save tensor "${name}": it is [${tensor.shape}], expected [${shape}] beside the others of its layer`);
      }
      return void found.set(name, tensor);
    }
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
      const wide = await readWide(source);
      const large = dtype === "F16" ? wide.find((value) => Math.abs(value) > HALF_MAX) : undefined;
      if (large !== undefined) {
        throw new RangeError(`Cannot save tensor "${name}" as F16: it holds ${large}, beyond 65504; choose BF16 or F32`);
      }
      into.set(narrow(wide, dtype));
    },
  };
}
