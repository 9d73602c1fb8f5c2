import { assertEquals } from "@std/assert";
import { capitalize, characters, countWords, strip, stripEnd, stripStart } from "../../lib/evaluate/python_text.ts";

Deno.test("text is stripped, split and counted as Python does it", () => {
  assertEquals(strip("\x1c \x85\u2003 a b\u00a0\n"), "a b");
  assertEquals(strip("\ufeffa\u200b"), "\ufeffa\u200b", "neither is white space to Python");
  assertEquals([stripStart("  a "), stripEnd("  a "), strip(" \n ")], ["a ", "  a", ""]);
  assertEquals(["", "a", " a  b\n", "a\x1fb\ufeffc"].map(countWords), [1, 1, 4, 2]);
  assertEquals(["", "éA B", "ßA", "🙂X"].map(capitalize), ["", "Éa b", "Ssa", "🙂x"]);
  assertEquals(["é🙂", ""].map(characters), [2, 0]);
});
