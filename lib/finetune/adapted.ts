/**
 * Products with weights that may have adapters, recorded on a tape.
 *
 * @module
 */

import type { Experts, Tensor } from "../device/device.ts";
import type { Modulation, SortedExperts } from "../device/modulated.ts";
import { partShapes } from "../device/part_extent.ts";
import type { ExpertPart, MatrixStack, SlotOrder } from "../device/vjp.ts";
import { sortedBiases } from "../model/sorted_biases.ts";
import { expertParts } from "./expert_parts.ts";
import type { Tape } from "./tape.ts";

/** LoRA: x · weightᵀ + scale · dropout(x) · downᵀ · upᵀ. */
export interface Correction<Matrix> {
  readonly kind: "lora";
  /** `[rank, in]` */
  readonly down: Matrix;
  /** `[out, rank]` */
  readonly up: Matrix;
  readonly scale: number;
  /** Share of inputs that are dropped, and what decides which. */
  readonly dropout: { readonly rate: number; readonly seed: number };
}

/** SPP: x · weightᵀ + dropout(x) · (scale · R(down) ⊙ up ⊙ weight)ᵀ. */
export interface Multiplier extends Omit<Modulation, "identity"> {
  readonly kind: "spp";
  readonly dropout: Correction<Tensor>["dropout"];
}

/** Adapters of one layer's weights. */
export interface LayerAdapters {
  readonly linear: ReadonlyMap<Tensor, Correction<Tensor> | Multiplier>;
  readonly experts: ReadonlyMap<ExpertPart, Correction<MatrixStack> | Multiplier>;
}

/** x · weightᵀ + bias, adapted. */
export function adaptedLinear(tape: Tape, adapters: LayerAdapters | undefined, x: Tensor, weight: Tensor, bias?: Tensor): Tensor {
  const { device } = tape, { vjp } = device, adapter = adapters?.linear.get(weight);
  if (adapter?.kind === "spp" && adapter.dropout.rate === 0) return modulated(tape, x, weight, adapter, bias);
  const y = tape.keep(device.linear(x, weight, bias));
  const correction = adapter?.kind === "lora"
    ? correct(tape, x, y, adapter, {
      apply: (x, matrix) => device.linear(x, matrix),
      toInput: (dy, matrix) => vjp.linear(dy, matrix),
      toMatrix: (dy, x) => vjp.linearWeight(dy, x),
      leaf: (matrix) => matrix,
    })
    : undefined;
  tape.record(y, [x, weight, bias, ...correction?.leaves ?? []], (dy) => {
    correction?.back(dy);
    if (tape.flows(x)) tape.push(x, vjp.linear(dy, weight));
    if (tape.flows(weight)) tape.push(weight, vjp.linearWeight(dy, x));
    if (bias && tape.flows(bias)) tape.push(bias, columnSums(tape, dy));
  });
  return adapter?.kind === "spp" ? recordSum(tape, y, modulated(tape, x, weight, adapter)) : y;
}

/** Output of each listed expert for its token, as `Device.experts`, by products over rows that are sorted by expert. */
export function adaptedExperts(tape: Tape, adapters: LayerAdapters | undefined, x: Tensor, table: Tensor, experts: Experts): Tensor {
  const { device } = tape, order = tape.keep(device.order(table, experts.count));
  const rows = tape.keep(device.sortRows(x, order));
  tape.record(rows, [x], (dy) => {
    using slots = device.unsortRows(dy, order);
    using ones = device.tensor(new Float32Array(order.tokens * order.ranks).fill(1), [order.tokens, order.ranks]);
    tape.push(x, device.combine(slots, ones));
  });
  const product = (kind: ExpertPart["kind"], x: Tensor) => {
    using biases = sortedBiases(device, experts, kind, table, order);
    return plusFixed(tape, expertProduct(tape, adapters, x, order, experts, kind), biases);
  };
  const output = product("down", recordSwiglu(tape, product("gate", rows), product("up", rows)));
  const y = tape.keep(device.unsortRows(output, order));
  tape.record(y, [output], (dy) => tape.push(output, device.sortRows(dy, order)));
  return y;
}

/** y + what is not trained, if there is any. */
function plusFixed(tape: Tape, y: Tensor, fixed?: Tensor): Tensor {
  if (!fixed) return y;
  const sum = tape.keep(tape.device.widen(y));
  tape.device.add(sum, fixed);
  tape.record(sum, [y], (dy) => tape.push(y, dy));
  return sum;
}

/** Sorted rows times one of the three matrices of their experts: dense ones, and those that are products of two factors. */
function expertProduct(
  tape: Tape,
  adapters: LayerAdapters | undefined,
  x: Tensor,
  order: SlotOrder,
  experts: Experts,
  kind: ExpertPart["kind"],
): Tensor {
  const part = (role: ExpertPart["role"]) => expertParts(experts).find((p) => p.kind === kind && p.role === role);
  const apply = (x: Tensor, part: ExpertPart) => partProduct(tape, adapters, x, order, part);
  const dense = part("dense"), right = part("right"), left = part("left");
  const whole = dense && apply(x, dense), factored = left && right && apply(apply(x, right), left);
  return whole && factored ? recordSum(tape, whole, factored) : (whole ?? factored)!; // of both, each row is zero in one
}

