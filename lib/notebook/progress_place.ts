/**
 * Progress in a notebook.
 *
 * @module
 */

import type { Shown } from "../display/shown.ts";
import { formatSeconds } from "../display/format_amounts.ts";
import { htmlText } from "../display/safe_text.ts";
import { terminalProgress } from "../display/terminal_progress.ts";
import type { Progress } from "../model/stage_options.ts";
import { jupyter } from "./jupyter.ts";
import type { Place } from "./place.ts";

/** Milliseconds between two looks of a bar. */
const PAUSE = 250;

/** Progress as a bar, redrawn in place; what a stage emits stands below it. */
export interface ProgressPlace {
  onProgress(progress: Progress): void;
  /** Waits until everything has been shown, then shows the last word in place of the bar. */
  end(last: Shown): Promise<void>;
}

/**
 * Draws progress at a place: a bar with the rate and the time that is left. At most four times a second, and never two drawings at once: `onProgress` returns
 * immediately. On a terminal it is the bar (or, in a log, the lines) of `terminalProgress`.
 */
export function progressPlace(show: Place): ProgressPlace {
  if (!jupyter) {
    return { onProgress: terminalProgress(), end: (last) => show(last) };
  }
  let latest: Progress | undefined, drawing: Promise<void> | undefined, drawn = 0, started = 0, from = 0;
  const draw = async () => {
    while (latest) {
      const progress = latest;
      latest = undefined;
      await show(bar(progress, (performance.now() - started) / 1000, from));
      drawn = performance.now();
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
    }
    drawing = undefined;
  };
  let stage: string | undefined;
  return {
    onProgress: (progress) => {
      if (progress.stage !== stage) stage = progress.stage, started = performance.now(), from = progress.done;
      latest = progress;
      if (!drawing && performance.now() - drawn >= PAUSE) drawing = draw();
    },
    end: async (last) => {
      latest = undefined;
      await drawing;
      await show(last);
    },
  };
}

function bar({ stage, done, total, unit, secondsLeft }: Progress, seconds: number, from: number): Shown {
  const rate = seconds > 0 && done > from ? (done - from) / seconds : undefined, left = secondsLeft ?? (rate && (total - done) / rate);
  const words = [
    `${stage}: ${count(done)} of ${count(total)} ${unit}`,
    ...(rate ? [rate >= 1 ? `${count(Math.round(rate))} ${unit} a second` : `${(1 / rate).toFixed(1)} s each`] : []),
    ...(left !== undefined && done < total ? [`about ${formatSeconds(left)} left`] : []),
  ].join(", ");
  const line = `<progress value="${done}" max="${total}" style="width: 14em; vertical-align: middle"></progress>`;
  return { "text/html": `<div>${line} ${htmlText(words)}</div>`, "text/plain": words };
}

const count = (value: number) => value.toLocaleString("en");
