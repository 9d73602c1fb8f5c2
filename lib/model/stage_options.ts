/**
 * What every long-running stage accepts.
 *
 * @module
 */

/** How far a stage has come. */
export interface Progress {
  /** Name of the stage, such as "calibrate". */
  stage: string;
  done: number;
  total: number;
  /** What is counted, such as "layers". */
  unit: string;
  /** Estimate of the seconds that are left, where the stage can tell. */
  secondsLeft?: number;
}

export interface StageOptions {
  /** Stops the stage at its next layer, batch or generation; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Called whenever a stage has come further. */
  onProgress?: (progress: Progress) => void;
}

/** Milliseconds between two pauses in which other tasks run; a pause takes about two. */
const PAUSE = 50;

let paused = 0;

/** Lets other tasks run now and then (a signal handler, a display), and throws if the stage was aborted. For every inner loop that can take long. */
export async function pause(signal?: AbortSignal): Promise<void> {
  if (performance.now() - paused > PAUSE) {
    await new Promise((resolve) => setTimeout(resolve, 0));
    paused = performance.now();
  }
  signal?.throwIfAborted();
}

/** Reports progress, then pauses. */
export async function advance({ signal, onProgress }: StageOptions, progress: Progress): Promise<void> {
  onProgress?.(progress);
  await pause(signal);
}
