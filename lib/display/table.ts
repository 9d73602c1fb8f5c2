/**
 * Tables.
 *
 * @module
 */

import type { ColumnTable } from "npm:arquero@8.0.1";
import { markdownTable } from "npm:markdown-table@3.0.4";
import { expect } from "../model/expect.ts";
import { formatNumber } from "./format_number.ts";
import { htmlText, markdownText, plainLine } from "./safe_text.ts";
import { type Shown, shown } from "./shown.ts";
import script from "./table_script.js" with { type: "text" };
import style from "./table_style.css" with { type: "text" };

/** What a cell may hold; nothing is shown for null and undefined. */
export type TableCell = string | number | bigint | boolean | null | undefined;

/** A row by the names of its columns. */
export type Row = Readonly<Record<string, TableCell>>;

/** How a column looks. */
export interface TableColumn<V = TableCell, R = Row> {
  /** Its heading. @default its name */
  label?: string;
  /** Follows the heading, such as "%" or "GiB". */
  unit?: string;
  /** Digits after the point of all its numbers. @default as many as each number needs, up to four significant ones */
  digits?: number;
  /** Text of a cell, where digits are not enough. */
  format?: (value: V, row: R) => string;
  /** @default "right" for numbers, also those in text such as "1.5 ± 0.1", else "left" */
  align?: "left" | "right" | "center";
  /** A colour for a dot before the text, such as "#009E73": of what the text says too. */
  color?: (value: V, row: R) => string | undefined;
  /** Who says so: the heading names it, and published and measured columns look different. */
  source?: "published" | "measured";
}

export interface TableOptions<R = Row> {
  /** By the names of columns; those that it does not list look as they look by default. */
  columns?: { readonly [K in keyof R]?: TableColumn<R[K], R> };
  /** What the table is about. */
  caption?: string;
}

/** A column that is ready to be shown. */
interface Prepared {
  heading: string;
  source?: TableColumn["source"];
  align: "left" | "right" | "center";
  cells: string[];
  /** What cells are sorted by, where that is not their text. */
  values: (number | undefined)[];
  colors: (string | undefined)[];
}

/**
 * A table: in a notebook with columns that a click on the heading sorts, numbers to the right, in the colours of the page; on a terminal and in Markdown as text.
 *
 * @param rows Plain objects with the columns of the first one, or a table of arquero, which is shown filtered and ordered as it is.
 * @param options What the columns are called and how their numbers are written.
 * @throws {TypeError} If these are no rows.
 * @throws {RangeError} If a column is described that there is none of, or has not at least 0 and at most 20 digits.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const rows = [{ model: "dense", size: 5495040 }, { model: "pruned", size: 4507904 }];
 * const sizes = table(rows, { columns: { size: { label: "weights", unit: "MiB", format: (bytes) => (bytes / 2 ** 20).toFixed(2) } } });
 * assertEquals(sizes["text/plain"].split("\n")[2], "| dense  |         5.24 |");
 * ```
 */
export function table<R extends object = Row>(rows: readonly R[] | ColumnTable, options: TableOptions<R> = {}): Shown {
  const purpose = "show a table", { columns: described = {}, caption } = options ?? {};
  const listed = isTable(rows) || (Array.isArray(rows) && rows.every((row) => typeof row === "object" && row !== null));
  expect(listed, purpose, "rows, each an object with a cell for each column", rows);
  expect(typeof described === "object" && described !== null, purpose, '"columns", an object with a description by the name', described);
  expect(caption === undefined || typeof caption === "string", purpose, 'a text as "caption"', caption);
  const objects = (isTable(rows) ? rows.objects({ grouped: false }) : rows) as readonly R[];
  const names = isTable(rows) ? rows.columnNames() : Object.keys(rows[0] ?? described);
  const unknown = Object.keys(described).find((name) => !names.includes(name));
  if (unknown !== undefined) {
    const found = names.map((name) => `"${name}"`).join(", ");
    throw new RangeError(`Cannot ${purpose}: "columns" describes "${unknown}", but the rows have ${found}`);
  }
  const columns = names.map((name, i) => prepare(name, i, (described as Record<string, TableColumn<never, R>>)[name] ?? {}, objects));
  const align = columns.map((column) => column.align[0]);
  const asText = (safe: (text: string) => string) =>
    columns.length === 0 ? "no rows" : markdownTable([
      columns.map(({ heading, source }) => safe(source ? `${heading} (${source})` : heading)),
      ...objects.map((_, r) => columns.map(({ cells }) => safe(cells[r]))),
    ], { align });
  const title = caption ? plainLine(caption) : "";
  return shown({
    "text/html": html(columns, objects.length, title),
    "text/markdown": (title && `**${markdownText(title)}**\n\n`) + asText(markdownText),
    "text/plain": (title && `${title}\n\n`) + asText(plainLine),
  });
}

