import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { blockOutputLoss } from "../../lib/evaluate/block_output_loss.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { exhaustiveSearch } from "../../lib/search/exhaustive_search.ts";
import { receptionField } from "../../lib/search/reception_field.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { distance, routedOutputs, ROUTERS, withModel } from "../small_models.ts";

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `blockOutputLoss() is what receptionField() reports of the plan that it chose, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const budget = { layers: moeLayers(model).map(({ index }) => ({ layer: index, drop: 2 })) };
        const candidates = await exhaustiveSearch(device, model, trace, budget);
        for (const block of [1, 2]) {
          const plan = await receptionField(device, model, sequences, candidates, { block });
          const { blocks, total } = await blockOutputLoss(device, model, pruneExperts(model, plan), sequences, { block });
          assertEquals(blocks.map((b) => b.layers), plan.blocks.map((b) => b.layers));
          assertClose(blocks.map((b) => b.loss), plan.blocks.map((b) => b.loss), 1e-3);
          assertClose([total], [plan.blocks.reduce((sum, b) => sum + b.loss, 0)], 1e-3);
        }
        const [{ index }] = moeLayers(model), [{ drop }] = candidates.layers[0].sets;
        const { blocks: [first] } = await blockOutputLoss(
          device,
          model,
          pruneExperts(model, { layers: [{ layer: index, drop }] }),
          sequences,
          { block: 1 },
        );
        const want = distance(
          await routedOutputs(device, model, sequences, index, []),
          await routedOutputs(device, model, sequences, index, drop),
        );
        assertClose([first.loss], [want], 1e-3, "behind one layer: the change of its routed output");
      }),
  );
}

Deno.test("blockOutputLoss() is zero between equal models, and says what it cannot compare", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-deepseek-v2"),
    tokens = calibration.slice(0, 2),
    { model: other } = await openFixture("tiny-mixtral");
  assertEquals(await blockOutputLoss(device, model, { ...model }, tokens), { blocks: [{ layers: [1, 2, 3], loss: 0 }], total: 0 });
  await assertRejects(() => blockOutputLoss(device, model, other, tokens), RangeError, "one has layers 0 (dense), 1 (moe)");
  await assertRejects(() => blockOutputLoss(device, model, model, []), RangeError, "there are no tokens");
  await assertRejects(
    () => blockOutputLoss(device, model, model, tokens, { block: 0 }),
    RangeError,
    '"block" must be a positive whole number',
  );
  assert(device.live.tensors === 0);
});
