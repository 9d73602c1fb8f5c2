/**
 * Training that can be stopped and continued.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { draftFolder } from "../checkpoint/draft_folder.ts";
import { expectOwnFolder } from "../checkpoint/expect_own_folder.ts";
import { folderSource } from "../checkpoint/folder_source.ts";
import { heldSource } from "../checkpoint/held_source.ts";
import { isObject, parseJsonObject } from "../checkpoint/parse_json_object.ts";
import type { TensorEntry } from "../checkpoint/parse_header.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { writeSafetensors } from "../checkpoint/write_safetensors.ts";

/** One step of a training. */
export interface TrainingPoint {
  /** From 1 on. */
  step: number;
  /** Mean negative log-likelihood of the step's tokens before it was taken, in nats. */
  loss: number;
  /** Mean over layers and the step's tokens of the entropy of the router's probabilities, in nats. */
  entropy: number;
  /** Mean over layers of the entropy of the mean probabilities: it falls where tokens crowd together on few experts. */
  meanEntropy: number;
  /** Experts a token used. */
  topK: number;
  learningRate: number;
  /** Norm of the gradient over all parameters, before clipping. */
  gradientNorm: number;
}

/** Where a training stands: everything that the next step depends on. */
export interface TrainingState {
  /** Steps done. */
  step: number;
  history: TrainingPoint[];
  /** What was asked for, of which model and examples. Only the same can be continued. */
  recipe: Record<string, unknown>;
  /** Parameters and AdamW's moments, by "value/…", "first/…" and "second/…". */
  arrays: Map<string, Float32Array<ArrayBuffer>>;
}

/** What states do not tell that were written before there was a choice. */
const FORMER: Readonly<Record<string, unknown>> = { adapter: "lora" };

const NUMBERS = "training.safetensors", NOTES = "training.json", WHAT = "the training state";

/** Writes a state into a folder, complete or not at all. @throws {Error} If the folder holds anything else, or the disk does not allow it. */
export async function writeTrainingState(folder: string, { step, history, recipe, arrays }: TrainingState): Promise<void> {
  const target = resolve(folder);
  await using draft = await draftFolder(target);
  await expectOwnFolder(target, [NUMBERS, NOTES], WHAT);
  const tensors = [...arrays].map(([name, values]) => ({ name, ...heldSource(values, [values.length]) }));
  await writeSafetensors(join(draft.path, NUMBERS), tensors);
  await Deno.writeTextFile(join(draft.path, NOTES), JSON.stringify({ step, history, recipe }, null, 2) + "\n");
  await draft.publish({ replace: true });
}

/**
 * Reads a state back; undefined where there is none.
 *
 * @param recipe What must have been asked for.
 * @param sizes Numbers in each array.
 * @throws {Error} If it was made with another recipe, or is damaged; if no state can be written there later.
 */
export async function readTrainingState(
  folder: string,
  recipe: Record<string, unknown>,
  sizes: ReadonlyMap<string, number>,
): Promise<TrainingState | undefined> {
  const target = resolve(folder), source = folderSource(target);
  await (await draftFolder(target))[Symbol.asyncDispose](); // what a kill left beside its place goes back there
  await expectOwnFolder(target, [NUMBERS, NOTES], WHAT);
  const text = await source.text(NOTES);
  if (text === undefined) return undefined;
  const fail = (why: string) => new Error(`Cannot continue the training in "${folder}": ${why}`);
  const { step, history, recipe: asked } = parseJsonObject(text, `${folder}/${NOTES}`);
  if (!isObject(asked)) throw fail(`"${NOTES}" names no recipe`);
  for (const [name, wanted] of Object.entries(recipe)) {
    const found = JSON.stringify(asked[name] ?? FORMER[name]);
    if (found !== JSON.stringify(wanted)) throw fail(`its "${name}" is ${found}, now it is ${JSON.stringify(wanted)}`);
  }
  if (!Number.isSafeInteger(step) || !Array.isArray(history) || history.length !== step) {
    throw fail(`"${NOTES}" must tell of as many steps as were done, found ${JSON.stringify(step)}`);
  }
  const entries = new Map((await readHeader(source, NUMBERS))?.map((entry) => [entry.name, entry]));
  const arrays: TrainingState["arrays"] = new Map();
  for (const [name, size] of sizes) {
    const entry: TensorEntry | undefined = entries.get(name);
    if (entry?.dtype !== "F32" || entry.bytes !== 4 * size) {
      const found = entry ? `${entry.dtype} [${entry.shape}]` : "nothing";
      throw fail(`"${NUMBERS}" must hold ${size} F32 numbers as "${name}", found ${found}`);
    }
    const values = new Float32Array(size);
    await storedTensor(source, { ...entry, dtype: "F32" }).read(new Uint8Array(values.buffer));
    arrays.set(name, values);
  }
  return { step: step as number, history, recipe: asked, arrays };
}
