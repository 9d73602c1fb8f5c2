/** What operations do at the edges of their meaning: nothing left, indices beyond, numbers that are none. The same on every device. */

import { assert, assertEquals } from "@std/assert";
import { type Device, NO_EXPERT, type RouterRule } from "../../lib/device/device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

/** Prices sets for one token whose experts have these probabilities and these outputs `[ranks, 1]`. */
async function price(device: Device, rule: RouterRule, p: number[], ranked: [number, number, number][], sets: number[][]) {
  const ranks = ranked.length;
  using probabilities = device.tensor(Float32Array.from(p), [1, p.length]);
  using experts = device.tensor(Uint32Array.from(ranked, ([e]) => e), [1, ranks]);
  using best = device.tensor(Float32Array.from(ranked, ([, value]) => value), [1, ranks]);
  using outputs = device.tensor(Float32Array.from(ranked, ([, , y]) => y), [1, ranks, 1]);
  using gram = device.gram(outputs);
  const ranking = { experts, probabilities: best, [Symbol.dispose]: () => {} };
  return await device.fitness({ rule, ranking, probabilities, gram }, sets);
}

for (const renormalise of [true, false]) {
  const rule = { topK: 2, renormalise, scale: 2 }, name = renormalise ? "renormalised" : "not renormalised";

  testOnDevices(`fitness() takes the output of a token without experts for zero, ${name}`, async (device) => {
    const ranked: [number, number, number][] = [[1, 0.5, 3], [0, 0.25, -1], [2, 0.25, 4]], sum = renormalise ? 0.75 : 1;
    const whole = (2 * (0.5 * 3 - 0.25) / sum) ** 2, one = (2 * (0.5 * 3 - 0.25) / sum - 2 * 4) ** 2;
    const got = await price(device, rule, [0.25, 0.5, 0.25], ranked, [[0, 1, 2], [0, 1], []]);
    assertClose(got, [whole, one, 0], 1e-6, "all dropped, one left, none dropped");
    assertEquals(got[2], 0);
  });

  testOnDevices(`fitness() takes experts without any probability for none, ${name}`, async (device) => {
    const got = await price(device, rule, [1, 0, 0], [[0, 1, 3], [1, 0, 5], [2, 0, 7]], [[0]]);
    assertClose(got, [36], 1e-6);
  });

  testOnDevices(`fitness() ends a token's experts where its ranking does, ${name}`, async (device) => {
    const ranked: [number, number, number][] = [[1, 0.6, 3], [NO_EXPERT, 0, 1], [NO_EXPERT, 0, 1], [NO_EXPERT, 0, 1]];
    const grouped = { ...rule, groups: { of: [0, 1, 1], keep: 1 } };
    for (const each of [rule, grouped]) {
      const got = await price(device, each, [0.2, 0.6, 0.2], ranked, [[1], [0]]);
      const weight = renormalise ? 2 : 1.2, grown = renormalise ? 2 : 1.5;
      assertClose(got, [(weight * 3) ** 2, ((weight - grown) * 3) ** 2], 1e-5, each === rule ? "plain" : "grouped");
    }
  });
}

testOnDevices("fitness() is never negative, also where all experts are alike", async (device) => {
  const tokens = 20, count = 6, hidden = 16, ranks = 4, outputs = new Float32Array(tokens * ranks * hidden);
  for (let slot = 0; slot < tokens * ranks; slot++) outputs.set(noise(hidden, Math.floor(slot / ranks) + 1), slot * hidden);
  using scores = device.tensor(noise(tokens * count).map((v) => 2 * v), [tokens, count]);
  using probabilities = device.softmax(scores);
  using ranking = device.rank(probabilities, ranks);
  using ordered = device.tensor(outputs, [tokens, ranks, hidden]);
  using gram = device.gram(ordered);
  const sets = Array.from({ length: 15 }, (_, i) => [i % 6, (i + 1 + i % 5) % 6].filter((e, at, all) => all.indexOf(e) === at));
  const got = await device.fitness({ rule: { topK: 2, renormalise: true, scale: 1 }, ranking, probabilities, gram }, sets);
  assert(got.every((value) => value >= 0 && value < 1e-5), got.join(" "));
});

testOnDevices("rank() puts what is not a number last, and gates() keeps it in sight", async (device) => {
  using p = device.tensor(Float32Array.of(NaN, 0.3, NaN, 0.5, NaN, NaN, NaN, NaN), [2, 4]);
  using all = device.rank(p, 4);
  assertEquals([...await device.readIndices(all.experts)], [3, 1, 0, 2, 0, 1, 2, 3]);
  assertEquals([...await device.read(all.probabilities)], [...Float32Array.of(0.5, 0.3, NaN, NaN, NaN, NaN, NaN, NaN)]);
  using grouped = device.rank(p, 2, { of: [0, 0, 1, 1], keep: 1 });
  assertEquals([...await device.readIndices(grouped.experts)], [3, 2, 0, 1]);
  using gates = device.gates(grouped, { topK: 2, renormalise: true, scale: 1 });
  assert((await device.read(gates)).every(Number.isNaN));
  using none = device.rank(p, 0);
  assertEquals([none.experts.shape, (await device.read(none.probabilities)).length], [[2, 0], 0]);
});

