/**
 * Slots of a routing table, sorted by expert.
 *
 * @module
 */

import orderSource from "../../../kernels/expert_order.wgsl" with { type: "text" };
import placesSource from "../../../kernels/expert_places.wgsl" with { type: "text" };
import runsSource from "../../../kernels/expert_runs.wgsl" with { type: "text" };
import type { Tensor } from "../device.ts";
import type { SlotOrder } from "../vjp.ts";
import { EXPERTS, tilesOf } from "./experts.ts";
import type { Gpu } from "./gpu.ts";
import { pick } from "./matrices.ts";
import { type Range, split, whole } from "./ranges.ts";
import { WORK } from "./submission.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const ORDER = { name: "expert_order", source: orderSource };
const PLACES = { name: "expert_places", source: placesSource }, RUNS = { name: "expert_runs", source: runsSource };

/** What products over sorted rows, from one position to another, go by. */
export interface Steering {
  /** `[tiles, 4]`: expert, first position, positions. */
  readonly tiles: GpuTensor;
  /** `[experts, 2]`: first position, positions. */
  readonly runs: GpuTensor;
}

/** The order, on the GPU: nothing of it comes back to the host. */
export class GpuOrder implements SlotOrder, Steering {
  constructor(
    readonly tokens: number,
    readonly ranks: number,
    readonly experts: number,
    /** Slot at each position. */
    readonly slots: GpuTensor,
    /** Token at each position. */
    readonly rows: GpuTensor,
    /** Position of each slot; a row that nothing has where there is no expert. */
    readonly places: GpuTensor,
    readonly tiles: GpuTensor,
    readonly runs: GpuTensor,
  ) {}

  [Symbol.dispose](): void {
    for (const tensor of [this.slots, this.rows, this.places, this.tiles, this.runs]) tensor[Symbol.dispose]();
  }
}

export function order(gpu: Gpu, table: Tensor, experts: number): GpuOrder {
  const listed = onGpu(table), [tokens, ranks] = table.shape, slots = tokens * ranks, count = tilesOf(slots, experts);
  if (experts > EXPERTS) throw new RangeError(`Cannot sort slots of ${experts} experts: at most ${EXPERTS} are allowed in a layer`);
  const bytes = Math.max(slots * 4, count * 16), limit = gpu.limits.maxStorageBufferBindingSize;
  if (bytes > limit) throw new RangeError(`Cannot sort ${slots} slots: that takes ${bytes} bytes, and one binding holds ${limit}`);
  const [order, rows, places] = [0, 1, 2].map(() => gpu.tensor("U32", [slots]));
  const tiles = gpu.tensor("U32", [count, 4]), runs = gpu.tensor("U32", [experts, 2]);
  const about = () => `${slots} slots and ${experts} experts`;
  using found = gpu.tensor("U32", [count, 4]);
  gpu.run(ORDER, {
    shape: [slots, experts, count],
    bindings: [listed, order, found].map(whole),
    groups: 1,
    about,
  });
  gpu.run(PLACES, {
    shape: [slots, ranks, experts],
    bindings: [listed, order, rows, places].map(whole),
    groups: Math.ceil(slots / 256),
    about,
  });
  steer(gpu, found, experts, { first: 0, count: slots }, { tiles, runs });
  return new GpuOrder(tokens, ranks, experts, order, rows, places, tiles, runs);
}

/** Queues the tiles and runs among some positions, which are counted from 0 there. */
function steer(gpu: Gpu, tiles: GpuTensor, experts: number, { first, count }: Range, into: Steering): void {
  gpu.run(RUNS, {
    shape: [tiles.shape[0], experts, first, count],
    bindings: [tiles, into.tiles, into.runs].map(whole),
    groups: Math.ceil(Math.max(tiles.shape[0], experts) / 64),
    about: () => `${tiles.shape[0]} tiles of ${experts} experts`,
  });
}

/**
 * Calls `use` with runs of positions such that the rows of each array fit a binding, and what steers a product over them.
 *
 * @param widths Elements of a row of each array.
 * @param work Floating-point operations for a row: a run is for one submission.
 */
export function eachRun(
  gpu: Gpu,
  order: GpuOrder,
  widths: readonly number[],
  work: number,
  use: (run: Range, steering: Steering) => void,
): void {
  const slots = order.tokens * order.ranks;
  for (const run of split(gpu, slots, widths.map((width) => width * 4), Math.ceil(WORK / work))) {
    if (run.count === slots) return use(run, order);
    using tiles = gpu.tensor("U32", order.tiles.shape);
    using runs = gpu.tensor("U32", order.runs.shape);
    steer(gpu, order.tiles, order.experts, run, { tiles, runs });
    use(run, { tiles, runs });
  }
}

/** Rows in the order of their expert: a token's row for each of its slots, or a slot's own. */
export function sortRows(gpu: Gpu, x: Tensor, order: GpuOrder): GpuTensor {
  const input = onGpu(x), width = x.shape.at(-1)!, own = x.shape.length === 3, { tokens, ranks } = order, slots = tokens * ranks;
  const y = gpu.tensor("F32", [slots, width]);
  pick(gpu, input, [own ? slots : tokens, width], own ? order.slots : order.rows, y);
  return y;
}

/** The inverse; zeros where there is no expert. */
export function unsortRows(gpu: Gpu, x: Tensor, { tokens, ranks, places }: GpuOrder): GpuTensor {
  const y = gpu.tensor("F32", [tokens, ranks, x.shape[1]]);
  pick(gpu, onGpu(x), [x.shape[0], x.shape[1]], places, y);
  return y;
}
