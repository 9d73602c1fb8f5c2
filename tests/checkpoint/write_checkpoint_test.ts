import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "../properties.ts";
import { join } from "node:path";
import { accompanyingFiles } from "../../lib/checkpoint/accompanying_files.ts";
import { openCheckpoint } from "../../lib/checkpoint/open_checkpoint.ts";
import { planShards } from "../../lib/checkpoint/plan_shards.ts";
import { writeCheckpoint } from "../../lib/checkpoint/write_checkpoint.ts";
import { writeSafetensors } from "../../lib/checkpoint/write_safetensors.ts";
import type { DType } from "../../lib/device/device.ts";
import { memorySource, temporaryFolder, tensor } from "./fixtures.ts";

const files = new Map<string, string | Uint8Array>([["config.json", '{"model_type":"mixtral"}']]);

const namesIn = async (folder: string) => (await Array.fromAsync(Deno.readDir(folder), ({ name }) => name)).sort();

async function contentsOf(folder: string): Promise<Record<string, Uint8Array>> {
  const names = await namesIn(folder);
  return Object.fromEntries(await Promise.all(names.map(async (name) => [name, await Deno.readFile(join(folder, name))] as const)));
}

/** A tensor whose bytes cannot be had. */
const unreadable = { ...tensor("z", "F32", [4]), read: () => Promise.reject(new Error("the weights are gone")) };

Deno.test("writeCheckpoint() and openCheckpoint() are inverse for any names, shapes, types and shards", async () => {
  await using folder = await temporaryFolder();
  const shape = fc.array(fc.integer({ min: 0, max: 6 }), { maxLength: 3 });
  const dtype = fc.constantFrom<DType>("F32", "BF16", "F16");
  const name = fc.oneof(
    fc.string({ unit: "binary", minLength: 1, maxLength: 12 }),
    fc.constantFrom("__proto__", "0", "toString", "ä.weight"),
  );
  const tensors = fc.uniqueArray(fc.record({ name, dtype, shape }), { selector: ({ name }) => name.toWellFormed(), maxLength: 12 });
  await fc.assert(
    fc.asyncProperty(tensors, fc.integer({ min: 1, max: 2000 }), async (specs, shardBytes) => {
      const given = specs.map(({ name, dtype, shape }) => tensor(name.toWellFormed(), dtype, shape));
      const { bytes } = await writeCheckpoint(join(folder.path, "model"), { tensors: given, files }, { shardBytes, overwrite: true });
      const checkpoint = await openCheckpoint(join(folder.path, "model"));
      assertEquals(checkpoint.tensors.size, given.length);
      for (const { name, dtype, shape, bytes } of given) {
        const stored = checkpoint.tensors.get(name)!;
        const into = new Uint8Array(stored.bytes);
        await stored.read(into);
        assertEquals([stored.dtype, stored.shape, into], [dtype, shape, bytes]);
      }
      const sizes = Object.values(await contentsOf(join(folder.path, "model"))).map((content) => content.length);
      assertEquals(bytes, sizes.reduce((a, b) => a + b, 0));
    }),
    { numRuns: 60 },
  );
});

Deno.test("writeCheckpoint() gives the same bytes in whatever order the tensors come", async () => {
  await using folder = await temporaryFolder();
  const tensors = [tensor("b", "BF16", [3]), tensor("c", "F32", [2]), tensor("a", "F16", [1]), tensor("d", "F32", [5])];
  for (const [name, order] of [["one", tensors], ["two", tensors.toReversed()]] as const) {
    await writeCheckpoint(join(folder.path, name), { tensors: order, files }, { shardBytes: 20 });
  }
  assertEquals(await contentsOf(join(folder.path, "one")), await contentsOf(join(folder.path, "two")));
});

Deno.test("writeCheckpoint() gives the bytes that the safetensors library of Python gives", async () => {
  await using folder = await temporaryFolder();
  for (const name of ["tiny-mixtral", "tiny-qwen2-moe", "tiny-deepseek-v2"]) {
    const { tensors } = await openCheckpoint(`notebooks/checkpoints/${name}`);
    await writeCheckpoint(join(folder.path, name), { tensors: tensors.values(), files });
    const [written, original] = await Promise.all(
      [folder.path, "notebooks/checkpoints"].map((f) => Deno.readFile(join(f, name, "model.safetensors"))),
    );
    assert(written.length === original.length && written.every((byte, i) => byte === original[i]), name);
  }
});

