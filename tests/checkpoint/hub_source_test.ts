import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { hubSettings } from "../../lib/checkpoint/hub_settings.ts";
import { openCheckpoint } from "../../lib/checkpoint/open_checkpoint.ts";
import { openSource } from "../../lib/checkpoint/open_source.ts";
import { COMMIT, fakeHub, type Kept } from "./fake_hub.ts";
import { pairs, rangeOf, temporaryFolder, withEnv } from "./fixtures.ts";

const weights = Uint8Array.from({ length: 300_000 }, (_, i) => i * 31 >> 3);

const contents: Record<string, [Kept, string | Uint8Array<ArrayBuffer>]> = {
  "config.json": ["git", '{"model_type":"mixtral"}'],
  "sub/empty.txt": ["git", ""],
  "tokenizer.json": ["lfs", '{"version":"1.0"}'],
  "model.safetensors": ["lfs", weights],
  "chunked.safetensors": ["xet", weights],
};

/** A hub, an empty cache, and the options to use both. */
async function setUp(files = contents) {
  const stack = new AsyncDisposableStack();
  const cache = stack.use(await temporaryFolder());
  const hub = stack.use(await fakeHub(files));
  const options = { hubUrl: hub.hub.url, cacheDir: cache.path, token: "hf_secret", delay: 1, retries: 2 };
  const folder = join(cache.path, "models--owner--name");
  return { ...{ hub, options, folder }, [Symbol.asyncDispose]: () => stack.disposeAsync() };
}

Deno.test("hf:// pins the revision to its commit and puts small files where Python's client looks for them", async () => {
  await using test = await setUp();
  const { hub, options, folder } = test;
  const source = await openSource("hf://owner/name", options);
  assertEquals(source.location, `hf://owner/name@${COMMIT}`);
  assertEquals(await source.text("config.json"), '{"model_type":"mixtral"}');
  assertEquals(await source.text("tokenizer.json"), '{"version":"1.0"}');
  assertEquals(await source.text("sub/empty.txt"), "");
  assertEquals(await Deno.readTextFile(join(folder, "refs", "main")), COMMIT);
  const pointer = join(folder, "snapshots", COMMIT, "config.json");
  assertEquals(await Deno.readLink(pointer), `../../blobs/${hub.etag("config.json")}`);
  assertEquals(await Deno.readLink(join(folder, "snapshots", COMMIT, "sub/empty.txt")), `../../../blobs/${hub.etag("sub/empty.txt")}`);
  assertEquals(await Deno.readTextFile(pointer), '{"model_type":"mixtral"}');
  const blobs = (await Array.fromAsync(Deno.readDir(join(folder, "blobs")), ({ name }) => name)).sort();
  assertEquals(blobs, ["config.json", "tokenizer.json", "sub/empty.txt"].map(hub.etag).sort());
});

Deno.test("hf:// downloads each small file once", async () => {
  await using test = await setUp();
  const { hub, options } = test;
  await (await openSource("hf://owner/name", options)).text("config.json");
  const again = await openSource("hf://owner/name", options);
  const before = hub.hub.requests.length;
  assertEquals([await again.size("config.json"), await again.text("config.json")], [24, '{"model_type":"mixtral"}']);
  assertEquals(hub.hub.requests.length, before);
});

for (const revision of ["v1", "refs/pr/3"]) {
  Deno.test(`hf:// opens revision ${revision}`, async () => {
    await using test = await setUp();
    const source = await openSource(`hf://owner/name@${revision}`, test.options);
    assertEquals(source.location, `hf://owner/name@${COMMIT}`);
    assertEquals(await Deno.readTextFile(join(test.folder, "refs", revision)), COMMIT);
  });
}

Deno.test("hf:// opens a commit without asking the hub", async () => {
  await using test = await setUp();
  const source = await openSource(`hf://owner/name@${COMMIT}`, test.options);
  assertEquals([source.location, test.hub.hub.requests.length], [`hf://owner/name@${COMMIT}`, 0]);
  assertEquals(await source.size("model.safetensors"), weights.length);
});

