/**
 * What routing, experts and their pricing ask for.
 *
 * @module
 */

import type { Experts, FitnessInputs, Ranking, RouterGroups, RouterRule, Tensor } from "../device.ts";
import { product } from "../stored.ts";
import { checkRows } from "./shapes.ts";
import { isCount } from "./tensors.ts";

export function checkRank(probabilities: Tensor, ranks: number, groups?: RouterGroups): void {
  checkRows(probabilities, "rank");
  if (!isCount(ranks)) throw new RangeError(`Cannot rank ${ranks} experts: a whole number is expected`);
  if (groups) checkGroups(groups, probabilities.shape.at(-1)!);
}

function checkGroups({ of, keep }: RouterGroups, count: number): void {
  if (of.length !== count || !of.every(isCount)) {
    throw new RangeError(`Cannot route ${count} experts by groups [${of}]: a whole number for each expert is expected`);
  }
  if (!(isCount(keep) && keep > 0)) throw new RangeError(`Cannot route by groups of which ${keep} stay: at least one is expected`);
}

export function checkGates({ probabilities: { shape } }: Ranking, { scale }: RouterRule): void {
  if (shape.length !== 2) throw new RangeError(`Cannot weigh ranked experts [${shape}]: [tokens, ranks] is expected`);
  if (!Number.isFinite(scale)) throw new RangeError(`Cannot weigh experts by a scale of ${scale}: it must be finite`);
}

export function checkSkip({ experts, probabilities }: Ranking, share: number): void {
  if (experts.shape.length !== 2 || `${experts.shape}` !== `${probabilities.shape}`) {
    throw new RangeError(
      `Cannot skip experts [${experts.shape}] of probabilities [${probabilities.shape}]: both are to be [tokens, ranks]`,
    );
  }
  if (!(share >= 0 && share <= 1)) throw new RangeError(`Cannot skip experts: their share must be from 0 to 1, received ${share}`);
}

export function checkRun(x: Tensor, table: Tensor, { hidden }: Experts): void {
  if (table.shape.length !== 2 || x.shape.at(-1) !== hidden || product(x.shape) !== table.shape[0] * hidden) {
    throw new RangeError(
      `Cannot run experts of hidden size ${hidden} on x [${x.shape}] by a table [${table.shape}]: the sizes do not match`,
    );
  }
}

export function checkFitness(
  { rule, ranking, probabilities, gram, along, partial }: FitnessInputs,
  sets: readonly (readonly number[])[],
): void {
  const { topK, scale, groups } = rule, [tokens, ranks] = ranking.experts.shape, count = probabilities.shape.at(-1)!;
  const found = [ranking.experts, ranking.probabilities, probabilities, gram].map(({ shape }) => `[${shape}]`).join(", ");
  if (found !== `[${tokens},${ranks}], [${tokens},${ranks}], [${tokens},${count}], [${tokens},${ranks},${ranks}]`) {
    throw new RangeError(`Cannot price sets of experts: a ranking, its probabilities, all of them and a Gram tensor ${found} do not match`);
  }
  if (along && `${along.shape}` !== `${[tokens, ranks]}`) {
    throw new RangeError(`Cannot price sets of experts: inner products along a vector are [${along.shape}], expected [${tokens},${ranks}]`);
  }
  if (!(isCount(topK) && topK > 0)) throw new RangeError(`Cannot price sets of experts: top-k must be at least 1, received ${topK}`);
  if (!Number.isFinite(scale)) throw new RangeError(`Cannot price sets of experts: the scale must be finite, received ${scale}`);
  if (groups) checkGroups(groups, count);
  let largest = 0;
  for (const set of sets) {
    const wrong = set.find((e) => !(isCount(e) && e < count));
    if (wrong !== undefined) throw new RangeError(`Cannot drop expert ${wrong}: the layer has ${count} experts`);
    if (new Set(set).size < set.length) throw new RangeError(`Cannot drop experts [${set}]: one is named twice`);
    largest = Math.max(largest, set.length);
  }
  const needed = groups ? count : Math.min(count, topK + (partial ? 0 : largest));
  if (ranks < needed && tokens > 0) {
    throw new RangeError(
      `Cannot price sets of up to ${largest} experts with ${ranks} ranked: ${needed} are expected, so that each can be replaced`,
    );
  }
}