function isTable(rows: unknown): rows is ColumnTable {
  const { columnNames, objects } = rows as Partial<ColumnTable> ?? {};
  return typeof columnNames === "function" && typeof objects === "function"; // of any copy of arquero
}

function prepare<R>(name: string, index: number, column: TableColumn<never, R>, rows: readonly R[]): Prepared {
  const { label = name, unit, digits, format, source } = column;
  if (digits !== undefined && !(Number.isSafeInteger(digits) && digits >= 0 && digits <= 20)) {
    throw new RangeError(`Cannot show column "${name}": "digits" must be a whole number from 0 to 20, received ${digits}`);
  }
  const raw = rows.map((row) => row[name as keyof R]);
  const cells = raw.map((value, r) => plainLine(format ? `${format(value as never, rows[r])}` : textOf(value, digits)));
  const typed = raw.some((value) => typeof value === "number") && raw.every((value) => value == null || typeof value === "number");
  // The first column names rows, though it may begin with a digit; a dash stands for a number that there is none of.
  const numeric = typed || (index > 0 && rows.length > 0 && cells.every((text) => /^([-+−–~≈]|\d|$|NaN)/.test(text)));
  return {
    heading: plainLine(unit ? `${label}, ${unit}` : label),
    source,
    align: column.align ?? (numeric ? "right" : "left"),
    cells,
    values: raw.map((value, r) => typed ? (value == null ? NaN : Number(value)) : numeric ? numberIn(cells[r]) : undefined),
    colors: raw.map((value, r) => column.color?.(value as never, rows[r])),
  };
}

function textOf(value: unknown, digits?: number): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return formatNumber(value, digits);
  return typeof value === "bigint" ? value.toLocaleString("en") : `${value}`;
}

/** The number that a text begins with. */
function numberIn(text: string): number {
  return parseFloat(text.replaceAll(",", "").replace(/^[−~≈]/, (sign) => sign === "−" ? "-" : ""));
}

function html(columns: readonly Prepared[], rows: number, caption: string): string {
  const attributes = ({ align, source }: Prepared) =>
    `${source ? ` class="winnow-${source}"` : ""} style="text-align: ${align}${align === "right" ? "; white-space: nowrap" : ""}"`;
  const head = columns.map((column) =>
    `<th scope="col" tabindex="0"${attributes(column)}>${htmlText(column.heading)}${
      column.source ? `<small>${column.source}</small>` : ""
    }</th>`
  );
  const body = Array.from({ length: rows }, (_, r) => {
    const cells = columns.map((column) => {
      const value = column.values[r], color = column.colors[r], sorted = value === undefined ? "" : ` data-value="${value}"`;
      const dot = color === undefined ? "" : `<span aria-hidden="true" style="color: ${htmlText(color)}">●</span>&nbsp;`;
      return `<td${attributes(column)}${sorted}>${dot}${htmlText(column.cells[r])}</td>`;
    });
    return `<tr>${cells.join("")}</tr>`;
  });
  return [
    `<style>\n${style}</style>`,
    `<table class="winnow-table tex2jax_ignore mathjax_ignore">`, // a "$" is a dollar
    ...(caption ? [`<caption>${htmlText(caption)}</caption>`] : []),
    `<thead><tr>${head.join("")}</tr></thead>`,
    `<tbody>\n${body.join("\n")}\n</tbody>`,
    "</table>",
    `<script>\n${script}</script>`,
  ].join("\n");
}
