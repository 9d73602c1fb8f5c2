/**
 * What a stage tells of itself, in a notebook.
 *
 * @module
 */

import type { Shown } from "../display/shown.ts";
import { errorBlock } from "./error_block.ts";
import { jupyter } from "./jupyter.ts";
import type { Place } from "./place.ts";

/** Milliseconds between two drawings, at least; and so many times as long as a drawing takes, so that the stage has most of the time. */
const PAUSE = 1000, SHARE = 10;

/** A place where something is drawn again and again. */
export interface LivePlace {
  /** To be called with what there is to be drawn; returns immediately. What comes too fast is left out. */
  emit(told: unknown): void;
  /** Draws what was emitted last, and waits for it. What is emitted later is not drawn. */
  end(): Promise<void>;
}

/**
 * Draws what a stage emits at a place of a notebook, not on a terminal, where drawings would pile up. A drawing that fails says so in the place and ends
 * it there: the stage goes on.
 *
 * @param inside Whether there is a notebook.
 */
export function livePlace(place: Place, draw: (told: never) => Shown | Promise<Shown>, inside = jupyter !== undefined): LivePlace {
  let next: { told: unknown } | undefined,
    drawing: Promise<void> | undefined,
    closed = !inside,
    hurry = false,
    wake = () => {};
  const loop = async () => {
    while (next) {
      const { told } = next, started = performance.now();
      next = undefined;
      try {
        await place(await draw(told as never));
      } catch (error) {
        closed = true;
        next = undefined;
        await place(errorBlock("draw this", error));
      }
      if (closed || hurry) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.max(PAUSE, SHARE * (performance.now() - started)));
        wake = () => (clearTimeout(timer), resolve());
      });
    }
    drawing = undefined;
  };
  return {
    emit: (told) => {
      if (closed) return;
      next = { told };
      drawing ??= loop();
    },
    end: async () => {
      closed = hurry = true;
      wake();
      await drawing;
    },
  };
}
