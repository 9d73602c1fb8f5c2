/** The embedded checkpoints and their data. */

import { fileURLToPath } from "node:url";
import type { Item } from "../lib/evaluate/multiple_choice.ts";
import type { Model } from "../lib/model/model.ts";
import { openModel } from "../lib/model/open_model.ts";
import type { Reference } from "./references/reference.ts";
import { reference as deepseek } from "./references/tiny_deepseek_v2.ts";
import { reference as mixtral } from "./references/tiny_mixtral.ts";
import { reference as qwen } from "./references/tiny_qwen2_moe.ts";

export const references: Record<string, Reference> = { "tiny-mixtral": mixtral, "tiny-qwen2-moe": qwen, "tiny-deepseek-v2": deepseek };

/** Path of an embedded checkpoint. */
export function folderOf(name: string): string {
  return fileURLToPath(new URL(`../notebooks/checkpoints/${name}`, import.meta.url));
}

export interface Fixture {
  model: Model;
  calibration: Uint32Array[];
  heldOut: Uint32Array[];
  items: Item[];
}

export async function openFixture(name: string): Promise<Fixture> {
  const folder = folderOf(name), { calibration, heldout } = JSON.parse(await Deno.readTextFile(`${folder}/tokens.json`));
  const arrays = (lists: number[][]) => lists.map((ids) => Uint32Array.from(ids));
  const items = (await Deno.readTextFile(`${folder}/tasks.jsonl`)).trim().split("\n").map((line) => JSON.parse(line));
  return { model: await openModel(folder), calibration: arrays(calibration), heldOut: arrays(heldout), items };
}
