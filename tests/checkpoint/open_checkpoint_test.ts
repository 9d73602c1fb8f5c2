import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openCheckpoint } from "../../lib/checkpoint/open_checkpoint.ts";
import { requireTensor } from "../../lib/checkpoint/require_tensor.ts";
import { memorySource, pairs, safetensors } from "./fixtures.ts";

const index = (map: Record<string, unknown>) => JSON.stringify({ metadata: { total_size: 8 }, weight_map: map });

const sharded = (map: Record<string, unknown>, shards: Record<string, Uint8Array>) =>
  memorySource({ "config.json": "{}", "model.safetensors.index.json": index(map), ...shards });

Deno.test("openCheckpoint() opens the embedded checkpoints", async () => {
  for (const name of ["tiny-mixtral", "tiny-qwen2-moe", "tiny-deepseek-v2"]) {
    const { source, tensors, unreadable, bytes } = await openCheckpoint(`notebooks/checkpoints/${name}`);
    assertEquals(unreadable.size, 0);
    assertEquals(bytes, [...tensors.values()].reduce((sum, tensor) => sum + tensor.bytes, 0));
    assert(bytes < (await source.size("model.safetensors"))!);
  }
});

Deno.test("openCheckpoint() reads nothing but headers", async () => {
  const file = safetensors({ a: { dtype: "BF16", shape: [1000], data_offsets: [0, 2000] } }, 2000);
  const source = memorySource({ "config.json": "{}", "model.safetensors": file });
  await openCheckpoint(source);
  assertEquals(source.reads.map(({ start, length }) => start + length), [8, file.length - 2000]);
});

Deno.test("openCheckpoint() joins the shards that the index names", async () => {
  const source = sharded({ a: "one.safetensors", b: "two.safetensors" }, {
    "one.safetensors": pairs("a"),
    "two.safetensors": pairs("b"),
    "three.safetensors": pairs("c"),
  });
  const { tensors } = await openCheckpoint(source);
  assertEquals([...tensors.values()].map(({ name, file }) => [name, file]), [["a", "one.safetensors"], ["b", "two.safetensors"]]);
  const into = new Uint8Array(4);
  await tensors.get("b")!.read(into);
  assertEquals(into, Uint8Array.of(0, 1, 2, 3));
});

for (
  const [name, source, ...words] of [
    ["no config", memorySource({ "model.safetensors": pairs("a") }), 'Found no "config.json" in "memory"'],
    ["a config that is no object", memorySource({ "config.json": "[1]" }), "memory/config.json", "found an array"],
    ["a config that is not JSON", memorySource({ "config.json": "model_type: mixtral" }), "memory/config.json", "not JSON"],
    ["no weights", memorySource({ "config.json": "{}" }), 'Found no weights in "memory"', "model.safetensors.index.json"],
    ["an index without a map", memorySource({ "config.json": "{}", "model.safetensors.index.json": "{}" }), '"weight_map"'],
    [
      "an index that names a tensor twice",
      memorySource({ "config.json": "{}", "model.safetensors.index.json": '{"weight_map":{"a":"one","a":"two"}}' }),
      '"a" twice',
    ],
    ["a shard that is missing", sharded({ a: "one.safetensors" }, {}), 'Found no "one.safetensors" in "memory"', "names it"],
    [
      "a shard that lacks a tensor",
      sharded({ a: "one.safetensors", b: "one.safetensors" }, { "one.safetensors": pairs("a") }),
      'lists tensor "b" in "one.safetensors", found in no file',
    ],
    [
      "a tensor that the index does not list",
      sharded({ a: "one.safetensors" }, { "one.safetensors": pairs("a", "b") }),
      'does not list tensor "b", found in "one.safetensors"',
    ],
    [
      "a tensor in two shards",
      sharded({ a: "one.safetensors", b: "two.safetensors" }, { "one.safetensors": pairs("a", "b"), "two.safetensors": pairs("b") }),
      'tensor "b" is in both "one.safetensors" and "two.safetensors"',
    ],
  ] as const
) {
  Deno.test(`openCheckpoint() refuses ${name}`, async () => {
    const { message } = await assertRejects(() => openCheckpoint(source), Error);
    for (const word of words) assert(message.includes(word), `expected "${word}" in: ${message}`);
  });
}

Deno.test("openCheckpoint() refuses an index that lists tensors in each other's shards", async () => {
  const source = sharded({ a: "two.safetensors", b: "one.safetensors" }, { "one.safetensors": pairs("a"), "two.safetensors": pairs("b") });
  await assertRejects(() => openCheckpoint(source), Error, 'lists tensor "a" in "two.safetensors", found in "one.safetensors"');
});

Deno.test("openCheckpoint() refuses shards outside the folder", async () => {
  for (const file of ["../secret.safetensors", "/etc/passwd", "a/../../b", "..\\b", "C:b", "", 7, null]) {
    await assertRejects(() => openCheckpoint(sharded({ a: file }, {})), Error, `names the file ${JSON.stringify(file)}`);
  }
});

Deno.test("requireTensor() names what is missing, misshapen or of another type", async () => {
  const file = safetensors({
    a: { dtype: "BF16", shape: [2], data_offsets: [0, 4] },
    b: { dtype: "F8_E4M3", shape: [2, 2], data_offsets: [4, 8] },
    c: { dtype: "toString", shape: [2], data_offsets: [8, 10] },
  }, 10);
  const checkpoint = await openCheckpoint(memorySource({ "config.json": "{}", "model.safetensors": file }));
  assertEquals(requireTensor(checkpoint, "a", [2]).dtype, "BF16");
  assertEquals([...checkpoint.unreadable.keys()], ["b", "c"]);
  assertThrows(() => requireTensor(checkpoint, "x", [2]), Error, 'Found no tensor "x" in "memory", expected one of shape [2]');
  assertThrows(() => requireTensor(checkpoint, "a", [2, 1]), Error, 'tensor "a" of "memory/model.safetensors"');
  assertThrows(() => requireTensor(checkpoint, "a", [3]), Error, "found [2], expected [3]");
  assertThrows(() => requireTensor(checkpoint, "b", [2, 2]), Error, "found F8_E4M3, expected F32, BF16, F16");
});
