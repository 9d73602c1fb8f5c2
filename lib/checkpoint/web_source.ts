/**
 * Checkpoints in a directory on the web.
 *
 * @module
 */

import { plainUrl } from "./plain_url.ts";
import { readInPieces } from "./read_in_pieces.ts";
import { remembered } from "./remembered.ts";
import { resilientFetch } from "./resilient_fetch.ts";
import { decodeText, type NetworkOptions, type Source } from "./source.ts";

/** What the first contact with a file told. */
interface Pinned {
  size: number;
  /** ETag, else date of the last change. */
  version: string | null;
  /** The file itself, where the server does not do byte ranges and the file is small. */
  whole?: Uint8Array;
}

/**
 * The files below an address, read by byte range.
 *
 * A file's size and version (its ETag, else its date) are noted at the first contact; a different one later is an error, since parts
 * of two versions do not make a tensor. A query in the address, such as a signature, goes with every request.
 *
 * @param base Address of the directory, with or without a slash at the end.
 * @param options Attempts, waits, signal.
 * @returns The source.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const source = webSource("https://example.com/model?key=1", { fetch: (url) => Promise.resolve(new Response(String(url))) });
 * assertEquals(await source.text("config.json"), "https://example.com/model/config.json?key=1");
 * ```
 */
export function webSource(base: string, options: NetworkOptions = {}): Source {
  const request = resilientFetch(options);

  const address = (path: string) => {
    const url = new URL(base);
    url.pathname = `${url.pathname.replace(/\/+$/, "")}/${path.split("/").map(encodeURIComponent).join("/")}`;
    return url;
  };

  const pinned = remembered((path) => firstContact(request, address(path)));

  const bytes = async (path: string) => {
    const response = await request(address(path));
    if (isAbsent(response)) return undefined;
    if (!response.ok) throw refusal(address(path), response);
    return new Uint8Array(await response.arrayBuffer());
  };

  return {
    location: plainUrl(base),
    size: async (path) => (await pinned(path))?.size,
    async read(path, start, into) {
      const url = address(path), pin = await pinned(path);
      if (pin === undefined) throw new Error(`Cannot read "${plainUrl(url)}": there is no such file`);
      if (start + into.length > pin.size) {
        throw new RangeError(`Cannot read "${plainUrl(url)}": it has ${pin.size} bytes, expected ${into.length} bytes from ${start}`);
      }
      if (pin.whole) return into.set(pin.whole.subarray(start, start + into.length));
      await readInPieces(start, into, (from, to) => readPart(request, url, pin, from, to));
    },
    bytes,
    text: async (path) => decodeText(await bytes(path)),
  };
}

async function firstContact(request: typeof fetch, url: URL): Promise<Pinned | undefined> {
  const response = await request(url, { headers: { Range: "bytes=0-0" } });
  const version = versionOf(response);
  if (isAbsent(response)) return undefined;
  if (response.status === 200) {
    const whole = new Uint8Array(await response.arrayBuffer());
    return { size: whole.length, version, whole };
  }
  // The first byte of an empty file is out of range.
  if (response.status !== 206 && response.status !== 416) throw refusal(url, response);
  const size = totalOf(response);
  if (Number.isNaN(size)) throw new Error(`Cannot read "${plainUrl(url)}": the server does not tell the size of the file`);
  return { size, version };
}

async function readPart(request: typeof fetch, url: URL, pin: Pinned, from: number, to: number): Promise<Uint8Array> {
  const response = await request(url, { headers: { Range: `bytes=${from}-${to - 1}` } });
  const version = versionOf(response), size = totalOf(response), partial = response.status === 206;
  if (partial && Number.isNaN(size)) throw new Error(`Cannot read "${plainUrl(url)}": the server does not tell which bytes it sent`);
  if ((partial && size !== pin.size) || ([200, 206, 416].includes(response.status) && version !== pin.version)) {
    const found = `found version ${version} of ${size} bytes, expected ${pin.version} of ${pin.size} bytes`;
    throw new Error(`Cannot read "${plainUrl(url)}": it changed on the server while it was being read, ${found}`);
  }
  if (!partial) throw refusal(url, response);
  return new Uint8Array(await response.arrayBuffer());
}

const isAbsent = ({ status }: Response) => status === 404 || status === 410;

const versionOf = ({ headers }: Response) => headers.get("ETag")?.replace(/^W\//, "") ?? headers.get("Last-Modified");

const totalOf = ({ headers }: Response) => Number(/\/(\d+)$/.exec(headers.get("Content-Range") ?? "")?.[1] ?? NaN);

function refusal(url: URL, { status }: Response): Error {
  const advice = status === 401 || status === 403 ? ", check the address and that its signature or password is valid" : ", expected 206";
  return new Error(`Cannot read "${plainUrl(url)}": the server answered ${status}${advice}`);
}
