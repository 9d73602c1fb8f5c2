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

/** Milliseconds before the first look of a bar, which what is quick has no need of, and between two. */
const DELAY = 100, PAUSE = 250;

/** Progress as a bar, redrawn in place. */
export interface ProgressPlace {
  onProgress(progress: Progress): void;
  /** Shows the last word in place of the bar. */
  end(last: Shown): Promise<void>;
}

/**
 * Draws progress at a place: a bar with the rate and the time that is left. At most four times a second, and never two drawings at once: `onProgress` returns
 * immediately. On a terminal it is the bar (or, in a log, the lines) of `terminalProgress`.
 *
 * @param inside Whether there is a notebook.
 */
export function progressPlace(show: Place, inside = jupyter !== undefined): ProgressPlace {
  if (!inside) {
    const onProgress = terminalProgress();
    return { onProgress, end: async (last) => (onProgress.stop(), await show(last)) };
  }
  let latest: Progress | undefined, drawing: Promise<void> | undefined, stage: string | undefined, over = false, wake = () => {};
  let started = 0, from = 0;
  const rest = (milliseconds: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => (clearTimeout(timer), resolve());
    });
  const draw = async () => {
    for (await rest(DELAY); latest && !over;) {
      const progress = latest;
      latest = undefined;
      await show(bar(progress, (performance.now() - started) / 1000, from));
      if (!over) await rest(PAUSE);
    }
    drawing = undefined;
  };
  return {
    onProgress: (progress) => {
      if (over) return;
      if (progress.stage !== stage) stage = progress.stage, started = performance.now(), from = progress.done;
      latest = progress;
      drawing ??= draw();
    },
    end: async (last) => {
      over = true;
      wake();
      await drawing;
      await show(last);
    },
  };
}

function bar({ stage, done, total, unit, secondsLeft }: Progress, seconds: number, from: number): Shown {
  const rate = seconds > 0 && done > from ? (done - from) / seconds : undefined, left = secondsLeft ?? (rate && (total - done) / rate);
  const words = [
    `${stage}: ${count(done)} of ${count(total)} ${unit}`,
    ...(rate
      ? [rate >= 1 ? `${rate < 9.95 ? rate.toFixed(1) : count(Math.round(rate))} ${unit} a second` : `${(1 / rate).toFixed(1)} s each`]
      : []),
    ...(left !== undefined && done < total ? [`about ${formatSeconds(left)} left`] : []),
  ].join(", ");
  const line = `<progress value="${done}" max="${total}" style="width: 14em; vertical-align: middle"></progress>`;
  return { "text/html": `<div>${line} ${htmlText(words)}</div>`, "text/plain": words };
}

const count = (value: number) => value.toLocaleString("en");
