import { assertEquals, assertRejects } from "@std/assert";
import { openSource } from "../../lib/checkpoint/open_source.ts";
import type { OpenOptions } from "../../lib/checkpoint/source.ts";
import { rangeOf, serve } from "./fixtures.ts";
import { replaced } from "../replaced.ts";

const MiB = 2 ** 20;
const bytes = Uint8Array.from({ length: 200_000 }, (_, i) => i * 31 >> 3);
const quick = { delay: 1 } satisfies OpenOptions;

/** What a good server answers. */
function answer(request: Request, file: Uint8Array = bytes, headers: Record<string, string> = { ETag: '"1"' }): Response {
  const range = rangeOf(request);
  if (!range) return new Response(file.slice(), { headers });
  const [from, to] = [range[0], Math.min(range[1], file.length - 1)];
  if (from > to) return new Response(null, { status: 416, headers: { ...headers, "Content-Range": `bytes */${file.length}` } });
  return new Response(file.slice(from, to + 1), {
    status: 206,
    headers: { ...headers, "Content-Range": `bytes ${from}-${to}/${file.length}` },
  });
}

/** A body that breaks off after ten of a hundred bytes. */
function broken(headers: Record<string, string>): Response {
  const body = new Blob([bytes.slice(0, 10)]).stream();
  return new Response(body, { status: 206, headers: { ...headers, "Content-Length": "100" } });
}

async function part(location: string, start: number, length: number, options: OpenOptions = quick): Promise<Uint8Array> {
  const into = new Uint8Array(length);
  await (await openSource(location, options)).read("file", start, into);
  return into;
}

Deno.test("a web directory is read by byte range, with the query of its address and nothing secret in its name", async () => {
  await using server = serve((request) => answer(request));
  const source = await openSource(`${server.url.replace("//", "//me:word@")}/a%20b/?signature=x%2Fy`, quick);
  assertEquals(source.location, `${server.url}/a%20b/`);
  const into = new Uint8Array(100);
  await source.read("sub/c d.bin", 50, into);
  assertEquals(into, bytes.subarray(50, 150));
  assertEquals(await source.size("sub/c d.bin"), bytes.length);
  assertEquals(server.requests.map((r) => [r.url, r.headers.get("Range"), r.headers.get("Authorization")]), [
    [`${server.url}/a%20b/sub/c%20d.bin?signature=x%2Fy`, "bytes=0-0", "Basic bWU6d29yZA=="],
    [`${server.url}/a%20b/sub/c%20d.bin?signature=x%2Fy`, "bytes=50-149", "Basic bWU6d29yZA=="],
  ]);
});

Deno.test("a web directory is read in pieces of 16 MiB", async () => {
  const file = new Uint8Array(40 * MiB).map((_, i) => i * 31 >> 12);
  await using server = serve((request) => answer(request, file));
  const into = await part(server.url, 3, 33 * MiB);
  assertEquals(into.every((byte, i) => byte === file[i + 3]), true);
  const ranges = server.requests.slice(1).map((request) => rangeOf(request)!).sort(([a], [b]) => a - b);
  assertEquals(ranges, [[3, 16 * MiB + 2], [16 * MiB + 3, 32 * MiB + 2], [32 * MiB + 3, 33 * MiB + 2]]);
});

Deno.test("a file that is absent has no size, bytes or text", async () => {
  await using server = serve(() => new Response("no such file", { status: 404 }));
  const source = await openSource(server.url, quick);
  assertEquals([await source.size("file"), await source.bytes("file"), await source.text("file")], [undefined, undefined, undefined]);
  await assertRejects(() => source.read("file", 0, new Uint8Array(1)), Error, `Cannot read "${server.url}/file": there is no such file`);
  assertEquals(server.requests.length, 4);
});

Deno.test("an empty file has size 0", async () => {
  await using server = serve((request) => answer(request, new Uint8Array()));
  assertEquals(await (await openSource(server.url, quick)).size("file"), 0);
});

Deno.test("a text is read whole", async () => {
  await using server = serve((request) => answer(request, new TextEncoder().encode("naïve")));
  assertEquals(await (await openSource(server.url, quick)).text("file"), "naïve");
});

for (const status of [408, 429, 500, 503]) {
  Deno.test(`status ${status} is tried again`, async () => {
    await using server = serve((request, count) => count % 3 ? new Response("busy", { status }) : answer(request));
    assertEquals(await part(server.url, 7, 100), bytes.subarray(7, 107));
    assertEquals(server.requests.length, 6);
  });
}

for (const status of [401, 403, 400]) {
  Deno.test(`status ${status} is not tried again`, async () => {
    await using server = serve(() => new Response("no", { status }));
    const source = await openSource(server.url, quick);
    await assertRejects(() => source.size("file"), Error, `Cannot read "${server.url}/file": the server answered ${status}`);
    await assertRejects(() => source.text("file"), Error, `the server answered ${status}`);
    assertEquals(server.requests.length, 2);
  });
}

