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

/**
 * Finished parts of a long stage, kept so that a later call with the same inputs and options goes on where an earlier one ended, however that ended.
 * A stage of `lib/flow` keeps them on disk. Names are the stage's own, such as "layer 3".
 */
export interface Resume {
  /** What was kept under this name, typed arrays as such; undefined where nothing was, or where it is damaged. */
  get(part: string): Promise<unknown>;
  /** Keeps plain data, typed arrays among it, in place of what had this name; complete or not at all. */
  put(part: string, value: unknown): Promise<void>;
}

export interface StageOptions {
  /** Stops the stage at its next layer, batch or generation; it then throws the signal's reason. */
  signal?: AbortSignal;
  /** Called whenever a stage has come further. */
  onProgress?: (progress: Progress) => void;
  /** Keeps finished parts, and gives those of an earlier call. The result has the same bits. @default nothing is kept */
  resume?: Resume;
}

/** A part of a stage as it was kept, or computed now and kept then. */
export async function part<T>({ resume }: StageOptions, name: string, compute: () => T | Promise<T>): Promise<T> {
  const kept = await resume?.get(name);
  if (kept !== undefined) return kept as T;
  const value = await compute();
  await resume?.put(name, value);
  return value;
}

/**
 * Makes a part of each item, in order, and reports how many are done; what was kept is done from the start. `atOnce` of them are computed at a time; with more
 * than one, `compute` must not depend on its turn.
 */
export async function* eachPart<I, T>(
  options: StageOptions & Pick<Progress, "stage" | "unit">,
  items: readonly I[],
  name: (item: I) => string,
  compute: (item: I) => T | Promise<T>,
  atOnce = 1,
): AsyncGenerator<{ item: I; value: T }> {
  const { stage, unit } = options, total = items.length, running: Promise<T>[] = [];
  let done = 0, started = 0;
  const start = (item: I) => {
    const value = part(options, name(item), async () => {
      await advance(options, { stage, done, total, unit });
      return await compute(item);
    });
    value.catch(() => {}); // it is met when its turn comes
    running.push(value);
  };
  try {
    for (const item of items) {
      while (started < total && running.length < atOnce) start(items[started++]);
      const value = await running[0];
      running.shift(), done++;
      yield { item, value };
    }
  } finally {
    await Promise.allSettled(running); // what is under way uses what the caller is about to give back
  }
  await advance(options, { stage, done: total, total, unit });
}

/** Options for a stage that runs within another one: the names of its parts begin with its own name, so that they meet no others. */
export function within<O extends StageOptions>(options: O, name: string): O {
  const { resume } = options, full = (part: string) => `${name}: ${part}`;
  return resume
    ? { ...options, resume: { get: (part) => resume.get(full(part)), put: (part, value) => resume.put(full(part), value) } }
    : options;
}

/** Milliseconds between two pauses in which other tasks run; a pause takes about two, since Deno waits for no less. */
const PAUSE = 100;

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