Deno.test("hf:// reads large files by range from the store behind the hub, and tells it no token", async () => {
  await using test = await setUp();
  const { hub, options } = test;
  const source = await openSource("hf://owner/name", options);
  const into = new Uint8Array(1000);
  for (const start of [0, 123_456]) {
    await source.read("model.safetensors", start, into);
    assertEquals(into, weights.subarray(start, start + 1000));
  }
  assertEquals(hub.store.requests.map((request) => [rangeOf(request), request.headers.get("Authorization")]), [
    [[0, 0], null],
    [[0, 999], null],
    [[123_456, 124_455], null],
  ]);
  assertEquals(hub.hub.requests.every(({ headers }) => headers.get("Authorization") === "Bearer hf_secret"), true);
  await assertRejects(() => Deno.stat(join(test.folder, "blobs", hub.etag("model.safetensors"))), Deno.errors.NotFound);
});

Deno.test("hf:// reads files in chunks (Xet), only the chunks that are needed", async () => {
  await using test = await setUp();
  const source = await openSource("hf://owner/name", test.options);
  const into = new Uint8Array(100_000);
  await source.read("chunked.safetensors", 70_000, into);
  assertEquals(into, weights.subarray(70_000, 170_000));
  const { requests } = test.hub.store;
  assertEquals(requests.map((request) => [new URL(request.url).pathname.split("/")[1], rangeOf(request)]), [
    ["v2", [70_000, 169_999]],
    ["xorb", [65_544, 3 * 65_544 - 1]],
  ]);
  assertEquals(requests.map(({ headers }) => headers.get("Authorization")), ["Bearer store-token", null]);
});

Deno.test("hf:// gives tokens that do not begin with hf_ to a mirror, and none where there is none", async () => {
  await using test = await setUp();
  await openSource("hf://owner/name", { ...test.options, token: " mirror-key\n" });
  await withEnv({ HF_TOKEN: "", HF_TOKEN_PATH: join(test.folder, "absent") }, async () => {
    await openSource("hf://owner/name", { ...test.options, token: undefined });
  });
  assertEquals(test.hub.hub.requests.map(({ headers }) => headers.get("Authorization")), ["Bearer mirror-key", null]);
});

Deno.test("hf:// reads what Python's client has downloaded without any request", async () => {
  await using test = await setUp();
  const { hub, options, folder } = test;
  const snapshot = join(folder, "snapshots", COMMIT);
  await Deno.mkdir(snapshot, { recursive: true });
  await Deno.mkdir(join(folder, "blobs"));
  for (const [name, content] of [["config.json", new TextEncoder().encode("{}")], ["model.safetensors", pairs("a")]] as const) {
    await Deno.writeFile(join(folder, "blobs", `etag-of-${name}`), content);
    await Deno.symlink(`../../blobs/etag-of-${name}`, join(snapshot, name));
  }
  const { tensors } = await openCheckpoint(`hf://owner/name@${COMMIT}`, options);
  const into = new Uint8Array(4);
  await tensors.get("a")!.read(into);
  assertEquals([into, hub.hub.requests.length], [Uint8Array.of(0, 1, 2, 3), 0]);
});

const sharded: typeof contents = {
  "config.json": ["git", "{}"],
  "model.safetensors.index.json": ["git", JSON.stringify({ weight_map: { a: "one.safetensors" } })],
  "one.safetensors": ["lfs", pairs("a")],
};

Deno.test("hf:// remembers which files a commit does not have, as Python's client does", async () => {
  await using test = await setUp(sharded);
  await openCheckpoint("hf://owner/name", test.options);
  assertEquals((await Deno.stat(join(test.folder, ".no_exist", COMMIT, "model.safetensors"))).size, 0);
  const before = test.hub.hub.requests.length;
  const source = await openSource(`hf://owner/name@${COMMIT}`, test.options);
  assertEquals([await source.size("model.safetensors"), test.hub.hub.requests.length], [undefined, before]);
});

