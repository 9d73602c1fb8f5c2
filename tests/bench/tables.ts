import { markdownTable } from "npm:markdown-table@3.0.4";
import type { Measured } from "./measure.ts";
import type { PeerResult } from "./peer.ts";
import type { Part } from "./row.ts";
import { median } from "./timed.ts";

interface Times {
  median: number;
  least: number;
}

/** Markdown tables of what was measured: times beside the peers', the distance to what the machine reaches, memory, and notes. */
export function tables(all: readonly Measured[]): string {
  const parts = [timesTable(all), rooflineTable(all), memoryTable(all), notes(all)];
  return parts.filter((part) => part !== "").join("\n\n");
}

function timesTable(all: readonly Measured[]): string {
  const head = ["row", "a", "Winnow", "check", "peer", "its time", "ratio", "its check"];
  const rows = all.flatMap((measured) => units(measured).flatMap((unit) => rowsOf(measured, unit)));
  const filled = head.map((_, i) => rows.some((row) => row[i] !== "")),
    kept = [head, ...rows].map((row) => row.filter((_, i) => filled[i]));
  const align = ["l", "l", "r", "r", "l", "r", "r", "r"].filter((_, i) => filled[i]);
  return `Times: median / least. Ratios: of medians / of least times, above 1 where Winnow is faster.\n\n${markdownTable(kept, { align })}`;
}

/** A unit beside each peer that has a time for it; alone where none has. */
function rowsOf({ row, rounds, peers }: Measured, { unit, times, beside }: Unit): string[][] {
  const first = beside === "seconds", check = (value: number | undefined) => first && value !== undefined ? value.toPrecision(7) : "";
  const own = [`${row.name}, ${row.shape}`, unit, show(times), check(rounds.at(-1)!.check)], others: string[][] = [];
  const against = (name: string, theirs: Times, other?: number) => {
    const ratios = [theirs.median / times.median, theirs.least / times.least].map(significant).join(" / ");
    others.push([...own, name, show(theirs), ratios, check(other)]);
  };
  for (const [name, results] of peers) {
    if (typeof results === "string") {
      if (first) others.push([...own, name, results, "", ""]);
    } else if (beside && results.every((result) => result[beside] !== undefined)) against(name, timesOf(results, beside), results[0].check);
  }
  const detours = first ? rounds[0].detours ?? [] : [];
  detours.forEach(({ name }, i) => against(name, spread(rounds.flatMap((round) => round.detours![i].seconds))));
  return others.length > 0 ? others : [[...own, "", "", "", ""]];
}

function rooflineTable(all: readonly Measured[]): string {
  const rows = all.flatMap((measured) =>
    units(measured).flatMap(({ unit, times, work }) => {
      if (!work) return [];
      const { best, row } = measured, flops = work.flops / times.least, bytes = work.bytes / times.least;
      return [[
        ...[
          `${row.name}, ${row.shape}`,
          unit,
          giga(work.flops),
          giga(work.bytes),
          giga(flops),
          giga(best.flops),
          percent(flops / best.flops),
        ],
        ...[giga(bytes), giga(best.bytes), percent(bytes / best.bytes)],
      ]];
    })
  );
  const head = ["row", "a", "GFLOP", "GB", "GFLOP/s", "product", "share", "GB/s", "copy", "share"];
  return "Work by formula, in the least time, and what a square product of 2048 and a copy of 128 MiB reached in the same run.\n\n" +
    markdownTable([head, ...rows], { align: ["l", "l", ...Array(8).fill("r")] });
}

function memoryTable(all: readonly Measured[]): string {
  const most = (bytes: number[]) => (Math.max(...bytes) / 2 ** 30).toFixed(2);
  const rows = all.filter(({ rounds }) => rounds[0].peakBytes !== undefined).map(({ row, rounds, peers }) => [
    `${row.name}, ${row.shape}`,
    most(rounds.map((round) => round.peakBytes!)),
    [...peers].map(([name, of]) => `${name} ${typeof of === "string" ? "-" : most(of.map((result) => result.peak_rss_bytes))}`).join(", "),
  ]);
  return rows.length === 0
    ? ""
    : `Peak resident memory of a process, GiB.\n\n${markdownTable([["row", "Winnow", "peers"], ...rows], { align: ["l", "r", "l"] })}`;
}

function notes(all: readonly Measured[]): string {
  return all.flatMap(({ rounds }) => rounds.at(-1)!.notes ?? []).map((note) => `- ${note}`).join("\n");
}

type Unit = Part & { times: Times };

/** Units of a row, each with its times over all rounds. */
function units({ rounds }: Measured): Unit[] {
  return rounds[0].parts.map((part, i) => ({ ...part, times: spread(rounds.flatMap((round) => round.parts[i].seconds)) }));
}

/** The least time of all processes, and the median of their medians. */
function timesOf(results: readonly PeerResult[], of: "seconds" | "setup_seconds"): Times {
  const least = of === "seconds" ? results.map((r) => r.seconds_min) : results.map((r) => r[of]!);
  return { median: median(results.map((r) => r[of]!)), least: Math.min(...least) };
}

function spread(seconds: readonly number[]): Times {
  return { median: median(seconds), least: Math.min(...seconds) };
}

function show({ median, least }: Times): string {
  const [unit, factor] = median < 1e-3 ? ["µs", 1e6] : median < 1 ? ["ms", 1e3] : ["s", 1];
  return `${significant(median * factor)} / ${significant(least * factor)} ${unit}`;
}

function giga(value: number): string {
  return significant(value / 1e9);
}

/** Three digits, more where they stand before the point. */
function significant(value: number): string {
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %`;
}
