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
import { asHtml } from "./as_html.ts";
import { errorBlock } from "./error_block.ts";
import { jupyter } from "./jupyter.ts";
import type { Place } from "./place.ts";

/** Milliseconds before the first look of a bar, which what is quick has no need of, and between two. */
const DELAY = 100, PAUSE = 250;

/** The stage has to get on: how many times as long as a drawing took the next one waits. */
const PATIENCE = 5;

/** Progress as a bar, redrawn in place; what a stage tells of itself is drawn below it. */
export interface ProgressPlace {
  onProgress(progress: Progress): void;
  /** Takes what a stage tells of itself while it runs. */
  emit(value: unknown): void;
  /** Waits until everything has been shown, then shows the last word in place of bar and drawing. */
  end(last: Shown): Promise<void>;
}

/**
 * Draws progress at a place: a bar with the rate and the time that is left. At most four times a second, and never two drawings at once: `onProgress` and
 * `emit` return immediately. On a terminal it is the bar (or, in a log, the lines) of `terminalProgress`, and nothing is drawn below.
 *
 * @param live Draws what a stage tells of itself, the last of it if it tells more than can be drawn.
 * @param bars Whether there is anything that can draw bars. @default in a notebook
 */
export function progressPlace(show: Place, live?: (told: never) => Shown, bars = jupyter !== undefined): ProgressPlace {
  if (!bars) return { onProgress: terminalProgress(), emit: () => {}, end: (last) => show(last) };
  let latest: Progress | undefined, told: unknown, changed = false, over = false, drawing: Promise<void> | undefined, wake = () => {};
  let started = 0, from = 0;
  const rest = (milliseconds: number) =>
    new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, milliseconds);
      wake = () => (clearTimeout(timer), resolve());
    });
  const draw = async () => {
    for (await rest(DELAY); changed && !over;) {
      changed = false;
      const start = performance.now(), words = latest && bar(latest, (start - started) / 1000, from);
      await show(live && told !== undefined ? above(words, picture(live, told)) : words!);
      if (!over) await rest(Math.max(PAUSE, PATIENCE * (performance.now() - start)));
    }
    drawing = undefined;
  };
  const change = () => {
    changed = true;
    drawing ??= draw();
  };
  return {
    onProgress: (progress) => {
      if (progress.stage !== latest?.stage) started = performance.now(), from = progress.done;
      latest = progress;
      change();
    },
    emit: (value) => {
      if (!live) return;
      told = value;
      change();
    },
    end: async (last) => {
      over = true;
      wake();
      await drawing;
      await show(last);
    },
  };
}

function picture(live: (told: never) => Shown, told: unknown): Shown {
  try {
    return live(told as never);
  } catch (error) {
    return errorBlock("draw what the stage tells", error);
  }
}

function above(words: Shown | undefined, picture: Shown): Shown {
  if (!words) return picture;
  return { "text/html": `${words["text/html"]}${asHtml(picture)}`, "text/plain": `${words["text/plain"]}\n${picture["text/plain"]}` };
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
