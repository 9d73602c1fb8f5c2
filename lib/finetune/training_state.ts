/**
 * Training that can be stopped and continued.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { draftFolder } from "../checkpoint/draft_folder.ts";
import { folderSource } from "../checkpoint/folder_source.ts";
import { parseJsonObject } from "../checkpoint/parse_json_object.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { writeSafetensors } from "../checkpoint/write_safetensors.ts";

/** One step of a training. */
export interface TrainingPoint {
  /** From 1 on. */
  step: number;
  /** Mean negative log-likelihood of the step's tokens before it was taken, in nats. */
  loss: number;
  learningRate: number;
  /** Norm of the gradient over all parameters, before clipping. */
  gradientNorm: number;
}

/** Where a training stands: everything that the next step depends on. */
export interface TrainingState {
  /** Steps done. */
  step: number;
  history: TrainingPoint[];
  /** What was asked for. Only the same recipe can be continued. */
  recipe: Record<string, unknown>;
  /** Parameters and AdamW's moments, by "value/…", "first/…" and "second/…". */
  arrays: Map<string, Float32Array<ArrayBuffer>>;
}

const NUMBERS = "training.safetensors", NOTES = "training.json";

/** Writes a state into a folder, complete or not at all. @throws {Error} If the folder holds anything else, or the disk does not allow it. */
export async function writeTrainingState(folder: string, { step, history, recipe, arrays }: TrainingState): Promise<void> {
  const target = resolve(folder);
  await using draft = await draftFolder(target);
  const names = await Array.fromAsync(Deno.readDir(target), ({ name }) => name).catch(() => []);
  const strange = names.find((name) => name !== NUMBERS && name !== NOTES);
  if (strange !== undefined) {
    throw new Error(`Cannot write the training state to "${target}": it holds "${strange}", expected an empty or new folder`);
  }
  const tensors = [...arrays].map(([name, values]) => ({
    ...{ name, dtype: "F32" as const, shape: [values.length] },
    read: (into: Uint8Array) => Promise.resolve(into.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength))),
  }));
  await writeSafetensors(join(draft.path, NUMBERS), tensors);
  await Deno.writeTextFile(join(draft.path, NOTES), JSON.stringify({ step, history, recipe }, null, 2) + "\n");
  await draft.publish({ replace: true });
}

/** Reads a state back; undefined where there is none. @throws {Error} If it was made with another recipe, or is damaged. */
export async function readTrainingState(folder: string, recipe: Record<string, unknown>): Promise<TrainingState | undefined> {
  const source = folderSource(resolve(folder)), text = await source.text(NOTES);
  if (text === undefined) return undefined;
  const notes = parseJsonObject(text, `${folder}/${NOTES}`) as unknown as Omit<TrainingState, "arrays">;
  for (const [name, wanted] of Object.entries(recipe)) {
    const found = JSON.stringify(notes.recipe?.[name]);
    if (found !== JSON.stringify(wanted)) {
      throw new Error(`Cannot continue the training in "${folder}": its "${name}" is ${found}, now it is ${JSON.stringify(wanted)}`);
    }
  }
  const arrays: TrainingState["arrays"] = new Map();
  for (const entry of await readHeader(source, NUMBERS) ?? []) {
    const values = new Float32Array(entry.shape[0]);
    await storedTensor(source, { ...entry, dtype: "F32" }).read(new Uint8Array(values.buffer));
    arrays.set(entry.name, values);
  }
  return { ...notes, arrays };
}
