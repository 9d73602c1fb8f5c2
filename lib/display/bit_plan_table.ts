/**
 * Who gets which bits.
 *
 * @module
 */

import type { BitPlan } from "../delta/plan_bits.ts";
import { expect } from "../model/expect.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * Components of each matrix by their bits, and what that takes of the matrix at 16 bits a number.
 *
 * @param plans By name, what `planBits` gives.
 * @throws {TypeError} If it is not that.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * import { planBits } from "../delta/plan_bits.ts";
 * assertMatch(bitPlanTable({ "q_proj": planBits(4096, 4096) })["text/plain"], /q_proj \| 2 of 8 bits, 32 of 3 bits, 968 of 2 bits \| +1,002/);
 * ```
 */
export function bitPlanTable(plans: Readonly<Record<string, BitPlan>>): Shown {
  const all = Object.entries(plans ?? {});
  for (const [name, plan] of all) {
    const good = Array.isArray(plan?.groups) && typeof plan.alpha === "number";
    expect(good, `show the bits of "${name}"`, "what planBits() gives", plan);
  }
  return table(
    all.map(([name, { groups, rank, alpha, alphaStored }]) => ({
      matrix: name,
      components: groups.map(({ bits, count }) => `${count} of ${bits} bits`).join(", "),
      ...{ rank, alpha, alphaStored },
    })),
    {
      caption: "Bits of singular vectors",
      columns: { alpha: { label: "α", digits: 4 }, alphaStored: { label: "α with scales, zeros, singular values", digits: 4 } },
    },
  );
}
