/**
 * One PEER layer on its own.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import { type LoadedPeer, peerOutput, type QueryMoments } from "./peer_output.ts";
import { checkedPeerShape, PEER_PARTS, type PeerPart, type PeerShape, peerShapes } from "./peer_shape.ts";

/** A layer's sizes and weights, row-major; their shapes are told at `peerShapes`. */
export interface PeerLayer extends Omit<PeerShape, "activation" | "batchNorm"> {
  /** @default "gelu" */
  activation?: PeerShape["activation"];
  /** @default true */
  batchNorm?: boolean;
  weights: Readonly<Record<PeerPart, Float32Array>>;
  /** Means, then variances of the queries' elements; those of the batch itself where there are none. */
  moments?: QueryMoments<Float32Array>;
}

export interface PeerForward {
  /** `[tokens, hidden]` */
  outputs: Float32Array;
  /** Retrieved experts `[tokens, heads, ranks]`, best first; expert i · keys + j is that of the keys i and j. */
  experts: Uint32Array;
  scores: Float32Array;
  /** Softmax over the scores of a head. */
  gates: Float32Array;
}

/**
 * Output of a PEER layer (parameter-efficient expert retrieval, arXiv 2407.04153): each head's query retrieves its best one-neuron experts by product keys,
 * in O((√N + k²) · query) instead of O(N · query) operations, and the layer is the sum of gate · σ(up · x) · down over all of them.
 *
 * @param x Inputs `[tokens, hidden]`, row-major.
 * @param layer Sizes and weights.
 * @returns Outputs, and which experts were retrieved with what scores and gates.
 * @throws {TypeError|RangeError} If inputs or weights are not of the sizes that the layer has.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const ones = (length: number) => new Float32Array(length).fill(1);
 * const weights = { "queries.first": ones(2), "queries.second": ones(2), "keys.first": Float32Array.of(1, 3), "keys.second": ones(2), up: ones(8), down: ones(8) };
 * const layer = { hidden: 2, heads: 1, ranks: 1, querySize: 2, keys: 2, activation: "relu" as const, batchNorm: false, weights };
 * const { outputs, experts } = await peerForward(device, Float32Array.of(1, 0.5), layer);
 * assertEquals([[...outputs], [...experts]], [[1.5, 1.5], [2]]); // key 1 of the first set is the best
 * ```
 */
export async function peerForward(device: Device, x: Float32Array, layer: PeerLayer): Promise<PeerForward> {
  const purpose = "run a PEER layer";
  expect(typeof device?.linear === "function", purpose, "a device from openDevice()", device);
  const shape = checkedPeerShape(layer, purpose), { hidden, heads, querySize, batchNorm } = shape;
  expect(x instanceof Float32Array, purpose, "a Float32Array of inputs", x);
  if (x.length === 0 || x.length % hidden !== 0) {
    throw new RangeError(`Cannot ${purpose}: ${x.length} numbers are no inputs of ${hidden} each`);
  }
  using loaded = new DisposableStack();
  const tensor = (name: string, values: unknown, dimensions: readonly [number, number]): Tensor => {
    expect(values instanceof Float32Array, purpose, `a Float32Array as "${name}"`, values);
    const [rows, columns] = dimensions;
    if (values.length === rows * columns) return loaded.use(device.tensor(values, dimensions));
    throw new RangeError(`Cannot ${purpose}: "${name}" has ${values.length} numbers, expected [${dimensions}]`);
  };
  const { weights, moments } = layer, shapes = peerShapes(shape);
  expect(isObject(weights), purpose, 'the layer\'s "weights", by name', weights);
  const known = moments === undefined || moments === null || !batchNorm ? undefined : {
    first: tensor("moments.first", moments.first, [2, heads * querySize / 2]),
    second: tensor("moments.second", moments.second, [2, heads * querySize / 2]),
  };
  const parts = Object.fromEntries(PEER_PARTS.map((part) => [part, tensor(part, weights[part], shapes[part])]));
  using input = device.tensor(x, [x.length / hidden, hidden]);
  using found = peerOutput(device, { kind: "peer", shape, weights: parts as LoadedPeer["weights"], moments: known }, input);
  return {
    outputs: await device.read(found.output),
    experts: await device.readIndices(found.experts),
    scores: await device.read(found.scores),
    gates: await device.read(found.gates),
  };
}
