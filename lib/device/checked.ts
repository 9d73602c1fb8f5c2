/**
 * One place where operations are checked, for all devices.
 *
 * @module
 */

import { checkedNeurons } from "./checked_neurons.ts";
import { checkedTraining } from "./checked_training.ts";
import { checkAttention, checkRotary } from "./checks/segments.ts";
import { checkFitness, checkGates, checkRank, checkRun, checkSkip } from "./checks/routing.ts";
import * as shapes from "./checks/shapes.ts";
import { checkExperts, checkSource, checkTensor, checkValues } from "./checks/tensors.ts";
import type { Device, Tensor } from "./device.ts";
import { allOrNothing, type ElementType, type Home } from "./stored.ts";

/**
 * A device that refuses, with one sentence and the same on every device, what it cannot do: tensors of another device, of another type or disposed, sizes
 * that do not match, rows that do not exist. Checks look at shapes and arguments, never at elements. An operation that throws leaves no tensor behind.
 *
 * @param device The operations; they may take it that their arguments are right, and check but limits of their own.
 * @param home What the tensors of this device belong to.
 */
export function checked(device: Device, home: Home): Device {
  const all = (types: readonly ElementType[], tensors: readonly (Tensor | undefined)[]) => {
    for (const tensor of tensors) if (tensor) checkTensor(device.kind, home, tensor, types);
  };
  const floats = (...tensors: (Tensor | undefined)[]) => all(["F32"], tensors);
  const indices = (...tensors: Tensor[]) => all(["U32"], tensors);
  const weights = (...tensors: Tensor[]) => all(["F32", "BF16", "F16"], tensors);
  return {
    ...device,
    ...checkedTraining(device, home, device.kind),
    ...checkedNeurons(device, home, device.kind),
    tensor(values, shape) {
      checkValues(values, shape);
      return allOrNothing(() => device.tensor(values, shape));
    },
    async load(source) {
      checkSource(source);
      return await device.load(source);
    },
    async read(tensor) {
      floats(tensor);
      return await device.read(tensor);
    },
    async readIndices(tensor) {
      indices(tensor);
      return await device.readIndices(tensor);
    },
    linear(x, weight, bias) {
      floats(x, bias), weights(weight);
      shapes.checkLinear(x, weight, bias);
      return allOrNothing(() => device.linear(x, weight, bias));
    },
    rmsNorm(x, gain, epsilon) {
      floats(x, gain);
      shapes.checkNorm(x, gain, epsilon);
      return allOrNothing(() => device.rmsNorm(x, gain, epsilon));
    },
    rotary(x, options) {
      floats(x);
      checkRotary(x, options);
      allOrNothing(() => device.rotary(x, options));
    },
    attention(query, key, value, options) {
      floats(...[...query, ...key, value].map(({ tensor }) => tensor));
      checkAttention(query, key, value, options);
      return allOrNothing(() => device.attention(query, key, value, options));
    },
    swiglu(gate, up) {
      floats(gate, up);
      shapes.checkGated(gate, up);
      return allOrNothing(() => device.swiglu(gate, up));
    },
    add(into, x, gate) {
      floats(into, x, gate);
      shapes.checkAdd(into, x, gate);
      allOrNothing(() => device.add(into, x, gate));
    },
    multiply(x, factors) {
      floats(x, factors);
      shapes.checkMultiply(x, factors);
      allOrNothing(() => device.multiply(x, factors));
    },
    softmax(x) {
      floats(x);
      shapes.checkRows(x, "take the softmax of");
      return allOrNothing(() => device.softmax(x));
    },
    rank(probabilities, ranks, groups) {
      floats(probabilities);
      checkRank(probabilities, ranks, groups);
      return allOrNothing(() => device.rank(probabilities, ranks, groups));
    },
    gates(ranking, rule) {
      floats(ranking.probabilities);
      checkGates(ranking, rule);
      return allOrNothing(() => device.gates(ranking, rule));
    },
    skip(ranking, share) {
      indices(ranking.experts), floats(ranking.probabilities);
      checkSkip(ranking, share);
      return allOrNothing(() => device.skip(ranking, share));
    },
    experts(x, table, experts) {
      floats(x), indices(table);
      checkExperts(device.kind, home, experts);
      checkRun(x, table, experts);
      return allOrNothing(() => device.experts(x, table, experts));
    },
    combine(outputs, gates) {
      floats(outputs, gates);
      shapes.checkCombine(outputs, gates);
      return allOrNothing(() => device.combine(outputs, gates));
    },
    gather(x, rows) {
      floats(x), indices(rows);
      shapes.checkRows(x, "gather rows of");
      return allOrNothing(() => device.gather(x, rows));
    },
    gram(x) {
      floats(x);
      shapes.checkGram(x);
      return allOrNothing(() => device.gram(x));
    },
    widen(x) {
      weights(x);
      return allOrNothing(() => device.widen(x));
    },
    transpose(x) {
      floats(x);
      shapes.checkMatrix(x);
      return allOrNothing(() => device.transpose(x));
    },
    squares(a, b) {
      floats(a, b);
      shapes.checkSquares(a, b);
      return allOrNothing(() => device.squares(a, b));
    },
    overlap(a, b) {
      floats(a, b);
      shapes.checkOverlap(a, b);
      return allOrNothing(() => device.overlap(a, b));
    },
    crossEntropy(x, head, targets) {
      floats(x), weights(head), indices(targets);
      shapes.checkCrossEntropy(x, head, targets);
      return allOrNothing(() => device.crossEntropy(x, head, targets));
    },
    async fitness(inputs, sets) {
      floats(inputs.ranking.probabilities, inputs.probabilities, inputs.gram, inputs.along), indices(inputs.ranking.experts);
      checkFitness(inputs, sets);
      return await device.fitness(inputs, sets);
    },
    async eigen(matrix, count, options) {
      floats(matrix);
      shapes.checkEigen(matrix, count);
      return await device.eigen(matrix, count, options);
    },
  };
}
