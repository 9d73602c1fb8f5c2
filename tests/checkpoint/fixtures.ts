/** Small files and sources for tests. */

import type { Source } from "../../lib/checkpoint/source.ts";
import { BYTES, type DType } from "../../lib/device/device.ts";

/** A header entry as the format has it. */
export interface Entry {
  dtype: string;
  shape: unknown;
  data_offsets: unknown;
}

/** A safetensors file with this header, as text or object, and so many bytes of data, counting up. */
export function safetensors(header: string | Record<string, Entry | unknown>, dataBytes: number): Uint8Array<ArrayBuffer> {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const file = new Uint8Array(8 + json.length + dataBytes);
  new DataView(file.buffer).setBigUint64(0, BigInt(json.length), true);
  file.set(json, 8);
  for (let i = 0; i < dataBytes; i++) file[8 + json.length + i] = i;
  return file;
}

/** A file of one-dimensional bfloat16 tensors of two numbers each. */
export function pairs(...names: string[]): Uint8Array<ArrayBuffer> {
  const entries = names.map((name, i) => [name, { dtype: "BF16", shape: [2], data_offsets: [4 * i, 4 * i + 4] }]);
  return safetensors(Object.fromEntries(entries), 4 * names.length);
}

/** Files in memory, and a list of what was read of them. */
export interface MemorySource extends Source {
  reads: { path: string; start: number; length: number }[];
}

/** A source over files in memory. */
export function memorySource(files: Record<string, string | Uint8Array>): MemorySource {
  const content = (path: string) => {
    const file = files[path];
    return typeof file === "string" ? new TextEncoder().encode(file) : file;
  };
  const reads: MemorySource["reads"] = [];
  return {
    location: "memory",
    reads,
    size: (path) => Promise.resolve(content(path)?.length),
    read(path, start, into) {
      reads.push({ path, start, length: into.length });
      into.set(content(path).subarray(start, start + into.length));
      return Promise.resolve();
    },
    bytes: (path) => Promise.resolve(content(path)),
    text: (path) => Promise.resolve(content(path) && new TextDecoder().decode(content(path))),
  };
}

/** A tensor to write, with bytes that depend on its name. */
export function tensor(name: string, dtype: DType, shape: number[]) {
  const bytes = new Uint8Array(shape.reduce((a, b) => a * b, BYTES[dtype]));
  let state = [...name].reduce((a, c) => a * 31 + c.charCodeAt(0) | 0, 7);
  for (let i = 0; i < bytes.length; i++) bytes[i] = state = Math.imul(state, 1103515245) + 12345 >>> 16 & 0xff;
  return { name, dtype, shape, bytes, read: (into: Uint8Array) => Promise.resolve(into.set(bytes)) };
}

/** A folder that is gone when the test ends. */
export async function temporaryFolder(): Promise<{ path: string } & AsyncDisposable> {
  const path = await Deno.makeTempDir({ prefix: "winnow-test-" });
  return { path, [Symbol.asyncDispose]: () => Deno.remove(path, { recursive: true }) };
}

/** What a server was asked. */
export interface Asked {
  method: string;
  url: string;
  headers: Headers;
}

/** A server for one test; `count` counts requests from 1. */
export function serve(handler: (request: Request, count: number) => Response | Promise<Response>) {
  const requests: Asked[] = [];
  const server = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen() {} }, (request) => {
    requests.push({ method: request.method, url: request.url, headers: new Headers(request.headers) });
    return handler(request, requests.length);
  });
  return {
    url: `http://127.0.0.1:${server.addr.port}`,
    requests,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}

/** First and last byte that a request asks for. */
export function rangeOf({ headers }: { headers: Headers }): number[] | undefined {
  return /^bytes=(\d+)-(\d+)$/.exec(headers.get("Range") ?? "")?.slice(1).map(Number);
}

/** Does something while environment variables have other values. */
export async function withEnv<T>(variables: Record<string, string>, work: () => Promise<T>): Promise<T> {
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    return await work();
  } finally {
    for (const [name, value] of before) value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
  }
}
