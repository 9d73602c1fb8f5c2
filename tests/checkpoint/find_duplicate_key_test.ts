import { assertEquals } from "@std/assert";
import fc from "../properties.ts";
import { findDuplicateKey } from "../../lib/checkpoint/find_duplicate_key.ts";

Deno.test("findDuplicateKey() finds none in what JSON.stringify() gives", () => {
  fc.assert(fc.property(fc.jsonValue(), (value) => {
    assertEquals(findDuplicateKey(JSON.stringify(value, null, 1)), undefined);
  }));
});

Deno.test("findDuplicateKey() finds any key that is there twice", () => {
  const key = fc.string({ unit: "binary" });
  fc.assert(fc.property(fc.dictionary(key, fc.jsonValue(), { minKeys: 1 }), fc.nat(), (object, pick) => {
    const entries = Object.entries(object).map(([key, value]) => `${JSON.stringify(key)}: ${JSON.stringify(value)}`);
    const [twice, value] = Object.entries(object)[pick % entries.length];
    assertEquals(findDuplicateKey(`{${[...entries, `${JSON.stringify(twice)}: ${JSON.stringify(value)}`].join(", ")}}`), twice);
  }));
});

Deno.test("findDuplicateKey() is not misled by quotes, braces and colons in strings", () => {
  for (const key of ['"', "\\", '\\"', '":', "{", "}:", '\\\\"{"a":']) {
    const text = JSON.stringify(key);
    assertEquals(findDuplicateKey(`{"a": ${text}, ${text}: {"a": ${text}}}`), undefined, text);
    assertEquals(findDuplicateKey(`{${text}: ${text}, "b": [{${text}: 1, "b": 2, ${text}: 3}]}`), key, text);
  }
});
