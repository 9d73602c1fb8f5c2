/** What holds for whatever is shown. */

import { assert, assertEquals } from "@std/assert";
import { SaxesParser } from "npm:saxes@6.0.0";
import { htmlText } from "../../lib/display/safe_text.ts";
import { displayed, type Shown } from "../../mod.ts";

export const PLOTLY = "application/vnd.plotly.v1+json";

// deno-lint-ignore no-explicit-any
type Json = any;

/** An image that can stand in a file of its own: its elements by name, and all its text. */
export function parseSvg(svg: unknown): { elements: Map<string, number>; text: string } {
  assert(typeof svg === "string" && svg.startsWith("<svg "), `no image: ${`${svg}`.slice(0, 60)}`);
  const elements = new Map<string, number>();
  let text = "";
  const parser = new SaxesParser({ xmlns: true });
  parser.on("error", (error) => {
    throw new Error(`no XML: ${error.message}`);
  });
  parser.on("opentag", ({ name, uri }) => {
    assertEquals(uri, "http://www.w3.org/2000/svg");
    elements.set(name, (elements.get(name) ?? 0) + 1);
  });
  parser.on("text", (part) => text += `${part}\n`);
  parser.write(svg as string).close();
  assert(!elements.has("script") && !elements.has("image"), "nothing that runs or is fetched");
  return { elements, text };
}

/** The image of a chart, which is drawn where it is displayed. */
export async function imageOf(shown: Shown): Promise<string> {
  const image = (await displayed(shown))["image/svg+xml"];
  parseSvg(image);
  return image as string;
}

/** The spec of a chart, as it arrives in a notebook. */
export function specOf(shown: Shown): { data: Json[]; layout: Json; config: Json } {
  const spec = shown[PLOTLY], arrived = JSON.parse(JSON.stringify(spec));
  assertEquals(
    arrived,
    JSON.parse(JSON.stringify(spec, (_, value) => typeof value === "number" && !Number.isFinite(value) ? "lost" : value)),
  );
  return arrived;
}

/** A chart is a spec, an image and text; titled, with axes that say what they measure. */
export async function checkChart(shown: Shown): Promise<void> {
  const bundle = await displayed(shown), { data, layout } = specOf(shown), { text } = parseSvg(bundle["image/svg+xml"]);
  assertEquals(Object.keys(bundle), [PLOTLY, "image/svg+xml", "text/plain"]);
  assertEquals([bundle[PLOTLY], bundle["text/plain"]], Object.values(shown), "what needs no library is there at once");
  for (const words of [layout.title.text, layout.xaxis.title.text, layout.yaxis.title.text]) {
    assert(words.length > 0);
    assert(htmlText(text).includes(words), `the image says "${words}", as plotly does`);
  }
  assert(data.length > 0);
  checkText(shown["text/plain"]);
}

/** A table is HTML, Markdown and text. */
export function checkTable(shown: Shown): void {
  assertEquals(Object.keys(shown), ["text/html", "text/markdown", "text/plain"]);
  checkText(shown["text/plain"]);
}

/** Text has no terminal codes, and no line ends in blanks. */
function checkText(text: string): void {
  // deno-lint-ignore no-control-regex
  assert(!/[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/.test(text) && text.isWellFormed(), JSON.stringify(text));
}

/** Notebooks find the bundle by this method. */
export function jupyterDisplay(shown: Shown): unknown {
  return (shown as unknown as Record<symbol, () => unknown>)[Symbol.for("Jupyter.display")]();
}