Deno.test("writeSafetensors() aligns the data to 8 bytes and every tensor to its elements", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "file");
  for (let length = 1; length < 10; length++) {
    await writeSafetensors(path, [tensor("a".repeat(length), "BF16", [3]), tensor("z", "F32", [1])], { metadata: { format: "pt" } });
    const file = await Deno.readFile(path), size = Number(new DataView(file.buffer).getBigUint64(0, true));
    const text = new TextDecoder().decode(file.subarray(8, 8 + size));
    const header = JSON.parse(text);
    assertEquals([size % 8, text.trimEnd().length > size - 8, header.__metadata__], [0, true, { format: "pt" }]);
    assertEquals(header.z.data_offsets, [0, 4]);
  }
});

Deno.test("a header that could not be read again is not written", async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, "file");
  await assertRejects(
    () => writeSafetensors(path, [tensor("a".repeat(1e8), "F32", [1])]),
    Error,
    "the header of its 1 tensors has 1000000",
  );
  await assertRejects(() => Deno.stat(path), Deno.errors.NotFound);
});

Deno.test("writeCheckpoint() splits into shards by name, with an index that transformers reads", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  const tensors = [tensor("c", "F32", [4]), tensor("a", "F32", [2]), tensor("b", "BF16", [4]), tensor("d", "F32", [1])];
  const progress: number[] = [];
  const { files: written } = await writeCheckpoint(target, { tensors, files }, {
    shardBytes: 16,
    onProgress: ({ bytes, total }) => progress.push(bytes, total),
  });
  assertEquals(written, [
    "config.json",
    "model-00001-of-00003.safetensors",
    "model-00002-of-00003.safetensors",
    "model-00003-of-00003.safetensors",
    "model.safetensors.index.json",
  ]);
  assertEquals(written, await namesIn(target));
  assertEquals(JSON.parse(await Deno.readTextFile(join(target, "model.safetensors.index.json"))), {
    metadata: { total_size: 36 },
    weight_map: {
      a: "model-00001-of-00003.safetensors",
      b: "model-00001-of-00003.safetensors",
      c: "model-00002-of-00003.safetensors",
      d: "model-00003-of-00003.safetensors",
    },
  });
  assertEquals(progress, [8, 36, 16, 36, 32, 36, 36, 36]);
});

Deno.test("planShards() gives a tensor larger than a shard a file of its own", () => {
  const shards = planShards([..."abcd"].map((name) => ({ name })), ({ name }) => name === "a" || name === "c" ? 100 : 1, 10);
  assertEquals(shards.map(({ tensors }) => tensors.map(({ name }) => name).join("")), ["a", "b", "c", "d"]);
});

Deno.test("writeCheckpoint() writes one tensor at a time through one buffer", async () => {
  await using folder = await temporaryFolder();
  const buffers = new Set<ArrayBufferLike>();
  let reading = 0;
  const watched = ["a", "b", "c"].map((name, i) => ({
    ...{ name, dtype: "F32", shape: [100 * (i + 1)] } as const,
    async read(into: Uint8Array) {
      assertEquals(++reading, 1);
      buffers.add(into.buffer);
      await Promise.resolve();
      reading--;
    },
  }));
  await writeCheckpoint(join(folder.path, "model"), { tensors: watched, files });
  assertEquals([buffers.size, [...buffers][0].byteLength], [1, 0]); // and the buffer has been given back
});

Deno.test("writeCheckpoint() refuses a target that exists and leaves it alone", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  await writeCheckpoint(target, { tensors: [tensor("a", "F32", [1])], files });
  const before = await contentsOf(target);
  await assertRejects(
    () => writeCheckpoint(target, { tensors: [], files }),
    Error,
    `Cannot write "${target}": it exists, pass "overwrite: true"`,
  );
  assertEquals(await contentsOf(target), before);
  assertEquals(await namesIn(folder.path), ["model"]);
});

Deno.test("writeCheckpoint() leaves a target alone that comes into being while it writes", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  const onProgress = () => {
    Deno.mkdirSync(target);
    Deno.writeTextFileSync(join(target, "thesis.docx"), "");
  };
  const writing = writeCheckpoint(target, { tensors: [tensor("a", "F32", [1])], files }, { onProgress });
  await assertRejects(() => writing, Error, "it has come into being since the writing began");
  assertEquals([await namesIn(folder.path), await namesIn(target)], [["model"], ["thesis.docx"]]);
});

