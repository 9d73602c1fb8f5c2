/**
 * A device that remembers what it did.
 *
 * @module
 */

import type { Ranking, Tensor } from "../device/device.ts";
import type { LayerDevice } from "../model/decoder_layer.ts";
import { adaptedExperts, adaptedLinear, type LayerAdapters, recordSwiglu } from "./adapted.ts";
import type { Tape } from "./tape.ts";

/** A tensor that the forward pass holds. Operations in place give it a new value, so that the old one is still there on the way back. */
export class Recorded implements Tensor {
  value: Tensor;

  constructor(value: Tensor) {
    this.value = value;
  }

  get shape(): readonly number[] {
    return this.value.shape;
  }

  get dtype(): Tensor["dtype"] {
    return this.value.dtype;
  }

  /** The tape disposes values. */
  [Symbol.dispose](): void {}
}

/** The tensor behind one that may be recorded. */
export function valueOf(tensor: Tensor): Tensor {
  return tensor instanceof Recorded ? tensor.value : tensor;
}

/**
 * Operations that run on the tape's device and are recorded: the model's own forward pass, given this for a device, can be walked backwards.
 *
 * @param tape Its watched tensors decide what is recorded.
 * @param adapters Corrections that products with some weights get.
 * @param routed Is given logits and probabilities of a router: the only softmax of a layer outside of attention.
 */
export function recording(tape: Tape, adapters?: LayerAdapters, routed?: (logits: Tensor, probabilities: Tensor) => void): LayerDevice {
  const { device } = tape, { vjp } = device, probabilitiesOf = new WeakMap<Ranking, Tensor>();
  const made = (value: Tensor) => new Recorded(tape.keep(value));
  return {
    tensor: (values, shape) => made(device.tensor(values, shape)),
    linear: (x, weight, bias) => new Recorded(adaptedLinear(tape, adapters, valueOf(x), weight, bias && valueOf(bias))),
    rmsNorm: (x, gain, epsilon) => {
      const input = valueOf(x), y = made(device.rmsNorm(input, gain, epsilon)), width = gain.shape[0];
      tape.record(y.value, [input, gain], (dy) => {
        if (tape.flows(input)) tape.push(input, vjp.rmsNorm(dy, input, gain, epsilon));
        if (tape.flows(gain)) tape.push(gain, vjp.rmsNormGain(dy, input, width, epsilon));
      });
      return y;
    },
    rotary: (x, options) => {
      const input = valueOf(x), y = tape.keep(device.widen(input));
      device.rotary(y, options);
      tape.record(y, [input], (dy) => {
        device.rotary(dy, { ...options, frequencies: options.frequencies.map((f) => -f) });
        tape.push(input, dy);
      });
      (x as Recorded).value = y;
    },
    attention: (query, key, value, options) => {
      const plain = <T extends { tensor: Tensor }>(part: T) => ({ ...part, tensor: valueOf(part.tensor) });
      const q = query.map(plain), k = key.map(plain), v = plain(value), y = made(device.attention(q, k, v, options));
      tape.record(y.value, [...q, ...k, v].map(({ tensor }) => tensor), (dy) => {
        for (const [tensor, gradient] of vjp.attention(dy, q, k, v, options)) tape.push(tensor, gradient);
      });
      return y;
    },
    swiglu: (gate, up) => new Recorded(recordSwiglu(tape, valueOf(gate), valueOf(up))),
    add: (into, x, gate) => {
      const before = valueOf(into), input = valueOf(x), weight = gate && valueOf(gate), y = tape.keep(device.widen(before));
      device.add(y, input, weight);
      tape.record(y, [before, input, weight], (dy) => {
        if (!weight) tape.push(input, device.widen(dy));
        else {
          const { x: toInput, gate: toGate } = vjp.gated(dy, input, weight);
          tape.push(input, toInput);
          tape.push(weight, toGate);
        }
        tape.push(before, dy);
      });
      (into as Recorded).value = y;
    },
    softmax: (x) => {
      const input = valueOf(x), y = made(device.softmax(input));
      tape.record(y.value, [input], (dy) => tape.push(input, vjp.softmax(dy, y.value)));
      routed?.(input, y.value);
      return y;
    },
    rank: (probabilities, ranks, groups) => {
      const ranking = tape.keep(device.rank(valueOf(probabilities), ranks, groups));
      const shared = { ...ranking, [Symbol.dispose]: () => {} };
      probabilitiesOf.set(shared, valueOf(probabilities));
      return shared;
    },
    skip: () => {
      throw new Error("Cannot go back through a layer that skips experts: what it leaves out has no gradient");
    },
    gates: (ranking, rule) => {
      const probabilities = probabilitiesOf.get(ranking)!, y = made(device.gates(ranking, rule));
      tape.record(y.value, [probabilities], (dy) => {
        tape.push(probabilities, vjp.gates(dy, ranking, rule, probabilities.shape[1]));
      });
      return y;
    },
    experts: (x, table, weights) => new Recorded(adaptedExperts(tape, adapters, valueOf(x), table, weights)),
    // What rows are gathered from is not trained.
    gather: (x, rows) => made(device.gather(valueOf(x), valueOf(rows))),
    combine: (outputs, gates) => {
      const [o, w] = [valueOf(outputs), valueOf(gates)], y = made(device.combine(o, w));
      tape.record(y.value, [o, w], (dy) => {
        const { outputs: toOutputs, gates: toGates } = vjp.combine(dy, o, w);
        tape.push(o, toOutputs);
        tape.push(w, toGates);
      });
      return y;
    },
  };
}