function partProduct(tape: Tape, adapters: LayerAdapters | undefined, x: Tensor, order: SlotOrder, part: ExpertPart): Tensor {
  const { device } = tape, { vjp } = device, adapter = adapters?.experts.get(part);
  if (adapter?.kind === "spp" && adapter.dropout.rate === 0) return modulated(tape, x, { part, order }, adapter);
  const y = tape.keep(device.expertLinear(x, order, part));
  const correction = adapter?.kind === "lora"
    ? correct(tape, x, y, adapter, {
      apply: (x, stack) => device.expertLinear(x, order, stack),
      toInput: (dy, stack) => vjp.expertLinear(dy, order, stack),
      toMatrix: (dy, x, stack) => vjp.expertMatrices(dy, x, order, stack.shapes),
      leaf: (stack) => stack.tensor,
    })
    : undefined;
  tape.record(y, [x, part, ...correction?.leaves ?? []], (dy) => {
    correction?.back(dy);
    if (tape.flows(x)) tape.push(x, vjp.expertLinear(dy, order, part));
    if (tape.flows(part)) tape.push(part, vjp.expertMatrices(dy, x, order, partShapes(part)));
  });
  return adapter?.kind === "spp" ? recordSum(tape, y, modulated(tape, x, { part, order }, adapter)) : y;
}

/** How rows are multiplied with a matrix, or each with its expert's. */
interface Products<Matrix> {
  apply(x: Tensor, matrix: Matrix): Tensor;
  toInput(dy: Tensor, matrix: Matrix): Tensor;
  toMatrix(dy: Tensor, x: Tensor, matrix: Matrix): Tensor;
  /** What its gradient is kept under. */
  leaf(matrix: Matrix): Tensor;
}

/** A change of a tensor, before it is recorded: what gradients of the tensor go to beside its own inputs, and how. */
interface Recordable {
  readonly leaves: readonly Tensor[];
  back(dy: Tensor): void;
}

/** y += scale · dropout(x) · downᵀ · upᵀ. The dropped input is made again on the way back. */
function correct<Matrix>(
  tape: Tape,
  x: Tensor,
  y: Tensor,
  { down, up, scale, dropout: { rate, seed } }: Correction<Matrix>,
  { apply, toInput, toMatrix, leaf }: Products<Matrix>,
): Recordable {
  const { device } = tape, drop = (value: Tensor) => rate > 0 ? device.dropout(value, rate, seed) : undefined;
  const middle = (() => {
    using dropped = drop(x);
    return tape.keep(apply(dropped ?? x, down));
  })();
  device.scale(middle, scale);
  using step = apply(middle, up);
  device.add(y, step);
  return {
    leaves: [leaf(down), leaf(up)],
    back(dy) {
      if (tape.flows(leaf(up))) tape.push(leaf(up), toMatrix(dy, middle, up));
      using toMiddle = toInput(dy, up);
      device.scale(toMiddle, scale);
      if (tape.flows(leaf(down))) {
        using dropped = drop(x);
        tape.push(leaf(down), toMatrix(toMiddle, dropped ?? x, down));
      }
      if (!tape.flows(x)) return;
      if (rate === 0) return tape.push(x, toInput(toMiddle, down));
      using toKept = toInput(toMiddle, down);
      tape.push(x, device.dropout(toKept, rate, seed));
    },
  };
}

/** The product with a weight times its factors: with the weight as well where nothing is dropped, else of the rest alone, for what dropout leaves of x. */
function modulated(
  tape: Tape,
  x: Tensor,
  weights: Tensor | SortedExperts,
  { dropout, kind: _, ...factors }: Multiplier,
  bias?: Tensor,
): Tensor {
  const { device } = tape, { vjp } = device, { rate, seed } = dropout, modulation = { ...factors, identity: rate === 0 };
  const drop = (value: Tensor) => rate > 0 ? device.dropout(value, rate, seed) : undefined,
    { down: { tensor: down }, up: { tensor: up } } = factors;
  const y = (() => {
    using dropped = drop(x);
    return tape.keep(device.modulated(dropped ?? x, weights, modulation, bias));
  })();
  tape.record(y, [x, down, up], (dy) => {
    using dropped = drop(x);
    const slopes = vjp.modulation(dy, dropped ?? x, weights, modulation);
    tape.push(up, slopes.up), tape.push(down, slopes.down); // only this one may be added up, of pieces that share it, which may fail
    if (!tape.flows(x)) return;
    if (rate === 0) return tape.push(x, vjp.modulated(dy, weights, modulation));
    using toKept = vjp.modulated(dy, weights, modulation);
    tape.push(x, device.dropout(toKept, rate, seed));
  });
  return y;
}

function recordSum(tape: Tape, a: Tensor, b: Tensor): Tensor {
  const y = tape.keep(tape.device.widen(a));
  tape.device.add(y, b);
  tape.record(y, [a, b], (dy) => {
    tape.push(a, tape.device.widen(dy));
    tape.push(b, dy);
  });
  return y;
}

/** silu(gate) * up. */
export function recordSwiglu(tape: Tape, gate: Tensor, up: Tensor): Tensor {
  const y = tape.keep(tape.device.swiglu(gate, up));
  tape.record(y, [gate, up], (dy) => {
    const gradients = tape.device.vjp.swiglu(dy, gate, up);
    tape.push(gate, gradients.gate);
    tape.push(up, gradients.up);
  });
  return y;
}

function columnSums({ device }: Tape, x: Tensor): Tensor {
  const rows = x.shape.slice(0, -1).reduce((a, b) => a * b, 1);
  using ones = device.tensor(new Float32Array(rows).fill(1), [rows, 1]);
  return device.vjp.linearWeight(x, ones);
}
