/**
 * Progress on a terminal.
 *
 * @module
 */

import process from "node:process";
import type { SingleBar } from "npm:@types/cli-progress@3.11.6";
import type { Progress } from "../model/stage_options.ts";

/** Where progress goes. */
export interface ProgressOutput {
  /** A line is redrawn on a terminal; elsewhere (a log, a pipe) each line stays. */
  terminal: boolean;
  /** Takes whole lines where there is no terminal. */
  print: (line: string) => void;
}

/** Takes progress, and shows it. */
export interface TerminalProgress {
  (progress: Progress): void;
  /** Ends what is shown, where a stage does not come to its end: a bar that goes on moving keeps the program alive. */
  stop(): void;
}

/** Seconds between two lines about the same stage where there is no terminal. */
const PAUSE = 10;

/**
 * Shows how far stages have come: a bar that moves on a terminal, plain lines elsewhere. Pass the result as `onProgress` to one stage after the other.
 *
 * @param output Standard error unless told otherwise, so that results can be piped away.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const lines: string[] = [];
 * const onProgress = terminalProgress({ terminal: false, print: (line) => lines.push(line) });
 * onProgress({ stage: "calibrate", done: 1, total: 2, unit: "layers" });
 * onProgress({ stage: "calibrate", done: 2, total: 2, unit: "layers" });
 * assertEquals(lines.map((line) => line.replace(/[\d.]+ s/, "…")), ["calibrate: 2/2 layers in …"]);
 * ```
 */
export function terminalProgress(
  { terminal, print }: ProgressOutput = { terminal: Deno.stderr.isTerminal(), print: (line) => console.error(line) },
): TerminalProgress {
  return terminal ? bars(print) : Object.assign(lines(print), { stop: () => {} });
}

function lines(print: (line: string) => void): (progress: Progress) => void {
  let stage = "", started = 0, said = 0;
  return (progress) => {
    const now = performance.now();
    if (progress.stage !== stage) stage = progress.stage, started = said = now;
    const seconds = (from: number) => (now - from) / 1000, finished = progress.done >= progress.total;
    if (finished || seconds(said) >= PAUSE) {
      said = now;
      const left = finished || progress.secondsLeft === undefined ? "" : `, about ${Math.ceil(progress.secondsLeft)} s left`;
      print(`${stage}: ${progress.done}/${progress.total} ${progress.unit} in ${seconds(started).toFixed(1)} s${left}`);
    }
    if (finished) stage = "";
  };
}

function bars(print: (line: string) => void): TerminalProgress {
  let Bar: typeof SingleBar | undefined, bar: SingleBar | undefined, early: Progress | undefined, stage = "";
  const stop = () => (bar?.stop(), bar = early = undefined);
  const load = async () => {
    // @ts-types="npm:@types/cli-progress@3.11.6"
    Bar = (await import("npm:cli-progress@3.12.0")).SingleBar;
    if (early) show(early);
  };
  const show = (progress: Progress) => {
    const { stage: name, done, total, unit, secondsLeft } = progress;
    if (!Bar) return void (early = progress);
    if (name !== stage || !bar) {
      stop();
      bar = new Bar({
        format: `${name.padEnd(18)} {bar} {value}/{total} ${unit} {duration_formatted}{left}`,
        barsize: 30,
        barCompleteChar: "█",
        barIncompleteChar: "░",
        hideCursor: true,
        stream: process.stderr,
      });
      bar.start(total, 0, { left: "" });
      stage = name;
    }
    bar.update(done, { left: done >= total || secondsLeft === undefined ? "" : `, about ${Math.ceil(secondsLeft)} s left` });
    if (done >= total) stop();
  };
  load().catch((error) => print(`Cannot draw progress: ${error.message}`));
  return Object.assign(show, { stop });
}
