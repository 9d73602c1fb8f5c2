/**
 * Shows anything.
 *
 * @module
 */

import { DISPLAY, type Shown, shown } from "../display/shown.ts";
import { place } from "./place.ts";

/**
 * Shows something once, and waits until it is out: a display, a text as Markdown, what the kernel can show by itself (an object with the method
 * `[Symbol.for("Jupyter.display")]`), or any value as text.
 *
 * @param content What to show.
 *
 * @example
 * ```ts
 * await show("**Loss**, nats a token");
 * ```
 */
export async function show(content: unknown): Promise<void> {
  await place()(await bundleOf(content));
}

async function bundleOf(content: unknown): Promise<Shown> {
  if (typeof content === "string") return shown({ "text/markdown": content, "text/plain": content });
  if (typeof content === "object" && content !== null) {
    if (typeof (content as Shown)["text/plain"] === "string") return content as Shown;
    const display = (content as Record<symbol, unknown>)[DISPLAY];
    if (typeof display === "function") return { "text/plain": Deno.inspect(content, { colors: false }), ...await display.call(content) };
  }
  return shown({ "text/plain": Deno.inspect(content, { colors: false, depth: 3 }) });
}
