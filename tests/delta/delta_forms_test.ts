/** Differences of models that are no longer whole: factored attention and experts, biases, lost heads and channels, shared matrices. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { factorLinears } from "../../lib/decompose/factor_linears.ts";
import { applyDelta } from "../../lib/delta/apply_delta.ts";
import { bitDelta } from "../../lib/delta/bit_delta.ts";
import { compressDelta } from "../../lib/delta/compress_delta.ts";
import { inStages } from "../../lib/delta/compress_options.ts";
import { deltaSpectra } from "../../lib/delta/delta_spectra.ts";
import { restOf } from "../../lib/delta/map_rest.ts";
import { serveDeltas } from "../../lib/delta/serve_deltas.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { logits } from "../../lib/model/logits.ts";
import { type Model, moeLayers } from "../../lib/model/model.ts";
import { linearsOf } from "../../lib/sparsify/linears.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { factored, sliced } from "../model/model_forms.ts";
import { ROUTERS, withModel } from "../small_models.ts";
import { tunedBy, weightsOf } from "./tuned.ts";

/** Expert 1 has the matrices and biases of expert 0. */
function merged(model: Model): Model {
  const layers = model.layers.map((layer) => {
    if (layer.block.kind === "dense") return layer;
    const [first, second, ...others] = layer.block.experts;
    return { ...layer, block: { ...layer.block, experts: [first, { ...first, id: second.id }, ...others] } };
  });
  return { ...model, layers };
}

const FORMS: Record<string, (model: Model) => Model | Promise<Model>> = {
  sliced,
  factored,
  "factored, two experts merged": async (model) => merged(await factored(model)),
};

for (const [form, make] of Object.entries(FORMS)) {
  for (const router of ["renormalising", "group-limited, scaled"] as const) {
    testOnDevices(
      `at full rank and 32 bits the tuned model comes back, ${form}: ${router}`,
      (device) =>
        withModel(ROUTERS[router], async (whole, [sequence]) => {
          const base = await make({ ...whole, layers: whole.layers.slice(0, 2) }), tuned = await tunedBy(base, 0.01);
          const linears = tuned.layers.flatMap((layer) => linearsOf(layer));
          assertEquals(new Set([...linears.map(({ weight }) => weight), ...restOf(tuned).values()]), new Set(weightsOf(tuned)));
          const delta = await compressDelta(device, base, tuned, [], { alpha: 100, split: [[32, "rest"]] }), back = applyDelta(base, delta);
          assertEquals(delta.linears.length, linears.length);
          assert(delta.linears.every(({ norm, error }) => norm > 0 && error < 1e-4 * norm));
          for (const [place, weight] of restOf(back)) assertEquals(weight, restOf(tuned).get(place), place);
          assertClose(await logits(device, back, sequence), await logits(device, tuned, sequence), 1e-4, "logits");
          assertEquals((await deltaSpectra(device, base, tuned)).layers.flatMap((layer) => layer.linears).length, linears.length);
          assertEquals((await bitDelta(base, tuned)).linears.length, linears.length);
        }),
    );
  }
}

testOnDevices(
  "what factorLinears() makes is calibrated, factors and biases of attention and experts",
  (device) =>
    withModel(ROUTERS.renormalising, async (whole, sequences) => {
      const less = { ...whole, layers: whole.layers.slice(0, 2) };
      using base = await factorLinears(device, less, sequences, { ratios: 0.6, multiple: 2 });
      const tuned = await tunedBy(base, 0.02);
      assert(moeLayers(tuned).some(({ block }) => block.experts.some(({ biases }) => biases?.down)));
      const { linears } = await compressDelta(device, base, tuned, sequences, { alpha: 100, split: [[8, "rest"]] });
      assert(linears.some(({ linear }) => linear === "attention/q_proj/left"));
      for (const { layer, linear, norm, error, tokens, form } of linears) {
        assert(tokens! > 0 || linear.startsWith("experts/"), `${layer}/${linear} met no token`);
        assert(Array.isArray(form) && form.length === 1 && error < 0.05 * norm, `${layer}/${linear}: ${error} of ${norm}`);
      }
    }),
);

Deno.test("right factors come before left ones, and a linear of no known place is refused", () => {
  const names = [
    "attention/q_proj/left",
    "attention/kv_b_proj/right",
    "attention/q_proj/right",
    "shared/up",
    "experts/3/down/left",
    "dense/down",
  ];
  assertEquals(inStages(names.map((name) => ({ name }))).map((stage) => stage.map(({ name }) => name)), [
    ["attention/q_proj/right"],
    ["attention/q_proj/left"],
    ["attention/kv_b_proj/right"],
    ["shared/up"],
    ["dense/down"],
    ["experts/3/down/left"],
  ]);
  assertThrows(() => inStages([{ name: "attention/other" }]), Error, 'it is not known when the inputs of "attention/other" are final');
});

Deno.test("biases are part of the structure, and what is of low rank is not served", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (whole) => {
    const base = { ...whole, layers: whole.layers.slice(1, 2) }, other = await factored(base), layer = base.layers[0], [low] = other.layers;
    const biased = {
      ...base,
      layers: moeLayers(base).map((layer, l) => ({
        ...layer,
        block: {
          ...layer.block,
          experts: layer.block.experts.map((e, i) => ({ ...e, biases: moeLayers(other)[l].block.experts[i].biases })),
        },
      })),
    };
    await assertRejects(() => bitDelta(base, biased), RangeError, "not of one structure");
    const plain = await bitDelta(base, base), withBiases = await bitDelta(biased, biased);
    assertThrows(() => applyDelta(biased, plain), RangeError, 'gate.bias" is nothing there');
    assertThrows(() => applyDelta(base, withBiases), RangeError, "and nothing in the base");
    const bias = "1/experts/0/gate.bias";
    assertEquals(await readWide(withBiases.rest.get(bias)!), await readWide(moeLayers(biased)[0].block.experts[0].biases!.gate!));
    await assertRejects(() => serveDeltas(device, biased, {}), Error, "expert 0 of layer 1 has biases");
    const attention = { ...base, layers: [{ ...layer, attention: low.attention }] };
    await assertRejects(() => serveDeltas(device, attention, {}), Error, "of layer 1 is of low rank");
  });
});
