import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { blockPerplexity } from "../../lib/evaluate/block_perplexity.ts";
import { loadTexts } from "../../lib/evaluate/datasets/load_texts.ts";
import { documentPerplexity } from "../../lib/evaluate/document_perplexity.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { wikitextDocument } from "../../lib/evaluate/wikitext_document.ts";
import { logits } from "../../lib/model/logits.ts";
import type { Model } from "../../lib/model/model.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { parquet } from "./parquet.ts";

const near = (got: number, want: number, what: string) => assert(Math.abs(got / want - 1) < 1e-4, `${what} is ${got}, expected ${want}`);

/** The tokens of a model begin with BOS by themselves. */
const beginning = (model: Model): Model => ({ ...model, tokenizer: Object.create(model.tokenizer, { addsBos: { value: true } }) });

testOnDevices("documentPerplexity() predicts every token once, in windows of which the last one is full", async (device) => {
  const { model } = await openFixture("tiny-mixtral"), vocabulary = model.config.vocabulary;
  const text = "Sum: 12 + 30 = 42.\nFact: Vera Aske lives in", ids = [...model.tokenizer.encode(text)], length = 6;
  assertEquals(ids.length, 17, "two whole windows and one of five tokens");
  let sum = 0;
  for (let at = 0; at < ids.length; at++) {
    // What token `at` is predicted from: its window so far, and the token before the window; the last window reaches back.
    const start = at < 12 ? at - at % length : ids.length - length;
    const context = [0, ...ids].slice(start, at + 1), row = (await logits(device, model, Uint32Array.from(context))).subarray(-vocabulary);
    sum += row[ids[at]] - Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
  }
  const got = await documentPerplexity(device, model, [text], { maxLength: length });
  near(got.logLikelihood, sum, "the log-likelihood");
  assertEquals([got.documents, got.words, got.bytes, got.tokens], [1, 11, text.length, 17]);
  near(got.wordPerplexity, Math.exp(-sum / 11), "perplexity of a word");
  near(got.bytePerplexity, Math.exp(-sum / text.length), "perplexity of a byte");
  near(2 ** got.bitsPerByte, got.bytePerplexity, "2^bits per byte");
});

Deno.test("documentPerplexity() counts words and bytes of the original, and predicts BOS where the tokenizer adds it", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  const plain = await documentPerplexity(device, model, ["é a"]);
  const other = await documentPerplexity(device, model, [{ text: "é a", original: " é , a " }]);
  assertEquals([plain.words, plain.bytes, other.words, other.bytes], [2, 4, 5, 8]);
  assertEquals(other.logLikelihood, plain.logLikelihood);
  const count = async (bos?: "never") => (await documentPerplexity(device, beginning(model), ["é a"], { bos })).tokens - plain.tokens;
  assertEquals([await count(), await count("never")], [1, 0]);
  const two = await documentPerplexity(device, model, ["é a", "Sum"]), one = await documentPerplexity(device, model, ["Sum"]);
  near(two.logLikelihood, plain.logLikelihood + one.logLikelihood, "the sum over documents");
});

Deno.test("blockPerplexity() cuts one corpus into blocks and leaves the rest out", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), texts = ["Sum: 12 + 30 = 42.", "Fact: Vera Aske lives in", "Sum"];
  const ids = model.tokenizer.encode(texts.join("\n\n")), length = 5, whole = Math.floor(ids.length / length);
  const blocks = Array.from({ length: whole }, (_, i) => ids.subarray(i * length, (i + 1) * length));
  assert(ids.length % length > 0 && whole > 1);
  assertEquals(await blockPerplexity(device, model, texts, { length }), {
    ...await perplexity(device, model, blocks),
    blocks: whole,
    length,
  });
  assertEquals(
    (await blockPerplexity(device, model, texts, { length, blocks: 1 })).nll,
    (await perplexity(device, model, blocks.slice(0, 1))).nll,
  );
  const joined = model.tokenizer.encode(texts.join(" "));
  const bos = Uint32Array.of(0, ...joined.subarray(0, 4)), first = { length, blocks: 1, separator: " " };
  assertEquals((await blockPerplexity(device, beginning(model), texts, first)).nll, (await perplexity(device, model, [bos])).nll);
  assertEquals(
    (await blockPerplexity(device, model, texts, { ...first, bos: "always" })).nll,
    (await perplexity(device, model, [bos])).nll,
  );
});

