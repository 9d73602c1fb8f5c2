/**
 * Large arrays that should not stay in memory.
 *
 * @module
 */

import { fileError } from "./file_error.ts";
import { readAll } from "./read_all.ts";
import { writeAll } from "./write_all.ts";

/** An array in a scratch. */
export interface Stored {
  /** Numbers. */
  readonly length: number;
  /**
   * Fills `into` with the numbers from `start` on.
   *
   * @throws {RangeError} If they reach beyond the array.
   * @throws {Error} If the scratch has been disposed.
   */
  read(start: number, into: Float32Array): Promise<void>;
}

interface TemporaryFile {
  handle: Deno.FsFile;
  /** Where it can still be found by name. */
  path?: string;
  /** Bytes in use. */
  end: number;
}

/** Bytes that a scratch keeps in memory, unless told otherwise. */
export const SCRATCH_MEMORY: number = 2 ** 29;

/**
 * Keeps copies of arrays: in memory up to a limit, the rest in one temporary file.
 *
 * The file has no name where the system allows that (it is unlinked as soon as it is open), so that nothing is left however the process
 * ends; on Windows it is removed on disposal. Memory is given back at once on disposal, not when the collector gets to it.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * using scratch = new Scratch({ memory: 0 });
 * const stored = await scratch.store(Float32Array.of(1, 2, 3));
 * const into = new Float32Array(2);
 * await stored.read(1, into);
 * assertEquals(into, Float32Array.of(2, 3));
 * ```
 */
export class Scratch implements Disposable {
  readonly #blocks: Float32Array<ArrayBuffer>[] = [];
  #room: number;
  #file?: TemporaryFile;
  /** The file has one position: whoever moves it waits for the one before. */
  #turn: Promise<unknown> = Promise.resolve();
  #disposed = false;

  /**
   * @param options.memory Bytes kept in memory before the file is used, 512 MiB by default.
   */
  constructor({ memory = SCRATCH_MEMORY }: { memory?: number } = {}) {
    this.#room = memory;
  }

  /**
   * Keeps a copy of an array.
   *
   * @param values The numbers.
   * @returns A way to read them back.
   * @throws {Error} If the scratch has been disposed, or the disk does not take them.
   */
  async store(values: Float32Array): Promise<Stored> {
    this.#checkAlive();
    const length = values.length;
    const read = values.byteLength <= this.#room ? this.#keep(values) : await this.#spill(values);
    return {
      length,
      read: async (start, into) => {
        this.#checkAlive();
        if (!(start >= 0 && start + into.length <= length)) {
          throw new RangeError(`Cannot read ${into.length} numbers from ${start}: the stored array has ${length}`);
        }
        await read(start, into);
      },
    };
  }

  /** Gives back memory and file. Stored arrays cannot be read afterwards. */
  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const block of this.#blocks) block.buffer.transfer(0);
    this.#closeFile();
  }

  #checkAlive(): void {
    if (this.#disposed) throw new Error("Cannot use the scratch: it has been disposed");
  }

  #keep(values: Float32Array): (start: number, into: Float32Array) => void {
    const block = values.slice();
    this.#blocks.push(block);
    this.#room -= block.byteLength;
    return (start, into) => into.set(block.subarray(start, start + into.length));
  }

  /** The function it gives must not see `values`: it would keep alive what was stored to get it out of memory. */
  async #spill(values: Float32Array): Promise<(start: number, into: Float32Array) => Promise<void>> {
    const begin = await this.#append(values);
    return (start, into) => this.#readBack(begin + start * Float32Array.BYTES_PER_ELEMENT, into);
  }

  /** Gives the position in the file at which the numbers begin. */
  #append(values: Float32Array): Promise<number> {
    return this.#inTurn(async () => {
      const file = this.#file ?? await this.#createFile(), begin = file.end;
      await file.handle.seek(begin, Deno.SeekMode.Start);
      await writeAll(file.handle, bytesOf(values));
      file.end += values.byteLength;
      return begin;
    });
  }

  #readBack(position: number, into: Float32Array): Promise<void> {
    return this.#inTurn(async () => {
      const { handle } = this.#file!;
      await handle.seek(position, Deno.SeekMode.Start);
      const done = await readAll(handle, bytesOf(into));
      if (done < into.byteLength) throw new Error("Cannot use a temporary file: it lost what was written to it");
    });
  }

  async #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(async () => {
      this.#checkAlive();
      try {
        return await work();
      } catch (error) {
        this.#checkAlive(); // closing the file ends what is under way
        throw fileError("use", "a temporary file", error);
      }
    });
    this.#turn = result.catch(() => {});
    return await result;
  }

  async #createFile(): Promise<TemporaryFile> {
    const path = await Deno.makeTempFile({ prefix: "winnow-" });
    const handle = await Deno.open(path, { read: true, write: true });
    const file: TemporaryFile = { handle, path, end: 0 };
    if (Deno.build.os !== "windows") {
      await Deno.remove(path);
      delete file.path;
    }
    this.#file = file;
    if (this.#disposed) this.#closeFile(); // while the file was being created
    return file;
  }

  #closeFile(): void {
    this.#file?.handle.close();
    if (this.#file?.path) Deno.removeSync(this.#file.path);
  }
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
