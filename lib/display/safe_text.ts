/**
 * Text from files and users, in Markdown, HTML and XML. Names of models, tasks and experts come from anywhere.
 *
 * @module
 */

// @ts-types="npm:@types/html-escaper@3.0.4"
import { escape } from "npm:html-escaper@3.0.3";

/** One line that XML can hold: no control characters, no halves of surrogate pairs. */
export function plainLine(text: string): string {
  // deno-lint-ignore no-control-regex
  return text.toWellFormed().replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029\ufffe\uffff]+/g, " ").trim();
}

/**
 * Text as HTML or XML says it, in content and in attributes.
 *
 * @param text Anything.
 * @returns One line without markup.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(htmlText("<script> & \"co\"\n"), "&lt;script&gt; &amp; &quot;co&quot;");
 * ```
 */
export function htmlText(text: string): string {
  return escape(plainLine(text));
}

/**
 * Text as Markdown says it, also inside of a table's cell.
 *
 * @param text Anything.
 * @returns One line that no reader of Markdown takes for markup, with formulas or without.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(markdownText("a|b *c* arc_easy <d>"), "a\\|b \\*c\\* arc_easy &lt;d>");
 * ```
 */
export function markdownText(text: string): string {
  return plainLine(text)
    .replace(/[\\`*[\]|~$]|(?<!\w)_|_(?!\w)/g, "\\$&")
    .replace(/&(?=#?\w+;)/g, "&amp;").replaceAll("<", "&lt;");
}
