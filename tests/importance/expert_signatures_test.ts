import { assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { expertSignatures } from "../../lib/importance/expert_signatures.ts";
import { loadMoe } from "../../lib/model/load_layer.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `expertSignatures() are the means of all experts' outputs for all tokens, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const { tokens, layers } = await expertSignatures(device, model, sequences), { hidden } = model.config;
        assertEquals(layers.map((l) => l.layer), moeLayers(model).map((l) => l.index));
        for (const [i, { experts, means }] of layers.entries()) {
          const rows = new Float32Array(tokens * hidden), count = experts.length, want = new Float64Array(count * hidden);
          await trace.layers[i].inputs.read(0, rows);
          using moe = await loadMoe(device, moeLayers(model)[i].block);
          using x = device.tensor(rows, [tokens, hidden]);
          using table = device.tensor(Uint32Array.from({ length: tokens * count }, (_, at) => at % count), [tokens, count]);
          using all = device.experts(x, table, moe.experts);
          (await device.read(all)).forEach((value, at) => want[at % (count * hidden)] += value / tokens);
          assertClose(means, want, 1e-4, `layer ${i}`);
        }
      }),
  );
}

Deno.test("expertSignatures() says what it cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  await assertRejects(() => expertSignatures(device, model, []), RangeError, "Cannot take signatures of experts: there are no tokens");
});
