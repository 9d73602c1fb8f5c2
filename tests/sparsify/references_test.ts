/** Sparse fixtures against PyTorch. */

import { assertEquals } from "@std/assert";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { countZeros } from "../../lib/sparsify/count_zeros.ts";
import { outlierDistribution } from "../../lib/sparsify/outlier_distribution.ts";
import { owlSparsity } from "../../lib/sparsify/owl_sparsity.ts";
import { sparsify } from "../../lib/sparsify/sparsify.ts";
import type { Carrier } from "../../lib/sparsify/sparsify_options.ts";
import { assertClose, fastDevices, full, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { SPARSITY_REFERENCES } from "../references/sparsity.ts";

/** What is pruned of each fixture; all that is known in `task test:full`. */
const SOME: Record<string, string[]> = {
  "tiny-mixtral": ["owl wanda 0.5", "owl sparsegpt 0.7", "moe-pruner 0.5"],
  "tiny-qwen2-moe": ["owl wanda 0.7"],
  "tiny-deepseek-v2": ["experts moe-pruner 0.5"],
};

for (const [name, { outliers, unseen, owl, zeros, perplexity: expected }] of Object.entries(SPARSITY_REFERENCES)) {
  testOnDevices(`outliers, zeros and perplexity of ${name} are those of PyTorch`, async (device, test) => {
    const { model, calibration, heldOut } = await openFixture(name), tolerance = device.kind === "cpu" ? 1e-3 : 1e-2;
    const distribution = await outlierDistribution(device, model, calibration);
    assertClose(distribution.layers.map(({ percent }) => percent), outliers, tolerance, "percent of outliers");
    assertEquals(distribution.layers.flatMap(({ layer, unseen }) => unseen.map((linear) => `${layer} ${linear}`)), unseen);
    for (const [sparsity, spread] of Object.entries(owl)) {
      const { layers } = owlSparsity(distribution, { sparsity: Number(sparsity) });
      assertClose(layers.map(({ sparsity }) => sparsity), spread, tolerance, `OWL, ${sparsity}`);
    }
    for (const [what, value] of Object.entries(expected)) {
      if (!full && !SOME[name].includes(what)) continue;
      await test.step(what, async () => {
        const words = what.split(" "), sparsity = Number(words.at(-1)), carrier = words.at(-2) as Carrier;
        const spread = words[0] === "owl" ? owlSparsity(distribution, { sparsity }) : sparsity;
        using sparse = await sparsify(device, model, calibration, {
          ...{ carrier, sparsity: spread, scope: words[0] === "experts" ? "experts" as const : "all" as const },
        });
        if (what in zeros) assertEquals((await countZeros(sparse)).layers.map(({ zeros }) => zeros), zeros[what]);
        assertClose([(await perplexity(device, sparse, heldOut)).perplexity], [value], tolerance, "perplexity");
      });
    }
  }, fastDevices);
}
