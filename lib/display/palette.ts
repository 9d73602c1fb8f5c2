/**
 * Colours that colour-blind readers tell apart.
 *
 * @module
 */

// @ts-types="npm:@types/d3-scale-chromatic@3.1.0"
import { interpolateViridis } from "npm:d3-scale-chromatic@3.1.1";

/** Okabe and Ito's colours, without the yellow that is lost on white. */
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"];

/**
 * A colour for each of so many series: Okabe and Ito's where they suffice, else steps along viridis, where neighbours in order are neighbours in colour.
 *
 * @param count Series.
 * @returns As many colours.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(seriesColors(2), ["#0072B2", "#D55E00"]);
 * assertEquals(new Set(seriesColors(32)).size, 32);
 * ```
 */
export function seriesColors(count: number): string[] {
  if (count <= COLORS.length) return COLORS.slice(0, count);
  return viridis(count, 0.9); // beyond it is too bright for lines on white
}

/** So many steps along viridis, from its dark end to a share of its length. */
export function viridis(count: number, end = 1): string[] {
  return Array.from({ length: count }, (_, i) => interpolateViridis(i / ((count - 1) / end)));
}
