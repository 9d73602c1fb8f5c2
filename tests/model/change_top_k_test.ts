import { assert, assertEquals, assertThrows } from "@std/assert";
import { saveModel } from "../../lib/export/save_model.ts";
import { changeTopK } from "../../lib/model/change_top_k.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { temporaryFolder } from "../checkpoint/fixtures.ts";
import { fastDevices, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";

for (const name of Object.keys(references)) {
  testOnDevices(`changeTopK() of ${name} holds after saving and opening, in both forms`, async (device) => {
    await using folder = await temporaryFolder();
    const { model, calibration } = await openFixture(name), topK = model.config.moe.topK - 1, ids = calibration[0].subarray(0, 40);
    const run = (model: Model) => logits(device, model, ids), fewer = changeTopK(model, topK), want = await run(fewer);
    const whole = await run(model);
    assert(want.some((v, i) => Math.abs(v - whole[i]) > 1e-2), "one expert less changes the logits");
    for (const form of ["native", "remote-code"] as const) {
      await saveModel(fewer, `${folder.path}/${form}`, { form });
      const again = await openModel(`${folder.path}/${form}`);
      assertEquals([again.config.moe.topK, again.config.raw.num_experts_per_tok], [topK, topK]);
      assertEquals(await run(again), want);
    }
    assertEquals(await run(changeTopK(fewer, topK + 1)), whole);
  }, fastDevices);
}

testOnDevices("changeTopK() gives a layer of fewer experts all that it has, and saves it so", async (device) => {
  await using folder = await temporaryFolder();
  const { model, calibration } = await openFixture("tiny-mixtral"), ids = calibration[0].subarray(0, 20);
  const drop = moeLayers(model).map(({ index }) => ({ layer: index, drop: index === 0 ? [0, 1, 2, 3, 4, 5] : [7] }));
  const pruned = pruneExperts(model, { layers: drop }), more = changeTopK(pruned, 4);
  await saveModel(more, `${folder.path}/more`);
  const again = await openModel(`${folder.path}/more`);
  assertEquals(again.config.moe.topK, 4);
  assertEquals(await logits(device, again, ids), await logits(device, more, ids));
}, fastDevices);

Deno.test("changeTopK() says what it cannot do", async () => {
  const { model } = await openFixture("tiny-mixtral");
  for (const bad of [0, 9, 1.5]) assertThrows(() => changeTopK(model, bad), TypeError, `expected a whole number from 1 to 8, found ${bad}`);
});
