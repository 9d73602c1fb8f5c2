/**
 * Charts for plotly.
 *
 * @module
 */

import type { Config, Data, Layout, LayoutAxis } from "npm:@types/plotly.js@3.0.14";
import type { Axis, Cells, ColoredSeries, Drawing, Place } from "./drawing.ts";
import { colorTicks } from "./color_ticks.ts";
import { viridis } from "./palette.ts";
import { htmlText } from "./safe_text.ts";

/** What notebooks know as application/vnd.plotly.v1+json. */
export interface PlotlySpec {
  data: Partial<Data>[];
  layout: Partial<Layout>;
  config: Partial<Config>;
}

const SYMBOLS = { dot: "circle", ring: "circle-open", cross: "x" } as const;

/**
 * The spec of a chart. plotly reads tags in texts, so they are escaped.
 *
 * @param drawing What to draw.
 * @returns Plain data: what is not finite is null.
 */
export function chartSpec(drawing: Drawing): PlotlySpec {
  const { title, subtitle, x, y, series, cells } = drawing;
  return {
    data: [...(cells ? [heatmap(cells, x, y)] : []), ...series.map((one) => trace(one, cells !== undefined))],
    layout: {
      title: { text: htmlText(title), subtitle: { text: htmlText(subtitle ?? "") }, x: 0, xref: "paper", xanchor: "left" },
      xaxis: axis(x, cells !== undefined, false),
      yaxis: axis(y, cells !== undefined, true),
      barmode: "stack",
      showlegend: series.filter(({ name }) => name !== undefined).length > (cells ? 0 : 1),
      ...(cells ? { legend: { orientation: "h", x: 0, xref: "paper", y: 0, yref: "container", yanchor: "bottom" } } : {}),
      ...{ paper_bgcolor: "white", plot_bgcolor: "white", font: { color: "#222222" }, hovermode: "closest" },
      ...{
        height: cells ? Math.max(360, Math.min(900, 200 + 22 * (y.places?.length ?? 0))) : 400,
        margin: { t: 80, r: 30, ...(cells && series.length > 0 ? { b: 100 } : {}) },
      },
    },
    config: { responsive: true, displaylogo: false },
  };
}

function axis({ label, places, scale, zero }: Axis, cells: boolean, down: boolean): Partial<LayoutAxis> {
  const named = places?.some((place) => typeof place === "string") ?? false;
  return {
    title: { text: htmlText(label) },
    ...(named ? { type: "category", categoryorder: "array", categoryarray: places!.map(text) } : { type: scale ?? "linear" }),
    ...(places && !named && places.length <= 40 ? { tickmode: "array", tickvals: [...places] } : {}),
    ...(places && down ? { autorange: "reversed" } : zero ? { rangemode: "tozero" } : {}),
    ...{ showgrid: !cells && !places, gridcolor: "#e5e5e5", zeroline: false, automargin: true, linecolor: "#888888", ticks: "outside" },
  };
}

function heatmap({ name, cells, scale }: Cells, x: Axis, y: Axis): Partial<Data> {
  const columns = x.places ?? [], rows = y.places ?? [], log = scale === "log";
  const at = new Map(cells.map((cell) => [JSON.stringify([cell.x, cell.y]), cell]));
  const grid = <T>(of: (cell: Cells["cells"][0]) => T) =>
    rows.map((row) =>
      columns.map((column) => {
        const cell = at.get(JSON.stringify([column, row]));
        return cell === undefined ? null : of(cell);
      })
    );
  const steps = viridis(11), ticks = log ? colorTicks(cells.map(({ value }) => value)) : undefined;
  return {
    type: "heatmap",
    name: htmlText(name),
    x: columns.map(text),
    y: rows.map(text),
    z: grid(({ value }) => log ? (value > 0 ? number(Math.log10(value)) : null) : number(value)),
    customdata: grid(({ value, note }) => [number(value), note ? `<br>${htmlText(note)}` : ""]) as never,
    colorscale: steps.map((color, i): [number, string] => [i / (steps.length - 1), color]),
    colorbar: {
      title: { text: htmlText(name), side: "right" },
      ...(ticks ? { tickvals: ticks.map(Math.log10), ticktext: ticks.map((tick) => tick.toLocaleString("en")) } : {}),
    },
    hovertemplate: `${htmlText(x.label)} %{x}<br>${htmlText(y.label)} %{y}<br>%{customdata[0]:.6~g}%{customdata[1]}<extra></extra>`,
    ...{ xgap: 1, ygap: 1, hoverongaps: false },
  } as Partial<Data>;
}

function trace(series: ColoredSeries, onCells: boolean): Partial<Data> {
  const { kind, name, points, color, dashed, faint, symbol = "dot" } = series, labelled = points.some(({ label }) => label !== undefined);
  const common = {
    ...(name === undefined ? { showlegend: false, name: "" } : { name: htmlText(name) }),
    x: points.map(({ x }) => text(x)),
    y: points.map(({ y }) => text(y)),
    ...(labelled ? { text: points.map(({ label }) => htmlText(label ?? "")) } : {}),
    ...(points.some(({ note }) => note !== undefined) ? { hovertext: points.map(({ note }) => htmlText(note ?? "")) } : {}),
    ...(points.some(({ error }) => error !== undefined)
      ? { error_y: { type: "data", array: points.map(({ error }) => number(error ?? NaN)), color } }
      : {}),
    ...(faint ? { opacity: 0.3 } : {}),
  };
  if (kind === "bars") return { type: "bar", ...common, marker: { color }, textposition: "outside", cliponaxis: false } as Partial<Data>;
  return {
    type: "scatter",
    mode: `${kind === "line" ? "lines" : "markers"}${labelled ? "+text" : ""}`,
    ...common,
    ...(labelled ? { textposition: "top center", cliponaxis: false } : {}),
    ...(kind === "line" ? { line: { color, width: faint ? 1 : 2, dash: dashed ? "dash" : "solid" }, connectgaps: false } : {
      marker: {
        symbol: SYMBOLS[symbol],
        color,
        size: onCells ? 9 : faint ? 5 : 8,
        line: { color: onCells ? "black" : color, width: symbol === "ring" ? 2 : onCells ? 1 : 0 },
      },
    }),
  } as Partial<Data>;
}

function text(place: Place): string | number | null {
  return typeof place === "string" ? htmlText(place) : number(place);
}

function number(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}
