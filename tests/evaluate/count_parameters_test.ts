import { assertEquals, assertThrows } from "@std/assert";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { CONFIGS } from "../../notebooks/public_models.ts";
import { openFixture, references } from "../fixtures.ts";

const { "Mixtral-8x7B": MIXTRAL, "DeepSeek-V2-Lite": DEEPSEEK, "Qwen1.5-MoE-A2.7B": QWEN } = CONFIGS;

const gibibytes = (bytes: number) => (bytes / 2 ** 30).toFixed(2);
const cut = (before: number, after: number) => (100 * (1 - after / before)).toFixed(2);

Deno.test("countParameters() gives the published sizes of the three models", () => {
  const sizes = [MIXTRAL, DEEPSEEK, QWEN].map((config) => countParameters(config));
  assertEquals(sizes.map((s) => s.total), [46_702_792_704, 15_706_484_224, 14_315_784_192]);
  assertEquals(sizes.map((s) => gibibytes(s.bytes)), ["86.99", "29.26", "26.67"]);
  assertEquals(sizes.map((s) => s.experts), [45_097_156_608, 14_394_851_328, 12_457_082_880]);
  // All but the routed experts, and topK of them in every layer.
  const active = (i: number, layers: number, expert: number, topK: number) => sizes[i].total - sizes[i].experts + layers * topK * expert;
  assertEquals(sizes.map((s) => s.active), [active(0, 32, 176_160_768, 2), active(1, 26, 8_650_752, 6), active(2, 24, 8_650_752, 4)]);
});

Deno.test("countParameters() gives the paper's cuts at 25 % and average rank 2048 or 512", () => {
  const [mixtral, deepseek, qwen] = [[MIXTRAL, 2048], [DEEPSEEK, 512], [QWEN, 512]].map(([config, ranks]) => ({
    before: countParameters(config as typeof MIXTRAL),
    after: countParameters(config as typeof MIXTRAL, { pruning: 0.25, ranks: ranks as number }),
  }));
  assertEquals(cut(mixtral.before.experts, mixtral.after.experts), "51.79");
  assertEquals(gibibytes(mixtral.after.bytes), "43.49");
  assertEquals(cut(deepseek.before.experts, deepseek.after.experts), "53.98");
  assertEquals(cut(qwen.before.experts, qwen.after.experts), "53.98");
  assertEquals(gibibytes(countParameters(MIXTRAL, { pruning: 0.25 }).bytes), "65.99");
  assertEquals(cut(mixtral.before.experts, countParameters(MIXTRAL, { ranks: 2048 }).experts), "35.71");
});

for (const [name, { parameters }] of Object.entries(references)) {
  Deno.test(`countParameters() counts ${name} the same from its config, its weights, and its compressed views`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { model } = await openFixture(name), { raw } = model.config;
    assertEquals(countParameters(raw).total, parameters);
    assertEquals(countParameters(model), countParameters(raw));
    assertEquals(countParameters(model).bytes, model.checkpoint.bytes);
    const plan = { layers: [{ layer: 1, drop: [0, 3] }, { layer: 2, drop: [5] }] }, pruned = pruneExperts(model, plan);
    assertEquals(countParameters(pruned), countParameters(raw, plan));
    assertEquals(countParameters(pruned), countParameters(raw, { pruning: plan }));
    const ranks = { layers: [{ layer: 1, experts: [{ expert: 1, rank: 20 }, { expert: 2, rank: 1000 }], sum: 0, target: 0 }] };
    using small = await decomposeExperts(device, pruned, ranks);
    assertEquals(
      countParameters(small),
      countParameters(raw, { pruning: plan, ranks }),
      "factors count in the type that they are saved in",
    );
    const tuned = await finetune(device, small, ["Sum: 1 + 1 = 2."], { epochs: 1 });
    assertEquals(countParameters(tuned), countParameters(small), "adapters are part of the weights");
  });
}

Deno.test("countParameters() factors a matrix up to the last rank that makes it smaller", () => {
  const { experts } = countParameters(MIXTRAL); // 4096 · 14336 / (4096 + 14336) = 3185.8
  assertEquals(countParameters(MIXTRAL, { ranks: 3185 }).experts, 32 * 8 * 3 * 3185 * (4096 + 14336));
  assertEquals(countParameters(MIXTRAL, { ranks: 3186 }).experts, experts);
});

Deno.test("countParameters() says what it cannot count", () => {
  assertThrows(() => countParameters({ model_type: "llama" }), Error, '"model_type" is "llama"');
  assertThrows(() => countParameters(MIXTRAL, { pruning: 1 }), RangeError, '"pruning" must be at least 0 and below 1');
  assertThrows(() => countParameters(MIXTRAL, { layers: [{ layer: 0, drop: [8] }] }), RangeError, "Cannot drop expert 8 of layer 0");
  assertThrows(() => countParameters(MIXTRAL, { layers: [{ layer: 32, drop: [0] }] }), RangeError, "Cannot use layer 32");
  assertThrows(() => countParameters(MIXTRAL, { layers: [{ layer: 0, drop: [1, 1] }] }), RangeError, "twice");
  assertThrows(() => countParameters(MIXTRAL, { pruning: 0.99 }), RangeError, "leaves layer 0 without experts");
  for (const ranks of [0, NaN, -5]) assertThrows(() => countParameters(MIXTRAL, { ranks }), RangeError, '"ranks"');
  const ranks = { layers: [{ layer: 0, experts: [{ expert: 8, rank: 4 }], sum: 4, target: 4 }] };
  assertThrows(() => countParameters(MIXTRAL, { ranks }), RangeError, "expert 8 of layer 0");
});
