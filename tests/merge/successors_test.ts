import { assert, assertEquals } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { countParameters } from "../../lib/evaluate/count_parameters.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { openFixture } from "../fixtures.ts";
import { successors } from "./successors.ts";

Deno.test("merging, means and differences leave tiny-mixtral a language model, and the same one each time", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration, heldOut } = await openFixture("tiny-mixtral"), found: Record<string, number>[] = [];
  const some = heldOut.slice(0, 8),
    dense = (await perplexity(device, model, some)).perplexity,
    whole = countParameters(model),
    experts = 4 * 8 * 3 * 128 * 192;
  for (let run = 0; run < 2; run++) {
    found.push({});
    for (const [name, small] of Object.entries(await successors(device, model, calibration.slice(0, 4)))) {
      const saved = (whole.total - countParameters(small).total) / experts;
      assert(Math.abs(saved - 0.25) < 0.01, `${name} stores ${saved} less of the experts`);
      found[run][name] = (await perplexity(device, small, some)).perplexity;
      assert(found[run][name] > dense && found[run][name] < 50, `${name} has a perplexity of ${found[run][name]}`);
    }
  }
  assertEquals(found[1], found[0]);
});
