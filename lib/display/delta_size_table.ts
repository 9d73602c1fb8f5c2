/**
 * Sizes of differences.
 *
 * @module
 */

import type { DeltaSize } from "../delta/delta_size.ts";
import { expect } from "../model/expect.ts";
import { formatBytes } from "./format_amounts.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * What is stored of tuned models beside their base: of linears as a budget counts it and in full, of all other weights, and how many times smaller that is
 * than the tuned model.
 *
 * @param sizes By name, what `deltaSize` gives.
 * @throws {TypeError} If it is not that.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const linears = { entries: 1024, bytes: 160, codes: 128, alpha: 0.0625, alphaStored: 0.078125 };
 * const size = { linears, rest: { entries: 32, bytes: 64 }, bytes: 224, ratio: 9.43 };
 * assertMatch(deltaSizeTable({ tuned: size })["text/plain"], /tuned +\| +0.0625 \| +0.0781 \| +160 B \| +64 B \| +224 B \| +9.43/);
 * ```
 */
export function deltaSizeTable(sizes: Readonly<Record<string, DeltaSize>>): Shown {
  const all = Object.entries(sizes ?? {});
  for (const [name, size] of all) {
    const good = typeof size?.linears?.alphaStored === "number" && typeof size.rest?.bytes === "number";
    expect(good, `show the size of "${name}"`, "what deltaSize() gives", size);
  }
  const bytes = { format: (value: number) => formatBytes(value), align: "right" as const };
  return table(
    all.map(([name, { linears, rest, bytes, ratio }]) => ({
      ...{
        difference: name,
        alpha: linears.alpha,
        stored: linears.alphaStored,
        linears: linears.bytes,
        rest: rest.bytes,
        all: bytes,
        ratio,
      },
    })),
    {
      caption: "Stored of a tuned model",
      columns: {
        alpha: { label: "α, codes only", digits: 4 },
        stored: { label: "α, all that is stored", digits: 4 },
        linears: { label: "of linears", ...bytes },
        rest: { label: "of other weights", ...bytes },
        all: { label: "in all", ...bytes },
        ratio: { label: "times smaller", digits: 2 },
      },
    },
  );
}
