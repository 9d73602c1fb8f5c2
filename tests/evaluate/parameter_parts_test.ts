import { assertEquals } from "@std/assert";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { parameterParts } from "../../lib/evaluate/parameter_parts.ts";
import { CONFIGS } from "../../notebooks/public_models.ts";
import { openFixture } from "../fixtures.ts";

Deno.test("parameterParts() takes DeepSeek-V2-Lite apart", () => {
  const parts = parameterParts(CONFIGS["DeepSeek-V2-Lite"], { pruning: 0.25, ranks: 512 });
  const attention = 16 * 192 * 2048 + (512 + 64) * 2048 + 512 + 16 * 256 * 512 + 2048 * 16 * 128; // q, kv_a, its norm, kv_b, o
  const parameters: Record<string, number> = {
    "embedding": 102400 * 2048,
    "attention": 27 * attention,
    "norms": (2 * 27 + 1) * 2048,
    "dense layers": 3 * 2048 * 10944,
    "routers": 26 * 48 * 2048,
    "shared experts": 26 * 3 * 2048 * 2 * 1408,
    "experts": 26 * 48 * 3 * 512 * (2048 + 1408),
    "head": 102400 * 2048,
  };
  assertEquals(
    parts,
    Object.entries(parameters).map(([part, count]) => ({ part, parameters: count, bytes: 2 * count }) as typeof parts[0]),
  );
});

for (const [name, config] of Object.entries(CONFIGS)) {
  Deno.test(`parameterParts() of ${name} are what countParameters() counts`, () => {
    for (const plan of [{}, { pruning: 0.25 }, { pruning: 0.25, ranks: 512 }]) {
      const parts = parameterParts(config, plan), whole = countParameters(config, plan);
      assertEquals(parts.reduce((sum, { parameters }) => sum + parameters, 0), whole.total);
      assertEquals(parts.reduce((sum, { bytes }) => sum + bytes, 0), whole.bytes);
      assertEquals(parts.find(({ part }) => part === "experts")!.parameters, whole.experts);
    }
  });
}

Deno.test("parameterParts() has no head that is tied, and no parts that a model has not", async () => {
  const { model } = await openFixture("tiny-mixtral"), tied = { ...model.config.raw, tie_word_embeddings: true };
  assertEquals(parameterParts(tied).map(({ part }) => part), ["embedding", "attention", "norms", "routers", "experts"]);
});
