/** What the notebooks show: tables and loss curves, in a notebook or, as text, on a terminal. */

import * as Plot from "npm:@observablehq/plot@0.6.17";
import { DOMParser } from "npm:linkedom@0.18.12";
import { markdownTable } from "npm:markdown-table@3.0.4";
import type { TrainingPoint } from "../mod.ts";

/** The same thing by MIME type; always with text. */
export interface Shown {
  "text/plain": string;
  [type: string]: string;
}

/** A row of a table by the headings of its columns. */
export type Row = Readonly<Record<string, string | number>>;

/** A table with the columns of its first row; those of numbers, or of text that begins with a digit, are aligned to the right. */
export function table(rows: readonly Row[]): Shown {
  const columns = Object.keys(rows[0] ?? {}), number = (cell: string | number) => /^[-+−–\d]/.test(`${cell}`);
  const align = columns.map((column, i) => i > 0 && rows.every((row) => number(row[column])) ? "r" : "l");
  const text = markdownTable([columns, ...rows.map((row) => columns.map((column) => `${row[column]}`))], { align });
  return { "text/markdown": text, "text/plain": text };
}

/** Steps that one point of a smooth curve is the mean of. */
const WINDOW = 25;

/** Told apart by colour-blind readers too (Okabe and Ito). */
const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7"];

/** Loss by step: the mean of 25 steps, and every step behind it where there is one curve only. */
export function lossCurve(curves: Readonly<Record<string, readonly TrainingPoint[]>>): Shown {
  const names = Object.keys(curves), points = names.flatMap((name) => curves[name].map(({ step, loss }) => ({ name, step, loss })));
  const line = { x: "step", y: "loss", stroke: "name" }, window = { k: Math.min(WINDOW, points.length), anchor: "middle" as const };
  const svg = Plot.plot({
    document: new DOMParser().parseFromString("<html></html>", "text/html"),
    ...{ width: 720, height: 320, style: { background: "white", color: "black" } },
    ...{ x: { label: "step" }, y: { label: "loss, nats a token", grid: true }, color: { domain: names, range: COLORS } },
    marks: [
      ...(names.length === 1 ? [Plot.lineY(points, { ...line, strokeOpacity: 0.3 })] : []),
      Plot.lineY(points, Plot.windowY(window, { ...line, strokeWidth: 2 })),
      ...names.map((name, i) =>
        Plot.text([name], { text: [name], fill: [name], frameAnchor: "top-right", dx: -8, dy: 16 * i, fontSize: 12 })
      ),
    ],
  });
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const last = (name: string) => `${name} ${curves[name].at(-1)?.loss.toFixed(3)} after ${curves[name].length} steps`;
  return { "image/svg+xml": svg.outerHTML, "text/plain": `Loss, nats a token: ${names.map(last).join("; ")}` };
}

/** Shows something once. */
export async function show(shown: Shown | string): Promise<void> {
  await place()(shown);
}

/** A place in the output of a cell: what is shown there replaces what was shown before. */
export function place(): (shown: Shown | string) => Promise<void> {
  const display_id = crypto.randomUUID();
  let update = false;
  return async (shown) => {
    const bundle = typeof shown === "string" ? { "text/markdown": shown, "text/plain": shown } : shown,
      options = { raw: true, display_id, update };
    update = true;
    if (jupyter) await jupyter.display(bundle, options);
    else console.log(bundle["text/plain"]);
    await new Promise((resolve) => setTimeout(resolve)); // the kernel may end a cell before its last output has left
  };
}

/** Looking at `Deno.jupyter` outside the kernel throws. */
const jupyter = (() => {
  try {
    return Deno.jupyter;
  } catch {
    return undefined;
  }
})();
