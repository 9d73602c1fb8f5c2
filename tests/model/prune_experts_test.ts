import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { logits } from "../../lib/model/logits.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";

for (const name of Object.keys(references)) {
  testOnDevices(`a masked and a pruned ${name} give the same logits`, async (device) => {
    const { model, calibration } = await openFixture(name), sequence = calibration[1].subarray(0, 40);
    const plan = { layers: moeLayers(model).map(({ index }) => ({ layer: index, drop: index % 2 === 0 ? [1, 4, 5] : [0, 7] })) };
    const masked = await logits(device, model, sequence, { masked: plan }),
      pruned = await logits(device, pruneExperts(model, plan), sequence);
    assertClose(pruned, masked, 1e-5);
    const dense = await logits(device, model, sequence);
    assertEquals(dense.some((v, i) => Math.abs(v - pruned[i]) > 1e-2), true, "pruning changes the logits");
  });
}

Deno.test("pruneExperts() prunes what was pruned before, by the original ids", async () => {
  const { model } = await openFixture("tiny-mixtral");
  const once = pruneExperts(model, { layers: [{ layer: 1, drop: [0, 5] }] }),
    twice = pruneExperts(once, { layers: [{ layer: 1, drop: [7, 1] }] });
  assertEquals(moeLayers(twice)[1].block.experts.map((e) => e.id), [2, 3, 4, 6]);
  assertEquals(moeLayers(twice)[1].block.router.shape, [4, 128]);
  assertEquals(moeLayers(model)[1].block.experts.length, 8, "the model it came from is as it was");
  const rows = async (m: typeof model) => {
    const { router } = moeLayers(m)[1].block, bytes = new Uint8Array(router.shape[0] * 256);
    await router.read(bytes);
    return bytes;
  };
  const all = await rows(model), left = await rows(twice);
  assertEquals(left, Uint8Array.from([2, 3, 4, 6].flatMap((e) => [...all.subarray(e * 256, (e + 1) * 256)])));
});

Deno.test("pruneExperts() says what a plan gets wrong", async () => {
  const { model } = await openFixture("tiny-deepseek-v2");
  const wrong: [number, number[], string][] = [
    [0, [1], "the model's MoE layers are 1, 2, 3"],
    [1, [16], "Cannot drop expert 16 of layer 1"],
    [1, [2, 2], "drops an expert twice"],
    [1, Array.from({ length: 16 }, (_, e) => e), "at least one must stay"],
  ];
  using device = await openDevice({ kind: "cpu" });
  for (const [layer, drop, message] of wrong) {
    const plan = { layers: [{ layer, drop }] };
    assertThrows(() => pruneExperts(model, plan), RangeError, message);
    await assertRejects(() => logits(device, model, Uint32Array.of(1), { masked: plan }), RangeError, message);
  }
  const twice = { layers: [{ layer: 1, drop: [1] }, { layer: 1, drop: [2] }] };
  assertThrows(() => pruneExperts(model, twice), RangeError, "layer 1 is listed twice");
});
