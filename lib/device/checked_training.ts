/**
 * Checks of operations for training, for all devices.
 *
 * @module
 */

import { checkedModulated } from "./checked_modulated.ts";
import { checkedNeuronsVjp } from "./checked_neurons.ts";
import { checkAttention } from "./checks/segments.ts";
import { checkGates } from "./checks/routing.ts";
import * as shapes from "./checks/shapes.ts";
import { checkExperts, checkTensor } from "./checks/tensors.ts";
import * as training from "./checks/training.ts";
import type { Tensor } from "./device.ts";
import { allOrNothing, type ElementType, type Home } from "./stored.ts";
import type { ExpertPart, MatrixStack, SlotOrder, Training } from "./vjp.ts";

/**
 * Training operations that refuse what they cannot do, as `checked` does for the others.
 *
 * @param device They may take it that their arguments are right.
 * @param home What the tensors of this device belong to.
 * @param kind Of the device, for errors.
 */
export function checkedTraining(device: Training, home: Home, kind: string): Training {
  const { vjp } = device, orders = new WeakMap<SlotOrder, number>();
  const all = (types: readonly ElementType[], tensors: readonly (Tensor | undefined)[]) => {
    for (const tensor of tensors) if (tensor) checkTensor(kind, home, tensor, types);
  };
  const floats = (...tensors: (Tensor | undefined)[]) => all(["F32"], tensors);
  const weights = (...tensors: Tensor[]) => all(["F32", "BF16", "F16"], tensors);
  const ordered = (x: Tensor, order: SlotOrder, unsorted?: boolean) => {
    floats(x);
    if (!orders.has(order)) throw new TypeError(`Cannot use an order of slots of another device on this ${kind} device`);
    training.checkSorted(x, order, unsorted);
  };
  const matrices = (x: Tensor, order: SlotOrder, matrices: ExpertPart | MatrixStack, side: 0 | 1) => {
    if ("experts" in matrices) checkExperts(kind, home, matrices.experts);
    else floats(matrices.tensor);
    training.checkMatrices(x, matrices, side);
    training.checkCount("experts" in matrices ? matrices.experts.count : matrices.shapes.length, orders.get(order)!);
  };
  const modulated = checkedModulated(device, vjp, {
    floats,
    weights,
    experts: (x, { part, order }, side) => (ordered(x, order), matrices(x, order, part, side)),
  });
  return {
    modulated: modulated.modulated,
    order(table, experts) {
      all(["U32"], [table]);
      training.checkTable(table, experts);
      const order = allOrNothing(() => device.order(table, experts));
      orders.set(order, experts);
      return order;
    },
    sortRows(x, order) {
      ordered(x, order, true);
      return allOrNothing(() => device.sortRows(x, order));
    },
    unsortRows(x, order) {
      ordered(x, order);
      return allOrNothing(() => device.unsortRows(x, order));
    },
    expertLinear(x, order, used) {
      ordered(x, order), matrices(x, order, used, 1);
      return allOrNothing(() => device.expertLinear(x, order, used));
    },
    dropout(x, rate, seed) {
      floats(x);
      training.checkDropout(rate, seed);
      return allOrNothing(() => device.dropout(x, rate, seed));
    },
    scale(x, factor) {
      floats(x);
      if (!Number.isFinite(factor)) throw new RangeError(`Cannot scale [${x.shape}] by ${factor}: a finite factor is expected`);
      allOrNothing(() => device.scale(x, factor));
    },
    adam(value, gradient, moments, options) {
      floats(value, gradient, moments.first, moments.second);
      training.checkSame("take a step", value, gradient, moments.first, moments.second);
      training.checkAdam(options);
      allOrNothing(() => device.adam(value, gradient, moments, options));
    },
    vjp: {
      ...checkedNeuronsVjp(vjp, home, kind),
      ...modulated.vjp,
      linear(dy, weight) {
        floats(dy), weights(weight);
        if (weight.shape.length !== 2 || dy.shape.at(-1) !== weight.shape[0]) {
          throw new RangeError(`Cannot multiply the gradient [${dy.shape}] by a weight [${weight.shape}]: the sizes do not match`);
        }
        return allOrNothing(() => vjp.linear(dy, weight));
      },
      linearWeight(dy, x) {
        floats(dy, x);
        training.checkGradient("a product", dy, [...x.shape.slice(0, -1), dy.shape.at(-1) ?? 1]);
        return allOrNothing(() => vjp.linearWeight(dy, x));
      },
      rmsNorm(dy, x, gain, epsilon) {
        floats(dy, x, gain);
        shapes.checkNorm(x, gain, epsilon), training.checkGradient("a norm", dy, x.shape);
        return allOrNothing(() => vjp.rmsNorm(dy, x, gain, epsilon));
      },
      rmsNormGain(dy, x, width, epsilon) {
        floats(dy, x);
        training.checkGradient("a norm", dy, x.shape);
        if (x.shape.reduce((a, b) => a * b, 1) % width !== 0) throw new RangeError(`Cannot norm rows of ${width} of x [${x.shape}]`);
        return allOrNothing(() => vjp.rmsNormGain(dy, x, width, epsilon));
      },
      attention(dy, query, key, value, options) {
        floats(dy, ...[...query, ...key, value].map(({ tensor }) => tensor));
        checkAttention(query, key, value, options);
        if (options.segments.some((s) => s.prefix?.length)) throw new RangeError("Cannot go back through attention to a prefix");
        training.checkGradient("attention", dy, [
          query[0].tensor.shape.reduce((a, b) => a * b) / query[0].row,
          options.heads * value.width,
        ]);
        return allOrNothing(() => vjp.attention(dy, query, key, value, options));
      },
      swiglu(dy, gate, up) {
        floats(dy, gate, up);
        training.checkSame("go back through a gate", gate, up, dy);
        return allOrNothing(() => vjp.swiglu(dy, gate, up));
      },
      gated(dy, x, gate) {
        floats(dy, x, gate);
        training.checkSame("go back through a gate", x, dy), training.checkWeights(x, gate);
        return allOrNothing(() => vjp.gated(dy, x, gate));
      },
      softmax(dy, probabilities) {
        floats(dy, probabilities);
        shapes.checkRows(probabilities, "go back through the softmax of"),
          training.checkSame("go back through a softmax", probabilities, dy);
        return allOrNothing(() => vjp.softmax(dy, probabilities));
      },
      entropy(probabilities, weight) {
        floats(probabilities);
        shapes.checkRows(probabilities, "go back through the entropy of");
        if (!Number.isFinite(weight)) {
          throw new RangeError(`Cannot weigh the entropy of [${probabilities.shape}] by ${weight}: a finite weight is expected`);
        }
        return allOrNothing(() => vjp.entropy(probabilities, weight));
      },
      gates(dy, ranking, rule, experts) {
        floats(dy, ranking.probabilities);
        checkGates(ranking, rule), training.checkSame("go back through gates", ranking.probabilities, dy);
        return allOrNothing(() => vjp.gates(dy, ranking, rule, experts));
      },
      combine(dy, outputs, gates) {
        floats(dy, outputs, gates);
        shapes.checkCombine(outputs, gates), training.checkGradient("a sum of outputs", dy, [outputs.shape[0], outputs.shape[2]]);
        return allOrNothing(() => vjp.combine(dy, outputs, gates));
      },
      crossEntropy(x, head, targets, share, options) {
        floats(x, share), weights(head), all(["U32"], [targets]);
        shapes.checkCrossEntropy(x, head, targets), training.checkWeights(x, share);
        return allOrNothing(() => vjp.crossEntropy(x, head, targets, share, options));
      },
      expertLinear(dy, order, used) {
        ordered(dy, order), matrices(dy, order, used, 0);
        return allOrNothing(() => vjp.expertLinear(dy, order, used));
      },
      expertMatrices(dy, x, order, stack) {
        ordered(dy, order), ordered(x, order);
        training.checkStack(stack), training.checkCount(stack.length, orders.get(order)!);
        return allOrNothing(() => vjp.expertMatrices(dy, x, order, stack));
      },
    },
  };
}
