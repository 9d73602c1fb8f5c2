/**
 * Charts as images.
 *
 * @module
 */

import * as Plot from "npm:@observablehq/plot@0.6.17";
import { DOMParser } from "npm:linkedom@0.18.12";
import type { Axis, Cells, ColoredSeries, Drawing, Point } from "./drawing.ts";
import { colorTicks, range } from "./color_ticks.ts";
import { formatNumber } from "./format_number.ts";
import { htmlText } from "./safe_text.ts";

const WIDTH = 720, LEFT = 60, BOTTOM = 44, STYLE = { background: "white", color: "#222222", fontSize: "12px" };

/** Letters of a name in the legend. */
const LETTERS = 42;

/** Pixels of a colour bar with its numbers. */
const BAR = 84;

/**
 * The image of a chart, drawn by Observable Plot.
 *
 * @param drawing What to draw.
 * @returns An SVG document that stands alone.
 */
export function chartSvg(drawing: Drawing): string {
  const { title, subtitle, x, y, series, cells } = drawing;
  const document = new DOMParser().parseFromString("<html></html>", "text/html");
  const bars = series.filter(({ kind }) => kind === "bars"),
    named = series.filter(({ name }) => name !== undefined),
    legend = named.length > (cells ? 0 : 1);
  const rows = y.places?.length ?? 0, columns = Math.max(1, x.places?.length ?? 1);
  const margins = {
    marginTop: 44 + (subtitle ? 18 : 0) + 18,
    marginLeft: LEFT + (y.places ? Math.max(0, 6 * Math.max(0, ...y.places.map((place) => `${place}`.length)) - 30) : 0),
    marginBottom: BOTTOM,
    marginRight: cells ? BAR : legend ? 60 + 6.2 * Math.min(LETTERS, Math.max(...named.map(({ name }) => name!.length))) : 24,
  };
  const below = legend && cells ? 22 : 0;
  const names = (x.places ?? []).filter((place) => typeof place === "string"), longest = Math.max(0, ...names.map((name) => name.length));
  const lean = !cells && 6.5 * longest > (WIDTH - margins.marginLeft - margins.marginRight) / columns; // names that would run into each other
  const inner = cells ? Math.max(110, Math.min(640, rows * (rows > 12 ? 16 : 24))) : Math.max(230, named.length * 17);
  const bottom = BOTTOM + below + (lean ? 3 * longest : 0), height = margins.marginTop + inner + bottom, width = WIDTH;
  const cell = Math.min((width - margins.marginLeft - margins.marginRight) / columns, inner / Math.max(1, rows));
  const empty = !cells?.cells.length && series.every(({ points }) => points.length === 0);
  const svg = Plot.plot({
    document,
    ...{ width, height, ...margins, marginBottom: bottom, style: STYLE },
    ...(series.some(({ kind }) => kind === "points") && !cells && !x.places ? { inset: 6 } : {}),
    x: {
      ...scale(x, 24),
      labelAnchor: "center",
      labelOffset: bottom - below - 8,
      labelArrow: "none",
      ...(lean ? { tickRotate: -25 } : {}),
    },
    y: { ...scale(y, 40), label: null, grid: !y.places },
    ...(cells ? { color: colors(cells) } : {}),
    marks: [
      ...(cells ? [cellMark(cells, x, y)] : []),
      ...series.filter(({ kind }) => kind !== "bars").flatMap((one) => seriesMarks(one, cells ? Math.max(2, Math.min(5, cell / 4)) : 0)),
      ...(bars.length > 0 ? [...barMarks(bars), Plot.ruleY([0])] : []),
      ...(empty ? [Plot.text(["nothing to show yet"], { frameAnchor: "middle" })] : []),
      ...heading(drawing, margins),
      ...(legend ? named.flatMap((one, i) => cells ? entryBelow(one, i, named, below) : entryBeside(one, i)) : []),
    ],
  });
  svg.setAttribute("xmlns", "http://www.w3.org/2000/svg");
  const paper = document.createElementNS("http://www.w3.org/2000/svg", "rect", undefined); // for programs that show images and no CSS
  for (const [name, value] of Object.entries({ width: "100%", height: "100%", fill: "white" })) paper.setAttribute(name, value);
  svg.insertBefore(paper, svg.firstChild);
  if (cells && !empty) svg.append(colorBar(document, cells, width - BAR + 12, margins.marginTop, inner));
  for (const element of svg.querySelectorAll("*")) round(element);
  // The document writes attributes as HTML does, which XML does not allow, nor "]]>" in text.
  return svg.outerHTML.replace("<svg ", `<svg role="img" aria-label="${htmlText(title)}" `).replaceAll("]]>", "]]&gt;");
}

