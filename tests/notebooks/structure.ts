/**
 * What two runs of a notebook have in common, however much data they had.
 *
 * @module
 */

import { DOMParser } from "npm:linkedom@0.18.12";
import type { Output } from "./kernel/outputs.ts";
import { codeCells, type Notebook } from "./notebook_file.ts";

/** Where the outputs of a run are of another kind than those that are committed: one sentence each, none if they agree. */
export function structureDifferences(committed: Notebook, run: Notebook): string[] {
  const cells = codeCells(run);
  return codeCells(committed).flatMap((cell, i) => {
    if (cell.source !== cells[i]?.source) return [`cell "${cell.id}": the run is of another notebook`];
    const [expected, found] = [cell, cells[i]].map(({ outputs = [] }) => inARowOnce(outputs.filter(isSeen).map(kindOf)));
    return Array.from(
      { length: Math.max(expected.length, found.length) },
      (_, j) =>
        expected[j] === found[j]
          ? []
          : `cell "${cell.id}", output ${j + 1}: committed is ${expected[j] ?? "nothing"}, found ${found[j] ?? "nothing"}`,
    ).flat();
  });
}

/** Clients keep results that want not to be shown, or do not. */
const isSeen = ({ data }: Output) => data === undefined || Object.keys(data).length > 0;

/** How many stages of one kind a cell runs is a matter of the data. */
const inARowOnce = (kinds: string[]) => kinds.filter((kind, i) => kind !== kinds[i - 1]);

/** An output in words: its type, its MIME types, and the headings of its tables. */
function kindOf({ output_type, name, data = {} }: Output): string {
  const html = htmlHeadings(`${data["text/html"] ?? ""}`);
  const headings = html.length > 0 ? html : markdownHeadings(`${data["text/markdown"] ?? data["text/plain"] ?? ""}`);
  const tables = headings.map((columns) => `, a table of ${columns.map((column) => `"${withoutNumbers(column)}"`).join(", ")}`);
  return [output_type, name, Object.keys(data).sort().join(" + ")].filter(Boolean).join(" ") + tables.join("");
}

/** A row before a rule. */
function markdownHeadings(text: string): string[][] {
  return [...text.matchAll(/^\|(.+)\|\n\|(?: ?:?-+:? ?\|)+$/gm)].map(([, row]) => row.split("|").map((cell) => cell.trim()));
}

function htmlHeadings(html: string): string[][] {
  if (!html.includes("<th")) return [];
  const document = new DOMParser().parseFromString(`<html><body>${html}</body></html>`, "text/html");
  return [...document.querySelectorAll("table")].map((table) =>
    [...table.querySelectorAll("thead th")].map((cell) => cell.textContent?.trim() ?? "")
  );
}

const withoutNumbers = (text: string) => text.replace(/\d[\d,.]*/g, "#");
