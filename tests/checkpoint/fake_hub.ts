/** A hub and the store behind it, as far as one repository needs them. */

import { rangeOf, serve } from "./fixtures.ts";

export const COMMIT = "0123456789abcdef0123456789abcdef01234567";

/** How a file is kept: in git, in the object store that `resolve` redirects to, or in chunks (Xet). */
export type Kept = "git" | "lfs" | "xet";

interface File {
  kept: Kept;
  bytes: Uint8Array<ArrayBuffer>;
  etag: string;
}

export interface FakeHub extends AsyncDisposable {
  /** The hub's address, and its log. */
  hub: ReturnType<typeof serve>;
  /** The store on another origin, and its log. */
  store: ReturnType<typeof serve>;
  /** What the hub answers instead, when it gives something. */
  intercept: (request: Request) => Response | undefined;
  /** Name of a file's bytes in the cache. */
  etag(path: string): string;
}

/** A repository of the hub, whose main, v1, refs/pr/3 and refs/convert/parquet are at the commit. */
export async function fakeHub(
  contents: Record<string, [Kept, string | Uint8Array<ArrayBuffer>]>,
  repository = "owner/name",
  commit = COMMIT,
): Promise<FakeHub> {
  const files = new Map<string, File>();
  for (const [path, [kept, content]] of Object.entries(contents)) {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    files.set(path, { kept, bytes, etag: await etagOf(kept, bytes) });
  }
  const byEtag = (etag: string) => [...files.values()].find((file) => file.etag === etag)!;

  const store = serve((request) => {
    const path = new URL(request.url).pathname.split("/"), what = path[1], etag = path.at(-1)!;
    const file = byEtag(etag);
    if (what === "lfs") return ranged(request, file.bytes, `"${etag}"`);
    if (what === "v2") return Response.json(reconstruction(request, file, store.url));
    return ranged(request, xorb(file.bytes), `"x"`);
  });
  const fake: FakeHub = {
    hub: serve((request) => fake.intercept(request) ?? respond(request, { repository, commit }, files, fake.hub.url, store.url)),
    store,
    intercept: () => undefined,
    etag: (path) => files.get(path)!.etag,
    async [Symbol.asyncDispose]() {
      await fake.hub[Symbol.asyncDispose]();
      await store[Symbol.asyncDispose]();
    },
  };
  return fake;
}

function respond(
  request: Request,
  { repository, commit }: { repository: string; commit: string },
  files: Map<string, File>,
  hub: string,
  store: string,
): Response {
  const path = decodeURIComponent(new URL(request.url).pathname);
  const id = repository.replace(/^datasets\//, ""), api = `/api/${id === repository ? "models" : "datasets"}/${id}`;
  if (["main", "v1", "refs/pr/3", "refs/convert/parquet"].some((revision) => path === `${api}/revision/${revision}`)) {
    return Response.json({ _id: "1", id, sha: commit, lastModified: "2026-01-01T00:00:00Z" });
  }
  if (path === `${api}/tree/${commit}`) {
    return Response.json([...files].map(([path, { kept, bytes, etag }]) => ({
      ...{ type: "file", path, size: bytes.length, oid: kept === "git" ? etag : "pointer" },
      ...(kept === "git" ? {} : { lfs: { oid: etag, size: bytes.length, pointerSize: 130 } }),
    })));
  }
  if (path === `${api}/xet-read-token/${commit}`) {
    return Response.json({ accessToken: "store-token", casUrl: store, exp: Date.now() / 1000 + 3600 });
  }
  const file = files.get(path.replace(`/${repository}/resolve/${commit}/`, ""));
  if (!file) return Response.json({ error: "Entry not found" }, { status: 404, headers: { "X-Error-Code": "EntryNotFound" } });
  if (file.kept === "git") return ranged(request, file.bytes, `"${file.etag}"`);
  if (file.kept === "lfs") return Response.redirect(`${store}/lfs/${file.etag}`, 302);
  const links = [
    `<${hub}${api}/xet-read-token/${commit}>; rel="xet-auth"`,
    `<${store}/v1/reconstructions/${file.etag}>; rel="xet-reconstruction-info"`,
  ];
  return new Response("{}", {
    headers: {
      "Content-Type": "application/vnd.xet-fileinfo+json",
      ...{ "X-Linked-Size": `${file.bytes.length}`, "X-Linked-ETag": `"${file.etag}"`, "X-Xet-Hash": file.etag, Link: links.join(", ") },
    },
  });
}

function ranged(request: Request, bytes: Uint8Array<ArrayBuffer>, ETag: string): Response {
  const range = rangeOf(request);
  if (!range) return new Response(bytes.slice(), { headers: { ETag } });
  if (range[0] >= bytes.length) return new Response(null, { status: 416, headers: { "Content-Range": `bytes */${bytes.length}` } });
  const to = Math.min(range[1], bytes.length - 1);
  const headers = { ETag, "Content-Range": `bytes ${range[0]}-${to}/${bytes.length}` };
  return new Response(bytes.slice(range[0], to + 1), { status: 206, headers });
}

const CHUNK = 65_536;

/** A xorb of uncompressed chunks: each has 8 bytes before it with its lengths (version 0, scheme 0). */
function xorb(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const chunks = Math.ceil(bytes.length / CHUNK);
  const file = new Uint8Array(bytes.length + 8 * chunks);
  for (let i = 0; i < chunks; i++) {
    const chunk = bytes.subarray(i * CHUNK, (i + 1) * CHUNK), view = new DataView(file.buffer, i * (CHUNK + 8));
    view.setUint32(0, chunk.length << 8, true);
    view.setUint32(4, chunk.length << 8, true);
    file.set(chunk, i * (CHUNK + 8) + 8);
  }
  return file;
}

/** Which chunks make up the part of the file that is asked for. */
function reconstruction(request: Request, { bytes, etag }: File, store: string) {
  const [from, to] = rangeOf(request)!;
  const start = Math.floor(from / CHUNK), end = Math.floor(Math.min(to, bytes.length - 1) / CHUNK) + 1;
  const last = Math.min(end * (CHUNK + 8), xorb(bytes).length) - 1;
  return {
    offset_into_first_range: from - start * CHUNK,
    terms: [{ hash: "xorb", unpacked_length: Math.min(end * CHUNK, bytes.length) - start * CHUNK, range: { start, end } }],
    xorbs: {
      xorb: [{ url: `${store}/xorb/${etag}`, ranges: [{ chunks: { start, end }, bytes: { start: start * (CHUNK + 8), end: last } }] }],
    },
  };
}

async function etagOf(kept: Kept, bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  if (kept !== "git") return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
  const blob = new Blob([`blob ${bytes.length}\0`, bytes]);
  return new Uint8Array(await crypto.subtle.digest("SHA-1", await blob.arrayBuffer())).toHex();
}
