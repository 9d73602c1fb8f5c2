/**
 * Which tensors go into which file.
 *
 * @module
 */

/** A file and what it holds. */
export interface Shard<T> {
  /** Such as `model-00001-of-00002.safetensors`, or `model.safetensors` where there is one file. */
  file: string;
  tensors: T[];
}

/**
 * Splits tensors, in order of their names, into files of at most `shardBytes`; a tensor that is larger gets a file of its own.
 *
 * @param tensors What to split.
 * @param bytesOf Bytes of a tensor.
 * @param shardBytes Bytes of tensors in a file.
 * @returns The files; one, perhaps empty, when all fits.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const shards = planShards([{ name: "b" }, { name: "a" }, { name: "c" }], () => 10, 20);
 * assertEquals(shards.map(({ file, tensors }) => [file, tensors.length]), [
 *   ["model-00001-of-00002.safetensors", 2],
 *   ["model-00002-of-00002.safetensors", 1],
 * ]);
 * ```
 */
export function planShards<T extends { name: string }>(
  tensors: Iterable<T>,
  bytesOf: (tensor: T) => number,
  shardBytes: number,
): Shard<T>[] {
  const shards: T[][] = [[]];
  let held = 0;
  for (const tensor of [...tensors].sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const bytes = bytesOf(tensor);
    if (held > 0 && held + bytes > shardBytes) {
      shards.push([]);
      held = 0;
    }
    shards[shards.length - 1].push(tensor);
    held += bytes;
  }
  if (shards.length === 1) return [{ file: "model.safetensors", tensors: shards[0] }];
  const digits = (number: number) => String(number).padStart(5, "0");
  return shards.map((tensors, i) => ({ file: `model-${digits(i + 1)}-of-${digits(shards.length)}.safetensors`, tensors }));
}
