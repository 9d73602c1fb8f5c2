/**
 * What a chart says, whoever draws it.
 *
 * @module
 */

import { seriesColors } from "./palette.ts";
import { plainLine } from "./safe_text.ts";

/** A place on an axis: a number, or the name of a category. */
export type Place = number | string;

export interface Axis {
  /** What it measures, with its unit, such as "loss, nats a token". */
  label: string;
  /** The places of an axis without numbers between, from the left or from the top: layers, experts, blocks. @default an axis of numbers */
  places?: readonly Place[];
  /** @default "linear" */
  scale?: "linear" | "log";
  /** Begins at 0. @default false */
  zero?: boolean;
}

/** A point of a mark. What is not finite is not drawn. */
export interface Point {
  x: Place;
  y: Place;
  /** Half the height of its error bar. */
  error?: number;
  /** Stands beside it. */
  label?: string;
  /** Said when the pointer is on it, beside where it is. */
  note?: string;
}

/** Lines join their points, bars that share an x are stacked, points are alone. */
export interface Series {
  kind: "line" | "points" | "bars";
  /** In the legend. @default none: no entry */
  name?: string;
  points: readonly Point[];
  /** @default the next one of the palette */
  color?: string;
  dashed?: boolean;
  /** In the background of others: thin and pale. */
  faint?: boolean;
  /** On cells, dots and crosses have a dark rim. @default "dot" */
  symbol?: "dot" | "ring" | "cross";
}

/** Numbers as colours, each at a place of both axes. */
export interface Cells {
  kind: "cells";
  /** What colours mean, with the unit. */
  name: string;
  cells: readonly { x: Place; y: Place; value: number; note?: string }[];
  /** "log" for numbers of very different size; those that are not above 0 then have no colour. @default "linear" */
  scale?: "linear" | "log";
}

/** What a chart says, whoever draws it. */
export interface Chart {
  title: string;
  /** What a reader has to know, in one line. */
  subtitle?: string;
  x: Axis;
  y: Axis;
  /** From the back to the front. */
  marks: readonly (Series | Cells)[];
  /** The same data in words and numbers. */
  text: string;
}

/** A series whose colour is settled. */
export type ColoredSeries = Series & { color: string };

/** Marks that can be drawn: coloured, without control characters in their texts. */
export interface Drawing extends Omit<Chart, "marks" | "text"> {
  series: ColoredSeries[];
  cells?: Cells;
}

/** A chart as it can be drawn. */
export function drawingOf({ title, subtitle, x, y, marks }: Chart): Drawing {
  const series = marks.filter((mark) => mark.kind !== "cells"), cells = marks.find((mark) => mark.kind === "cells");
  const colors = seriesColors(series.filter(({ color }) => !color).length);
  let next = 0;
  const drawable = ({ x, y }: { x: Place; y: Place }) => [x, y].every((place) => typeof place === "string" || Number.isFinite(place));
  return {
    title: plainLine(title),
    ...(subtitle === undefined ? {} : { subtitle: plainLine(subtitle) }),
    x: axis(x),
    y: axis(y),
    series: series.map((mark) => ({
      ...mark,
      ...(mark.name === undefined ? {} : { name: plainLine(mark.name) }),
      color: mark.color ?? colors[next++],
      points: mark.points.filter((point) => mark.kind === "line" || drawable(point)).map(texts), // a line has a gap there
    })),
    ...(cells ? { cells: { ...cells, name: plainLine(cells.name), cells: cells.cells.map(texts) } } : {}),
  };
}

function axis(axis: Axis): Axis {
  return { ...axis, label: plainLine(axis.label), ...(axis.places ? { places: axis.places.map(place) } : {}) };
}

function place(value: Place): Place {
  return typeof value === "string" ? plainLine(value) : value;
}

function texts<P extends { x: Place; y: Place; label?: string; note?: string }>(point: P): P {
  const { x, y, label, note } = point;
  return {
    ...point,
    ...{ x: place(x), y: place(y) },
    ...(label === undefined ? {} : { label: plainLine(label) }),
    ...(note === undefined ? {} : { note: plainLine(note) }),
  };
}
