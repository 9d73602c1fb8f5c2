/**
 * What became of a difference, layer by layer.
 *
 * @module
 */

import { type CompressedDelta, type DeltaLinear, expectDelta } from "../delta/compressed_delta.ts";
import { linearBytes } from "../delta/delta_size.ts";
import { formatBytes } from "./format_amounts.ts";
import type { Shown } from "./shown.ts";
import { table } from "./table.ts";

/**
 * Linears of each layer, the components that they kept of how many bits, the error of the difference, and its bytes.
 *
 * @param delta What `compressDelta`, `bitDelta` or `openDelta` gives.
 * @throws {TypeError} If it is none.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const form = { negative: Uint32Array.of(1), scale: 0.5 };
 * const linear = { layer: 3, linear: "attention/q_proj", shape: [4, 8] as [number, number], form, tokens: null, norm: 4, error: 1 };
 * assertMatch(deltaTable({ base: "", linears: [linear], rest: new Map() })["text/plain"], /3 +\| +1 \| 4 × 8: signs +\| +\| +0.25/);
 * ```
 */
export function deltaTable(delta: CompressedDelta): Shown {
  expectDelta(delta, "show a difference");
  const layers = Map.groupBy(delta.linears, ({ layer }) => layer);
  return table(
    [...layers].map(([layer, linears]) => {
      const forms = new Set(linears.map(inWords)), unseen = linears.filter(({ tokens }) => tokens === 0).length;
      return {
        ...{ layer, linears: linears.length, "kept of each": [...forms].join("; ") },
        "without tokens": linears.some(({ tokens }) => tokens !== null) ? unseen : undefined,
        error: relative(linears),
        bytes: linears.reduce((sum, linear) => sum + linearBytes(linear).bytes, 0),
      };
    }),
    {
      caption: "Compressed difference",
      columns: {
        error: { label: "error, of the difference", digits: 4 },
        bytes: { format: (bytes) => formatBytes(bytes), align: "right" },
      },
    },
  );
}

function inWords({ shape: [rows, columns], form }: DeltaLinear): string {
  if (!Array.isArray(form)) return `${rows} × ${columns}: signs`;
  const groups = form.map(({ left: { bits }, singularValues: { length } }) => `${length} of ${bits} bits`);
  return `${rows} × ${columns}: ${groups.join(", ") || "nothing"}`;
}

function relative(linears: readonly DeltaLinear[]): number {
  const sum = (of: (linear: DeltaLinear) => number) => linears.reduce((total, linear) => total + of(linear) ** 2, 0);
  const norm = sum(({ norm }) => norm);
  return norm > 0 ? Math.sqrt(sum(({ error }) => error) / norm) : 0;
}
