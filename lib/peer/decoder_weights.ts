/**
 * The weights of small decoders, by name, and where they begin.
 *
 * @module
 */

import { random } from "../calibrate/random.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import { expect } from "../model/expect.ts";
import { type DecoderShape, feedForwardOf, middleOf, peerShapeOf } from "./decoder_shape.ts";
import { PEER_PARTS, peerShapes } from "./peer_shape.ts";

/** Numbers by the names of `weightShapes`, and the moments of a PEER layer's queries. */
export type DecoderWeights = Record<string, Float32Array>;

/** Means and variances of a PEER layer's queries as they were in training; they are not trained. */
export const MOMENTS = { first: "peer.moments.first", second: "peer.moments.second" } as const;

interface Begin {
  readonly shape: readonly number[];
  /** Standard deviation of the first numbers, which are uniform; 0 for ones. */
  readonly spread: number;
}

/** Shapes and beginnings of everything that is trained. Experts' matrices are stacked, `[experts, …]`. */
export function weightShapes(shape: DecoderShape): Map<string, Begin> {
  const { vocabulary, hidden, layers } = shape, all = new Map<string, Begin>(), unit = 1 / Math.sqrt(hidden);
  const add = (name: string, shape: readonly number[], spread: number) => all.set(name, { shape, spread });
  /** What is added to the residual stream begins small: there are two such sums a layer. */
  const last = 1 / Math.sqrt(2 * layers);
  add("embedding", [vocabulary, hidden], unit);
  for (let layer = 0; layer < layers; layer++) {
    const at = `layers.${layer}`, network = feedForwardOf(shape, layer);
    add(`${at}.norm`, [hidden], 0);
    for (const name of ["q_proj", "k_proj", "v_proj"]) add(`${at}.${name}.weight`, [hidden, hidden], unit);
    add(`${at}.o_proj.weight`, [hidden, hidden], unit * last);
    add(`${at}.outputNorm`, [hidden], 0);
    if (network.kind === "peer") {
      const shapes = peerShapes(peerShapeOf(shape)), { heads, querySize } = network;
      const spreads = { keys: 1 / Math.sqrt(querySize / 2), down: last / Math.sqrt(heads) };
      for (const part of PEER_PARTS) {
        add(`${at}.${part}`, shapes[part], part.startsWith("keys") ? spreads.keys : part === "down" ? spreads.down : unit);
      }
      continue;
    }
    const { intermediate } = network, experts = network.kind === "moe" ? [network.experts] : [];
    if (network.kind === "moe") add(`${at}.router`, [network.experts, hidden], unit);
    for (const kind of ["gate", "up"]) add(`${at}.${kind}`, [...experts, intermediate, hidden], unit);
    add(`${at}.down`, [...experts, hidden, intermediate], last / Math.sqrt(intermediate));
  }
  add("norm", [hidden], 0);
  add("head", [vocabulary, hidden], unit);
  return all;
}

/** First weights of everything that `given` does not have. Those of a name follow from seed and name alone. */
export function beginWeights(shape: DecoderShape, seed: number, given: DecoderWeights = {}): DecoderWeights {
  const weights: DecoderWeights = { ...given };
  for (const [name, { shape: dimensions, spread }] of weightShapes(shape)) {
    const length = dimensions.reduce((a, b) => a * b, 1), draw = random(seed, `first weights, ${name}`);
    // Uniform numbers within ±√3 have a variance of 1.
    weights[name] ??= Float32Array.from({ length }, () => spread === 0 ? 1 : spread * Math.sqrt(3) * (draw.below(2 ** 24) / 2 ** 23 - 1));
  }
  return weights;
}

/** Names of the weights of the middle layer's network. */
export function isMiddle(shape: DecoderShape, name: string): boolean {
  const at = `layers.${middleOf(shape)}.`, rest = name.slice(at.length);
  return name.startsWith(at) && !["norm", "outputNorm"].includes(rest) && !rest.includes("_proj");
}

/** Weights that are given must be of the decoder. @throws {TypeError|RangeError} If they are not, by name. */
export function checkWeights(shape: DecoderShape, given: DecoderWeights | undefined, purpose: string): DecoderWeights {
  if (given === undefined || given === null) return {};
  expect(isObject(given), purpose, "weights by name", given);
  const shapes = weightShapes(shape);
  for (const [name, values] of Object.entries(given)) {
    expect(values instanceof Float32Array, purpose, `a Float32Array as "${name}"`, values);
    const size = name === MOMENTS.first || name === MOMENTS.second ? momentsOf(shape) : shapes.get(name)?.shape.reduce((a, b) => a * b, 1);
    if (values.length !== size) {
      throw new RangeError(`Cannot ${purpose}: "${name}" has ${values.length} numbers, expected ${size ?? "no weight of that name"}`);
    }
  }
  return given;
}

function momentsOf({ middle }: DecoderShape): number | undefined {
  return middle.kind === "peer" ? middle.heads * middle.querySize : undefined;
}
