/**
 * What a cell ends with.
 *
 * @module
 */

import { DISPLAY } from "../display/shown.ts";
import { jupyter } from "./jupyter.ts";

/**
 * Keeps the kernel from printing a result, such as all weights of a model by name, below a cell that ends in `await nb.run(…)`. The result gets a property
 * for that, which nothing lists.
 *
 * @param result Anything. Only objects that can be extended are changed.
 * @param inside Whether there is a kernel.
 * @returns The same.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const result = quiet({ loss: 2.5 }, true);
 * assertEquals([Object.keys(result), Symbol.for("Jupyter.display") in result], [["loss"], true]);
 * ```
 */
export function quiet<T>(result: T, inside = jupyter !== undefined): T {
  if (inside && typeof result === "object" && result !== null && Object.isExtensible(result) && !(DISPLAY in result)) {
    Object.defineProperty(result, DISPLAY, { value: () => ({}) });
  }
  return result;
}
