/**
 * Running the experts of a layer.
 *
 * @module
 */

import orderSource from "../../../kernels/expert_order.wgsl" with { type: "text" };
import productSource from "../../../kernels/expert_product.wgsl" with { type: "text" };
import type { Experts, Tensor } from "../device.ts";
import type { GpuExperts, Stack } from "./expert_store.ts";
import type { Gpu } from "./gpu.ts";
import { part, split, whole } from "./ranges.ts";
import { type GpuTensor, onGpu } from "./tensor.ts";

const ORDER = { name: "expert_order", source: orderSource }, PRODUCT = { name: "expert_product", source: productSource };

/** Positions in a tile, and outputs of a workgroup. */
const TILE = 64;

/** Bytes of intermediate activations held at a time. */
const SCRATCH = 2 ** 28;

/** Experts that the sort has counters for. */
export const EXPERTS = 1023;

/**
 * outputs[t, r] = down(silu(gate x[t]) * up x[t]) of expert table[t, r], each product with the expert's bias where there is one.
 *
 * Slots (t, r) are sorted by expert on the GPU and cut into tiles; then each stack of matrices is one dispatch over all tiles. Tokens go in chunks that
 * bound the intermediate activations.
 */
export function runExperts(gpu: Gpu, x: Tensor, table: Tensor, weights: Experts): GpuTensor {
  const input = onGpu(x), listed = onGpu(table), [tokens, ranks] = table.shape;
  const { count, hidden, intermediate, rank, stacks, biases } = weights as GpuExperts;
  if (count > EXPERTS) throw new RangeError(`Cannot run ${count} experts: at most ${EXPERTS} are allowed in a layer`);
  const outputs = gpu.tensor("F32", [tokens, ranks, hidden]), widest = Math.max(intermediate, rank) * ranks * 4;
  const runs = [...split(gpu, tokens, [hidden * 4, ranks * 4, ranks * hidden * 4, widest], Math.max(1, Math.floor(SCRATCH / widest)))];
  const slots = ranks * Math.max(0, ...runs.map((run) => run.count));
  using order = gpu.tensor("U32", [slots]);
  using tiles = gpu.tensor("U32", [tilesOf(slots, count), 4]);
  using inner = gpu.tensor("F32", [slots, intermediate]);
  using middle = gpu.tensor("F32", [slots, rank]);
  const strides = { x: hidden, middle: rank, inner: intermediate, outputs: hidden },
    filling = stacks.findIndex((stack) => route(stack).to === "outputs");
  for (const run of runs) {
    const used = run.count * ranks;
    gpu.run(ORDER, {
      shape: [used, count, tilesOf(used, count)],
      bindings: [part(listed, ranks * 4, run), whole(order), whole(tiles)],
      groups: 1,
      about: () => `${used} slots and ${count} experts`,
    });
    const views = {
      x: part(input, hidden * 4, run),
      middle: whole(middle),
      inner: whole(inner),
      outputs: part(outputs, ranks * hidden * 4, run),
    };
    for (const [i, stack] of stacks.entries()) {
      const { from, to, gated } = route(stack),
        filled = i === filling, // slots without an expert get zeros
        across = Math.ceil((filled ? hidden : stack.outputs) / TILE),
        bias = stack.role === "right" ? undefined : biases[stack.kind];
      gpu.run(PRODUCT, {
        constants: { biased: bias ? 1 : 0 },
        shape: [
          ...[from === "x" ? ranks : 0, strides[from], strides[to], across, tilesOf(used, count)],
          ...[to === "outputs" ? 1 : 0, gated ? 1 : 0, bias?.shape[1] ?? 0, filled ? 1 : 0],
        ],
        bindings: [
          ...[whole(tiles), whole(order), whole(onGpu(stack.table)), views[from], stack.binding],
          ...[bias ? whole(onGpu(bias)) : views[from], views[to]],
        ],
        groups: tilesOf(used, count) * across,
        about: () => `${used} slots, the ${stack.role} matrices of "${stack.kind}" of ${count} experts`,
        work: used * stack.work,
      });
    }
  }
  return outputs;
}

/** Tiles that so many slots can need: each expert, and what has none, may leave one half empty. */
export function tilesOf(slots: number, experts: number): number {
  return Math.floor(slots / TILE) + experts + 1;
}

/** Which activations a stack reads and which it writes; the second matrix to write the inner ones joins SwiGLU to it. */
function route({ kind, role }: Stack) {
  return {
    from: role === "left" ? "middle" : kind === "down" ? "inner" : "x",
    to: role === "right" ? "middle" : kind === "down" ? "outputs" : "inner",
    gated: kind === "up" && role !== "right",
  } as const;
}
