/**
 * The forward pass of a PEER layer.
 *
 * @module
 */

import type { Device, Tensor } from "../device/device.ts";
import type { PeerPart, PeerShape } from "./peer_shape.ts";

/** Its operations. */
export type PeerDevice = Pick<
  Device,
  "linear" | "reshape" | "moments" | "standardise" | "rankPairs" | "softmax" | "rowDots" | "activate" | "rowSums"
>;

/** Mean and variance of the queries, `[2, heads · half]`. */
export type QueryMoments<T> = Record<"first" | "second", T>;

export interface LoadedPeer {
  readonly kind: "peer";
  readonly shape: PeerShape;
  readonly weights: Readonly<Record<PeerPart, Tensor>>;
  /** What queries are normalised by; without them by the moments of the batch itself, as in training. */
  readonly moments?: QueryMoments<Tensor>;
}

/** The layer's output `[tokens, hidden]`, and how it came about. */
export interface PeerOutput extends Disposable {
  readonly output: Tensor;
  /** Retrieved experts, `[tokens, heads · ranks]`, best first in each head. */
  readonly experts: Tensor;
  /** Scores and gates of them, `[tokens · heads, ranks]`. */
  readonly scores: Tensor;
  readonly gates: Tensor;
  /** Of the batch's queries, where they were asked for. */
  readonly moments?: QueryMoments<Tensor>;
}

/** Of the variance of queries. */
const EPSILON = 1e-5;

/**
 * y = Σ over heads and their retrieved experts of gate · σ(up · x) · down, gates a softmax over the scores of a head's experts (arXiv 2407.04153, section 2).
 *
 * @param x Inputs `[tokens, hidden]`.
 */
export function peerOutput(device: PeerDevice, { shape, weights, moments }: LoadedPeer, x: Tensor): PeerOutput {
  const { heads, ranks, querySize, activation, batchNorm } = shape, own: Partial<QueryMoments<Tensor>> = {};
  using made = new DisposableStack();
  /** Scores of a half's keys for each token and head. */
  const scored = (side: "first" | "second") => {
    const query = made.use(device.linear(x, weights[`queries.${side}`]));
    if (batchNorm && !moments) own[side] = made.use(device.moments(query));
    const used = moments?.[side] ?? own[side], normed = batchNorm ? made.use(device.standardise(query, used!, EPSILON)) : query;
    const rows = made.use(device.reshape(normed, [x.shape[0] * heads, querySize / 2]));
    return made.use(device.linear(rows, weights[`keys.${side}`]));
  };
  const { experts, scores } = made.use(device.rankPairs(scored("first"), scored("second"), ranks, heads));
  const gates = made.use(device.softmax(scores)), responses = made.use(device.rowDots(x, weights.up, experts));
  const factors = made.use(device.activate(responses, gates, activation));
  const output = made.use(device.rowSums(factors, weights.down, experts)), held = made.move();
  const found = batchNorm && !moments ? own as QueryMoments<Tensor> : undefined;
  return { output, experts, scores, gates, moments: found, [Symbol.dispose]: () => held[Symbol.dispose]() };
}
