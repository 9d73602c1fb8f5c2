/**
 * Rows of a table that are listed for each token: one-neuron experts.
 *
 * @module
 */

import activateSource from "../../../kernels/activate.wgsl" with { type: "text" };
import activateBackSource from "../../../kernels/activate_vjp.wgsl" with { type: "text" };
import dotsSource from "../../../kernels/row_dots.wgsl" with { type: "text" };
import sumsSource from "../../../kernels/row_sums.wgsl" with { type: "text" };
import scatterSource from "../../../kernels/scatter_rows.wgsl" with { type: "text" };
import sortSource from "../../../kernels/sort_slots.wgsl" with { type: "text" };
import type { Activation, Neurons, NeuronsVjp } from "../neurons.ts";
import { each } from "./elements_vjp.ts";
import type { Gpu } from "./gpu.ts";
import { moments, rankPairs, rankPairsVjp, standardise, standardiseVjp } from "./product_keys.ts";
import { part, type Range, split, whole } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const ACTIVATE = { name: "activate", source: activateSource }, ACTIVATE_BACK = { name: "activate_vjp", source: activateBackSource };
const DOTS = { name: "row_dots", source: dotsSource }, SUMS = { name: "row_sums", source: sumsSource };
const SCATTER = { name: "scatter_rows", source: scatterSource }, SORT = { name: "sort_slots", source: sortSource };

export function neurons(gpu: Gpu): Neurons {
  return {
    reshape: (x, shape) => {
      const input = onGpu(x), y = gpu.tensor(input.dtype, shape);
      if (input.size > 0) gpu.copy(input, y);
      return y;
    },
    moments: (x) => moments(gpu, x),
    standardise: (x, own, epsilon) => standardise(gpu, x, own, epsilon),
    rankPairs: (first, second, ranks, heads) => rankPairs(gpu, first, second, ranks, heads),
    activate: (x, factor, activation) => {
      const y = gpu.tensor("F32", x.shape);
      each(gpu, ACTIVATE, [...[x, factor].map(onGpu), y], () => [], gelu(activation));
      return y;
    },
    rowDots: (x, table, rows) => rowDots(gpu, onGpu(x), onGpu(table), onGpu(rows)),
    rowSums: (weights, table, rows) => rowSums(gpu, onGpu(weights), onGpu(table), onGpu(rows)),
    scatterRows: (weights, x, rows, height) => scatterRows(gpu, onGpu(weights), onGpu(x), onGpu(rows), height),
  };
}

export function neuronsVjp(gpu: Gpu): NeuronsVjp {
  return {
    standardise: (dy, x, own, epsilon) => standardiseVjp(gpu, dy, x, own, epsilon),
    rankPairs: (dy, experts, keys) => rankPairsVjp(gpu, dy, experts, keys),
    activate: (dy, x, factor, activation) => {
      const toX = gpu.tensor("F32", x.shape), toFactor = gpu.tensor("F32", factor.shape);
      each(gpu, ACTIVATE_BACK, [...[dy, x, factor].map(onGpu), toX, toFactor], () => [], gelu(activation));
      return { x: toX, factor: toFactor };
    },
  };
}

const gelu = (activation: Activation) => ({ gelu: activation === "gelu" ? 1 : 0 });

/** Parts of a table, each of which fits a binding; an empty one where it has no rows, for what is written with the first. */
function partsOf(gpu: Gpu, { shape: [height, width] }: GpuTensor): Range[] {
  return height === 0 ? [{ first: 0, count: 0 }] : [...split(gpu, height, [width * 4])];
}

function rowDots(gpu: Gpu, x: GpuTensor, table: GpuTensor, rows: GpuTensor): GpuTensor {
  const [height, width] = table.shape, [tokens, ranks] = rows.shape, y = gpu.tensor("F32", rows.shape);
  for (const run of split(gpu, tokens, [width * 4, ranks * 4])) {
    for (const source of partsOf(gpu, table)) {
      gpu.run(DOTS, {
        constants: { lanes: width <= 256 ? 64 : 256 },
        shape: [run.count * ranks, ranks, width, source.first, source.count, height],
        bindings: [part(x, width * 4, run), part(table, width * 4, source), part(rows, ranks * 4, run), part(y, ranks * 4, run)],
        groups: run.count * ranks,
        about: () => `${run.count * ranks} rows of a table [${source.count}, ${width}]`,
      });
    }
  }
  return y;
}

function rowSums(gpu: Gpu, weights: GpuTensor, table: GpuTensor, rows: GpuTensor): GpuTensor {
  const width = table.shape[1], [tokens, ranks] = rows.shape, y = gpu.tensor("F32", [tokens, width]);
  for (const run of split(gpu, tokens, [width * 4, ranks * 4])) {
    for (const source of partsOf(gpu, table)) {
      gpu.run(SUMS, {
        shape: [run.count, ranks, width, source.first, source.count],
        bindings: [part(weights, ranks * 4, run), part(table, width * 4, source), part(rows, ranks * 4, run), part(y, width * 4, run)],
        groups: Math.ceil(run.count * width / 256),
        about: () => `${run.count * ranks} rows of a table [${source.count}, ${width}]`,
      });
    }
  }
  return y;
}

/** WGSL adds integers atomically, and no floats: slots are sorted by row, and each row sums its own. */
function scatterRows(gpu: Gpu, weights: GpuTensor, x: GpuTensor, rows: GpuTensor, height: number): GpuTensor {
  const width = x.shape[1], ranks = rows.shape[1], slots = rows.size, y = gpu.tensor("F32", [height, width]);
  using pairs = gpu.tensor("U32", [2 ** Math.ceil(Math.log2(Math.max(1, slots))), 2]);
  const largest = Math.max(x.bytes, pairs.bytes), limit = gpu.limits.maxStorageBufferBindingSize;
  if (largest > limit) throw new RangeError(`Cannot scatter ${slots} rows: that takes ${largest} bytes, and one binding holds ${limit}`);
  sortSlots(gpu, rows, pairs);
  for (const run of split(gpu, height, [width * 4])) {
    gpu.run(SCATTER, {
      shape: [slots, ranks, width, run.first, run.count],
      bindings: [whole(weights), whole(x), whole(pairs), part(y, width * 4, run)],
      groups: run.count,
      about: () => `${slots} rows of x [${x.shape}]`,
    });
  }
  return y;
}

function sortSlots(gpu: Gpu, rows: GpuTensor, pairs: GpuTensor): void {
  const size = pairs.shape[0], bindings = [whole(rows), whole(pairs)], groups = Math.ceil(size / 256);
  const step = (block: number, stride: number) =>
    gpu.run(SORT, { shape: [rows.size, size, block, stride], bindings, groups, about: () => `${rows.size} slots` });
  step(0, 0);
  for (let block = 2; block <= size; block *= 2) {
    for (let stride = block / 2; stride >= 1; stride /= 2) step(block, stride);
  }
}