Deno.test("status 416 for a part of the file is not tried again", async () => {
  await using server = serve((request, count) =>
    count === 1 ? answer(request) : new Response(null, { status: 416, headers: { ETag: '"1"' } })
  );
  await assertRejects(() => part(server.url, 0, 10), Error, "the server answered 416, expected 206");
  assertEquals(server.requests.length, 2);
});

Deno.test("a server that stays busy is an error after the last attempt", async () => {
  await using server = serve(() => new Response("busy", { status: 503 }));
  await assertRejects(() => part(server.url, 0, 1, { delay: 1, retries: 2 }), Error, "the server answered 503, at each of 3 attempts");
  assertEquals(server.requests.length, 3);
});

Deno.test("waits double from attempt to attempt", async () => {
  const times: number[] = [];
  await using server = serve(() => {
    times.push(performance.now());
    return new Response("busy", { status: 503 });
  });
  await assertRejects(() => part(server.url, 0, 1, { delay: 40, retries: 3 }), Error, "503");
  const waits = times.slice(1).map((time, i) => time - times[i]);
  assertEquals(waits.map((wait, i) => wait > 38 * 2 ** i), [true, true, true], `${waits}`);
});

Deno.test("Retry-After is respected, in seconds or as a date", async () => {
  for (const after of [() => "1", () => new Date(Date.now() + 2000).toUTCString()]) {
    await using server = serve((request, count) =>
      count === 1 ? new Response("slow down", { status: 429, headers: { "Retry-After": after() } }) : answer(request)
    );
    const begun = performance.now();
    await part(server.url, 0, 10);
    const waited = performance.now() - begun;
    // A date has whole seconds.
    assertEquals(waited > 950 && waited < 30_000, true, `waited ${waited} ms`);
  }
});

Deno.test("a Retry-After of an hour is cut to a minute", async () => {
  await using server = serve((request, count) =>
    count === 1 ? new Response("slow down", { status: 429, headers: { "Retry-After": "3600" } }) : answer(request)
  );
  const waits: number[] = [], real = globalThis.setTimeout, PATIENCE = 59_000;
  const quick = (done: () => void, wait: number) => {
    if (wait !== PATIENCE) waits.push(wait);
    return real(done, wait === PATIENCE ? PATIENCE : 1);
  };
  using _timers = replaced(globalThis, "setTimeout", quick as typeof setTimeout);
  await part(server.url, 0, 10, { patience: PATIENCE });
  assertEquals(waits, [60_000]);
});

Deno.test("the signal ends a wait", async () => {
  await using server = serve(() => new Response("slow down", { status: 429, headers: { "Retry-After": "3600" } }));
  const stop = new AbortController(), real = globalThis.setTimeout;
  const stopping = (done: () => void, wait: number) => {
    if (wait === 60_000) queueMicrotask(() => stop.abort(new Error("stopped by the user"))); // the wait has just begun
    return real(done, wait);
  };
  using _timers = replaced(globalThis, "setTimeout", stopping as typeof setTimeout);
  await assertRejects(() => part(server.url, 0, 10, { signal: stop.signal, patience: 59_000 }), Error, "stopped by the user");
  assertEquals(server.requests.length, 1);
});

Deno.test("a connection that drops in the middle of the body is tried again", async () => {
  await using server = serve((request, count) =>
    count === 2 ? broken({ ETag: '"1"', "Content-Range": `bytes 0-99/${bytes.length}` }) : answer(request)
  );
  assertEquals(await part(server.url, 0, 100), bytes.subarray(0, 100));
  assertEquals(server.requests.length, 3);
});

Deno.test("a body cut short is tried again", async () => {
  await using server = serve((request, count) => {
    const whole = answer(request);
    return count % 2 ? whole : new Response(bytes.slice(0, 60), { status: 206, headers: whole.headers });
  });
  assertEquals(await part(server.url, 0, 100), bytes.subarray(0, 100));
  assertEquals(server.requests.length, 3);
});

Deno.test("a body that is always cut short is an error", async () => {
  await using server = serve((request, count) =>
    count === 1 ? answer(request) : new Response(bytes.slice(0, 60), { status: 206, headers: answer(request).headers })
  );
  await assertRejects(() => part(server.url, 0, 100), Error, "the answer ended after 60 of 100 bytes, at each of 5 attempts");
});

Deno.test("a server that cannot be reached is an error", async () => {
  const { url, ...server } = serve(() => new Response());
  await server[Symbol.asyncDispose]();
  await assertRejects(() => part(url, 0, 1, { delay: 1, retries: 1 }), Error, `Cannot read "${url}/file": the connection failed`);
});

Deno.test("a server that falls silent is an error", async () => {
  const late = Promise.withResolvers<Response>();
  await using server = serve(async () => (await late.promise).clone());
  await assertRejects(
    () => part(server.url, 0, 1, { delay: 1, retries: 1, patience: 50 }),
    Error,
    "the server sent nothing for 0.05 seconds, at each of 2 attempts",
  );
  late.resolve(new Response("late"));
});