Deno.test("both kinds of perplexity say what they cannot measure", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"),
    silent = { ...model, tokenizer: { ...model.tokenizer, bos: undefined, eos: undefined } };
  await assertRejects(
    () => blockPerplexity(device, model, ["a"]),
    RangeError,
    '"length" must be a whole number from 2 to the model\'s 512 positions, received 2048',
  );
  await assertRejects(
    () => blockPerplexity(device, model, ["Sum"], { length: 9 }),
    RangeError,
    "the texts have 1 tokens, expected at least one block of 9",
  );
  await assertRejects(() => documentPerplexity(device, model, [""]), RangeError, "1 documents have no token to predict");
  await assertRejects(
    () => documentPerplexity(device, model, ["a"], { maxLength: 0 }),
    RangeError,
    '"maxLength" must be a positive whole number, received 0',
  );
  await assertRejects(() => documentPerplexity(device, silent, ["a"]), RangeError, "the tokenizer has neither BOS nor EOS");
});

Deno.test("wikitextDocument() undoes spaces around punctuation, and keeps the page to count", () => {
  const page =
    ' = Harbour = \n \n The pier ( built 1 @,@ 200 @-@ odd years ago ) is " old " ; it \'s long . N of them : a , b ! \n = = South = = \n 5 ° C ';
  const { text, original } = wikitextDocument(page);
  assertEquals(original, page);
  assertEquals(text, ' = Harbour =\n\nThe pier (built 1,200-odd years ago) is "old"; it\'s long. 1 of them: a, b!\n== South ==\n5°C ');
});

Deno.test("loadTexts() reads a column of texts", async () => {
  await using folder = await temporaryFolder();
  const rows = ["", " = Tide = \n", " It rose . \n"].map((text) => ({ text })),
    path = `${folder.path}/Salesforce/wikitext/wikitext-2-raw-v1/test`;
  await Deno.mkdir(path, { recursive: true });
  await Deno.writeFile(`${path}/0000.parquet`, parquet(rows, { text: "text" }));
  const from = `${folder.path}/`;
  assertEquals(await loadTexts("wikitext2", { from }), {
    texts: rows.map(({ text }) => text),
    dataset: `${folder.path}/Salesforce/wikitext`,
  });
  assertEquals((await loadTexts("wikitext2", { from, limit: 2 })).texts, ["", " = Tide = \n"]);
  const pages = { repository: "Salesforce/wikitext", config: "wikitext-2-raw-v1", split: "test", column: "page" };
  await assertRejects(() => loadTexts(pages, { from }), Error, 'it has no column "page", expected page, found text');
});

Deno.test("blockPerplexity() and documentPerplexity() name texts, lengths and numbers of blocks that make no sense", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), texts = ["Sum: 12 + 30 = 42."];
  const refused = (options: { length?: number; blocks?: number }, why: string) =>
    assertRejects(() => blockPerplexity(device, model, texts, { length: 5, ...options }), RangeError, why);
  await refused({ blocks: 1.5 }, '"blocks" must be a positive whole number, received 1.5');
  await refused({ blocks: NaN }, '"blocks" must be a positive whole number, received NaN');
  await refused({ length: 4.5 }, '"length" must be a whole number from 2 to');
  await assertRejects(() => blockPerplexity(device, model, [5 as never]), TypeError, "expected a list of texts");
  const none = () => documentPerplexity(device, model, ["Sum", { text: 5 as never }]);
  await assertRejects(none, TypeError, "document 1: expected a text");
});
