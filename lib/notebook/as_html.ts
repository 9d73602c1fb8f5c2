/**
 * Displays inside of others.
 *
 * @module
 */

import { htmlText } from "../display/safe_text.ts";
import { displayed } from "../display/displayed.ts";
import type { Shown } from "../display/shown.ts";

/** A display as HTML that can stand within other HTML: a chart as an image. */
export async function asHtml(content: Shown): Promise<string> {
  const { "text/html": html, "image/svg+xml": image, "text/plain": text } = await displayed(content);
  return `${html ?? image ?? `<pre>${htmlText(text)}</pre>`}`;
}
