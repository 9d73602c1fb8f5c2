import { assertEquals } from "@std/assert";
import { linearRuns } from "../../lib/sparsify/linear_runs.ts";
import type { Linear } from "../../lib/sparsify/linears.ts";

Deno.test("linears are held together while their sums fit; those that meet the same count once, a single one may be larger", () => {
  const linear = (name: string, width: number): Linear => ({
    name,
    weight: { dtype: "F32", shape: [4, width], read: () => Promise.reject(new Error("not read")) },
  });
  const attention = ["q_proj", "k_proj", "v_proj", "o_proj"].map((name) => linear(`attention/${name}`, 8));
  const expert = (id: number) => [linear(`experts/${id}/gate`, 8), linear(`experts/${id}/up`, 8), linear(`experts/${id}/down`, 16)];
  const linears = [...attention, ...expert(0), ...expert(1)];
  const runs = (most: number) =>
    linearRuns(linears, 8, most).map((run) => run.map(({ name }) => name.replace(/^(.).*\//, "$1/").replace("_proj", "")));
  const [input, middle] = [8 * 8 ** 2, 8 * 16 ** 2];
  assertEquals(runs(2 * input), [["a/q", "a/k", "a/v", "a/o"], ["e/gate", "e/up"], ["e/down"], ["e/gate", "e/up"], ["e/down"]]);
  assertEquals(runs(input + middle), [["a/q", "a/k", "a/v", "a/o", "e/gate", "e/up"], ["e/down", "e/gate", "e/up"], ["e/down"]]);
  assertEquals(runs(1).map((run) => run.length), [3, 1, 2, 1, 2, 1]);
  assertEquals(linearRuns(linears, 8).length, 1);
  const factors = ["gate/left", "gate/right", "up/left", "up/right"].map((name) => linear(`experts/0/${name}`, 8));
  assertEquals(linearRuns(factors, 8, 1).map((run) => run.length), [1, 1, 1, 1], "what left factors meet is theirs alone");
});
