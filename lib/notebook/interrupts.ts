/**
 * Stopping what runs, without losing what is in memory.
 *
 * @module
 */

import process from "node:process";
import { jupyter } from "./jupyter.ts";

/** What was asked for by Stop, or by Ctrl-C on a terminal. */
export const STOPPED = "Stopped";

/** Of what runs now, and of the signal that was handed out. */
const running = new Set<AbortController>();
let handedOut: AbortController | undefined, listening = false;

/** From now on Stop stops what runs. A notebook's Stop button sends SIGINT, which kills the kernel unless somebody listens. */
export function listenForStop(): void {
  if (!listening) Deno.addSignalListener("SIGINT", interrupted), listening = true;
}

/** A signal that aborts at the next Stop, whenever that comes. */
export function stopSignal(): AbortSignal {
  listenForStop();
  return (handedOut ??= new AbortController()).signal;
}

/** Runs something that Stop aborts. Where nothing of the kind runs and no signal is handed out, Ctrl-C on a terminal ends the program, as always. */
export async function stoppable<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  listenForStop();
  const controller = new AbortController();
  running.add(controller);
  try {
    return await work(controller.signal);
  } finally {
    running.delete(controller);
  }
}

function interrupted(): void {
  const stopped = handedOut ? [...running, handedOut] : [...running];
  handedOut = undefined;
  if (stopped.length === 0 && !jupyter) process.exit(130);
  for (const controller of stopped) controller.abort(new DOMException(STOPPED, "AbortError"));
}
