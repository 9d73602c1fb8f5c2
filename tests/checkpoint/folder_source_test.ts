import { assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { openSource } from "../../lib/checkpoint/open_source.ts";
import { temporaryFolder } from "./fixtures.ts";

const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => i * 31 >> 3);

async function folderWithFile() {
  const folder = await temporaryFolder();
  await Deno.writeFile(join(folder.path, "file"), bytes);
  return folder;
}

Deno.test("openSource() names a folder that is missing, or is a file", async () => {
  await using folder = await folderWithFile();
  await assertRejects(
    () => openSource(join(folder.path, "absent")),
    Error,
    `Cannot open "${folder.path}/absent": no such file or directory`,
  );
  await assertRejects(
    () => openSource(join(folder.path, "file")),
    Error,
    `Cannot open "${folder.path}/file": it is a file, expected a folder`,
  );
});

Deno.test("openSource() refuses what is neither a folder nor an address", async () => {
  for (const location of ["s3://bucket/model", "https://", "ftp://host/model"]) {
    await assertRejects(
      () => openSource(location),
      TypeError,
      `Cannot open "${location}": expected a folder, an https:// directory or hf://`,
    );
  }
});

Deno.test("a folder can be given as a file:// address", async () => {
  await using folder = await folderWithFile();
  const source = await openSource(pathToFileURL(folder.path).href);
  assertEquals([source.location, await source.size("file")], [folder.path, bytes.length]);
});

Deno.test("a folder gives many parts of a file at the same time", async () => {
  await using folder = await folderWithFile();
  const source = await openSource(folder.path);
  await Promise.all(Array.from({ length: 50 }, async (_, i) => {
    const into = new Uint8Array(997);
    await source.read("file", i * 1000, into);
    assertEquals(into, bytes.subarray(i * 1000, i * 1000 + 997));
  }));
});

Deno.test("a folder says when a file is absent", async () => {
  await using folder = await folderWithFile();
  const source = await openSource(folder.path);
  assertEquals([await source.size("absent"), await source.text("absent"), await source.bytes("file/below")], [
    undefined,
    undefined,
    undefined,
  ]);
  await assertRejects(
    () => source.read("absent", 0, new Uint8Array(1)),
    Error,
    `Cannot read "${folder.path}/absent": no such file or directory`,
  );
});

Deno.test("a folder says when a read reaches beyond the file", async () => {
  await using folder = await folderWithFile();
  const source = await openSource(folder.path);
  await assertRejects(
    () => source.read("file", 99_990, new Uint8Array(11)),
    RangeError,
    "it ends at byte 100000, expected 11 bytes from 99990",
  );
});

Deno.test("a folder says when a file became shorter since it was opened", async () => {
  await using folder = await folderWithFile();
  const source = await openSource(folder.path);
  await source.size("file");
  await Deno.truncate(join(folder.path, "file"), 50);
  const { message } = await assertRejects(() => source.read("file", 0, new Uint8Array(10)), Error, "the file changed since it was opened");
  assertEquals([message.includes("found 50 bytes"), message.includes("expected 100000 bytes")], [true, true]);
});

Deno.test("a folder says when a file was written anew since it was opened", async () => {
  await using folder = await folderWithFile();
  const source = await openSource(folder.path);
  await source.read("file", 0, new Uint8Array(10));
  await Deno.utime(join(folder.path, "file"), new Date(0), new Date(0));
  await assertRejects(() => source.read("file", 0, new Uint8Array(10)), Error, "the file changed since it was opened");
});

Deno.test({
  name: "a folder says which permission Deno needs",
  permissions: { read: false },
  fn: async () => {
    await assertRejects(
      () => openSource("/anywhere"),
      Error,
      'Cannot open "/anywhere": Deno has no permission for it, run it with --allow-read',
    );
  },
});

Deno.test({
  name: "a folder needs no permission for the environment or the network",
  permissions: { read: true },
  fn: async () => {
    const source = await openSource("notebooks/checkpoints/tiny-mixtral");
    assertEquals(JSON.parse((await source.text("config.json"))!).model_type, "mixtral");
  },
});
