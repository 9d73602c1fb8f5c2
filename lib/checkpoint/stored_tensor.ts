/**
 * Tensors that stay in their file until someone reads them.
 *
 * @module
 */

import type { DType, TensorSource } from "../device/device.ts";
import type { FileType } from "./file_type.ts";
import { parallel } from "./parallel.ts";
import type { TensorEntry } from "./parse_header.ts";
import { planRows } from "./plan_rows.ts";
import type { Source } from "./source.ts";

/** A tensor of a checkpoint. */
export interface StoredTensor<D extends FileType = DType> extends Omit<TensorSource, "dtype"> {
  readonly name: string;
  readonly dtype: D;
  /** The file that holds it, by its path in the source. */
  readonly file: string;
  readonly bytes: number;
  /**
   * Fills `into` with some rows (entries of the first dimension), one after the other: the embeddings of the tokens that occur,
   * say. Rows that lie close together are read in one go.
   *
   * @param rows Row numbers, ascending, each once.
   * @param into Exactly as long as the rows.
   * @throws {RangeError} If a row is outside the tensor, rows are not ascending, or `into` has another length.
   */
  readRows(rows: Uint32Array, into: Uint8Array): Promise<void>;
  /**
   * Fills `into` with whole rows from row `first` on.
   *
   * @throws {RangeError} If they are not all rows of the tensor.
   */
  readSlice(first: number, into: Uint8Array): Promise<void>;
}

/** Runs of rows under way at the same time. */
const AT_ONCE = 4;

/**
 * Makes a tensor that reads its bytes on demand.
 *
 * @param source Where its file lies.
 * @param entry Where in the file it lies, of a type that can be read.
 * @returns The tensor.
 *
 * @example
 * ```ts
 * import { folderSource } from "./folder_source.ts";
 * import { readHeader } from "./read_header.ts";
 * import { assertEquals } from "@std/assert";
 * const source = folderSource("notebooks/checkpoints/tiny-mixtral");
 * const entries = await readHeader(source, "model.safetensors");
 * const entry = entries!.find((t) => t.name === "model.embed_tokens.weight")!;
 * const embeddings = storedTensor(source, { ...entry, dtype: "BF16" });
 * const whole = new Uint8Array(embeddings.bytes), two = new Uint8Array(2 * 256);
 * await embeddings.read(whole);
 * await embeddings.readRows(Uint32Array.from([5, 900]), two);
 * assertEquals(two.subarray(256), whole.subarray(900 * 256, 901 * 256));
 * ```
 */
export function storedTensor<D extends FileType = DType>(
  source: Source,
  { name, dtype, shape, file, start, bytes }: TensorEntry & { dtype: D },
): StoredTensor<D> {
  const shown = `tensor "${name}" of "${source.location}/${file}"`;
  const checkLength = (into: Uint8Array, expected: number) => {
    if (into.length !== expected) throw new RangeError(`Cannot read ${shown}: the buffer has ${into.length} bytes, expected ${expected}`);
  };
  const count = shape[0] ?? 0, rowBytes = bytes / Math.max(1, count);
  return {
    ...{ name, dtype, shape, file, bytes, ranges: [{ files: source, path: file, start, bytes }] },
    async read(into) {
      checkLength(into, bytes);
      if (bytes > 0) await source.read(file, start, into);
    },
    async readRows(rows, into) {
      rows.forEach((row, i) => {
        if (row >= count) throw new RangeError(`Cannot read ${shown}: row ${row} is outside its ${count} rows`);
        if (i > 0 && row <= rows[i - 1]) {
          throw new RangeError(`Cannot read ${shown}: row ${row} comes after ${rows[i - 1]}, expected ascending rows`);
        }
      });
      checkLength(into, rows.length * rowBytes);
      const readFrom = (row: number, part: Uint8Array) => source.read(file, start + row * rowBytes, part);
      await parallel(planRows(rows, rowBytes), AT_ONCE, ({ begin, end }) => {
        return readRun(readFrom, rows.subarray(begin, end), rowBytes, into.subarray(begin * rowBytes, end * rowBytes));
      });
    },
    async readSlice(first, into) {
      const rows = into.length === 0 ? 0 : into.length / rowBytes;
      if (!(Number.isInteger(rows) && first >= 0 && first + rows <= count)) {
        throw new RangeError(`Cannot read ${shown}: ${into.length} bytes from row ${first} on are not rows of its ${count}`);
      }
      if (rows > 0) await source.read(file, start + first * rowBytes, into);
    },
  };
}

async function readRun(
  readFrom: (row: number, part: Uint8Array) => Promise<void>,
  rows: Uint32Array,
  rowBytes: number,
  into: Uint8Array,
): Promise<void> {
  const first = rows[0], span = rows[rows.length - 1] - first + 1;
  if (span === rows.length) return await readFrom(first, into);
  const part = new Uint8Array(span * rowBytes);
  await readFrom(first, part);
  rows.forEach((row, i) => into.set(part.subarray((row - first) * rowBytes, (row - first + 1) * rowBytes), i * rowBytes));
}
