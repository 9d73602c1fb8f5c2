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
}

export interface StageOptions {
  /** Stops the stage at its next layer, batch or generation; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Called whenever a stage has come further. */
  onProgress?: (progress: Progress) => void;
}

/** Reports progress, lets other tasks run (a signal handler, a display) and throws if the stage was aborted. */
export async function advance({ signal, onProgress }: StageOptions, progress: Progress): Promise<void> {
  onProgress?.(progress);
  await new Promise((resolve) => setTimeout(resolve, 0));
  signal?.throwIfAborted();
}
