/**
 * Differences on disk.
 *
 * @module
 */

import { join, resolve } from "node:path";
import { draftFolder } from "../checkpoint/draft_folder.ts";
import { expectOwnFolder } from "../checkpoint/expect_own_folder.ts";
import { tensorBytes, writeSafetensors } from "../checkpoint/write_safetensors.ts";
import { writeSynced } from "../checkpoint/write_synced.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { type CompressedDelta, expectDelta } from "./compressed_delta.ts";
import { encodeDelta } from "./encode_delta.ts";

/** What is in the folder of a difference. */
export const DELTA_FILES = { record: "delta.json", arrays: "delta.safetensors" } as const;

/** What was written. */
export interface SavedDelta {
  path: string;
  /** Of all files: codes packed as they are counted, and headers. */
  bytes: number;
}

/**
 * Writes a difference as `delta.json` and `delta.safetensors`, its codes packed. A kill at any moment leaves the folder as it was.
 *
 * @param folder The target; one that holds a difference is replaced.
 * @throws {TypeError} If an argument is none of its kind.
 * @throws {Error} If the folder holds anything else, a weight cannot be read, or the disk does not allow it.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { bitDelta } from "./bit_delta.ts";
 * import { openDelta } from "./open_delta.ts";
 * import { assertEquals } from "@std/assert";
 * const [base, tuned] = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * const delta = await bitDelta(base, tuned), folder = await Deno.makeTempDir();
 * await saveDelta(delta, folder);
 * assertEquals((await openDelta(folder)).linears, delta.linears);
 * await Deno.remove(folder, { recursive: true });
 * ```
 */
export async function saveDelta(delta: CompressedDelta, folder: string, options: StageOptions = {}): Promise<SavedDelta> {
  const purpose = "save a difference";
  expectDelta(delta, purpose);
  expectOptions(options, purpose);
  expect(typeof folder === "string" && folder !== "", purpose, "the path of a folder", folder);
  const target = resolve(folder), { json, arrays } = encodeDelta(delta), { signal, onProgress } = options;
  const total = [...arrays.values()].reduce((sum, array) => sum + tensorBytes(array), 0);
  let done = 0;
  await using draft = await draftFolder(target);
  await expectOwnFolder(target, Object.values(DELTA_FILES), "a difference");
  const tensors = [...arrays].map(([name, array]) => ({ name, ...array }));
  const size = await writeSafetensors(join(draft.path, DELTA_FILES.arrays), tensors, {
    ...{ metadata: {}, signal },
    onTensor: (bytes) => onProgress?.({ stage: "save difference", done: done += bytes, total, unit: "bytes" }),
  });
  const record = await writeSynced(join(draft.path, DELTA_FILES.record), JSON.stringify(json) + "\n");
  signal?.throwIfAborted();
  await draft.publish({ replace: true });
  return { path: folder, bytes: size + record };
}
