import { assert, assertEquals, assertRejects } from "@std/assert";
import { allocateRanks } from "../../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { recommended } from "../../lib/decompose/recommended.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { openFixture, references } from "../fixtures.ts";

for (const name of Object.keys(references)) {
  Deno.test(`recommended() loses less than half of what plain decomposition loses on ${name}, at the same size`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { model, calibration, heldOut } = await openFixture(name), tokens = calibration.slice(0, 16), share = 0.55;
    using small = await recommended(device, model, tokens, { share });
    const { hidden, moe: { intermediate } } = model.config, dense = countParameters(model);
    const left = countParameters(model, { ranks: small.ranks }).experts / dense.experts;
    assert(left <= share && left > share - 0.001, `${left} are left`);
    using trace = await calibrate(device, model, tokens);
    const scores = await leaveOneOut(device, model, trace), averageRank = share * hidden * intermediate / (hidden + intermediate);
    using plain = await decomposeExperts(device, model, allocateRanks(scores, { averageRank }));
    const nll = async (model: Parameters<typeof perplexity>[1]) => (await perplexity(device, model, heldOut)).nll, whole = await nll(model);
    const lost = await nll(small) - whole, lostPlain = await nll(plain) - whole;
    assert(lost < lostPlain / 2, `loses ${lost} nats a token, plain decomposition ${lostPlain}`);
    assertEquals(moeLayers(small).map((l) => l.block.experts.length), moeLayers(model).map((l) => l.block.experts.length));
  });
}

Deno.test("recommended() says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 1);
  await assertRejects(
    () => recommended(device, model, tokens, { share: 1 }),
    RangeError,
    '"share" must be above 0 and below 1, received 1',
  );
  await assertRejects(
    () => recommended(device, model, tokens, { share: 0.999 }),
    RangeError,
    "ranks from 1 to 76 leave shares from 0.013 to 0.990",
  );
  await assertRejects(() => recommended(device, model, tokens, { share: 0.01 }), RangeError, "to a share of 0.01");
  await assertRejects(() => recommended(device, model, []), RangeError, "there are no tokens");
  assertEquals(device.live.tensors, 0);
});
