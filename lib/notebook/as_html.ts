/**
 * Displays inside of others.
 *
 * @module
 */

import { htmlText } from "../display/safe_text.ts";
import type { Shown } from "../display/shown.ts";

/** A display as HTML that can stand within other HTML: a chart as an image. */
export function asHtml(content: Shown): string {
  return `${content["text/html"] ?? content["image/svg+xml"] ?? `<pre>${htmlText(content["text/plain"])}</pre>`}`;
}
