import { assert, assertEquals, assertThrows } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { type HeldBytes, loadedBytes, stageMemory, type StageMemoryOptions } from "../../lib/evaluate/stage_memory.ts";
import { createAdapters } from "../../lib/finetune/adapters.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { checkedRecipe } from "../../lib/finetune/recipe.ts";
import { layerFitness, ranksNeeded } from "../../lib/importance/layer_fitness.ts";
import { loadLayer } from "../../lib/model/load_layer.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { CONFIGS } from "../../notebooks/public_models.ts";
import { openFixture, references } from "../fixtures.ts";
import { peakOf } from "../peak_of.ts";

const held = (config: Record<string, unknown>, options: StageMemoryOptions, words: string): HeldBytes =>
  stageMemory(config, options).find(({ stage, what }) => `${stage}: ${what}`.startsWith(words))!;

for (const name of Object.keys(references)) {
  Deno.test(`stageMemory() knows what ${name} takes on a device`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration: all } = await openFixture(name), { config } = model, { raw, hidden } = config, tokens = all.slice(0, 2);
    for (const layer of model.layers) {
      using _loaded = await loadLayer(device, config, layer);
      assertEquals(device.live.bytes, loadedBytes(layer), `layer ${layer.index}`);
    }
    const largest = Math.max(...model.layers.map(loadedBytes)), count = tokens.reduce((n, { length }) => n + length, 0);
    assertEquals(held(raw, { tokens: count }, "calibrate: weights").bytes, largest);

    using trace = await calibrate(device, model, tokens, { searchTokens: 50 });
    const kept = trace.layers.reduce((sum, { inputs }) => sum + 4 * inputs.tokens * inputs.hidden, 0);
    assertEquals(held(raw, { tokens: count, searchTokens: 50 }, "calibrate: MoE inputs").bytes, kept);

    using weights = await loadLayer(device, config, moeLayers(model)[0]);
    if (weights.block.kind === "dense") throw new Error("expected experts");
    using input = device.tensor(new Float32Array(64 * hidden).map((_, i) => Math.sin(i)), [64, hidden]);
    const before = device.live.bytes, ranks = ranksNeeded(config, config.moe.experts, config.moe.experts / 4);
    using _inputs = layerFitness(device, config, weights.block, input, ranks);
    assertEquals(held(raw, { tokens: 64 }, "geneticSearch: routing").bytes, device.live.bytes - before);
    assertEquals(held(raw, { tokens: 64 }, "geneticSearch: their outputs").bytes, 4 * 64 * ranks * hidden);

    const numbers = [...createAdapters(model, checkedRecipe({})).values.values()].reduce((sum, { length }) => sum + length, 0);
    assertEquals(held(raw, { tokens: 64, ratio: 0 }, "finetune: what is trained").bytes, 4 * 4 * numbers);
  });
}

Deno.test("what stageMemory() tells of calibration and training is held together", async () => {
  const { model, calibration: tokens } = await openFixture("tiny-mixtral"), { raw } = model.config, sequence = tokens[0].slice(0, 40);
  const sum = (stage: string, left: string, options: StageMemoryOptions) =>
    stageMemory(raw, options).filter((line) => line.stage === stage && line.inMemory === undefined && !line.what.startsWith(left))
      .reduce((sum, { bytes }) => sum + bytes, 0);
  const walked = await peakOf(async (device) => (await calibrate(device, model, [sequence]))[Symbol.dispose]());
  const expected = sum("calibrate", "nothing", { tokens: 40 });
  assert(walked >= expected && walked <= 3 * expected, `calibrate() holds ${walked} bytes, its lines are ${expected}`);

  const example = { prompt: "", completion: model.tokenizer.decode(sequence) }, recipe = { epochs: 1, batch: 1, maxLength: 40 };
  const trained = await peakOf((device) => finetune(device, model, [example], recipe));
  const lines = sum("finetune", "activations", { tokens: 40, ratio: 0, recipe });
  assert(trained >= lines && trained <= 3 * lines, `finetune() holds ${trained} bytes, its lines are ${lines}`);
});

Deno.test("stageMemory() of public models follows the limits of the stages", () => {
  const { "DeepSeek-V2-Lite": deepseek, "Mixtral-8x7B": mixtral } = CONFIGS, many = { tokens: 2048 * 2048, averageRank: 512 };
  assertEquals(held(deepseek, many, "calibrate: residual").bytes, 2 ** 30);
  const inputs = held(deepseek, many, "calibrate: MoE inputs");
  assertEquals([inputs.bytes, inputs.inMemory], [26 * 32768 * 2048 * 4, 2 ** 27]);
  assertEquals(held(deepseek, many, "geneticSearch: routing").bytes, 4 * 32768 * (22 ** 2 + 2 * 22 + 64));
  assertEquals(held(deepseek, many, "receptionField: residual").bytes, 2 * 4 * 2048 ** 3);
  assertEquals(held(deepseek, { tokens: 1000 }, "receptionField: those").bytes, 2 * 9 * 4 * 1000 * 2048);
  const factors = held(deepseek, many, "decomposeExperts");
  assertEquals([factors.bytes, factors.inMemory], [4 * countParameters(deepseek, { pruning: 0.25, ranks: 512 }).experts, 2 ** 29]);
  const layer = held(deepseek, many, "finetune: weights of a layer").bytes,
    dense = held(deepseek, { tokens: 1, ratio: 0 }, "finetune: weights").bytes;
  const matrices = 2 * 3 * 64 * 2048 * 1408, factors32 = 4 * 3 * 48 * 512 * (2048 + 1408), routerRows = 2 * 16 * 2048;
  assertEquals(dense - layer, matrices - factors32 + routerRows, "factors are in float32, a quarter of the experts is gone");
  assertEquals(
    held(mixtral, { tokens: 1, averageRank: 3186 }, "decomposeExperts"),
    undefined,
    "such factors would be larger than the matrix",
  );
  assertEquals(held(mixtral, { tokens: 1 }, "finetune: head").bytes, 2 * 32000 * 4096);
});

Deno.test("stageMemory() says what makes no sense", () => {
  const { "Mixtral-8x7B": config } = CONFIGS;
  for (const tokens of [0, 1.5, NaN]) {
    assertThrows(() => stageMemory(config, { tokens }), RangeError, '"tokens" must be a positive whole number');
  }
  assertThrows(() => stageMemory(config, { tokens: 1, ratio: 1 }), RangeError, '"ratio" must be at least 0');
  assertThrows(() => stageMemory(config, { tokens: 1, recipe: { rank: 0 } }), RangeError, '"rank"');
  assertThrows(() => stageMemory(config, undefined as never), TypeError, "tell what stages hold");
});
