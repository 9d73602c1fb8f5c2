import { assert, assertEquals, assertThrows } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { expertStatistics } from "../../lib/importance/expert_statistics.ts";
import { replaceByMeans } from "../../lib/merge/replace_by_means.ts";
import { blockOutput } from "../../lib/model/decoder_layer.ts";
import { loadMoe } from "../../lib/model/load_layer.ts";
import { logits } from "../../lib/model/logits.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

for (const [kind, variant] of Object.entries({ ...ROUTERS, "shared expert": "qwen2_moe, old spellings" })) {
  testOnDevices(
    `replaceByMeans() gives w times the mean where an expert gave w f(x), ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        const { config } = model, [{ index, block }] = moeLayers(model), drop = [3, 1];
        const replaced = replaceByMeans(model, await expertStatistics(device, model, sequences), { layers: [{ layer: index, drop }] });
        const [{ block: changed }] = moeLayers(replaced), experts = block.experts.map((e) => e.id);
        assertEquals([changed.experts.map((e) => e.id), changed.constants!.ids], [experts.filter((id) => !drop.includes(id)), [1, 3]]);

        const { inputs, weights } = await routingOf(device, model, sequences, index), tokens = inputs.length, { hidden } = config;
        using x = device.tensor(Float32Array.from(inputs.flatMap((row) => [...row])), [tokens, hidden]);
        using before = await loadMoe(device, block);
        using after = await loadMoe(device, changed);
        using table = device.tensor(Uint32Array.from({ length: 2 * tokens }, (_, i) => drop[i % 2]), [tokens, 2]);
        using outputs = device.experts(x, table, before.experts);
        using whole = blockOutput(device, config, before, x);
        using got = blockOutput(device, config, after, x);
        const f = await device.read(outputs), want = Float64Array.from(await device.read(whole));
        drop.forEach((id, place) => {
          const at = (t: number, d: number) => f[(2 * t + place) * hidden + d];
          const mine = [...weights.keys()].filter((t) => weights[t][id] > 0);
          assert(mine.length > 0 && mine.length < tokens, `expert ${id} has ${mine.length} tokens`);
          for (let d = 0; d < hidden; d++) {
            const mean = mine.reduce((sum, t) => sum + at(t, d), 0) / mine.length;
            for (const t of mine) want[t * hidden + d] += weights[t][id] * (mean - at(t, d));
          }
        });
        assertClose(await device.read(got), want, 1e-3);
      }),
  );
}

Deno.test("replaceByMeans() goes on from constants, counts them as such, and is saved with them", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), folder = await Deno.makeTempDir();
  const statistics = await expertStatistics(device, model, calibration.slice(0, 2));
  const step = (from: typeof model, drop: number[]) => replaceByMeans(from, statistics, { layers: [{ layer: 1, drop }] });
  const once = step(model, [6, 0, 4]), twice = step(step(model, [4]), [0, 6]), ids = calibration[2].slice(0, 20);
  const want = await logits(device, once, ids);
  assertEquals(await logits(device, twice, ids), want, "in one step or in two");
  assertEquals(countParameters(model).total - countParameters(once).total, 3 * (3 * 128 * 192 - 128));
  await saveModel(once, `${folder}/constants`, { dtype: "F32" });
  const again = await openModel(`${folder}/constants`);
  assertEquals(await logits(device, again, ids), want);
  assertEquals(countParameters(again).total, countParameters(once).total);

  const [{ experts, counts }] = statistics.layers,
    unseen = { ...statistics, layers: [{ ...statistics.layers[0], counts: counts.with(2, 0) }] };
  const { layers: [{ block }] } = replaceByMeans(model, unseen, { layers: [{ layer: 0, drop: [experts[2]] }] });
  assertEquals(
    await readWide((block as ReturnType<typeof moeLayers>[0]["block"]).constants!.outputs),
    new Float32Array(128),
    "without tokens: zeros",
  );
  await Deno.remove(folder, { recursive: true });
});

Deno.test("replaceByMeans() says what it cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].slice(0, 5)];
  const statistics = await expertStatistics(device, model, tokens),
    drop = (layer: number, drop: number[]) => ({ layers: [{ layer, drop }] });
  assertThrows(
    () => replaceByMeans(model, statistics, drop(0, [0, 1, 2, 3, 4, 5, 6, 7])),
    RangeError,
    "Cannot drop all 8 experts of layer 0",
  );
  assertThrows(() => replaceByMeans(model, { ...statistics, layers: [] }, drop(2, [0])), RangeError, "no statistics of layer 2");
  const pruned = await expertStatistics(device, pruneExperts(model, drop(0, [5])), tokens);
  assertThrows(() => replaceByMeans(model, pruned, drop(0, [5])), RangeError, "Cannot replace expert 5 of layer 0 by its mean");
});