Deno.test("hf:// uses the cache when the hub cannot be reached, and says so in its name", async () => {
  await using test = await setUp();
  const { hub, options } = test;
  await (await openSource("hf://owner/name@v1", options)).text("config.json");
  const begun = hub.hub.requests.length;
  hub.intercept = () => new Response("down", { status: 503 });
  const source = await openSource("hf://owner/name@v1", options);
  assertEquals(source.location, `hf://owner/name@${COMMIT} (only the cache)`);
  assertEquals([await source.text("config.json"), await source.size("model.safetensors")], ['{"model_type":"mixtral"}', undefined]);
  await assertRejects(() => source.read("model.safetensors", 0, new Uint8Array(1)), Error, "no such file or directory");
  assertEquals(hub.hub.requests.length, begun + 1); // one attempt, no further ones
});

Deno.test("hf:// says when the hub cannot be reached and the cache knows nothing", async () => {
  await using test = await setUp();
  test.hub.intercept = () => new Response("down", { status: 503 });
  await assertRejects(() => openSource("hf://owner/name", test.options), Error, "the server answered 503, at each of 3 attempts");
});

Deno.test("hf:// asks nobody when HF_HUB_OFFLINE is set", async () => {
  await using test = await setUp();
  const { hub, options } = test;
  await (await openSource("hf://owner/name", options)).text("config.json");
  const before = hub.hub.requests.length;
  await withEnv({ HF_HUB_OFFLINE: "1" }, async () => {
    for (const revision of ["main", COMMIT]) {
      const source = await openSource(`hf://owner/name@${revision}`, options);
      assertEquals([await source.text("config.json"), await source.text("tokenizer.json")], ['{"model_type":"mixtral"}', undefined]);
    }
    await assertRejects(() => openSource("hf://owner/name@v1", options), Error, "HF_HUB_OFFLINE forbids to download it");
  });
  assertEquals(hub.hub.requests.length, before);
});

for (
  const [status, token, ...words] of [
    [401, undefined, "/owner/name does not exist or is not public (401), check the spelling or set HF_TOKEN"],
    [401, "hf_wrong", "the hub does not accept the token (401), check HF_TOKEN"],
    [403, "hf_mine", "the hub does not allow it (403), accept the licence on", "/owner/name and check that HF_TOKEN may read it"],
    [403, undefined, "accept the licence on", "/owner/name and set HF_TOKEN"],
    [404, "hf_mine", "/owner/name has no such model, revision or file (404), check the spelling"],
    [418, "hf_mine", "the hub answered 418"],
  ] as const
) {
  Deno.test(`hf:// says what to do at status ${status} ${token ? "with" : "without"} a token, at open and later`, async () => {
    await using test = await setUp();
    const { hub, folder } = test;
    await withEnv({ HF_TOKEN: "", HF_TOKEN_PATH: join(folder, "absent") }, async () => {
      const options = { ...test.options, token };
      const source = await openSource("hf://owner/name@main", options);
      hub.intercept = () => Response.json({ error: "something of the hub's own" }, { status });
      const before = hub.hub.requests.length;
      const failures = [
        [await assertRejects(() => openSource("hf://owner/name@v1", options), Error), "hf://owner/name@v1"],
        [await assertRejects(() => openSource("hf://owner/name@main", options), Error), "hf://owner/name@main"], // although it is in the cache
        [await assertRejects(() => source.size("model.safetensors"), Error), `hf://owner/name@${COMMIT}/model.safetensors`],
        [await assertRejects(() => source.read("model.safetensors", 0, new Uint8Array(9)), Error), `${COMMIT}/model.safetensors`],
        [await assertRejects(() => source.text("config.json"), Error), `hf://owner/name@${COMMIT}/config.json`],
      ] as const;
      for (const [{ message }, where] of failures) {
        for (const word of ['Cannot read "', where, ...words]) assert(message.includes(word), `expected "${word}" in: ${message}`);
        assert(!message.includes("of the hub's own"), message);
      }
      assertEquals(hub.hub.requests.length, before + 5); // no further attempts
    });
  });
}

Deno.test("hf:// tries again when the hub is busy or a connection drops", async () => {
  await using test = await setUp();
  let count = 0;
  test.hub.intercept = () => {
    count++;
    if (count % 3 === 1) return new Response("busy", { status: 429, headers: { "Retry-After": "0" } });
    if (count % 3 === 2) return new Response(new Blob(["{"]).stream(), { headers: { "Content-Length": "100" } });
  };
  const source = await openSource("hf://owner/name", test.options);
  assertEquals(await source.text("config.json"), '{"model_type":"mixtral"}');
  const into = new Uint8Array(10);
  await source.read("chunked.safetensors", 5, into);
  assertEquals(into, weights.subarray(5, 15));
});

