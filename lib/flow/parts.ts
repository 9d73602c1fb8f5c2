/**
 * Finished parts of a computation, on disk.
 *
 * @module
 */

import { join } from "node:path";
import { folderSource } from "../checkpoint/folder_source.ts";
import { FILE_BYTES, type FileType } from "../checkpoint/file_type.ts";
import { readHeader } from "../checkpoint/read_header.ts";
import { storedTensor } from "../checkpoint/stored_tensor.ts";
import { writeSafetensors } from "../checkpoint/write_safetensors.ts";
import type { Resume } from "../model/stage_options.ts";
import { decodeData, encodeData } from "./data_codec.ts";
import { entriesOf, fileHash, textHash, writeSynced } from "./store.ts";

/** Parts of one computation. */
export interface Parts extends Resume {
  /** Names of the parts that are there. */
  names(): Promise<string[]>;
  /** Seconds that were spent before this process came. */
  readonly spentBefore: number;
  /** Notes seconds spent by this process. */
  spend(seconds: number): Promise<void>;
  /** For functions that keep their own state. */
  readonly folder: string;
  /** Removes everything. */
  clear(): Promise<void>;
}

/** What a part's file says. */
interface Note {
  name: string;
  /** Of `value`, as it stands there, and of the arrays' file. */
  sha256: string;
  arrays?: { file: string; sha256: string };
  value: string;
}

const SPENT = "spent.json", OWN = "own";

/**
 * Parts are two files: the arrays under a name that no file had before, then a note that names and hashes them; the note's renaming is what makes the part be
 * there. A kill leaves the part before, or none. What is damaged counts as not there.
 *
 * @param folder Where they lie. Only the process that holds the lock of the computation may write there.
 */
export async function openParts(folder: string): Promise<Parts> {
  const spentBefore = Number(JSON.parse(await Deno.readTextFile(join(folder, SPENT)).catch(() => "0"))) || 0;
  const fileOf = (name: string) => `part-${textHash(name).slice(0, 32)}.json`;
  const note = async (file: string): Promise<Note | undefined> => {
    try {
      const found: Note = JSON.parse(await Deno.readTextFile(join(folder, file)));
      if (textHash(found.value) !== found.sha256) return undefined;
      if (found.arrays && await fileHash(join(folder, found.arrays.file)) !== found.arrays.sha256) return undefined;
      return found;
    } catch {
      return undefined;
    }
  };
  const publish = async (file: string, text: string) => {
    await writeSynced(join(folder, `${file}.new`), text);
    await Deno.rename(join(folder, `${file}.new`), join(folder, file));
  };
  return {
    spentBefore,
    folder: join(folder, OWN),
    names: async () => {
      const files = (await entriesOf(folder)).filter(({ name }) => /^part-\w+\.json$/.test(name));
      const notes = await Promise.all(files.map(({ name }) => note(name)));
      return notes.flatMap((found) => found ? [found.name] : []);
    },
    get: async (name) => {
      const found = await note(fileOf(name));
      if (!found) return undefined;
      const source = folderSource(folder), entries = found.arrays ? (await readHeader(source, found.arrays.file))! : [];
      const arrays = entries.filter(({ dtype }) => Object.hasOwn(FILE_BYTES, dtype)).map((entry) => {
        return [entry.name, storedTensor(source, { ...entry, dtype: entry.dtype as FileType })] as const;
      });
      return await decodeData(JSON.parse(found.value), new Map(arrays));
    },
    put: async (name, value) => {
      await Deno.mkdir(folder, { recursive: true });
      const { json, arrays } = encodeData(value), text = JSON.stringify(json), before = await note(fileOf(name));
      let filed: Note["arrays"];
      if (arrays.size > 0) {
        const file = `${crypto.randomUUID()}.safetensors`;
        await writeSafetensors(join(folder, file), [...arrays].map(([name, array]) => ({ ...array, name })), { metadata: {} });
        filed = { file, sha256: await fileHash(join(folder, file)) };
      }
      await publish(fileOf(name), JSON.stringify({ name, sha256: textHash(text), arrays: filed, value: text } satisfies Note));
      if (before?.arrays) await Deno.remove(join(folder, before.arrays.file)).catch(() => {});
    },
    spend: async (seconds) => {
      if ((await entriesOf(folder)).length > 0) await publish(SPENT, JSON.stringify(spentBefore + seconds));
    },
    clear: async () => {
      await Deno.remove(folder, { recursive: true }).catch((error) => {
        if (!(error instanceof Deno.errors.NotFound)) throw error;
      });
    },
  };
}
