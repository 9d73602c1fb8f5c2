import { assertEquals } from "@std/assert";
import fc from "../properties.ts";
import { reviseJson } from "../../lib/checkpoint/revise_json.ts";

Deno.test("reviseJson() without changes keeps the embedded configs as they are, byte for byte", async () => {
  for (const name of ["tiny-mixtral", "tiny-qwen2-moe", "tiny-deepseek-v2"]) {
    for (const file of ["config.json", "generation_config.json", "tokenizer_config.json"]) {
      const json = await Deno.readTextFile(`notebooks/checkpoints/${name}/${file}`);
      assertEquals(reviseJson(json, {}).trimEnd(), json.trimEnd());
    }
  }
});

Deno.test("reviseJson() replaces in place, adds at the end, removes what is undefined", () => {
  const json = '{"a": 1.0, "b": [2.50, -0.0], "c": 1000000000000000019884624838656}';
  const revised = reviseJson(json, { a: 0.5, b: undefined, d: { e: 1 } });
  assertEquals(revised.replace(/\s+/g, ""), '{"a":0.5,"c":1000000000000000019884624838656,"d":{"e":1}}');
});

Deno.test("reviseJson() keeps the meaning of any object", () => {
  fc.assert(fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
    const json = JSON.stringify(value);
    assertEquals(JSON.parse(reviseJson(json, {})), JSON.parse(json));
  }));
});
