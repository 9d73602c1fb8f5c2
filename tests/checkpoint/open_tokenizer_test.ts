import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { folderSource } from "../../lib/checkpoint/folder_source.ts";
import { openTokenizer } from "../../lib/checkpoint/open_tokenizer.ts";
import { memorySource } from "./fixtures.ts";

const folder = folderSource("notebooks/checkpoints/tiny-qwen2-moe");
const json = (await folder.text("tokenizer.json"))!;

/** The tokenizer of the embedded checkpoint with other settings. */
const withSettings = (settings: unknown, config: Record<string, unknown> = {}) =>
  openTokenizer({ source: memorySource({ "tokenizer.json": json, "tokenizer_config.json": JSON.stringify(settings) }), config });

// Made with the tokenizers library of Python.
const golden: [string, number[]][] = [
  ["Fact: Mara Aske lives in", [306, 26, 569, 964, 465, 358, 285]],
  [" two  spaces and\ttabs\nnew line", [258, 986, 221, 271, 80, 274, 267, 387, 198, 84, 446, 83, 199, 78, 69, 87, 298, 597]],
  [
    "naïve café – 北京 🙂",
    [78, 65, 128, 108, 576, 278, 523, 128, 103, 221, 159, 223, 242, 221, 162, 235, 246, 161, 119, 106, 221, 173, 254, 248, 225],
  ],
  ["Sum: 12 + 30 = 42.", [389, 26, 718, 339, 703, 321, 840, 14]],
  ["", []],
];

Deno.test("encode() gives the ids of the reference, decode() the text", async () => {
  const tokenizer = await openTokenizer({ source: folder, config: {} });
  for (const [text, ids] of golden) {
    assertEquals(tokenizer.encode(text), Uint32Array.from(ids));
    assertEquals(tokenizer.decode(ids), text);
    assertEquals(tokenizer.decode(Uint32Array.from(ids)), text);
  }
});

Deno.test("decode() leaves spaces before punctuation alone unless the settings say otherwise", async () => {
  const text = "a , b . c 's";
  const plain = await withSettings({}), tidy = await withSettings({ clean_up_tokenization_spaces: true });
  assertEquals(plain.decode(plain.encode(text)), text);
  assertEquals(tidy.decode(tidy.encode(text)), "a, b. c's");
});

Deno.test("decode() names an id that is no token", async () => {
  const tokenizer = await withSettings({});
  assertThrows(() => tokenizer.decode([5, 1024]), RangeError, 'Cannot decode token 1024: the tokenizer of "memory" has no such token');
});

/** tokenizer.json of a tokenizer that puts BOS first by itself. */
function beginningWithBos(): string {
  const spec = JSON.parse(json);
  spec.post_processor.single.unshift({ SpecialToken: { id: "<|endoftext|>", type_id: 0 } });
  spec.post_processor.special_tokens = { "<|endoftext|>": { id: "<|endoftext|>", ids: [0], tokens: ["<|endoftext|>"] } };
  return JSON.stringify(spec);
}

Deno.test("encode() adds no special tokens, even where the tokenizer would", async () => {
  const tokenizer = await openTokenizer({ source: memorySource({ "tokenizer.json": beginningWithBos() }), config: {} });
  assertEquals([...tokenizer.encode("Sum")], [389]);
});

Deno.test("addsBos follows the settings, else what the tokenizer does", async () => {
  const bos_token = "<|endoftext|>";
  const cases: [string, unknown, boolean][] = [
    [beginningWithBos(), { bos_token }, true],
    [beginningWithBos(), { bos_token, add_bos_token: false }, false],
    [beginningWithBos(), { bos_token: null }, false],
    [json, { bos_token }, false],
    [json, { bos_token, add_bos_token: true }, true],
    [json, { add_bos_token: true }, false],
  ];
  for (const [spec, settings, adds] of cases) {
    const source = memorySource({ "tokenizer.json": spec, "tokenizer_config.json": JSON.stringify(settings) });
    assertEquals((await openTokenizer({ source, config: {} })).addsBos, adds, JSON.stringify(settings));
  }
});

Deno.test("the special tokens come from the tokenizer's settings, else from the config", async () => {
  const ids = { bos_token_id: 7, eos_token_id: [8, 9] };
  const cases: [unknown, number | undefined, number | undefined][] = [
    [{ bos_token: "<|endoftext|>", eos_token: { content: "Sum" } }, 0, 389],
    [{ bos_token: null, eos_token: "<|endoftext|>" }, undefined, 0],
    [{ add_bos_token: false }, undefined, 8],
    [{ add_bos_token: false, bos_token: "<|endoftext|>" }, 0, 8],
    [{ bos_token: "not in the vocabulary" }, 7, 8],
    [{}, 7, 8],
  ];
  for (const [settings, bos, eos] of cases) {
    const tokenizer = await withSettings(settings, ids);
    assertEquals([tokenizer.bos, tokenizer.eos], [bos, eos], JSON.stringify(settings));
  }
  const silent = await withSettings({}, { bos_token_id: null });
  assertEquals([silent.bos, silent.eos], [undefined, undefined]);
});

Deno.test("a tokenizer that is missing or unknown is an error on its first use, and only then", async () => {
  const none = await openTokenizer({ source: memorySource({ "tokenizer.model": new Uint8Array(1) }), config: {} });
  assertThrows(() => none.encode("a"), Error, 'Found no "tokenizer.json" in "memory", expected one to split text into tokens');
  assertThrows(() => none.bos, Error, '"tokenizer.model" alone cannot be read');
  const broken = await openTokenizer({ source: memorySource({ "tokenizer.json": "{" }), config: {} });
  assertThrows(() => broken.encode("a"), Error, 'Cannot read "memory/tokenizer.json"');
  const spec = { ...JSON.parse(json), pre_tokenizer: { type: "Runes" } };
  const unknown = await openTokenizer({ source: memorySource({ "tokenizer.json": JSON.stringify(spec) }), config: {} });
  assertThrows(() => unknown.encode("a"), Error, 'Cannot use "memory/tokenizer.json"');
  await assertRejects(async () => (await withSettings([])).encode("a"), Error, 'Cannot read "memory/tokenizer_config.json"');
});

Deno.test("the time to encode grows with the length of a text, not with its square", async () => {
  // Without a pre-tokenizer, as in Mixtral's tokenizer, the whole text is one word.
  const spec = { ...JSON.parse(json), pre_tokenizer: null };
  const tokenizer = await openTokenizer({ source: memorySource({ "tokenizer.json": JSON.stringify(spec) }), config: {} });
  const seconds = (length: number) => {
    const text = "Fact:MaraAskelivesin".repeat(length / 20), begun = performance.now();
    assert(tokenizer.encode(text).length > length / 10);
    return performance.now() - begun;
  };
  seconds(10_000);
  const attempts: string[] = []; // a machine that does other things spoils one of them
  while (attempts.length < 5) {
    const short = seconds(10_000), long = seconds(200_000);
    if (long < 100 * short) return;
    attempts.push(`${short} ms for 10,000 characters, ${long} ms for 200,000`);
  }
  throw new Error(attempts.join("; "));
});