/** Hundredths of a pixel are enough, and half as long. */
function round(element: { getAttribute(name: string): string | null; setAttribute(name: string, value: string): void }): void {
  for (const name of ["x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height", "d", "transform"]) {
    const value = element.getAttribute(name);
    if (value?.includes(".")) element.setAttribute(name, value.replace(/\d+\.\d{3,}/g, (number) => `${Number(Number(number).toFixed(2))}`));
  }
}

function scale({ label, places, scale, zero }: Axis, most: number): Plot.ScaleOptions {
  if (places) {
    const every = Math.ceil(places.length / most);
    return {
      type: "band",
      label,
      domain: [...places],
      padding: 0.05,
      ticks: places.filter((_, i) => i % every === 0) as never,
      tickSize: 0,
    };
  }
  const log = scale === "log" ? { tickFormat: "~g" } : {}; // else "200m" for 0.2
  return { type: scale ?? "linear", label, nice: true, ...(zero ? { zero } : {}), ...log };
}

function colors({ cells, scale = "linear" }: Cells): Plot.ScaleOptions {
  const domain = range(cells.map(({ value }) => value).filter((value) => scale === "linear" || value > 0));
  return { type: scale, scheme: "viridis", unknown: "#d9d9d9", ...(domain[0] <= domain[1] ? { domain } : {}) };
}

function cellMark({ cells, name }: Cells, x: Axis, y: Axis): Plot.Markish {
  const title = (c: Cells["cells"][0]) =>
    `${x.label} ${c.x}, ${y.label} ${c.y}\n${name}: ${formatNumber(c.value)}${c.note ? `\n${c.note}` : ""}`;
  return Plot.cell(cells as Cells["cells"][0][], {
    x: "x",
    y: "y",
    fill: (c) => Number.isFinite(c.value) ? c.value : null,
    title,
    inset: 0.5,
  });
}

function barMarks(bars: readonly ColoredSeries[]): Plot.Markish[] {
  const height = new Map<Point["x"], number>();
  const all = bars.flatMap(({ points, color, name }) =>
    points.map((point) => {
      const from = height.get(point.x) ?? 0, to = from + Number(point.y);
      height.set(point.x, to);
      return { ...point, from, to, color, said: [name, point.y, point.note].filter((part) => part !== undefined).join("\n") };
    })
  );
  return [
    Plot.barY(all, { x: "x", y1: "from", y2: "to", fill: (bar) => bar.color, title: "said" }),
    Plot.text(all.filter(({ label }) => label !== undefined), { x: "x", y: "to", text: "label", dy: -8, fontSize: 11 }),
  ];
}

function seriesMarks({ kind, points: read, color, dashed, faint, symbol = "dot" }: ColoredSeries, onCells: number): Plot.Markish[] {
  const points = read as Point[], place = { x: "x", y: "y" };
  const title = (p: Point) => [p.label, p.note].filter((part) => part !== undefined).join("\n");
  const labels = points.some(({ label }) => label !== undefined)
    ? [Plot.text(points, { ...place, text: "label", dy: -10, fontSize: 11, stroke: "white", strokeWidth: 3, fill: "#222222" })]
    : [];
  if (kind === "line") {
    const line = { ...place, stroke: color, strokeWidth: faint ? 1 : 2, strokeOpacity: faint ? 0.3 : 1 };
    return [Plot.line(points, dashed ? { ...line, strokeDasharray: "6 4" } : line), ...labels];
  }
  const errors = points.filter(({ error }) => Number.isFinite(error)) as (Point & { y: number; error: number })[];
  const dot = { ...place, r: onCells || (faint ? 2.5 : 4), ...(points.some((p) => p.note ?? p.label) ? { title } : {}) };
  return [
    ...(errors.length > 0 ? [Plot.ruleX(errors, { x: "x", y1: (p) => p.y - p.error, y2: (p) => p.y + p.error, stroke: color })] : []),
    ...symbolMarks(symbol, points, dot, color, faint ? 0.35 : 1, onCells > 0),
    ...labels,
  ];
}

/** A symbol; on cells with a dark rim, which sets it off on bright ones and on paper. */
function symbolMarks(
  symbol: "dot" | "ring" | "cross",
  points: unknown[],
  options: Plot.DotOptions,
  color: string,
  opacity: number,
  rim: boolean,
): Plot.Markish[] {
  if (symbol === "dot") {
    return [Plot.dot(points as Point[], { ...options, fill: color, fillOpacity: opacity, ...(rim ? { stroke: "black" } : {}) })];
  }
  const shape = { ...options, symbol: symbol === "cross" ? "times" : "circle", stroke: color, strokeOpacity: opacity } as const;
  return [
    ...(rim ? [Plot.dot(points as Point[], { ...shape, stroke: "black", strokeWidth: 4 })] : []),
    Plot.dot(points as Point[], { ...shape, strokeWidth: 2 }),
  ];
}

