/** Slopes of the entropy of routers. */

import { assert, assertAlmostEquals, assertEquals } from "@std/assert";
import type { Device, ExpertSource, Tensor } from "../../lib/device/device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { CHECK, ROUTER_ENTROPIES } from "../references/router_entropies.ts";
import { random, weight } from "./against_cpu.ts";

/** -Σ p ln p of each row of softmax(z), from the definition. */
function entropies(z: ArrayLike<number>, width: number): number[] {
  return Array.from({ length: z.length / width }, (_, row) => {
    const powers = Array.from({ length: width }, (_, i) => Math.exp(z[row * width + i])), sum = powers.reduce((a, b) => a + b);
    return powers.reduce((total, power) => total - power / sum * Math.log(power / sum), 0);
  });
}

async function slopes(device: Device, z: ArrayLike<number>, width: number, weight = 1): Promise<Float32Array> {
  using logits = device.tensor(Float32Array.from(z), [z.length / width, width]);
  using p = device.softmax(logits);
  using dz = device.vjp.entropy(p, weight);
  return await device.read(dz);
}

testOnDevices("vjp.entropy() gives the slopes of PyTorch", async (device) => {
  const tolerance = device.kind === "cpu" ? 1e-5 : 1e-4;
  const tokens = Object.values(ROUTER_ENTROPIES).flatMap(({ firstToken }) => Object.values(firstToken));
  for (const { z, H, dz } of [CHECK, ...tokens]) {
    assertClose(await slopes(device, z, z.length), dz, tolerance);
    assertAlmostEquals(entropies(z, z.length)[0], H, 1e-5);
  }
});

testOnDevices("vjp.entropy() agrees with finite differences of the definition, whatever the weight", async (device) => {
  const [rows, width] = [7, 19], z = Float64Array.from(noise(rows * width, 5), (v) => 3 * v), got = await slopes(device, z, width, -2.5);
  const at = (i: number, step: number) => entropies(z.map((v, j) => j === i ? v + step : v), width).reduce((a, b) => a + b);
  assertClose(got, z.map((_, i) => -2.5 * (at(i, 1e-5) - at(i, -1e-5)) / 2e-5), 1e-4);
});

testOnDevices("vjp.entropy() is zero where all logits are alike, and where one probability is all", async (device) => {
  for (const width of [1, 5, 300]) {
    assertAlmostEquals(entropies(new Float64Array(width).fill(0.7), width)[0], Math.log(width), 1e-12);
    for (const slope of await slopes(device, new Float32Array(2 * width).fill(0.7), width)) assertAlmostEquals(slope, 0, 1e-7);
  }
  const sure = await slopes(device, [200, 0, -1e30, 0, 200, -3e4], 3);
  for (const slope of sure) assertAlmostEquals(slope, 0, 1e-30);
  assertEquals((await slopes(device, [], 4)).length, 0);
});

/** A layer of six random experts for 96 tokens, whose router is trained by full-batch steps on the entropy alone. */
async function trainRouter(device: Device, steps: number) {
  const [tokens, hidden, count, inner] = [96, 12, 6, 10], rule = { topK: 2, renormalise: true, scale: 1 };
  const made = (name: number): ExpertSource => ({
    gate: weight(inner, hidden, "F32", name),
    up: weight(inner, hidden, "F32", name + 1),
    down: weight(hidden, inner, "F32", name + 2),
  });
  using experts = await device.loadExperts(Array.from({ length: count }, (_, e) => made(10 * e + 1)));
  using x = random(device, [tokens, hidden], 4);
  using held = random(device, [count, hidden], 8);
  let router: Tensor = held;
  using owned = new DisposableStack();
  /** Mean over tokens of the distance between the outputs of two experts and of one. */
  const gap = async (p: Tensor) => {
    const [two, one] = [2, 1].map((topK) => {
      using ranking = device.rank(p, topK);
      using gates = device.gates(ranking, { ...rule, topK });
      using outputs = device.experts(x, ranking.experts, experts);
      return device.combine(outputs, gates);
    });
    using a = two;
    using b = one;
    using squares = device.squares(a, b);
    return (await device.read(squares)).reduce((sum, square) => sum + Math.sqrt(square) / tokens, 0);
  };
  const means: number[] = [], gaps: number[] = [];
  for (let step = 0; step <= steps; step++) {
    using z = device.linear(x, router);
    using p = device.softmax(z);
    means.push(entropies(await device.read(z), count).reduce((a, b) => a + b) / tokens);
    if (step === 0 || step === steps) gaps.push(await gap(p));
    using dz = device.vjp.entropy(p, 1 / tokens);
    using dw = device.vjp.linearWeight(dz, x);
    device.scale(dw, -0.5);
    const next = owned.use(device.widen(router));
    device.add(next, dw);
    router = next;
  }
  return { means, gaps };
}

testOnDevices("steps on the entropy alone lower it every time, and bring outputs of one expert close to those of two", async (device) => {
  const { means, gaps } = await trainRouter(device, 200);
  means.forEach((mean, i) => assert(i === 0 || mean < means[i - 1], `step ${i}: entropy ${mean} after ${means[i - 1]}`));
  assert(gaps[1] < 0.7 * gaps[0], `the mean gap went from ${gaps[0]} to ${gaps[1]}, with an entropy from ${means[0]} to ${means.at(-1)}`);
});
