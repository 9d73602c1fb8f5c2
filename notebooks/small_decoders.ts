/** Small language models, of three kinds at equal cost, that are trained on the generated text; and a mixture turned into a PEER layer. */

import {
  type DecoderShape,
  type DecoderStart,
  type FeedForwardShape,
  type Sequences,
  type Stage,
  stages,
  type TrainedDecoder,
} from "../mod.ts";
import { readLines } from "./read_lines.ts";
import type { Definitions, Scale } from "./subject.ts";

/** Width of the residual stream. */
export const HIDDEN = 64;

/** Middle networks of 66,048 floating-point operations a token. */
export const NETWORKS = {
  "dense": { kind: "dense", intermediate: 172 },
  "top-2 of 12": { kind: "moe", experts: 12, topK: 2, intermediate: 84 },
  "PEER": { kind: "peer", heads: 8, ranks: 8, querySize: 32, keys: 32 },
} as const satisfies Record<string, FeedForwardShape>;

export type Network = keyof typeof NETWORKS;

/** A decoder of three layers whose middle one is of the kind. */
export function shapeOf(network: Network): DecoderShape {
  return { vocabulary: 1024, hidden: HIDDEN, layers: 3, heads: 4, intermediate: 172, middle: NETWORKS[network] };
}

export interface DecoderData {
  tokens: Stage<Sequences>;
  heldOut: Stage<Sequences>;
}

/** Sequences of 64 tokens: whole sentences of an embedded checkpoint's tuning text, and the beginnings of its held-out ones. */
export async function decoderData(nb: Definitions, folder: string, scale: Scale): Promise<DecoderData> {
  const short = scale === "small", length = short ? 24 : 64, model = await nb.model("tokenizer", folder);
  const lines = await readLines<{ text: string }>(`${folder}/tuning.jsonl`),
    [{ heldout }] = await readLines<{ heldout: number[][] }>(`${folder}/tokens.json`);
  const texts = await nb.source("sentences", lines.map(({ text }) => `${text}\n`));
  return {
    tokens: nb.stage("tokens", stages.calibrationTokens({ model, texts }, { sequences: short ? 16 : 800, length })),
    heldOut: await nb.source("held out", heldout.slice(0, short ? 2 : 32).map((ids) => Uint32Array.from(ids.slice(0, length)))),
  };
}

/** Defines the training of a network from scratch. */
export function trained(nb: Definitions, data: DecoderData, network: Network, seed: number, steps: number): Stage<TrainedDecoder> {
  return nb.stage(`${network}, seed ${seed}`, stages.trainDecoder({ ...data }, { shape: shapeOf(network), steps, seed, measureEvery: 25 }));
}

export interface Continued {
  start?: Stage<DecoderStart>;
  training: Stage<TrainedDecoder>;
}

/** Defines what becomes of a trained mixture in more steps: as it is, or with a PEER layer in the middle, of its experts or a new one. */
export function continued(
  nb: Definitions,
  { tokens, heldOut }: DecoderData,
  mixture: Stage<TrainedDecoder>,
  from: "itself" | "experts" | "random",
  seed: number,
  steps: number,
): Continued {
  const options = { steps, seed: 100 + seed, measureEvery: 10, learningRate: 1e-3 }, name = `${mixture.name}, from ${from}`;
  const few = nb.stage("few tokens", { version: 1, inputs: { tokens }, run: ({ tokens }) => tokens.slice(0, 64) });
  const start = from === "itself"
    ? undefined
    : nb.stage(name, stages.peerFromMoe({ decoder: mixture, tokens: few }, { middle: NETWORKS.PEER, from, seed }));
  const shape = shapeOf(start ? "PEER" : "top-2 of 12");
  return {
    start,
    training: nb.stage(`${name}, on`, stages.trainDecoder({ tokens, heldOut, start: start ?? mixture }, { shape, ...options })),
  };
}

export interface Spread {
  mean: number;
  /** Half the distance of the least and the largest. */
  half: number;
}

/** Of a few numbers. */
export function spread(values: readonly number[]): Spread {
  return { mean: values.reduce((a, b) => a + b, 0) / values.length, half: (Math.max(...values) - Math.min(...values)) / 2 };
}
