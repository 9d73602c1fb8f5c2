/**
 * The page of a report.
 *
 * @module
 */

import { displayed } from "./displayed.ts";
import { dataUrl, lineageGraph } from "./lineage_graph.ts";
import boot from "./report_boot.js" with { type: "text" };
import style from "./report_style.css" with { type: "text" };
import { htmlText } from "./safe_text.ts";
import { PLOTLY, type Shown } from "./shown.ts";
import type { Lineage } from "../flow/lineage.ts";
import type { StageStatus } from "../flow/status.ts";
import { statusTable } from "./status_table.ts";
import { table } from "./table.ts";

/** What the page may do: run what is written in it. Whatever a display holds, no request leaves the page. */
const POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:";

/** Something that was shown, with what is to be said about it. */
export interface RunSection {
  heading?: string;
  /** Plain text; an empty line begins a new paragraph. */
  text?: string;
  shown: Shown;
}

/** What a report tells. */
export interface Run {
  title: string;
  sections: readonly RunSection[];
  /** What `lineage(flow)` gives: drawn. */
  lineage?: Lineage;
  /** What `status(flow)` gives: a table. @default the stages of the lineage */
  stages?: readonly StageStatus[];
  /** What the run depends on, such as the record of a saved model, its hash, or the options of all stages: plain data. */
  recipe?: unknown;
  /** Of the programs, by name. */
  versions: Readonly<Record<string, string>>;
}

/**
 * Writes the page.
 *
 * @param run What to tell.
 * @returns HTML.
 */
export async function reportPage(run: Run): Promise<string> {
  const { title, sections, lineage, stages = lineage?.stages, recipe, versions } = run;
  const all: RunSection[] = [
    ...sections,
    ...(lineage ? [{ heading: "Lineage", shown: await lineageGraph(lineage) }] : []),
    ...(stages ? [{ heading: "Stages", shown: statusTable(stages) }] : []),
    ...(recipe === undefined ? [] : [{ heading: "Recipe", shown: { "text/plain": recipeText(recipe) } }]),
    {
      heading: "Versions",
      shown: table(Object.entries(versions).map(([program, version]) => ({ program, version })), {
        columns: { version: { align: "left" } },
      }),
    },
  ];
  const live = all.some(({ shown }) => shown[PLOTLY] !== undefined);
  return [
    "<!DOCTYPE html>",
    '<html lang="en">',
    "<head>",
    '<meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${POLICY}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${htmlText(title)}</title>`,
    `<style>\n${style}</style>`,
    "</head>",
    "<body>",
    `<h1>${htmlText(title)}</h1>`,
    ...await Promise.all(all.map(section)),
    ...(live ? [`<script>${await plotly()}</script>`, `<script type="module">\n${boot}</script>`] : []),
    "</body>",
    "</html>\n",
  ].join("\n");
}

async function section({ heading, text, shown }: RunSection): Promise<string> {
  const paragraphs = (text ?? "").split(/\n\s*\n/).map(htmlText).filter((paragraph) => paragraph !== "");
  return [
    "<section>",
    ...(heading === undefined ? [] : [`<h2>${htmlText(heading)}</h2>`]),
    ...paragraphs.map((paragraph) => `<p>${paragraph}</p>`),
    content(await displayed(shown)),
    "</section>",
  ].join("\n");
}

/** The richest type that a page can show without help, and behind charts the same in words. */
function content(shown: Shown): string {
  const { "text/plain": text, "text/html": html, "image/svg+xml": svg, [PLOTLY]: spec } = shown;
  const alt = htmlText(text.split("\n")[0]), image = typeof svg === "string" ? `<img alt="${alt}" src="${dataUrl(svg)}">` : "";
  const words = `<details><summary>in words</summary><pre>${preformatted(text)}</pre></details>`;
  if (spec !== undefined) {
    const json = JSON.stringify(spec).replaceAll("<", "\\u003c"); // no "</script>" ends it
    return `<figure class="chart">${image || '<img alt="">'}<script type="application/json">${json}</script>${words}</figure>`;
  }
  if (typeof html === "string") return html;
  return image ? `<figure>${image}${words}</figure>` : `<pre>${preformatted(text)}</pre>`;
}

function preformatted(text: string): string {
  return text.split("\n").map((line) => line.match(/^ */)![0] + htmlText(line)).join("\n");
}

/** @throws {TypeError} If JSON cannot hold it. */
function recipeText(recipe: unknown): string {
  if (typeof recipe === "string") return recipe;
  try {
    return JSON.stringify(recipe, (_, value) => ArrayBuffer.isView(value) ? Object.values(value) : value, 2);
  } catch (cause) {
    throw new TypeError('Cannot write a report: expected plain data as "recipe", found something that JSON cannot hold', { cause });
  }
}

/** plotly.js as text: it needs a window, so it cannot be imported as a module here. Four megabytes that only reports need. */
async function plotly(): Promise<string> {
  const { default: text } = await import("npm:plotly.js-dist-min@4.1.2/plotly.min.js", { with: { type: "text" } });
  return text.replaceAll(/<(?=\/script|!--)/gi, "\\x3c"); // in a string of JavaScript the same
}
