import type { Device } from "../../lib/device/device.ts";
import { repeated } from "./timed.ts";

export interface Yardstick {
  /** Operations a second of a plain product. */
  flops: number;
  /** Bytes a second of a copy, those read and those written. */
  bytes: number;
}

const SIDE = 2048, COPIED = 2 ** 25, RUNS = 5;

/** What the machine reaches at this moment: the best of a few square products of the device, and of a few copies of 128 MiB. */
export async function yardstick(device: Device): Promise<Yardstick> {
  const numbers = Float32Array.from({ length: SIDE * SIDE }, (_, i) => (i % 13) / 13);
  using a = device.tensor(numbers, [SIDE, SIDE]);
  using b = device.tensor(numbers, [SIDE, SIDE]); // a matrix times its own transpose would cost half
  const [, products] = await repeated(RUNS, async () => {
    using _product = device.linear(a, b);
    await device.sync();
  });
  return { flops: 2 * SIDE ** 3 / Math.min(...products), bytes: 8 * COPIED / Math.min(...await copies(device)) };
}

async function copies(device: Device): Promise<number[]> {
  const from = new Float32Array(COPIED).fill(1), into = new Float32Array(COPIED).fill(2);
  if (device.kind === "cpu") return (await repeated(RUNS, () => Promise.resolve(into.set(from))))[1];
  using x = device.tensor(from, [COPIED]);
  await device.sync();
  return (await repeated(RUNS, async () => {
    using _copy = device.widen(x);
    await device.sync();
  }))[1];
}
