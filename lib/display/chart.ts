/**
 * Charts.
 *
 * @module
 */

import { chartSpec } from "./chart_spec.ts";
import { type Chart, drawingOf } from "./drawing.ts";
import { plainLine } from "./safe_text.ts";
import { PLOTLY, type Shown, shown } from "./shown.ts";

/**
 * Draws one description twice, by plotly for notebooks that can and as an image for all others, and says the same in words.
 *
 * Both stand on a white card, so that they read in dark themes too, and keep to colours that colour-blind readers tell apart.
 *
 * @param chart What to draw.
 * @returns A plotly spec and text, and where it is displayed, an SVG image that stands alone.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * import { displayed } from "./displayed.ts";
 * const points = [{ x: 1, y: 2.5 }, { x: 2, y: 1.5 }];
 * const axes = { x: { label: "step" }, y: { label: "loss, nats a token" } };
 * const loss = chart({ title: "Loss", ...axes, marks: [{ kind: "line", points }], text: "Loss falls from 2.5 to 1.5 nats a token." });
 * assertEquals(Object.keys(loss), ["application/vnd.plotly.v1+json", "text/plain"]);
 * assertEquals(Object.keys(await displayed(loss)), ["application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"]);
 * ```
 */
export function chart(chart: Chart): Shown {
  const drawing = drawingOf(chart), spec = chartSpec(drawing), text = chart.text.split("\n").map(plainEnd).join("\n");
  return shown({ [PLOTLY]: spec, "text/plain": text }, async () => {
    const { chartSvg } = await import("./chart_svg.ts"); // hundreds of files that only images need
    return { [PLOTLY]: spec, "image/svg+xml": chartSvg(drawing), "text/plain": text };
  });
}

/** A line that keeps the blanks it begins with. */
function plainEnd(line: string): string {
  return line.match(/^ */)![0] + plainLine(line);
}
