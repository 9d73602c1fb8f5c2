/**
 * Writing safetensors files without holding them in memory.
 *
 * @module
 */

import type { TensorSource } from "../device/device.ts";
import { fileError } from "./file_error.ts";
import { FILE_BYTES, type FileType } from "./file_type.ts";
import { LONGEST_HEADER } from "./read_header.ts";
import { writeAll } from "./write_all.ts";

/** A tensor to write. */
export interface NamedTensor extends Omit<TensorSource, "dtype"> {
  readonly name: string;
  readonly dtype: FileType;
  /** Fills `into` with whole rows (entries of the first dimension) from row `first` on: for arrays that are too large to be held. */
  readSlice?(first: number, into: Uint8Array): Promise<void>;
}

/** How to write a file of tensors. */
export interface WriteOptions {
  /**
   * Notes in the header. `format: "pt"` is what transformers looks for.
   *
   * @default {{ format: "pt" }}
   */
  metadata?: Readonly<Record<string, string>>;
  /** Stops between two tensors. */
  signal?: AbortSignal;
  /** Called after each tensor with its bytes. */
  onTensor?: (bytes: number) => void;
}

/** Bytes of the pieces in which an array is written that can be read in slices. */
const PIECE = 16 * 1024 * 1024;

/**
 * Writes a safetensors file, one tensor after the other through one buffer, and waits until the disk has it.
 *
 * The same tensors give the same bytes in whatever order they come: those of larger elements first, so that every tensor begins at a
 * multiple of its element size, and by name among equals.
 *
 * @param path The file; one that exists is overwritten.
 * @param tensors What to write.
 * @param options Metadata, signal, progress.
 * @returns Bytes of the file.
 * @throws {Error} If two tensors have one name, their header is longer than the format allows, a tensor cannot be read, or the file cannot be written.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const path = await Deno.makeTempFile();
 * const ones = { name: "ones", dtype: "F32", shape: [2], read: async (into: Uint8Array) => into.set([0, 0, 128, 63, 0, 0, 128, 63]) } as const;
 * assertEquals(await writeSafetensors(path, [ones]), (await Deno.readFile(path)).length);
 * await Deno.remove(path);
 * ```
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly NamedTensor[],
  { metadata = { format: "pt" }, signal, onTensor }: WriteOptions = {},
): Promise<number> {
  checkNames(tensors, path);
  const ordered = tensors.toSorted((a, b) => FILE_BYTES[b.dtype] - FILE_BYTES[a.dtype] || (a.name < b.name ? -1 : 1));
  const header = encodeHeader(ordered, metadata);
  if (header.length - 8 > LONGEST_HEADER) {
    throw new Error(
      `Cannot write "${path}": the header of its ${tensors.length} tensors has ${
        header.length - 8
      } bytes, expected at most ${LONGEST_HEADER}`,
    );
  }
  const buffer = new Uint8Array(ordered.reduce((most, tensor) => Math.max(most, pieceBytes(tensor)), 0));
  let written = 0;
  try {
    using file = await Deno.open(path, { write: true, create: true, truncate: true });
    await writeAll(file, header);
    written += header.length;
    for (const tensor of ordered) {
      signal?.throwIfAborted();
      const bytes = tensorBytes(tensor), piece = pieceBytes(tensor);
      for (let done = 0; done < bytes; done += piece) {
        const part = buffer.subarray(0, Math.min(piece, bytes - done));
        await (tensor.readSlice ? tensor.readSlice(done / rowBytes(tensor), part) : tensor.read(part));
        await writeAll(file, part);
      }
      written += bytes;
      onTensor?.(bytes);
    }
    await file.sync();
  } catch (error) {
    throw fileError("write", path, error);
  } finally {
    buffer.buffer.transfer(0); // the largest tensor: give it back now, not when the collector gets to it
  }
  return written;
}

/**
 * Bytes of a tensor.
 *
 * @param tensor Its type and shape.
 * @returns Elements times bytes of an element.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(tensorBytes({ dtype: "BF16", shape: [2, 3] }), 12);
 * ```
 */
export function tensorBytes({ dtype, shape }: { dtype: FileType; shape: readonly number[] }): number {
  return shape.reduce((product, size) => product * size, FILE_BYTES[dtype]);
}

/**
 * Checks that every tensor can have its own entry in a header.
 *
 * @param tensors What is to be written.
 * @param path Where to, for the message.
 * @throws {Error} If two tensors have one name, or one has the name of the metadata.
 *
 * @example
 * ```ts
 * import { assertThrows } from "@std/assert";
 * assertThrows(() => checkNames([{ name: "gate" }, { name: "gate" }], "out"), Error, 'tensor "gate" comes twice');
 * ```
 */
export function checkNames(tensors: Iterable<{ name: string }>, path: string): void {
  const names = new Set<string>();
  for (const { name } of tensors) {
    if (name === "__metadata__") throw new Error(`Cannot write "${path}": "__metadata__" cannot be the name of a tensor`);
    if (names.has(name)) throw new Error(`Cannot write "${path}": tensor "${name}" comes twice, expected each name once`);
    names.add(name);
  }
}

const rowBytes = (tensor: NamedTensor) => tensorBytes(tensor) / (tensor.shape[0] ?? 1);

/** Whole rows of what can be read in slices; all of anything else. */
function pieceBytes(tensor: NamedTensor): number {
  const bytes = tensorBytes(tensor);
  return tensor.readSlice && bytes > PIECE ? Math.max(1, Math.floor(PIECE / rowBytes(tensor))) * rowBytes(tensor) : bytes;
}

function encodeHeader(tensors: readonly NamedTensor[], metadata: Readonly<Record<string, string>>): Uint8Array {
  const entries: [string, unknown][] = [["__metadata__", metadata]];
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    const start = end;
    end += tensorBytes({ dtype, shape });
    entries.push([name, { dtype, shape, data_offsets: [start, end] }]);
  }
  const json = new TextEncoder().encode(JSON.stringify(Object.fromEntries(entries)));
  const length = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + length).fill(0x20, 8);
  new DataView(header.buffer).setBigUint64(0, BigInt(length), true);
  header.set(json, 8);
  return header;
}
