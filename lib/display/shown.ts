/**
 * What a table, chart or message looks like, for whoever shows it.
 *
 * @module
 */

/** The type of charts that plotly draws. */
export const PLOTLY = "application/vnd.plotly.v1+json";

/** The method by which a notebook asks for what it shows. */
export const DISPLAY = Symbol.for("Jupyter.display");

/** The same thing by MIME type, always with text: a notebook shows the richest type that it knows, a terminal the text. */
export interface Shown {
  readonly "text/plain": string;
  readonly [type: string]: unknown;
}

/**
 * Makes a bundle that a notebook shows where it is the result of a cell.
 *
 * @param bundle Contents by MIME type.
 * @param display Makes what the notebook shows, where it takes more than the bundle; called each time that it is shown.
 * @returns The same, with the method that the kernel looks for.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const bold = shown({ "text/plain": "loss", "text/markdown": "**loss**" });
 * assertEquals(Object.keys(bold), ["text/plain", "text/markdown"]);
 * ```
 */
export function shown(bundle: Shown, display: () => Shown | Promise<Shown> = () => bundle): Shown {
  return Object.defineProperty({ ...bundle }, DISPLAY, { value: display });
}
