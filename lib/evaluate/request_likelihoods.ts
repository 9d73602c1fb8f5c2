/**
 * Log-likelihoods of tokens after others.
 *
 * @module
 */

import type { Device, Segment } from "../device/device.ts";
import { type Batch, batchTokens } from "../model/batch.ts";
import type { Model } from "../model/model.ts";
import type { StageOptions } from "../model/stage_options.ts";
import { tokenLosses } from "../model/token_losses.ts";
import type { TokenRequest } from "./encode_requests.ts";

/** Most tokens that a model reads at once: what its config.json says, else 2,048 as in lm-evaluation-harness. */
export function longestInput({ config: { raw } }: Model): number {
  return typeof raw.max_position_embeddings === "number" ? raw.max_position_embeddings : 2048;
}

/** Where the scored tokens of a request are among those of its batch. */
interface Placed {
  batch: number;
  first: number;
  count: number;
}

/**
 * Sums log p of the continuation of every request, in nats. Requests of one group that begin with the same tokens read them once: what comes after
 * attends to them as to a common prefix. Contexts that are too long lose tokens on the left.
 *
 * Groups go by length, the longest first, so that a batch that does not fit shows at once.
 *
 * @param groups Requests that belong together, such as the choices of an item.
 * @param maxLength Most tokens that are read at once.
 * @returns One list a group, in the order of the groups.
 * @throws {RangeError} If a continuation alone is too long.
 */
export async function requestLikelihoods(
  device: Device,
  model: Model,
  groups: readonly (readonly TokenRequest[])[],
  { maxLength, ...options }: StageOptions & { stage: string; maxLength: number },
): Promise<number[][]> {
  if (!(Number.isSafeInteger(maxLength) && maxLength > 0)) {
    throw new RangeError(`Cannot score text: "maxLength" must be a positive whole number, received ${maxLength}`);
  }
  const most = batchTokens(model.config, model.config.moe.topK), batches: Batch[] = [], placed: Placed[][] = [];
  let open = builder();
  const inputs = groups.map((requests) => requests.map((request) => inputOf(request, maxLength)));
  const lengths = inputs.map((list) => list.reduce((n, input) => n + input.length, -(list.length - 1) * sharedLength(list)));
  for (const g of lengths.keys().toArray().sort((a, b) => lengths[b] - lengths[a])) {
    if (open.ids.length > 0 && open.ids.length + lengths[g] > most) batches.push(finish(open)), open = builder();
    placed[g] = place(open, inputs[g], groups[g], batches.length);
  }
  if (open.ids.length > 0) batches.push(finish(open));
  const losses = await tokenLosses(device, model, batches, options);
  return placed.map((list) =>
    list.map(({ batch, first, count }) => -losses[batch].subarray(first, first + count).reduce((a, b) => a + b, 0))
  );
}

/** The tokens that are read: all but the last, which is only predicted. */
function inputOf({ context, continuation }: TokenRequest, maxLength: number): number[] {
  if (continuation.length > maxLength) {
    throw new RangeError(`Cannot score ${continuation.length} tokens at once: expected at most ${maxLength}, the longest input`);
  }
  return [...context, ...continuation].slice(-(maxLength + 1), -1);
}

/** Tokens that all inputs begin with. */
function sharedLength([first, ...others]: number[][]): number {
  return others.reduce((shared, other) => {
    let same = 0;
    while (same < shared && other[same] === first[same]) same++;
    return same;
  }, first.length);
}

const builder = () => ({ ids: [] as number[], segments: [] as Segment[], rows: [] as number[], targets: [] as number[] });

function finish({ ids, segments, rows, targets }: ReturnType<typeof builder>): Batch {
  return { ids: Uint32Array.from(ids), segments, rows: Uint32Array.from(rows), targets: Uint32Array.from(targets) };
}

/** The common beginning is one segment, the rest of every input another one that has it as prefix. */
function place(
  { ids, segments, rows, targets }: ReturnType<typeof builder>,
  inputs: number[][],
  requests: readonly TokenRequest[],
  batch: number,
): Placed[] {
  const length = sharedLength(inputs), prefix = { start: ids.length, length };
  const append = (tokens: number[], segment: Partial<Segment>) => {
    if (tokens.length > 0) segments.push({ start: ids.length, length: tokens.length, position: 0, ...segment });
    for (const id of tokens) ids.push(id);
  };
  append(inputs[0].slice(0, length), {});
  return inputs.map((input, i) => {
    const start = ids.length, first = rows.length, { continuation } = requests[i];
    append(input.slice(length), length > 0 ? { position: length, prefix } : {});
    continuation.forEach((target, t) => {
      const at = input.length - continuation.length + t;
      rows.push(at < length ? prefix.start + at : start + at - length);
      targets.push(target);
    });
    return { batch, first, count: continuation.length };
  });
}
