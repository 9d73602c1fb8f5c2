/**
 * Text of HellaSwag.
 *
 * @module
 */

import { capitalize, strip } from "../python_text.ts";

/**
 * Removes what WikiHow left in HellaSwag's texts, as lm-evaluation-harness does: " [title]" ends a sentence, other square brackets go with all that is in
 * them on the same line, and of two spaces one stays.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * assertEquals(hellaswagText(" How to boil an egg [title] Fill a pot. [step] Wait  here. "), "How to boil an egg. Fill a pot. Wait here.");
 * ```
 */
export function hellaswagText(text: string): string {
  return strip(text).replaceAll(" [title]", ". ").replace(/\[[^\n]*?\]/g, "").replaceAll("  ", " ");
}

/** The beginning that a row of HellaSwag wants continued. The harness's `capitalize` lower-cases all but the first letter. */
export function hellaswagQuery(row: { activity_label: string; ctx_a: string; ctx_b: string }): string {
  return hellaswagText(`${row.activity_label}: ${row.ctx_a} ${capitalize(row.ctx_b)}`);
}
