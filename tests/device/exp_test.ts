import { assert, assertEquals } from "@std/assert";
import { exp } from "../../lib/device/cpu/exp.ts";

Deno.test("exp() agrees with the engine's to 1e-8, and is finite and positive everywhere", () => {
  for (let x = -690; x <= 690; x += 0.173) {
    const error = Math.abs(exp(x) / Math.exp(x) - 1);
    assert(error < 1e-8, `exp(${x}) is off by ${error}`);
  }
  assertEquals(exp(0), 1);
  for (const x of [-Infinity, -1e30, 1e30, Infinity]) assert(exp(x) > 0 && exp(x) < Infinity, `exp(${x}) is ${exp(x)}`);
  assert(Number.isNaN(exp(NaN)));
});
