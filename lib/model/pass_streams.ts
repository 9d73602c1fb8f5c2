/**
 * Residual streams on their way through a model, which a later call can take up in the middle.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { Batch } from "./batch.ts";
import { embed } from "./embed.ts";
import type { Model } from "./model.ts";
import { advance, type Progress, type StageOptions } from "./stage_options.ts";

/** Residual streams `[tokens, hidden]` of one batch, one for each of the models. */
export interface Stream {
  batch: number;
  hidden: readonly Tensor[];
}

export interface Passage<S, F> extends StageOptions, Pick<Progress, "stage" | "unit"> {
  batches: readonly Batch[];
  /** Numbers of the batches that are held together; one group after the other takes all steps. */
  groups: readonly (readonly number[])[];
  /** Streams begin at the embeddings of each. */
  models: readonly Model[];
  steps: readonly S[];
  /** Whether a step finds anything; one that does not is taken only on the way to one that does. */
  finds(step: S): boolean;
  /** Takes streams through a step, in place, and hands over what it finds. Without `find`, all that is known from an earlier call; the streams alone are needed. */
  forward(step: S, streams: readonly Stream[], find?: (finding: F) => Promise<void>): Promise<void>;
  /** Gets all that was found, plain data, in order, now or by an earlier call; it must leave it as it is. */
  found(finding: F): void | Promise<void>;
}

/**
 * Takes the streams of all batches through all steps. Parts are what each step found, and the streams of the group that is under way, the latest only: a
 * later call finds nothing twice, and goes on with the streams that were written last.
 */
export async function passStreams<S, F>(device: Device, passage: Passage<S, F>): Promise<void> {
  const { resume, unit, groups, steps } = passage, total = groups.length * steps.length;
  const report = reporter(passage), store = await streamStore(device, passage);
  for (const [g, group] of groups.entries()) {
    using stack = new DisposableStack();
    let streams: Stream[] | undefined, taken = g * steps.length; // steps, those of earlier groups among them
    for (const [s, step] of steps.entries()) {
      if (!passage.finds(step)) continue;
      const at = g * steps.length + s, part = `${unit} ${at + 1} of ${total}`, known = await resume?.get(part) as F[] | undefined;
      if (known) {
        for (const finding of known) await passage.found(finding);
        continue;
      }
      const findings: F[] = [];
      const find = async (finding: F) => {
        await passage.found(finding);
        if (resume) findings.push(finding);
      };
      if (!streams) ({ streams, taken } = await store.begin(group, taken, at, stack));
      for (; taken <= at; taken++) {
        await report(taken);
        await passage.forward(steps[taken % steps.length], streams, taken === at ? find : undefined);
        if (taken === at) await resume?.put(part, findings);
        if (taken % steps.length < steps.length - 1) await store.keep(streams, taken + 1);
      }
    }
  }
  await store.clear();
  await report(total);
}

/** Reports how many steps are taken, and estimates the time that is left by the tokens that went through the steps since the first report. */
function reporter<S, F>(passage: Passage<S, F>): (done: number) => Promise<void> {
  const { stage, unit, groups, batches, steps: { length } } = passage, total = groups.length * length;
  const tokens = groups.map((group) => group.reduce((n, batch) => n + batches[batch].ids.length, 0));
  const workOf = (done: number) => tokens.reduce((sum, count, g) => sum + count * Math.max(0, Math.min(length, done - g * length)), 0);
  let first: { work: number; time: number } | undefined;
  return async (done) => {
    const work = workOf(done), time = performance.now();
    first ??= { work, time };
    const secondsLeft = work > first.work ? (time - first.time) / 1000 * (workOf(total) - work) / (work - first.work) : undefined;
    await advance(passage, { stage, done, total, unit, secondsLeft });
  };
}

/** Streams as they were when so many steps were taken. */
interface KeptStreams {
  taken: number;
  values: Float32Array[][];
}

/** Streams are written again when ten times as long went by as it took to write them: at worst, a tenth is added to the time. */
const PATIENCE = 10;

/** Where streams begin, and are kept. */
async function streamStore<S, F>(device: Device, { resume, batches, models }: Passage<S, F>) {
  let kept = await resume?.get("streams") as KeptStreams | undefined, filled = kept !== undefined, due = 0;
  const put = async (taken: number, values: Float32Array[][]) => {
    filled = values.length > 0;
    await resume!.put("streams", { taken, values });
  };
  return {
    /** Streams of a group, on the stack: as they were kept, if that was after step `start` and not after step `end`, else at the beginning. */
    begin: async (group: readonly number[], start: number, end: number, stack: DisposableStack) => {
      const usable = kept && kept.taken > start && kept.taken <= end ? kept : undefined, streams: Stream[] = [];
      kept = undefined; // what was kept later is only for a later call
      for (const [i, batch] of group.entries()) {
        const hidden: Tensor[] = [], { ids } = batches[batch];
        for (const [m, model] of models.entries()) {
          const stream = usable ? device.tensor(usable.values[i][m], [ids.length, model.config.hidden]) : await embed(device, model, ids);
          hidden.push(stack.use(stream));
        }
        streams.push({ batch, hidden });
      }
      return { streams, taken: usable?.taken ?? start };
    },
    /** Keeps streams in place of those before, if it is time. */
    keep: async (streams: readonly Stream[], taken: number) => {
      const started = performance.now();
      if (!resume || started < due) return;
      const values: Float32Array[][] = [];
      for (const { hidden } of streams) {
        values.push([]);
        for (const stream of hidden) values.at(-1)!.push(await device.read(stream));
      }
      await put(taken, values);
      due = performance.now() + PATIENCE * (performance.now() - started);
    },
    /** Gives the space of kept streams back. */
    clear: async () => {
      if (filled) await put(0, []);
    },
  };
}
