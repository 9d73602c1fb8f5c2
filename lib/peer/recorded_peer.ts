/**
 * PEER's operations, recorded on a tape.
 *
 * @module
 */

import type { Tensor } from "../device/device.ts";
import { Recorded, recording, valueOf } from "../finetune/recording.ts";
import type { Tape } from "../finetune/tape.ts";
import type { LayerDevice } from "../model/decoder_layer.ts";
import type { PeerDevice } from "./peer_output.ts";

/** A device that remembers what it did, for decoders with PEER layers. Moments are taken to be those of what they standardise. */
export function recordingPeer(tape: Tape): LayerDevice & PeerDevice {
  const { device } = tape, { vjp } = device, made = (value: Tensor) => new Recorded(tape.keep(value));
  return {
    ...recording(tape),
    reshape: (x, shape) => {
      const input = valueOf(x), y = made(device.reshape(input, shape));
      tape.record(y.value, [input], (dy) => tape.push(input, device.reshape(dy, input.shape)));
      return y;
    },
    moments: (x) => made(device.moments(valueOf(x))),
    standardise: (x, moments, epsilon) => {
      const input = valueOf(x), own = valueOf(moments), y = made(device.standardise(input, own, epsilon));
      tape.record(y.value, [input], (dy) => tape.push(input, vjp.standardise(dy, input, own, epsilon)));
      return y;
    },
    rankPairs: (first, second, ranks, heads) => {
      const [a, b] = [valueOf(first), valueOf(second)], { experts, scores } = tape.keep(device.rankPairs(a, b, ranks, heads));
      tape.record(scores, [a, b], (dy) => {
        const [toFirst, toSecond] = vjp.rankPairs(dy, experts, [a.shape[1], b.shape[1]]);
        tape.push(a, toFirst);
        tape.push(b, toSecond);
      });
      return { experts: new Recorded(experts), scores: new Recorded(scores), [Symbol.dispose]: () => {} };
    },
    activate: (x, factor, activation) => {
      const [input, weight] = [valueOf(x), valueOf(factor)], y = made(device.activate(input, weight, activation));
      tape.record(y.value, [input, weight], (dy) => {
        const slopes = vjp.activate(dy, input, weight, activation);
        tape.push(input, slopes.x);
        tape.push(weight, slopes.factor);
      });
      return y;
    },
    rowDots: (x, table, rows) => {
      const [input, whole, listed] = [x, table, rows].map(valueOf), y = made(device.rowDots(input, whole, listed));
      tape.record(y.value, [input, whole], (dy) => {
        if (tape.flows(input)) tape.push(input, device.rowSums(dy, whole, listed));
        if (tape.flows(whole)) tape.push(whole, device.scatterRows(dy, input, listed, whole.shape[0]));
      });
      return y;
    },
    rowSums: (weights, table, rows) => {
      const [input, whole, listed] = [weights, table, rows].map(valueOf), y = made(device.rowSums(input, whole, listed));
      tape.record(y.value, [input, whole], (dy) => {
        if (tape.flows(input)) tape.push(input, device.rowDots(dy, whole, listed));
        if (tape.flows(whole)) tape.push(whole, device.scatterRows(input, dy, listed, whole.shape[0]));
      });
      return y;
    },
  };
}
