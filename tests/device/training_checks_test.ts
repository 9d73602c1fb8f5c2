/** What training operations cannot do is refused in one sentence, the same on every device, and leaves nothing behind. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import { cpuDevice } from "../../lib/device/cpu/cpu_device.ts";
import { noise, testOnDevices } from "../devices.ts";

testOnDevices("training operations refuse sizes, numbers and tensors that do not fit", (device) => {
  using other = cpuDevice("another one", undefined);
  using foreign = other.tensor(noise(6), [2, 3]);
  using x = device.tensor(noise(6), [2, 3]);
  using wide = device.tensor(noise(8), [2, 4]);
  using weight = device.tensor(noise(12), [4, 3]);
  using gain = device.tensor(noise(3), [3]);
  using gate = device.tensor(noise(3), [3, 1]);
  using table = device.tensor(Uint32Array.of(0, 1, 1, 0), [2, 2]);
  using ids = device.tensor(Uint32Array.of(0, 1), [2]);
  using order = device.order(table, 2);
  using sorted = device.sortRows(x, order);
  using outputs = device.tensor(noise(12), [2, 2, 3]);
  using gates = device.tensor(noise(4), [2, 2]);
  using probabilities = device.tensor(Float32Array.of(0.5, 0.5, 0.25, 0.75), [2, 2]);
  using ranking = device.rank(probabilities, 2);
  const moments = { first: x, second: wide }, rule = { topK: 2, renormalise: true, scale: 1 };
  const adam = { learningRate: 1, beta1: 0.9, beta2: 0.9, epsilon: 1e-8, weightDecay: 0, step: 1, scale: 1 };
  const heads = { tensor: x, row: 3, stride: 3, offset: 0, width: 3 };
  const attention = { segments: [{ start: 0, length: 2, position: 0 }], heads: 1, keyHeads: 1, scale: 1 };
  const prefixed = {
    ...attention,
    segments: [{ start: 0, length: 1, position: 0 }, { start: 1, length: 1, position: 1, prefix: { start: 0, length: 1 } }],
  };
  const cases: [() => unknown, string][] = [
    [() => device.order(x, 2), "Cannot use a F32 tensor [2,3] where U32 is expected"],
    [() => device.order(ids, 2), "Cannot sort slots of a table [2]: [tokens, ranks] is expected"],
    [() => device.order(table, 0), "Cannot sort slots of 0 experts"],
    [() => device.sortRows(weight, order), "Cannot use x [4,3] with slots of 2 tokens and 2 ranks"],
    [() => device.unsortRows(x, order), "Cannot use x [2,3] with slots of 2 tokens and 2 ranks"],
    [() => other.sortRows(foreign, order), "Cannot use an order of slots of another device"],
    [() => device.expertLinear(sorted, order, { tensor: weight, shapes: [[2, 3], [1, 3]] }), "Cannot use [4,3] as matrices of 9 numbers"],
    [
      () => device.expertLinear(sorted, order, { tensor: weight, shapes: [[4, 3]] }),
      "matrices of 1 experts with slots that are sorted by 2",
    ],
    [
      () => device.vjp.expertMatrices(sorted, sorted, order, [[3, 3], [3, 3], [3, 3]]),
      "matrices of 3 experts with slots that are sorted by 2",
    ],
    [
      () => device.expertLinear(sorted, order, { tensor: weight, shapes: [[3, 2], [3, 2]] }),
      "Cannot multiply rows [4,3] by matrices that need 2 columns",
    ],
    [() => device.vjp.expertLinear(sorted, order, { tensor: weight, shapes: [[2, 3], [2, 3]] }), "matrices that need 2 columns"],
    [() => device.vjp.expertMatrices(sorted, sorted, order, [[3, 0.5]]), "pairs of whole numbers are expected"],
    [() => device.dropout(x, 1, 0), "Cannot drop a share of 1: at least 0 and below 1 is expected"],
    [() => device.dropout(x, 0.5, 0.5), "Cannot drop by the seed 0.5: a whole number is expected"],
    [() => device.scale(x, NaN), "Cannot scale [2,3] by NaN: a finite factor is expected"],
    [() => device.adam(x, x, moments, adam), "Cannot take a step: [2,4] is not as large as [2,3]"],
    [() => device.adam(x, x, { first: x, second: x }, { ...adam, step: 0 }), '"step" counts from 1, received 0'],
    [() => device.adam(x, x, { first: x, second: x }, { ...adam, scale: NaN }), '"scale" must be finite, received NaN'],
    [() => device.vjp.linear(x, weight), "Cannot multiply the gradient [2,3] by a weight [4,3]"],
    [() => device.vjp.linearWeight(weight, x), "Cannot go back through a product: the gradient is [4,3], expected [2,3]"],
    [() => device.vjp.rmsNorm(wide, x, gain, 0), "Cannot go back through a norm: the gradient is [2,4], expected [2,3]"],
    [() => device.vjp.rmsNormGain(x, x, 4, 0), "Cannot norm rows of 4 of x [2,3]"],
    [
      () => device.vjp.attention(wide, [heads], [heads], heads, attention),
      "Cannot go back through attention: the gradient is [2,4], expected [2,3]",
    ],
    [() => device.vjp.attention(x, [heads], [heads], heads, prefixed), "Cannot go back through attention to a prefix"],
    [() => device.vjp.swiglu(x, x, wide), "[2,4] is not as large as [2,3]"],
    [() => device.vjp.gated(x, x, gate), "Cannot weigh 2 losses with [3,1]"],
    [() => device.vjp.softmax(x, wide), "Cannot go back through a softmax: [2,3] is not as large as [2,4]"],
    [() => device.vjp.entropy(x, NaN), "Cannot weigh the entropy of [2,3] by NaN: a finite weight is expected"],
    [() => device.vjp.gates(x, ranking, rule, 2), "[2,3] is not as large as [2,2]"],
    [() => device.vjp.combine(wide, outputs, gates), "Cannot go back through a sum of outputs: the gradient is [2,4], expected [2,3]"],
    [() => device.vjp.crossEntropy(x, weight, ids, gain), "Cannot weigh 2 losses with [3]"],
    [() => device.vjp.crossEntropy(x, weight, x, gain), "Cannot use a F32 tensor [2,3] where U32 is expected"],
  ];
  const before = { ...device.live };
  for (const [call, message] of cases) {
    const error = assertThrows(call, Error, message);
    assert(error instanceof RangeError || error instanceof TypeError, error.message);
    assertEquals(device.live, before, `live after "${error.message}"`);
  }
  return Promise.resolve();
});
