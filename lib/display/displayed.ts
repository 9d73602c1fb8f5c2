/**
 * What a notebook shows.
 *
 * @module
 */

import { expect } from "../model/expect.ts";
import { DISPLAY, type Shown } from "./shown.ts";

/**
 * Everything that a notebook gets of a display: of a chart also its image, which is drawn now.
 *
 * @param shown A table, a chart, any display, or the contents of one by MIME type.
 * @returns Its contents by MIME type.
 * @throws {TypeError} If it is no display.
 * @throws {Error} If the library that draws charts cannot be loaded.
 *
 * @example
 * ```ts
 * import { assert } from "@std/assert";
 * import { lossCurve } from "./loss_curve.ts";
 * const { "image/svg+xml": image } = await displayed(lossCurve({ tuned: [{ step: 1, loss: 2.5 }] }));
 * assert(`${image}`.startsWith("<svg "));
 * ```
 */
export async function displayed(shown: Shown): Promise<Shown> {
  expect(typeof shown?.["text/plain"] === "string", "display this", "a display, such as table() gives", shown);
  const { [DISPLAY]: display } = shown as { [DISPLAY]?: () => Shown | Promise<Shown> };
  return display ? await display.call(shown) : shown;
}
