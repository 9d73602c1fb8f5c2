import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate, type LayerTrace } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { batchSequences, batchTokens } from "../../lib/model/batch.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { tokenIds } from "../numbers.ts";
import { ROUTERS, withModel } from "../small_models.ts";

testOnDevices("calibrate() keeps the inputs of tokens spread evenly, and counts all", async (device) => {
  await withModel(ROUTERS["renormalising"], async (model, sequences) => {
    const tokens = sequences.reduce((n, s) => n + s.length, 0), { hidden, moe } = model.config;
    using whole = await calibrate(device, model, sequences);
    using part = await calibrate(device, model, sequences, { searchTokens: 13 });
    for (const [i, layer] of part.layers.entries()) {
      assertEquals(layer.counts, whole.layers[i].counts);
      assertEquals(layer.counts.reduce((a, b) => a + b), tokens * moe.topK);
      assertEquals([layer.inputs.tokens, whole.layers[i].inputs.tokens], [13, tokens]);
      const all = new Float32Array(tokens * hidden), some = new Float32Array(13 * hidden);
      await whole.layers[i].inputs.read(0, all);
      await layer.inputs.read(0, some);
      for (let row = 0; row < 13; row++) {
        const token = Math.floor(row * tokens / 13);
        assertEquals(
          some.subarray(row * hidden, (row + 1) * hidden),
          all.subarray(token * hidden, (token + 1) * hidden),
          `kept row ${row}`,
        );
      }
      const middle = new Float32Array(3 * hidden);
      await layer.inputs.read(5, middle);
      assertEquals(middle, some.slice(5 * hidden, 8 * hidden), "rows from the middle");
    }
    assertEquals(part.layers.map((l) => l.layer), moeLayers(model).map((l) => l.index));
  });
});

Deno.test("calibrate() keeps the right rows of every batch where there are several", () =>
  withModel(ROUTERS["renormalising"], async (model) => {
    using device = await openDevice({ kind: "cpu" });
    const sequences = Array.from({ length: 180 }, (_, i) => tokenIds(`batches.${i}`, 100, 96)), { hidden } = model.config;
    const batches = batchSequences(model.config, sequences, batchTokens(model.config, model.config.moe.topK));
    assertEquals(batches.map(({ ids }) => ids.length), [8100, 8100, 1800]);
    using whole = await calibrate(device, model, sequences);
    using part = await calibrate(device, model, sequences, { searchTokens: 11 });
    const row = async ({ inputs }: LayerTrace, at: number) => {
      const into = new Float32Array(hidden);
      await inputs.read(at, into);
      return into;
    };
    for (const [i, layer] of part.layers.entries()) {
      for (let kept = 0; kept < 11; kept++) {
        assertEquals(await row(layer, kept), await row(whole.layers[i], Math.floor(kept * 18000 / 11)), `kept row ${kept}`);
      }
      const across = new Float32Array(6 * hidden); // from one stored part into the next
      await layer.inputs.read(2, across);
      for (let kept = 2; kept < 8; kept++) {
        assertEquals(across.slice((kept - 2) * hidden, (kept - 1) * hidden), await row(layer, kept), `row ${kept}`);
      }
    }
  }));

Deno.test("calibrate() says what is wrong with its input, and reports progress", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), one = calibration.slice(0, 1);
  await assertRejects(() => calibrate(device, model, []), RangeError, "there are no tokens");
  await assertRejects(() => calibrate(device, model, [one[0], new Uint32Array()]), RangeError, "sequence 1: it has no tokens");
  await assertRejects(
    () => calibrate(device, model, [Uint32Array.of(5, 1024)]),
    RangeError,
    "token 1 is 1024, but the vocabulary has 1024 entries",
  );
  for (const id of [-1, 2.5, NaN]) {
    await assertRejects(() => calibrate(device, model, [[5, id] as unknown as Uint32Array]), RangeError, `token 1 is ${id}`);
  }
  await assertRejects(() => calibrate(device, model, one, { searchTokens: 0 }), RangeError, '"searchTokens"');
  const seen: string[] = [];
  using _trace = await calibrate(device, model, one, {
    onProgress: ({ stage, done, total, unit }) => seen.push(`${stage} ${done}/${total} ${unit}`),
  });
  assertEquals(seen, [0, 1, 2, 3, 4].map((n) => `calibrate ${n}/4 layers`));
});

Deno.test("a stage that is aborted stops between layers and leaves nothing behind", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), controller = new AbortController();
  let layers = 0;
  const onProgress = ({ done }: { done: number }) => (layers = done) === 2 && controller.abort(new Error("stop"));
  await assertRejects(() => calibrate(device, model, calibration.slice(0, 2), { signal: controller.signal, onProgress }), Error, "stop");
  assertEquals(layers, 2);
  assert(device.live.tensors === 0, `${device.live.tensors} tensors are alive`);
});