Deno.test("hf:// says when the hub sends something else than a hub", async () => {
  await using test = await setUp();
  test.hub.intercept = () => new Response("<html>Please log in to the hotel network</html>");
  await assertRejects(
    () => openSource("hf://owner/name@v1", test.options),
    Error,
    'Cannot read "hf://owner/name@v1": the answer of the hub cannot be used',
  );
});

Deno.test("hf:// says when the hub names no commit, and does not note it down", async () => {
  await using test = await setUp();
  test.hub.intercept = () => Response.json({ id: "owner/name", sha: "latest" });
  await assertRejects(() => openSource("hf://owner/name@v1", test.options), Error, "the answer of the hub cannot be used");
  await assertRejects(() => Deno.stat(join(test.folder, "refs")), Deno.errors.NotFound);
});

Deno.test("hf:// says when a read reaches beyond the file, or the file is absent", async () => {
  await using test = await setUp();
  const source = await openSource("hf://owner/name", test.options);
  const read = (path: string, start: number) => source.read(path, start, new Uint8Array(10));
  for (const path of ["model.safetensors", "chunked.safetensors"]) {
    await assertRejects(() => read(path, 299_995), RangeError, `${COMMIT}/${path}": it has 300000 bytes, expected 10 bytes from 299995`);
  }
  await assertRejects(() => read("absent", 0), Error, `Cannot read "hf://owner/name@${COMMIT}/absent"`);
  assertEquals([await source.size("absent"), await source.bytes("absent")], [undefined, undefined]);
});

Deno.test("hf:// says when the store ignores byte ranges", async () => {
  await using test = await setUp({ "model.safetensors": ["git", weights] });
  const source = await openSource("hf://owner/name", test.options);
  await source.read("model.safetensors", 0, new Uint8Array(1));
  test.hub.intercept = () => new Response(weights);
  await assertRejects(
    () => source.read("model.safetensors", 0, new Uint8Array(9)),
    Error,
    "the hub sent 300000 bytes, expected 9 bytes from 0",
  );
});

Deno.test({
  name: "hf:// needs no permission for the environment when all it says is given",
  permissions: { env: false, net: true, read: true, write: true },
  fn: async () => {
    await using test = await setUp();
    const source = await openSource("hf://owner/name", test.options);
    assertEquals([await source.text("config.json"), await source.size("model.safetensors")], ['{"model_type":"mixtral"}', weights.length]);
  },
});

Deno.test("hf:// does not keep a download that failed", async () => {
  await using test = await setUp();
  const { hub, options, folder } = test;
  const source = await openSource("hf://owner/name", options);
  hub.intercept = (request) => request.url.includes("resolve") ? new Response("x", { status: 500 }) : undefined;
  await assertRejects(() => source.text("config.json"), Error, "the server answered 500");
  await assertRejects(() => Deno.stat(join(folder, "snapshots")), Deno.errors.NotFound);
  hub.intercept = () => undefined;
  assertEquals(await source.text("config.json"), '{"model_type":"mixtral"}');
});

Deno.test({
  name: "hf:// works with a cache that cannot be written",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using test = await setUp();
    const cacheDir = join(test.options.cacheDir, "file");
    await Deno.writeTextFile(cacheDir, "a file where the cache should be");
    const source = await openSource("hf://owner/name", { ...test.options, cacheDir });
    assertEquals(await source.text("config.json"), '{"model_type":"mixtral"}');
  },
});

Deno.test("hf:// stops at the signal with the user's own reason", async () => {
  await using test = await setUp();
  const stop = new AbortController();
  const source = await openSource("hf://owner/name", { ...test.options, signal: stop.signal });
  stop.abort(new Error("stopped by the user"));
  for (const read of [() => source.size("model.safetensors"), () => source.read("model.safetensors", 0, new Uint8Array(1))]) {
    await assertRejects(read, Error, "stopped by the user");
  }
  await assertRejects(() => openSource("hf://owner/name@v1", { ...test.options, signal: stop.signal }), Error, "stopped by the user");
});

