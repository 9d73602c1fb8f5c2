/**
 * Asking a server again when it fails in a way that may pass.
 *
 * @module
 */

import { fileError } from "./file_error.ts";
import { plainUrl } from "./plain_url.ts";
import { PIECE } from "./read_in_pieces.ts";
import type { NetworkOptions } from "./source.ts";

/** Bytes of the largest body that is taken whole when nobody asked for a part of it: tokenizers have some ten megabytes. */
const LARGEST_WHOLE = 256 * 1024 * 1024;

/** Milliseconds of the longest wait between two attempts. */
const LONGEST_WAIT = 60_000;

/** Why an attempt is worth another. */
interface Setback {
  problem: string;
  cause?: unknown;
  /** Milliseconds that the server asks for. */
  wait?: number;
}

/**
 * Makes a `fetch` that comes back with the whole body or not at all.
 *
 * Dropped connections, silence, bodies cut short and the statuses 408, 429 and 5xx are tried again after a wait that doubles; every
 * other status is an answer. An answer to a byte range is checked to be that range. A server that ignores the range and sends the
 * whole file is accepted up to 16 MiB, beyond that it is an error: nobody wants gigabytes for one tensor.
 *
 * @param options Attempts, waits, signal, and the `fetch` underneath.
 * @returns The function. Its answers have no `url`: whoever asks again starts at the original address, as a redirect's target expires.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const answers = [new Response(null, { status: 503 }), new Response("ready")];
 * const patient = resilientFetch({ fetch: () => Promise.resolve(answers.shift()!), delay: 1 });
 * assertEquals(await (await patient("https://example.com")).text(), "ready");
 * ```
 */
export function resilientFetch(options: NetworkOptions = {}): typeof fetch {
  const { signal, retries = 4, delay = 500 } = options;
  return async (input, init) => {
    for (let failures = 0;; failures++) {
      signal?.throwIfAborted();
      const outcome = await attempt(input, init, options);
      if (outcome instanceof Response) return outcome;
      if (failures >= retries) {
        const times = retries > 0 ? `, at each of ${retries + 1} attempts` : "";
        throw new Error(`Cannot read "${plainUrl(input)}": ${outcome.problem}${times}`, { cause: outcome.cause });
      }
      await sleep(Math.min(outcome.wait ?? delay * 2 ** failures, LONGEST_WAIT), signal);
    }
  };
}

interface Range {
  from: number;
  /** Last byte. */
  to: number;
}

async function attempt(input: string | URL | Request, init: RequestInit | undefined, options: NetworkOptions): Promise<Response | Setback> {
  const asked = /^bytes=(\d+)-(\d+)$/.exec(new Headers(init?.headers).get("Range") ?? "");
  const range = asked ? { from: Number(asked[1]), to: Number(asked[2]) } : undefined;
  const got = await transfer(input, init, range, options);
  return "problem" in got ? got : checkAnswer(got.response, got.body, range, plainUrl(input));
}

/** One request and its whole body, watched for silence and for the signal. */
async function transfer(
  input: string | URL | Request,
  init: RequestInit | undefined,
  range: Range | undefined,
  { signal, fetch: send = fetch, patience = 60_000 }: NetworkOptions,
): Promise<{ response: Response; body: Uint8Array<ArrayBuffer> | undefined } | Setback> {
  const watch = new AbortController();
  const interrupt = () => watch.abort();
  let timer = setTimeout(interrupt, patience);
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(interrupt, patience);
  };
  signal?.addEventListener("abort", interrupt, { once: true });
  try {
    const response = await send(input, { ...init, signal: watch.signal });
    if (response.status === 408 || response.status === 429 || response.status >= 500) {
      await response.body?.cancel();
      return { problem: `the server answered ${response.status}`, wait: retryAfter(response.headers) };
    }
    return { response, body: await readBody(response, longestBody(response, range), alive) };
  } catch (error) {
    if (signal?.aborted) throw signal.reason;
    if (error instanceof Deno.errors.NotCapable) throw fileError("read", plainUrl(input), error);
    const problem = watch.signal.aborted ? `the server sent nothing for ${patience / 1000} seconds` : "the connection failed";
    return { problem, cause: error };
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", interrupt);
  }
}

function longestBody(response: Response, range: Range | undefined): number {
  if (range === undefined) return LARGEST_WHOLE;
  return response.status === 206 ? range.to - range.from + 1 : PIECE;
}

/** The body, or undefined when it is longer than `limit` bytes. */
async function readBody(response: Response, limit: number, alive: () => void): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let length = 0;
  for await (const chunk of response.body ?? []) {
    alive();
    chunks.push(chunk);
    length += chunk.length;
    if (length > limit) return undefined;
  }
  const body = new Uint8Array(length);
  let offset = 0;
  for (const chunk of chunks) {
    body.set(chunk, offset);
    offset += chunk.length;
  }
  return body;
}

function checkAnswer(
  response: Response,
  body: Uint8Array<ArrayBuffer> | undefined,
  range: Range | undefined,
  url: string,
): Response | Setback {
  if (body === undefined) {
    const why = range && response.status === 200 ? "the server ignores byte ranges and sends the whole file" : "the answer is too long";
    throw new Error(`Cannot read "${url}": ${why}, expected at most ${longestBody(response, range)} bytes`);
  }
  const sent = /^bytes (\d+)-(\d+)\/(\d+|\*)$/.exec(response.headers.get("Content-Range") ?? "")?.slice(1).map(Number);
  if (range && sent && response.status === 206) {
    const [from, to, total] = sent;
    if (from !== range.from || (to !== range.to && to !== total - 1)) {
      throw new Error(`Cannot read "${url}": the server sent bytes ${from} to ${to}, expected ${range.from} to ${range.to}`);
    }
    if (body.length !== to - from + 1) {
      return { problem: `the answer ended after ${body.length} of ${to - from + 1} bytes` };
    }
  }
  return new Response(body.length > 0 ? body : null, response);
}

/** Milliseconds, from seconds or a date. */
function retryAfter(headers: Headers): number | undefined {
  const value = headers.get("Retry-After");
  if (value === null) return undefined;
  const wait = /^\d+$/.test(value) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isNaN(wait) ? undefined : Math.max(0, wait);
}

function sleep(milliseconds: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, milliseconds);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
