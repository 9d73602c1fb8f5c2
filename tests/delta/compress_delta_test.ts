import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { heldSource } from "../../lib/checkpoint/held_source.ts";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import type { Device, Tensor } from "../../lib/device/device.ts";
import { applyDelta } from "../../lib/delta/apply_delta.ts";
import { bitDelta } from "../../lib/delta/bit_delta.ts";
import type { CompressDeltaOptions } from "../../lib/delta/compress_options.ts";
import { compressDelta } from "../../lib/delta/compress_delta.ts";
import { deltaSize } from "../../lib/delta/delta_size.ts";
import { deltaSpectra } from "../../lib/delta/delta_spectra.ts";
import { restOf } from "../../lib/delta/map_rest.ts";
import { serveDeltas } from "../../lib/delta/serve_deltas.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { attend, blockInput, blockOutput } from "../../lib/model/decoder_layer.ts";
import { embed } from "../../lib/model/embed.ts";
import { loadLayer } from "../../lib/model/load_layer.ts";
import { logits } from "../../lib/model/logits.ts";
import type { Model } from "../../lib/model/model.ts";
import { linearsOf, mapLinears } from "../../lib/sparsify/linears.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { ROUTERS, withModel } from "../small_models.ts";
import { tunedBy } from "./tuned.ts";

const weightsOf = (model: Model) => Promise.all(model.layers.flatMap((layer) => linearsOf(layer).map(({ weight }) => readWide(weight))));

const WHOLE = { alpha: 100, split: [[32, "rest"]] } as const;

for (const [name, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `at full rank and 32 bits the tuned model comes back, whose router is ${name}`,
    (device) =>
      withModel(variant, async (base, sequences) => {
        const tuned = await tunedBy(base, 0.01),
          delta = await compressDelta(device, base, tuned, [], WHOLE),
          back = applyDelta(base, delta);
        const [got, want] = [await weightsOf(back), await weightsOf(tuned)];
        got.forEach((values, i) => assertClose(values, want[i], 2e-6, `linear ${i}`));
        for (const [place, weight] of restOf(back)) assertEquals(weight, restOf(tuned).get(place), place);
        assertClose(await logits(device, back, sequences[0]), await logits(device, tuned, sequences[0]), 1e-4, "logits");
        assert(delta.linears.every(({ norm, error, tokens }) => norm > 0 && error < 1e-4 * norm && tokens === null));
      }),
  );
}

testOnDevices(
  "a model that was not tuned has no difference, whatever its bits",
  (device) =>
    withModel(ROUTERS.renormalising, async (base, sequences) => {
      for (const delta of [await compressDelta(device, base, base, sequences, { alpha: 1 }), await bitDelta(base, base)]) {
        assert(delta.linears.every(({ norm, error }) => norm === 0 && error === 0));
        assertEquals(await weightsOf(applyDelta(base, delta)), await weightsOf(base));
      }
    }),
);

testOnDevices("errors fall with the bits of any group", (device) =>
  withModel(ROUTERS.renormalising, async (whole, sequences) => {
    const base = { ...whole, layers: whole.layers.slice(0, 1) }, tuned = await tunedBy(base, 0.01);
    const errorOf = async (first: number, second: number) => {
      const { linears } = await compressDelta(device, base, tuned, sequences, { alpha: 100, split: [[first, 3], [second, 4]] });
      return linears.reduce((sum, { error }) => sum + error ** 2, 0);
    };
    const bits = [2, 3, 4, 6, 8, 16], [firsts, seconds] = [[], []] as number[][];
    for (const b of bits) firsts.push(await errorOf(b, 3)), seconds.push(await errorOf(3, b));
    for (const errors of [firsts, seconds]) errors.forEach((error, i) => assert(i === 0 || error < errors[i - 1], `${errors}`));
  }));

/** The device, which keeps what is put through its norms. */
function recording(device: Device): { device: Device; inputs: { gain: Tensor; input: Tensor }[] } {
  const inputs: { gain: Tensor; input: Tensor }[] = [];
  const rmsNorm: Device["rmsNorm"] = (x, gain, epsilon) => {
    inputs.push({ gain: device.widen(gain), input: device.widen(x) });
    return device.rmsNorm(x, gain, epsilon);
  };
  return { device: { ...device, rmsNorm }, inputs };
}

testOnDevices(
  "a block is calibrated with what the compressed block before it gives, taken through that once",
  (device) =>
    withModel(ROUTERS.renormalising, async (whole, [sequence]) => {
      const base = { ...whole, layers: whole.layers.slice(0, 2) }, tuned = await tunedBy(base, 0.02);
      const watched = recording(device), split = [[8, 1], [3, 2], [2, 2]] as const;
      const delta = await compressDelta(watched.device, base, tuned, [sequence], { alpha: 100, split });
      const [first, second] = applyDelta(base, delta).layers, { config } = base;
      const [{ ids, segments }] = batchSequences(config, [sequence], sequence.length);
      using hidden = await embed(device, tuned, ids);
      {
        using weights = await loadLayer(device, config, first);
        attend(device, config, weights.attention, hidden, segments);
        using input = blockInput(device, config, weights, hidden);
        using output = blockOutput(device, config, weights.block, input);
        device.add(hidden, output);
      }
      const want = await device.read(hidden), gain = await readWide(second.inputNorm);
      let seen = 0;
      for (const { gain: its, input } of watched.inputs) {
        using _ = its;
        using found = input;
        if ((await device.read(its)).some((value, i) => value !== gain[i])) continue;
        assertClose(await device.read(found), want, 1e-5, `inputs of block 1, run ${seen++}`);
      }
      assert(seen >= 9, `${seen} runs of block 1`); // three groups of at least three stages
    }),
);

