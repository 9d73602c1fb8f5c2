/**
 * What lies beside a result and says how it came about.
 *
 * @module
 */

import { isObject } from "../checkpoint/parse_json_object.ts";
import { textHash } from "./files.ts";

/** How a result came about. */
export interface Manifest {
  /** Of the stage. */
  name: string;
  version: number;
  /** SHA-256 of everything that the result follows from. */
  key: string;
  /** SHA-256 of the result's files: what the stages below it depend on. */
  hash: string;
  codec: string;
  /** In the JSON of `encodeData`. */
  options: unknown;
  /** Hashes of the inputs' results, by the name of the input. */
  inputs: Record<string, string>;
  /** Hashes of the stored results that went into it, also through stages that are not stored, by the name of the stage. */
  sources: Record<string, string>;
  /** SHA-256 of the WGSL texts. */
  kernels: string[];
  /** Spent on computing it, over all stops. */
  seconds: number;
  bytes: number;
  device: { kind: string; name: string };
  versions: { winnow: string; deno: string };
  seed?: number;
  /** ISO 8601; later than what the stage's results before it say, whatever the clock did. */
  created: string;
  files: Record<string, { bytes: number; sha256: string }>;
}

/** The text of a manifest, with a checksum of itself. */
export function formatManifest(manifest: Manifest): string {
  return JSON.stringify({ ...manifest, checksum: textHash(JSON.stringify(manifest)) }, null, 2) + "\n";
}

/**
 * Reads the text back.
 *
 * @param text What the file holds.
 * @returns The manifest; undefined if any byte is another than was written.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const common = { version: 1, codec: "data", options: {}, inputs: {}, sources: {}, kernels: [], seconds: 1, bytes: 12, created: "2026-01-01" };
 * const made = { device: { kind: "cpu", name: "plain" }, versions: { winnow: "0", deno: "2" }, files: {} };
 * const text = formatManifest({ name: "two", key: "a", hash: "b", ...common, ...made });
 * assertEquals(parseManifest(text)?.name, "two");
 * assertEquals(parseManifest(text.replace('"seconds": 1', '"seconds": 7')), undefined);
 * ```
 */
export function parseManifest(text: string): Manifest | undefined {
  try {
    const found: unknown = JSON.parse(text);
    if (!isObject(found)) return undefined;
    const { checksum: _, ...manifest } = found;
    return formatManifest(manifest as unknown as Manifest) === text ? manifest as unknown as Manifest : undefined;
  } catch {
    return undefined;
  }
}