Deno.test("a server that ignores ranges serves a small file once", async () => {
  await using server = serve(() => new Response(bytes.slice()));
  const source = await openSource(server.url, quick);
  const into = new Uint8Array(10);
  for (const start of [0, 1000, 199_990]) {
    await source.read("file", start, into);
    assertEquals(into, bytes.subarray(start, start + 10));
  }
  assertEquals([await source.size("file"), server.requests.length], [bytes.length, 1]);
});

Deno.test("a server that ignores ranges is an error for a large file, long before it is downloaded", async () => {
  let sent = 0;
  const pull = (controller: ReadableStreamDefaultController) => {
    controller.enqueue(new Uint8Array(MiB));
    sent++;
  };
  await using server = serve(() => new Response(new ReadableStream({ pull })));
  await assertRejects(
    () => part(server.url, 0, 1),
    Error,
    "the server ignores byte ranges and sends the whole file, expected at most 16777216",
  );
  assertEquals([server.requests.length, sent < 100], [1, true]);
});

Deno.test("a part that is not the one asked for is an error", async () => {
  await using server = serve((request, count) => {
    if (count === 1) return answer(request);
    return new Response(bytes.slice(5, 15), { status: 206, headers: { ETag: '"1"', "Content-Range": `bytes 5-14/${bytes.length}` } });
  });
  await assertRejects(() => part(server.url, 0, 10), Error, "the server sent bytes 5 to 14, expected 0 to 9");
});

Deno.test("a part longer than asked for is an error", async () => {
  await using server = serve((request, count) =>
    count === 1 ? answer(request) : new Response(bytes.slice(0, 20), { status: 206, headers: answer(request).headers })
  );
  await assertRejects(() => part(server.url, 0, 10), Error, "the answer is too long, expected at most 10 bytes");
});

Deno.test("a part without Content-Range is an error", async () => {
  await using server = serve((request, count) =>
    count === 1 ? answer(request) : new Response(bytes.slice(0, 10), { status: 206, headers: { ETag: '"1"' } })
  );
  await assertRejects(() => part(server.url, 0, 10), Error, "the server does not tell which bytes it sent");
});

Deno.test("a file without a known size is an error", async () => {
  await using server = serve(() => new Response(bytes.slice(0, 1), { status: 206, headers: { "Content-Range": "bytes 0-0/*" } }));
  await assertRejects(() => part(server.url, 0, 10), Error, "the server does not tell the size of the file");
});

Deno.test("a read beyond the file is an error", async () => {
  await using server = serve((request) => answer(request));
  await assertRejects(() => part(server.url, bytes.length - 5, 10), RangeError, "it has 200000 bytes, expected 10 bytes from 199995");
});

for (
  const [what, before, after] of [
    ["ETag", { ETag: '"1"' }, { ETag: '"2"' }],
    ["date", { "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT" }, { "Last-Modified": "Fri, 02 Jan 2026 00:00:00 GMT" }],
  ] as [string, Record<string, string>, Record<string, string>][]
) {
  Deno.test(`a file whose ${what} changes between reads is an error`, async () => {
    await using server = serve((request, count) => answer(request, bytes, count < 3 ? before : after));
    const source = await openSource(server.url, quick);
    await source.read("file", 0, new Uint8Array(10));
    await assertRejects(() => source.read("file", 10, new Uint8Array(10)), Error, "it changed on the server while it was being read");
  });
}

Deno.test("a file whose size changes between reads is an error", async () => {
  await using server = serve((request, count) => answer(request, count === 1 ? bytes : bytes.subarray(0, 1000), {}));
  const { message } = await assertRejects(() => part(server.url, 0, 10), Error, "it changed on the server while it was being read");
  assertEquals([message.includes("of 1000 bytes"), message.includes("of 200000 bytes")], [true, true]);
});

Deno.test("a weak ETag of the same version is the same version", async () => {
  await using server = serve((request, count) => answer(request, bytes, { ETag: count % 2 ? '"1"' : 'W/"1"' }));
  assertEquals(await part(server.url, 0, 10), bytes.subarray(0, 10));
});

Deno.test("the signal ends a read under way", async () => {
  const stop = new AbortController();
  await using server = serve((request, count) => {
    if (count === 1) return answer(request);
    setTimeout(() => stop.abort(new Error("stopped by the user")), 10);
    return new Response(new ReadableStream({ start: (controller) => controller.enqueue(bytes.slice(0, 10)) }), answer(request));
  });
  const options = { signal: stop.signal, retries: 0 };
  await assertRejects(() => part(server.url, 0, 100, options), Error, "stopped by the user");
  await assertRejects(() => part(server.url, 0, 100, options), Error, "stopped by the user");
  assertEquals(server.requests.length, 2);
});

Deno.test({
  name: "a web directory says which permission Deno needs, at the first attempt",
  permissions: { net: false },
  fn: async () => {
    const { message } = await assertRejects(() => part("http://127.0.0.1:9999", 0, 1, { delay: 10_000 }), Error);
    assertEquals(message, 'Cannot read "http://127.0.0.1:9999/file": Deno has no permission for it, run it with --allow-net');
  },
});