Deno.test("writeCheckpoint() replaces a checkpoint, through a link too", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model"), link = join(folder.path, "link");
  await writeCheckpoint(target, { tensors: [tensor("a", "F32", [1])], files });
  await Deno.symlink(target, link);
  await writeCheckpoint(link, { tensors: [tensor("b", "F32", [2])], files }, { overwrite: true });
  assertEquals([...(await openCheckpoint(target)).tensors.keys()], ["b"]);
  assertEquals([await namesIn(folder.path), (await Deno.lstat(link)).isSymlink], [["link", "model"], true]);
});

Deno.test("writeCheckpoint() replaces nothing but a checkpoint", async () => {
  await using folder = await temporaryFolder();
  const contents = { tensors: [tensor("a", "F32", [1])], files };
  const make = async (name: string, ...names: string[]) => {
    await Deno.mkdir(join(folder.path, name));
    for (const file of names) await Deno.writeTextFile(join(folder.path, name, file), file);
    return join(folder.path, name);
  };
  const overwrite = (target: string) => writeCheckpoint(target, contents, { overwrite: true });
  const stranger = await make("stranger", "config.json", "thesis.docx");
  await assertRejects(() => overwrite(stranger), Error, `Cannot replace "${stranger}": it holds "thesis.docx"`);
  const data = await make("data", "tokenizer.json");
  await assertRejects(() => overwrite(data), Error, 'it has no "config.json", expected a checkpoint');
  const nested = await make("nested", "config.json");
  await Deno.mkdir(join(nested, "tokenizer.json"));
  await assertRejects(() => overwrite(nested), Error, 'it holds "tokenizer.json"');
  const file = join(data, "tokenizer.json");
  await assertRejects(() => overwrite(file), Error, "a file of that name exists");
  const empty = await make("empty");
  await overwrite(empty);
  assertEquals([await namesIn(stranger), await namesIn(data), await namesIn(empty)], [
    ["config.json", "thesis.docx"],
    ["tokenizer.json"],
    ["config.json", "model.safetensors"],
  ]);
});

Deno.test("writeCheckpoint() leaves nothing behind when a tensor cannot be read", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  const write = (tensors: Parameters<typeof writeCheckpoint>[1]["tensors"]) =>
    writeCheckpoint(target, { tensors, files }, { overwrite: true });
  await assertRejects(() => write([tensor("a", "F32", [1]), unreadable]), Error, "the weights are gone");
  assertEquals(await namesIn(folder.path), []);
  await write([tensor("a", "F32", [1])]);
  const before = await contentsOf(target);
  await assertRejects(() => write([tensor("a", "F32", [2]), unreadable]), Error, "the weights are gone");
  assertEquals([await namesIn(folder.path), await contentsOf(target)], [["model"], before]);
});

Deno.test("writeCheckpoint() stops at the signal and leaves nothing behind", async () => {
  await using folder = await temporaryFolder();
  const stop = new AbortController();
  const onProgress = () => stop.abort(new Error("stopped by the user"));
  const tensors = [tensor("a", "F32", [1]), unreadable];
  const writing = writeCheckpoint(join(folder.path, "model"), { tensors, files }, { onProgress, signal: stop.signal });
  await assertRejects(() => writing, Error, "stopped by the user");
  assertEquals(await namesIn(folder.path), []);
});

Deno.test({
  name: "writeSafetensors() says when the disk is full",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    await assertRejects(
      () => writeSafetensors("/dev/full", [tensor("a", "F32", [1])]),
      Error,
      'Cannot write "/dev/full": no space left on device',
    );
  },
});

Deno.test("writeCheckpoint() says when a folder may not be written", async () => {
  await using folder = await temporaryFolder();
  await Deno.writeTextFile(join(folder.path, "file"), "");
  const target = join(folder.path, "file", "model");
  await assertRejects(() => writeCheckpoint(target, { tensors: [], files }), Error, `Cannot create "${folder.path}/file": file exists`);
});

Deno.test("writeCheckpoint() refuses a name that comes twice and names that are not plain", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  const twice = [tensor("a", "F32", [1]), tensor("a", "F32", [2])];
  await assertRejects(() => writeCheckpoint(target, { tensors: twice, files }), Error, 'tensor "a" comes twice');
  await assertRejects(() => writeCheckpoint(target, { tensors: twice, files }, { shardBytes: 4 }), Error, 'tensor "a" comes twice');
  await assertRejects(() => writeCheckpoint(target, { tensors: [tensor("__metadata__", "F32", [1])], files }), Error, '"__metadata__"');
  for (const name of ["../x", "a/b", "..", "", "model.safetensors", "model-00001-of-00002.safetensors", "model.safetensors.index.json"]) {
    await assertRejects(
      () => writeCheckpoint(target, { tensors: [], files: new Map([[name, ""]]) }),
      Error,
      `"${name}" cannot be the name`,
    );
  }
  assertEquals(await namesIn(folder.path), []);
});

