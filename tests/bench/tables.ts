import { markdownTable } from "npm:markdown-table@3.0.4";
import type { Measured } from "./measure.ts";
import type { PeerResult } from "./peer.ts";
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
  const rows = all.flatMap((measured) => {
    const { row, rounds, peers } = measured, check = rounds.at(-1)!.check;
    return units(measured).flatMap(({ unit, times, beside }) => {
      const own = [`${row.name}, ${row.shape}`, unit, show(times)], first = beside === "seconds";
      const others: string[][] = [];
      const against = (name: string, theirs: Times, other: number) =>
        others.push([
          ...[...own, name, show(theirs), `${(theirs.median / times.median).toFixed(2)} / ${(theirs.least / times.least).toFixed(2)}`],
          ...(first ? [check.toPrecision(7), other.toPrecision(7)] : ["", ""]),
        ]);
      for (const [name, results] of peers) {
        if (typeof results === "string") {
          if (first) others.push([...own, name, results, "", check.toPrecision(7), ""]);
        } else if (beside && results.every((result) => result[beside] !== undefined)) {
          against(name, timesOf(results, beside), results[0].check);
        }
      }
      const detours = first ? rounds[0].detours ?? [] : [];
      detours.forEach((detour, i) => against(detour.name, spread(rounds.flatMap((round) => round.detours![i].seconds)), detour.check));
      return others.length > 0 ? others : [[...own, "", "", "", first ? check.toPrecision(7) : "", ""]];
    });
  });
  const head = ["row", "a", "Winnow", "peer", "its time", "ratio", "check", "its check"];
  return `Times: median / least. Ratios: of medians / of least times, above 1 where Winnow is faster.\n\n${
    markdownTable([head, ...rows], { align: ["l", "l", "r", "l", "r", "r", "r", "r"] })
  }`;
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

/** Units of a row, each with its times over all rounds. */
function units({ rounds }: Measured) {
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
  const number = (seconds: number) => (seconds * factor).toPrecision(3).replace(/e\+\d+$/, (e) => e);
  return `${number(median)} / ${number(least)} ${unit}`;
}

function giga(value: number): string {
  return value >= 1e11 ? (value / 1e9).toFixed(0) : (value / 1e9).toPrecision(3);
}

function percent(share: number): string {
  return `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %`;
}