testOnDevices("gates() gives a token without experts no weights", async (device) => {
  using p = device.tensor(Float32Array.of(0, 0, 0.25, 0.25), [2, 2]);
  using ranking = device.rank(p, 3);
  assertEquals([...await device.readIndices(ranking.experts)], [0, 1, NO_EXPERT, 0, 1, NO_EXPERT]);
  using gates = device.gates(ranking, { topK: 3, renormalise: true, scale: 3 });
  assertEquals([...await device.read(gates)], [0, 0, 0, 1.5, 1.5, 0]);
});

testOnDevices("skip() leaves a token without experts, without ranks, or with what is not a number as it is", async (device) => {
  using p = device.tensor(Float32Array.of(0, 0, NaN, 0.25, 0.5, 0), [3, 2]);
  using ranking = device.rank(p, 2);
  using skipped = device.skip(ranking, 0.9);
  assertEquals([...await device.readIndices(skipped.experts)], [0, NO_EXPERT, 1, 0, 0, NO_EXPERT]);
  assertEquals([...await device.read(skipped.probabilities)], [0, 0, 0.25, NaN, 0.5, 0]);
  using none = device.rank(p, 0);
  using nothing = device.skip(none, 0.5);
  assertEquals(nothing.experts.shape, [3, 0]);
});

testOnDevices("crossEntropy() of a target beyond the vocabulary is not a number", async (device) => {
  using x = device.tensor(noise(6), [3, 2]);
  using head = device.tensor(noise(10, 2), [5, 2]);
  using targets = device.tensor(Uint32Array.of(4, 5, 0xffffffff), [3]);
  using losses = device.crossEntropy(x, head, targets);
  assertEquals([...await device.read(losses)].map(Number.isNaN), [false, true, true]);
});

testOnDevices("gather() gives zeros for rows beyond the last, experts() for experts beyond the last", async (device) => {
  for (let i = 0; i < 8; i++) device.tensor(new Float32Array(4 * (1 + i)).fill(7), [4 * (1 + i)])[Symbol.dispose](); // dirt
  await device.sync();
  using x = device.tensor(Float32Array.of(1, 2, 3, 4), [2, 2]);
  using rows = device.tensor(Uint32Array.of(1, 2, 0xffffffff, 0), [4]);
  using picked = device.gather(x, rows);
  assertEquals([...await device.read(picked)], [3, 4, 0, 0, 0, 0, 1, 2]);
  const one = { dtype: "F32", shape: [2, 2], read: (into: Uint8Array) => Promise.resolve(into.set([0, 0, 128, 63])) } as const;
  using experts = await device.loadExperts([{ gate: one, up: one, down: one }]);
  using table = device.tensor(Uint32Array.of(1, NO_EXPERT), [2, 1]);
  using outputs = device.experts(x, table, experts);
  assertEquals([...await device.read(outputs)], [0, 0, 0, 0]);
});

testOnDevices(
  "widen() keeps the specials of 16-bit types: infinities, what is not a number, zeros and the smallest numbers",
  async (device) => {
    for (
      const [dtype, words, want] of [
        ["BF16", [0x7f80, 0xff80, 0x7fc0, 0x8000, 0x0080, 0x3f81], [Infinity, -Infinity, NaN, -0, 2 ** -126, 1.0078125]],
        ["F16", [0x7c00, 0xfc00, 0x7e00, 0x8000, 0x0001, 0x03ff], [Infinity, -Infinity, NaN, -0, 2 ** -24, 1023 * 2 ** -24]],
      ] as const
    ) {
      const bytes = new Uint8Array(Uint16Array.from(words).buffer);
      using stored = await device.load({ dtype, shape: [6], read: (into) => Promise.resolve(into.set(bytes)) });
      using wide = device.widen(stored);
      assertEquals([...await device.read(wide)], [...want], dtype);
    }
  },
);

testOnDevices("attention() weighs keys alike wherever their scores lie", async (device) => {
  const tokens = 70, v = noise(tokens), near = noise(tokens, 2);
  using value = device.tensor(v, [tokens, 1]);
  using query = device.tensor(new Float32Array(tokens).fill(1), [tokens, 1]);
  const one = { row: 1, stride: 0, offset: 0, width: 1 };
  for (const level of [-3000, -100, 0, 3000]) {
    const k = near.map((score) => score + level);
    using key = device.tensor(k, [tokens, 1]);
    using y = device.attention([{ ...one, tensor: query }], [{ ...one, tensor: key }], { ...one, tensor: value }, {
      segments: [{ start: 0, length: tokens, position: 0 }],
      heads: 1,
      keyHeads: 1,
      scale: 1,
    });
    const want = Float64Array.from(v, (_, t) => {
      let sum = 0, total = 0;
      for (let j = 0; j <= t; j++) sum += Math.exp(k[j] - level) * v[j], total += Math.exp(k[j] - level);
      return sum / total;
    });
    assertClose(await device.read(y), want, 5e-6, `scores near ${level}`);
  }
});
