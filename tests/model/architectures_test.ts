/** Random checkpoints of all five architectures, with the options that change their mathematics, against transformers. */

import { assert } from "@std/assert";
import { logits } from "../../lib/model/logits.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { testOnDevices } from "../devices.ts";
import { VARIANTS } from "../interop/variants.ts";
import { tokenIds, writeRandomCheckpoint } from "../numbers.ts";
import { VARIANT_LOGITS } from "../references/variants.ts";

for (const [name, config] of Object.entries(VARIANTS)) {
  testOnDevices(`logits of ${name}`, async (device) => {
    const folder = await Deno.makeTempDir(), { norm, first, middle, last } = VARIANT_LOGITS[name];
    try {
      await writeRandomCheckpoint(`${folder}/model`, config, { spread: 0.3 });
      const got = await logits(device, await openModel(`${folder}/model`), tokenIds("variants.tokens", 40, 96));
      const rows = { 0: first, 20: middle, 39: last };
      for (const [row, want] of Object.entries(rows)) {
        want.forEach((value, i) => {
          const logit = got[Number(row) * 96 + i];
          assert(Math.abs(logit - value) < 1e-3, `logit ${i} of token ${row} is ${logit}, expected ${value}`);
        });
      }
      const total = Math.sqrt(got.reduce((sum, v) => sum + v * v, 0));
      assert(Math.abs(total / norm - 1) < 1e-4, `the logits' norm is ${total}, expected ${norm}`);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  });
}
