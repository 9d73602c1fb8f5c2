import { assert, assertEquals, assertRejects } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { factorLinears } from "../../lib/decompose/factor_linears.ts";
import { linearFeatures } from "../../lib/decompose/linear_features.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import type { Model } from "../../lib/model/model.ts";
import { linearsOf, mapLinears } from "../../lib/sparsify/linears.ts";
import { ROUTERS, withModel } from "../small_models.ts";

Deno.test("a layer whose sums do not fit is taken in runs, each put aside before the next: the same bits", async () => {
  using device = await openDevice({ kind: "cpu" });
  for (const variant of Object.values(ROUTERS)) {
    await withModel(variant, async (model, sequences) => {
      /** Directions with at most `held` bytes of sums, and how many linears were held at a time. */
      const found = async (held?: number) => {
        const runs: number[] = [];
        const resume = {
          get: () => Promise.resolve(undefined),
          put: (_: string, parts: unknown) => Promise.resolve(void runs.push((parts as []).length)),
        };
        const features = await linearFeatures(device, model, sequences, { stage: "test", group: 2, resume }, () => 5, held);
        using _ = features;
        const numbers = await Promise.all(
          [...features.layers.values()].flat().map(async ({ linear, vectors, reduced, ...rest }) => {
            const all = [new Float32Array(vectors.length), new Float32Array(reduced.length)];
            await vectors.read(0, all[0]), await reduced.read(0, all[1]);
            return { ...rest, name: linear.name, all };
          }),
        );
        return { runs, numbers };
      };
      const [whole, parted] = [await found(), await found(1)];
      assertEquals(whole.runs.length, model.layers.length);
      assertEquals(parted.numbers, whole.numbers);
      assert(Math.max(...parted.runs) <= 3, `${parted.runs}`); // queries, keys and values meet the same, gate and up
      assertEquals(parted.runs.reduce((a, b) => a + b), whole.numbers.length);
    });
  }
});

Deno.test("a weight that is not finite, or too large, is named", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (model, sequences) => {
    /** With a value in the first place of one linear of layer 1. */
    const spoilt = async (name: string, value: number): Promise<Model> => {
      const [layer] = model.layers.slice(1), weights = await readWide(linearsOf(layer).find((l) => l.name === name)!.weight);
      weights[0] = value;
      const changed = mapLinears(layer, (linear) => linear.name === name ? heldSource(weights, linear.weight.shape) : linear.weight);
      return { ...model, layers: model.layers.with(1, changed) };
    };
    const last = linearsOf(model.layers[1]).map(({ name }) => name).filter((name) => name.endsWith("/down")).at(-1)!;
    for (const [name, value] of [["attention/k_proj", NaN], ["attention/v_proj", Infinity], [last, NaN]] as const) {
      const bad = await spoilt(name, value), message = `Cannot factor linears of layer 1, ${name}: a weight is not finite`;
      await assertRejects(() => factorLinears(device, bad, sequences), RangeError, message);
    }
    const large = await spoilt(last, 3e38), message = `Cannot factor linears of layer 1, ${last}: its outputs are too large for float32`;
    const lastLayer = { ...large, layers: large.layers.slice(0, 2) };
    await assertRejects(() => factorLinears(device, lastLayer, Array(40).fill(sequences[0])), RangeError, message);
    assertEquals(device.live.tensors, 0);
  });
});