Deno.test("compressDelta() says what it cannot use", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (base, sequences) => {
    const tuned = await tunedBy(base, 0.01);
    const refused = async (
      error: typeof Error,
      message: string,
      one: Model,
      two: Model,
      tokens = sequences,
      options?: CompressDeltaOptions,
    ) => void await assertRejects(() => compressDelta(device, one, two, tokens, options), error, message);
    await refused(RangeError, "Cannot compress a difference: there are no tokens", base, tuned, []);
    await refused(RangeError, '"damping" must be above 0 and finite, received 0', base, tuned, sequences, { damping: 0 });
    await refused(RangeError, 'Cannot plan bits: "alpha" must be above 0', base, tuned, sequences, { alpha: -1 });
    await refused(RangeError, "not of one structure: layers 0, 1, 2 and 0", base, { ...tuned, layers: tuned.layers.slice(0, 1) });
    await refused(RangeError, 'their configs differ in "moe"', base, {
      ...tuned,
      config: { ...tuned.config, moe: { ...tuned.config.moe, topK: 1 } },
    });
    const { linears: _, ...rest } = await bitDelta(base, tuned);
    await assertRejects(
      async () => await Promise.resolve(applyDelta(base, rest as never)),
      TypeError,
      "expected a difference from compressDelta()",
    );
    const [one, two] = [base, tuned].map((model) => ({ ...model, layers: model.layers.slice(1) })), less = await bitDelta(one, two);
    await assertRejects(async () => await Promise.resolve(applyDelta(base, less)), RangeError, "it is from a model of another structure");
    assertEquals(device.live.tensors, 0);
  });
});

Deno.test("a difference is put on no other base, in memory and served", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (whole, [sequence]) => {
    const base = { ...whole, layers: whole.layers.slice(0, 2) }, tuned = await tunedBy(base, 0.01);
    const deltas = [await bitDelta(base, tuned), await compressDelta(device, base, tuned, [], { split: [[16, 1]] })];
    for (const delta of deltas) {
      await logits(device, applyDelta(base, delta), sequence);
      await assertRejects(() => logits(device, applyDelta(tuned, delta), sequence), RangeError, "it was taken from another base");
    }
    await assertRejects(() => serveDeltas(device, tuned, { one: deltas[1] }), RangeError, "it was taken from another base");
    assertEquals(device.live.tensors, 0);
  });
});

Deno.test("a linear that is not finite is named, in the base as in the tuned model", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (whole) => {
    const base = { ...whole, layers: whole.layers.slice(1, 2) }, tuned = await tunedBy(base, 0.01);
    const broken = (model: Model): Model => ({
      ...model,
      layers: model.layers.map((layer) =>
        mapLinears(layer, ({ name, weight }) => {
          if (name !== "experts/2/up") return weight;
          return heldSource(new Float32Array(weight.shape[0] * weight.shape[1]).fill(NaN), weight.shape);
        })
      ),
    });
    const message = "of layer 1, experts/2/up";
    for (const run of [bitDelta, (b: Model, t: Model) => deltaSpectra(device, b, t)]) {
      await assertRejects(() => run(base, broken(tuned)), RangeError, `${message}: a weight is not finite`);
      await assertRejects(() => run(broken(base), tuned), RangeError, `${message} of the base: a weight is not finite`);
    }
  });
});

Deno.test("what is no difference is refused, whatever is wrong within it", async () => {
  await withModel(ROUTERS.renormalising, async (base) => {
    const delta = await bitDelta(base, base), [first, ...others] = delta.linears;
    for (
      const form of [{}, { negative: [0], scale: 1 }, [null], [{}], [{ left: null, right: null, singularValues: new Float32Array(1) }]]
    ) {
      const changed = { ...delta, linears: [{ ...first, form: form as never }, ...others] };
      for (const use of [() => deltaSize(changed), () => applyDelta(base, changed)]) {
        assertThrows(use, TypeError, "expected a difference from compressDelta()");
      }
    }
  });
});

Deno.test("a difference that is too large for float16 is named, and kept in float32", async () => {
  using device = await openDevice({ kind: "cpu" });
  await withModel(ROUTERS.renormalising, async (whole) => {
    const base = { ...whole, layers: whole.layers.slice(0, 1) }, tuned = await tunedBy(base, 0.01), [layer] = tuned.layers;
    const large = mapLinears(layer, ({ name, weight }) => {
      if (name !== "attention/k_proj") return weight;
      return heldSource(new Float32Array(weight.shape[0] * weight.shape[1]).fill(1e4), weight.shape);
    });
    const other = { ...tuned, layers: [large] }, message = "of layer 0, attention/k_proj: its singular value ";
    await assertRejects(() => compressDelta(device, base, other, [], { split: [[16, 1]] }), RangeError, message);
    const { linears } = await compressDelta(device, base, other, [], { alpha: 1, split: [[32, 1]] });
    const { norm, error } = linears.find(({ linear }) => linear === "attention/k_proj")!;
    assert(error < 1e-3 * norm, `${error} of ${norm}`);
  });
});