Deno.test("writeCheckpoint() lets one process write to a target at a time", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  const { promise, resolve } = Promise.withResolvers<void>();
  const slow = { ...tensor("a", "F32", [1]), read: () => promise };
  const first = writeCheckpoint(target, { tensors: [slow], files });
  while (!(await namesIn(folder.path)).includes("model.partial-new")) await new Promise((resolve) => setTimeout(resolve, 1));
  await assertRejects(
    () => writeCheckpoint(target, { tensors: [], files }),
    Error,
    `Cannot write "${target}": another process is writing to it`,
  );
  resolve();
  await first;
  assertEquals(await namesIn(folder.path), ["model"]);
});

/** Starts a process that writes a checkpoint, and kills it without warning when it has written one of two tensors. */
async function killWriter(target: string): Promise<void> {
  const script = `
    import { writeCheckpoint } from ${JSON.stringify(import.meta.resolve("../../lib/checkpoint/write_checkpoint.ts"))};
    const tensor = (name, read) => ({ name, dtype: "F32", shape: [100000], read });
    const tensors = [tensor("a", async () => {}), tensor("b", () => { console.log("half"); return new Promise((resolve) => setTimeout(resolve, 60000)); })];
    await writeCheckpoint(${JSON.stringify(target)}, { tensors, files: new Map() }, { overwrite: true });
  `;
  const child = new Deno.Command(Deno.execPath(), { args: ["eval", "--no-lock", script], stdout: "piped", stderr: "inherit" }).spawn();
  const reader = child.stdout.getReader();
  assertEquals(new TextDecoder().decode((await reader.read()).value), "half\n");
  child.kill("SIGKILL");
  await reader.cancel();
  await child.status;
}

Deno.test("a process killed in the middle of a write leaves the old checkpoint, and the next write clears up", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  await writeCheckpoint(target, { tensors: [tensor("old", "F32", [3])], files });
  const before = await contentsOf(target);
  await killWriter(target);
  assertEquals(await contentsOf(target), before);
  assert((await namesIn(folder.path)).includes("model.partial-new"));
  await writeCheckpoint(target, { tensors: [tensor("new", "F32", [3])], files }, { overwrite: true });
  assertEquals([...(await openCheckpoint(target)).tensors.keys()], ["new"]);
  assertEquals(await namesIn(folder.path), ["model"]);
});

Deno.test("a process killed between the two renames has its old checkpoint put back by the next write", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  await writeCheckpoint(target, { tensors: [tensor("old", "F32", [3])], files });
  await Deno.rename(target, `${target}.partial-old`);
  await assertRejects(() => writeCheckpoint(target, { tensors: [unreadable], files }, { overwrite: true }), Error, "the weights are gone");
  assertEquals([...(await openCheckpoint(target)).tensors.keys()], ["old"]);
  assertEquals(await namesIn(folder.path), ["model"]);
});

Deno.test("a process killed before it removed the old checkpoint has it removed by the next write", async () => {
  await using folder = await temporaryFolder();
  const target = join(folder.path, "model");
  for (const path of [target, `${target}.partial-old`]) await writeCheckpoint(path, { tensors: [tensor(path, "F32", [3])], files });
  await assertRejects(() => writeCheckpoint(target, { tensors: [], files }), Error, "it exists");
  assertEquals([await namesIn(folder.path), [...(await openCheckpoint(target)).tensors.keys()]], [["model"], [target]]);
});

Deno.test("accompanyingFiles() copies tokenizers and settings byte for byte", async () => {
  const binary = Uint8Array.of(0, 255, 254, 10, 13);
  const source = memorySource({ "tokenizer.model": binary, "chat_template.jinja": "{{ x }}", "config.json": "{}", "README.md": "" });
  await using folder = await temporaryFolder();
  await writeCheckpoint(join(folder.path, "model"), { tensors: [], files: await accompanyingFiles(source) });
  assertEquals(await namesIn(join(folder.path, "model")), ["chat_template.jinja", "model.safetensors", "tokenizer.model"]);
  assertEquals(await Deno.readFile(join(folder.path, "model", "tokenizer.model")), binary);
});
