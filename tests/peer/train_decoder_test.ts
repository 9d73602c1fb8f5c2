/** Small decoders that are trained as a whole: gradients against finite differences, learning, stopping, and mixtures that become PEER layers. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { Device } from "../../lib/device/device.ts";
import { batchSequences } from "../../lib/model/batch.ts";
import { decoderGradients } from "../../lib/peer/decoder_gradients.ts";
import { DecoderParameters } from "../../lib/peer/decoder_parameters.ts";
import { decoderConfig, type DecoderShape } from "../../lib/peer/decoder_shape.ts";
import { beginWeights, type DecoderWeights, weightShapes } from "../../lib/peer/decoder_weights.ts";
import { feedForwardFlops } from "../../lib/peer/feed_forward_flops.ts";
import { fitNeurons } from "../../lib/peer/fit_neurons.ts";
import { peerFromMoe } from "../../lib/peer/peer_from_moe.ts";
import { trainDecoder } from "../../lib/peer/train_decoder.ts";
import { assertClose, devices, fastDevices, noise, testOnDevices } from "../devices.ts";
import { tokenIds } from "../numbers.ts";

const MIDDLES: DecoderShape["middle"][] = [
  { kind: "dense", intermediate: 6 },
  { kind: "moe", experts: 3, topK: 2, intermediate: 4 },
  { kind: "peer", heads: 2, ranks: 3, querySize: 4, keys: 4 },
];

const shapeWith = (middle: DecoderShape["middle"]): DecoderShape => {
  return { vocabulary: 9, hidden: 8, layers: 2, heads: 2, intermediate: 6, middle };
};

const SEQUENCES = [7, 4].map((length, i) => tokenIds(`peer.${i}`, length, 9));

/** Loss and gradients of all weights at a place. */
async function at(device: Device, shape: DecoderShape, weights: DecoderWeights) {
  const config = decoderConfig(shape), [batch] = batchSequences(config, SEQUENCES, 100);
  using parameters = new DecoderParameters(device, shape, { weights, first: {}, second: {} });
  const loss = await decoderGradients(device, shape, config, parameters, batch), gradients: DecoderWeights = {};
  for (const [name, { gradient }] of parameters.all) gradients[name] = await device.read(gradient!);
  return { loss, gradients };
}

for (const middle of MIDDLES) {
  testOnDevices(`gradients of all weights agree with finite differences: ${middle.kind}`, async (device) => {
    // All PEER experts are retrieved: where others would be chosen there is no slope.
    const shape = shapeWith(middle.kind === "peer" ? { ...middle, ranks: 16 } : middle), weights = beginWeights(shape, 3), step = 2 ** -6;
    const { gradients } = await at(device, shape, weights);
    assertEquals(Object.keys(gradients), [...weightShapes(shape).keys()]);
    for (const [i, name] of Object.keys(gradients).entries()) {
      if (device.kind === "webgpu" && i % 7 > 0) continue; // the operations are the same ones
      const direction = noise(weights[name].length, i + 1), length = Math.hypot(...direction);
      const moved = (by: number) => ({ ...weights, [name]: weights[name].map((v, j) => v + by * direction[j] / length) });
      const slope = ((await at(device, shape, moved(step))).loss - (await at(device, shape, moved(-step))).loss) / (2 * step);
      const along = gradients[name].reduce((sum, v, j) => sum + v * direction[j] / length, 0);
      assert(Math.abs(along - slope) < 2e-3 * (1 + Math.abs(slope)), `${name}: ${along}, expected ${slope}`);
    }
  }, middle.kind === "peer" ? devices : fastDevices);
}

testOnDevices("decoders of all kinds learn a text that repeats itself, the same way twice", async (device) => {
  const text = [Uint32Array.from({ length: 24 }, (_, i) => 1 + i % 5)];
  for (const middle of device.kind === "webgpu" ? MIDDLES.slice(2) : MIDDLES) {
    const options = { steps: device.kind === "webgpu" ? 6 : 40, learningRate: 1e-2, heldOut: text, measureEvery: 20 };
    const run = () => trainDecoder(device, text, shapeWith(middle), options), one = await run();
    const { heldOut, history } = one;
    assertEquals(history.map(({ step }) => step), Array.from({ length: options.steps }, (_, i) => i + 1));
    assertEquals(heldOut.map(({ step }) => step), device.kind === "webgpu" ? [0, 6] : [0, 20, 40]);
    assert(heldOut.at(-1)!.nll < heldOut[0].nll - (device.kind === "webgpu" ? 0.3 : 1.5), `${middle.kind}: ${heldOut.at(-1)!.nll}`);
    assertEquals(heldOut.every(({ usage }) => (usage !== undefined) === (middle.kind === "peer")), true);
    if (device.kind === "cpu") assertEquals(await run(), one);
  }
});