Deno.test("hf:// prints nothing", async () => {
  await using test = await setUp();
  const printed: unknown[] = [];
  const { debug, info, log } = console;
  try {
    console.debug = console.info = console.log = (...data) => void printed.push(data);
    await (await openSource("hf://owner/name", test.options)).text("config.json");
  } finally {
    Object.assign(console, { debug, info, log });
  }
  assertEquals(printed, []);
});

Deno.test("hf:// refuses a location of another form", async () => {
  for (
    const location of [
      "hf://",
      "hf://a/b/c",
      "hf://owner/name@",
      "hf://../x",
      "hf://owner/name@../../x",
      "hf://owner/name@/x",
      "hf://o/n@a\\b",
    ]
  ) {
    await assertRejects(() => openSource(location), TypeError, `Cannot open "${location}": expected hf://owner/name@revision`);
  }
});

Deno.test("hubSettings() follows the rules of Python's client", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(join(folder.path, "token"), "hf_from_file\n");
  const cases: [Record<string, string>, Partial<Awaited<ReturnType<typeof hubSettings>>>][] = [
    [{ HOME: "/home/me" }, {
      cacheDir: "/home/me/.cache/huggingface/hub",
      hubUrl: "https://huggingface.co",
      token: undefined,
      offline: false,
    }],
    [{ HOME: "/home/me", XDG_CACHE_HOME: "/c" }, { cacheDir: "/c/huggingface/hub" }],
    [{ HOME: "/home/me", HF_HOME: "~/hf" }, { cacheDir: "/home/me/hf/hub" }],
    [{ HF_HOME: "/hf", HF_HUB_CACHE: "/cache", HUGGINGFACE_HUB_CACHE: "/old" }, { cacheDir: "/cache" }],
    [{ HUGGINGFACE_HUB_CACHE: "/old" }, { cacheDir: "/old" }],
    [{ HF_HOME: folder.path }, { token: "hf_from_file" }],
    [{ HF_HOME: "/hf", HF_TOKEN_PATH: join(folder.path, "token") }, { token: "hf_from_file" }],
    [{ HF_HOME: folder.path, HF_TOKEN: " hf_from_env " }, { token: "hf_from_env" }],
    [{ HF_HOME: "/hf", HF_ENDPOINT: "https://mirror.example/api//" }, { hubUrl: "https://mirror.example/api" }],
    [{ HF_HOME: "/hf", HF_HUB_OFFLINE: "YES" }, { offline: true }],
    [{ HF_HOME: "/hf", HF_HUB_OFFLINE: "0" }, { offline: false }],
  ];
  for (const [env, expected] of cases) {
    const settings = await hubSettings({}, (name) => env[name]);
    assertEquals({ ...settings, ...expected }, settings, JSON.stringify(env));
  }
  await assertRejects(() => hubSettings({}, () => undefined), Error, 'pass "cacheDir" or run Deno with --allow-env');
  await assertRejects(() => hubSettings({ cacheDir: "/c", hubUrl: "mirror" }, () => undefined), TypeError, 'found "mirror"');
});

Deno.test("hf://datasets/ opens a dataset, and keeps it apart from a model of the same name", async () => {
  await using cache = await temporaryFolder();
  await using hub = await fakeHub({ "main/test/0000.parquet": ["lfs", weights] }, "datasets/owner/name");
  const options = { hubUrl: hub.hub.url, cacheDir: cache.path, token: "hf_secret", delay: 1, retries: 0 };
  const source = await openSource("hf://datasets/owner/name@refs/convert/parquet", options);
  assertEquals(source.location, `hf://datasets/owner/name@${COMMIT}`);
  assertEquals(await source.bytes("main/test/0000.parquet"), weights);
  const folder = join(cache.path, "datasets--owner--name");
  assertEquals(await Deno.readTextFile(join(folder, "refs/refs/convert/parquet")), COMMIT);
  assertEquals(await Deno.readFile(join(folder, "snapshots", COMMIT, "main/test/0000.parquet")), weights);
  await assertRejects(
    () => openSource("hf://datasets/owner/name@v9", options),
    Error,
    "/datasets/owner/name has no such dataset, revision or file (404)",
  );
});
