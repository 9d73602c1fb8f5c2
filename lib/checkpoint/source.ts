/**
 * Where a checkpoint's files lie: a folder, a web directory, or a model on the hub.
 *
 * @module
 */

/** A place that holds files by name and gives out any part of them. Nothing is read before it is asked for. */
export interface Source {
  /** For messages: the absolute folder, the address without its query, or `hf://owner/name@commit`. */
  readonly location: string;
  /** Bytes of a file; undefined when there is no such file. */
  size(path: string): Promise<number | undefined>;
  /** Fills `into` with the file's bytes from `start` on. */
  read(path: string, start: number, into: Uint8Array): Promise<void>;
  /**
   * Brings some bytes of a file to where reading them takes no time, outside of this process's memory; done when they are there, or cannot be brought. It is
   * a hint, which never fails: absent where there is no such place.
   */
  prefetch?(path: string, start: number, bytes: number): Promise<void>;
  /** A small file, whole; undefined when there is no such file. */
  bytes(path: string): Promise<Uint8Array | undefined>;
  /** A small text file, whole; undefined when there is no such file. */
  text(path: string): Promise<string | undefined>;
}

/** How to talk to a server. */
export interface NetworkOptions {
  /** Ends what is being read. The source it was opened with cannot be used afterwards. */
  signal?: AbortSignal;
  /** In place of the global `fetch`, such as one that goes through a proxy. */
  fetch?: typeof fetch;
  /**
   * Further attempts after a failure that may pass: a dropped connection, an answer cut short, status 408, 429 or 5xx.
   *
   * @default {4}
   */
  retries?: number;
  /**
   * Milliseconds before the first further attempt; they double each time. A server's `Retry-After` goes first. Never more than a minute.
   *
   * @default {500}
   */
  delay?: number;
  /**
   * Milliseconds without a single byte after which an attempt counts as failed.
   *
   * @default {60000}
   */
  patience?: number;
}

/** How to open a source. A folder needs none of these. */
export interface OpenOptions extends NetworkOptions {
  /** Access token of the hub. Default: `HF_TOKEN`, else the file that `hf auth login` writes. */
  token?: string;
  /** The hub's shared cache. Default: `HF_HUB_CACHE`, else `hub` in `HF_HOME`, else `~/.cache/huggingface/hub`. */
  cacheDir?: string;
  /** Address of the hub. Default: `HF_ENDPOINT`, else https://huggingface.co. */
  hubUrl?: string;
}

/**
 * The text in a file's bytes.
 *
 * @param bytes UTF-8, or undefined for a file that is not there.
 * @returns The text, or undefined.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(decodeText(new TextEncoder().encode("naïve")), "naïve");
 * assertEquals(decodeText(undefined), undefined);
 * ```
 */
export function decodeText(bytes: Uint8Array | undefined): string | undefined {
  return bytes && new TextDecoder().decode(bytes);
}
