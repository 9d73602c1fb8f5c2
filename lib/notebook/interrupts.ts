/**
 * Stopping what runs, without losing what is in memory.
 *
 * @module
 */

import process from "node:process";
import { jupyter } from "./jupyter.ts";

/** What was asked for by Stop, or by Ctrl-C on a terminal. */
export const STOPPED = "Stopped";

let controller: AbortController | undefined, running = 0, listening = false;

/**
 * A signal that aborts at the next Stop. A notebook's Stop button sends SIGINT, which kills the kernel unless somebody listens: from the first call on
 * somebody does. On a terminal, Ctrl-C stops what runs, and where nothing does it ends the program, as always.
 */
export function stopSignal(): AbortSignal {
  if (!listening) Deno.addSignalListener("SIGINT", interrupted), listening = true;
  if (!controller || controller.signal.aborted) controller = new AbortController();
  return controller.signal;
}

/** Runs something that Stop aborts. When nothing of the kind runs any more, the next Ctrl-C on a terminal ends the program. */
export async function stoppable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  running++;
  try {
    return await work(stopSignal());
  } finally {
    if (--running === 0) controller = undefined;
  }
}

function interrupted(): void {
  if (controller && !controller.signal.aborted) controller.abort(new DOMException(STOPPED, "AbortError"));
  else if (!jupyter) process.exit(130);
}