testOnDevices("a mixture becomes a PEER layer whose outputs are as large, and the rest stays what it was", async (device) => {
  const moe = shapeWith({ kind: "moe", experts: 3, topK: 2, intermediate: 5 });
  const decoder = await trainDecoder(device, SEQUENCES, moe, { steps: 3, batch: 2 });
  const middle = { kind: "peer" as const, heads: 2, ranks: 3, querySize: 4, keys: 4 };
  const start = await peerFromMoe(device, decoder, SEQUENCES, { middle }),
    fresh = await peerFromMoe(device, decoder, SEQUENCES, { middle, from: "random" });
  for (const { shape, weights } of [start, fresh]) {
    assertEquals(shape.middle, middle);
    assertEquals(weights["layers.0.gate"], decoder.weights["layers.0.gate"]);
    assertEquals(weights["layers.1.q_proj.weight"], decoder.weights["layers.1.q_proj.weight"]);
    assertEquals(Object.keys(weights).toSorted(), [...weightShapes(shape).keys()].toSorted());
  }
  assertEquals(fresh.explained, undefined);
  assert(start.explained! > 0 && start.explained! < 1, `${start.explained}`);
  // Neuron 7 is the third of expert 1: one of its two directions, or its negative.
  const up = start.weights["layers.1.up"].subarray(7 * 8, 8 * 8),
    row = (kind: string) => decoder.weights[`layers.1.${kind}`].subarray(7 * 8, 8 * 8);
  assert([row("gate"), row("up")].some((v) => `${v}` === `${up}` || `${v.map((x) => -x)}` === `${up}`));
  const { heldOut } = await trainDecoder(device, SEQUENCES, start.shape, { start: start.weights, steps: 1, heldOut: SEQUENCES });
  assert(heldOut.every(({ nll }) => Number.isFinite(nll)));
});

Deno.test("a neuron that has one direction is fitted without a rest", () => {
  // silu(g · x) · (u · x) with u = g > 0 is far above 1: relu(g · x) times about g · x, which is constant here.
  const inputs = Float32Array.of(50, 0, 50, 1, 50, -1), gate = Float32Array.of(1, 0), ones = Float32Array.of(1, 1);
  const { explained, up, down, outputSize } = fitNeurons(inputs, { router: Float32Array.of(1, 1), gate, up: gate, down: ones }, {
    ...{ experts: 1, topK: 1, intermediate: 1, hidden: 2, activation: "relu" },
  });
  assertClose([explained, ...up, ...down, outputSize], [1, 1, 0, 50, 50, 2500], 1e-5);
});

Deno.test("networks of the notebook cost the same", () => {
  const kinds = [
    { kind: "dense" as const, intermediate: 172 },
    { kind: "moe" as const, experts: 12, topK: 2, intermediate: 84 },
    { kind: "peer" as const, heads: 8, ranks: 8, querySize: 32, keys: 32 },
  ];
  assertEquals(kinds.map((network) => feedForwardFlops(64, network).total), [66048, 66048, 66048]);
});

testOnDevices("what cannot be trained is refused by name", async (device) => {
  const shape = shapeWith(MIDDLES[2]), moe = shapeWith(MIDDLES[1]);
  const train = (changes: object, options = {}, tokens = SEQUENCES) => trainDecoder(device, tokens, { ...shape, ...changes }, options);
  const cases: [() => Promise<unknown>, string][] = [
    [() => train({ layers: 0 }), '"layers" must be a whole number from 1 to 2^20, received 0'],
    [() => train({ heads: 3 }), '"hidden" must be an even multiple of 3 heads, received 8'],
    [() => train({ middle: { ...shape.middle, ranks: 17 } }), '"ranks" must be at most 16, the number of experts, received 17'],
    [() => train({ middle: { kind: "moe", experts: 2, topK: 3, intermediate: 1 } }), '"middle.topK" must be at most 2'],
    [() => train({}, { steps: 0 }), '"steps" must be a whole number from 1 to a million, received 0'],
    [() => train({}, { start: { norm: new Float32Array(3) } }), '"norm" has 3 numbers, expected 8'],
    [() => train({}, { start: { other: new Float32Array(3) } }), '"other" has 3 numbers, expected no weight of that name'],
    [() => train({}, {}, [Uint32Array.of(3)]), "none of the 1 sequences has a second token"],
    [() => train({}, {}, [Uint32Array.of(9, 9)]), "token 0 is 9, but the vocabulary has 9 entries"],
    [
      () =>
        peerFromMoe(device, { shape: moe, weights: {}, history: [], heldOut: [] }, SEQUENCES, {
          middle: { ...shape.middle, keys: 3 } as never,
        }),
      "it has 12 neurons, and the PEER layer 9 experts",
    ],
    [
      () => peerFromMoe(device, { shape, weights: {}, history: [], heldOut: [] }, SEQUENCES, { middle: shape.middle as never }),
      'the decoder\'s middle layer is "peer"',
    ],
  ];
  for (const [call, message] of cases) await assertRejects(call, RangeError, message);
});
