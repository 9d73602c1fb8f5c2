import { assertEquals, assertThrows } from "@std/assert";
import { examplesOf, packExamples, tokenizeExample, tokenizeExamples } from "../../lib/finetune/examples.ts";
import { openFixture } from "../fixtures.ts";

Deno.test("tokenizeExample() counts all of a text, and of a prompt's example only the completion and its end", async () => {
  const { model: { tokenizer } } = await openFixture("tiny-mixtral"), { bos, eos } = tokenizer;
  const text = tokenizeExample(tokenizer, "Sum: 1 + 2 = 3.", 256, 0),
    same = tokenizeExample(tokenizer, { text: "Sum: 1 + 2 = 3." }, 256, 0);
  assertEquals([...text.ids], [bos!, ...tokenizer.encode("Sum: 1 + 2 = 3.")]);
  assertEquals([text.first, same], [1, text]);

  const asked = tokenizeExample(tokenizer, { prompt: "Sum: 1 + 2 =", completion: " 3." }, 256, 0);
  assertEquals([...asked.ids], [...text.ids, eos!]);
  assertEquals(tokenizer.decode(asked.ids.slice(asked.first, -1)), " 3.");

  const alpaca = tokenizeExample(tokenizer, { instruction: "Add.", input: "1 and 2", output: "3." }, 256, 0);
  const whole = tokenizer.decode(alpaca.ids.slice(1, -1));
  assertEquals(whole, "### Instruction:\nAdd.\n\n### Input:\n1 and 2\n\n### Response:\n3.");
  assertEquals(tokenizer.decode(alpaca.ids.slice(alpaca.first, -1)), "3.");
  const short = tokenizeExample(tokenizer, { instruction: "Add.", input: "", output: "3." }, 256, 0);
  assertEquals(tokenizer.decode(short.ids.slice(1, -1)), "### Instruction:\nAdd.\n\n### Response:\n3.");
  assertEquals(tokenizeExample(tokenizer, "Sum: 1 + 2 = 3.", 4, 0).ids, text.ids.slice(0, 4));

  // " 3" is one token: it holds the end of this prompt, and what is to be learnt.
  const joined = tokenizeExample(tokenizer, { prompt: "Sum: 1 + 2 = ", completion: "3." }, 256, 0);
  assertEquals([joined.ids, joined.first], [asked.ids, asked.first]);
});

Deno.test("packExamples() predicts each counted token from the one before it, and keeps examples apart", () => {
  const examples = [{ ids: Uint32Array.of(0, 5, 6), first: 1 }, { ids: Uint32Array.of(0, 7, 8, 9), first: 3 }, {
    ids: Uint32Array.of(0, 4),
    first: 1,
  }];
  const [one, two] = packExamples(examples, 8);
  assertEquals(one.ids, Uint32Array.of(0, 5, 6, 0, 7, 8, 9));
  assertEquals(one.segments, [{ start: 0, length: 3, position: 0 }, { start: 3, length: 4, position: 0 }]);
  assertEquals([one.rows, one.targets], [Uint32Array.of(0, 1, 5), Uint32Array.of(5, 6, 9)]);
  assertEquals([two.rows, two.targets], [Uint32Array.of(0), Uint32Array.of(4)]);
});

Deno.test("tokenizeExamples() leaves out what has nothing to learn, and names tokens that the model does not have", async () => {
  const { model } = await openFixture("tiny-mixtral"), long = { prompt: "Sum: 1 + 2 =", completion: " 3." };
  assertEquals(tokenizeExamples(model, ["", long, "Sum"], 5).map(({ ids }) => ids.length), [2]);
  const small = { ...model, config: { ...model.config, vocabulary: 3 } };
  assertThrows(() => tokenizeExamples(small, ["", "Sum"], 5), RangeError, "Cannot train on example 1: the tokenizer gives token ");
});

Deno.test("examplesOf() goes through all examples once an epoch, the last batch with what is left", () => {
  const examples = Array.from({ length: 5 }, (_, i) => ({ ids: Uint32Array.of(i, i), first: 1 }));
  const epoch = (e: number) =>
    [0, 1, 2].map((step) => examplesOf(3 * e + step, examples, { seed: 1, batch: 2 }, 3).map(({ ids }) => ids[0]));
  for (const e of [0, 1]) {
    assertEquals(epoch(e).map((batch) => batch.length), [2, 2, 1]);
    assertEquals(epoch(e).flat().sort(), [0, 1, 2, 3, 4]);
  }
});
