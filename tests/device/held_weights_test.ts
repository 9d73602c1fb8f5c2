/** Weights held in float32 on the processor. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import type { DType, TensorSource } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { narrow } from "../../lib/checkpoint/narrow.ts";
import { noise } from "../devices.ts";

function source(dtype: DType, shape: [number, number], seed: number): TensorSource {
  const values = noise(shape[0] * shape[1], seed), bytes = dtype === "F32" ? new Uint8Array(values.buffer) : narrow(values, dtype);
  return { dtype, shape, read: (into) => Promise.resolve(into.set(bytes)) };
}

for (const dtype of ["BF16", "F16", "F32"] as const) {
  Deno.test(`${dtype} weights that are held in float32 give what stored ones give`, async () => {
    using stored = await openDevice({ kind: "cpu" });
    using wide = await openDevice({ kind: "cpu", weights: "float32" });
    assert(wide.name !== stored.name, "results name the device, and bits may differ");
    const [found, expected] = await Promise.all([wide, stored].map(async (device) => {
      const before = { ...device.live };
      using matrix = await device.load(source(dtype, [48, 32], 1));
      assertEquals(matrix.dtype, device === wide ? "F32" : dtype);
      using experts = await device.loadExperts([{
        gate: source(dtype, [24, 32], 2),
        up: { left: source(dtype, [24, 8], 3), right: source(dtype, [8, 32], 4) },
        down: source(dtype, [32, 24], 5),
      }]);
      const bytes = device.live.bytes - before.bytes, elements = 48 * 32 + 2 * 24 * 32 + 8 * (24 + 32);
      assertEquals(bytes, (device === wide ? 4 : dtype === "F32" ? 4 : 2) * elements, "bytes of the weights alone are in use");
      using x = device.tensor(noise(5 * 32, 6), [5, 32]);
      using table = device.tensor(new Uint32Array(5), [5, 1]);
      using y = device.linear(x, matrix);
      using outputs = device.experts(x, table, experts);
      return [...await device.read(y), ...await device.read(outputs)];
    }));
    const far = found.findIndex((value, i) => !(Math.abs(value - expected[i]) <= 1e-4 * (1 + Math.abs(expected[i]))));
    assertEquals(far, -1, `number ${far} is ${found[far]}, with stored weights ${expected[far]}`);
  });
}

Deno.test("A weight that cannot be read leaves nothing on a device that widens it", async () => {
  using device = await openDevice({ kind: "cpu", weights: "float32" });
  const broken: TensorSource = { dtype: "BF16", shape: [4, 4], read: () => Promise.reject(new Error("no such file")) };
  await assertRejects(() => device.load(broken), Error, "no such file");
  await assertRejects(() => device.loadExperts([{ gate: source("BF16", [4, 4], 1), up: broken, down: broken }]), Error, "no such file");
  assertEquals(device.live, { tensors: 0, bytes: 0 });
});

Deno.test("openDevice() says how weights can be held", async () => {
  await assertRejects(
    () => openDevice({ kind: "cpu", weights: "f16" as "stored" }),
    TypeError,
    'Cannot open a device that holds weights as "f16": choose "stored" or "float32"',
  );
});
