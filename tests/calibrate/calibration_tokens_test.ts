import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { calibrationTokens } from "../../lib/calibrate/calibration_tokens.ts";
import { openFixture } from "../fixtures.ts";

/** One token a character. */
const letters = {
  encode: (text: string) => Uint32Array.from(text, (c) => c.charCodeAt(0)),
  decode: (ids: ArrayLike<number>) => String.fromCharCode(...Array.from(ids)),
};

Deno.test("calibrationTokens() gives the asked number of sequences, of the asked length, each from the start of a text", () => {
  const texts = fc.array(fc.string({ minLength: 1, maxLength: 20 }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(texts, fc.integer({ min: 1, max: 12 }), fc.integer({ min: 1, max: 10 }), fc.integer(), (texts, sequences, length, seed) => {
      fc.pre(texts.join("").length >= length);
      const drawn = calibrationTokens(letters, texts, { sequences, length, seed });
      assertEquals(drawn.map((s) => s.length), Array(sequences).fill(length));
      for (const sequence of drawn) {
        const text = letters.decode(sequence);
        assert(texts.some((t) => text.startsWith(t.slice(0, length))), `"${text}" begins with none of the texts`);
      }
      assertEquals(drawn, calibrationTokens(letters, texts, { sequences, length, seed }), "the same seed draws the same");
    }),
  );
});

Deno.test("calibrationTokens() uses every text before it uses one again", () => {
  const texts = Array.from({ length: 20 }, (_, i) => String.fromCharCode(97 + i).repeat(5));
  const firsts = calibrationTokens(letters, texts, { sequences: 20, length: 5 }).map((s) => letters.decode(s));
  assertEquals(firsts.toSorted(), texts);
  assert(firsts.join() !== texts.join(), "in random order");
});

Deno.test("calibrationTokens() makes the fixtures' sequences from their texts, BOS first", async () => {
  const { model, calibration } = await openFixture("tiny-qwen2-moe");
  const texts = calibration.map((ids) => model.tokenizer.decode(ids.subarray(1)));
  const drawn = calibrationTokens(model.tokenizer, texts.map((text) => ({ text })), { sequences: 32, length: 128, seed: 3 });
  assertEquals(new Set(drawn.map(String)), new Set(calibration.map(String)));
});

Deno.test("calibrationTokens() says what it cannot do", () => {
  assertThrows(() => calibrationTokens(letters, ["abc"], { length: 4 }), RangeError, "sequences of 4 tokens: all 1 texts together have 3");
  assertThrows(
    () => calibrationTokens(letters, ["abc"], { sequences: 0 }),
    RangeError,
    '"sequences" must be a positive whole number, received 0',
  );
  assertThrows(() => calibrationTokens(letters, ["abc"], { length: 2.5 }), RangeError, '"length"');
});