/** Title, subtitle and what the y axis measures, one over the other. */
function heading({ title, subtitle, y }: Drawing, { marginTop, marginLeft }: { marginTop: number; marginLeft: number }): Plot.Markish[] {
  const line = { frameAnchor: "top-left", textAnchor: "start", lineAnchor: "middle", dx: 12 - marginLeft } as const;
  return [
    Plot.text([shortened(title, 90)], { ...line, dy: 20 - marginTop, fontSize: 15, fontWeight: 600 }),
    ...(subtitle ? [Plot.text([shortened(subtitle, 118)], { ...line, dy: 40 - marginTop, fontSize: 11.5, fill: "#555555" })] : []),
    Plot.text([shortened(y.label, 90)], { ...line, dy: -14 }),
  ];
}

/** An entry of the legend to the right of the chart. */
function entryBeside(series: ColoredSeries, index: number): Plot.Markish[] {
  return [
    ...sample(series, { frameAnchor: "top-right", dx: 22, dy: 8 + 17 * index }),
    Plot.text([shortened(series.name!, LETTERS)], {
      frameAnchor: "top-right",
      textAnchor: "start",
      lineAnchor: "middle",
      dx: 36,
      dy: 8 + 17 * index,
      fontSize: 11.5,
    }),
  ];
}

/** An entry of the legend under a map of cells. */
function entryBelow(series: ColoredSeries, index: number, all: readonly ColoredSeries[], below: number): Plot.Markish[] {
  const before = all.slice(0, index).reduce((sum, { name }) => sum + 40 + 6.5 * name!.length, 0), dy = BOTTOM + below - 14;
  return [
    ...sample(series, { frameAnchor: "bottom-left", dx: 8 + before, dy }),
    Plot.text([series.name!], {
      frameAnchor: "bottom-left",
      textAnchor: "start",
      lineAnchor: "middle",
      dx: 20 + before,
      dy,
      fontSize: 11.5,
    }),
  ];
}

const LINE: Plot.VectorOptions["shape"] = { draw: (context, length) => (context.moveTo(0, 0), context.lineTo(0, -length)) };

function sample({ kind, color, dashed, symbol = "dot", faint }: ColoredSeries, at: Plot.DotOptions): Plot.Markish[] {
  if (kind === "points") return symbolMarks(symbol, [0], { ...at, r: 4 }, color, faint ? 0.35 : 1, color === "white");
  if (kind === "bars") return [Plot.dot([0], { ...at, symbol: "square", r: 6, fill: color })];
  const line = { ...at, stroke: color, strokeWidth: 2, length: 20, rotate: 90, shape: LINE } as Plot.VectorOptions;
  return [Plot.vector([0], dashed ? { ...line, strokeDasharray: "6 4" } : line)];
}

/** The colours of cells with their numbers, to the right of them. */
function colorBar(document: Plot.PlotOptions["document"], { cells, scale = "linear" }: Cells, x: number, y: number, height: number) {
  const [least, most] = range(cells.map(({ value }) => value).filter((value) => scale === "linear" || value > 0));
  const at = (share: number) => scale === "log" ? least * (most / least) ** share : least + (most - least) * share;
  const steps = Array.from({ length: 64 }, (_, i) => ({ from: at(i / 64), to: at((i + 1) / 64), middle: at((i + 0.5) / 64) }));
  const bar = Plot.plot({
    document,
    ...{ width: BAR - 12, height: height + 40, marginTop: 20, marginBottom: 20, marginLeft: 2, marginRight: BAR - 30, style: STYLE },
    x: { axis: null },
    y: {
      ...{ type: scale, axis: "right", label: null, domain: [least, most] },
      ...(scale === "log" ? { ticks: colorTicks([least, most]) } : { ticks: 5 }),
      tickFormat: (value: number) => formatNumber(value),
    },
    color: { type: scale, scheme: "viridis", domain: [least, most] },
    marks: least < most ? [Plot.rect(steps, { x1: 0, x2: 1, y1: "from", y2: "to", fill: "middle" })] : [],
  });
  for (const [attribute, value] of Object.entries({ x, y: y - 20 })) bar.setAttribute(attribute, `${value}`);
  return bar;
}

function shortened(text: string, letters: number): string {
  const all = [...text];
  return all.length <= letters ? text : `${all.slice(0, letters - 1).join("")}…`;
}
