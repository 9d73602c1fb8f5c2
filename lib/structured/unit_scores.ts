/**
 * What structures of a model are worth, by weights and what they meet.
 *
 * @module
 */

import type { Device } from "../device/device.ts";
import { blockInfluence } from "../importance/block_influence.ts";
import type { Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import { loadLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { eachPart, type StageOptions, within } from "../model/stage_options.ts";
import { type InputSums, inputSums } from "../sparsify/input_sums.ts";
import { type Linear, linearsOf } from "../sparsify/linears.ts";
import { finiteWeights } from "../sparsify/prune_linear.ts";
import { ResidualStreams } from "../sparsify/residual_streams.ts";
import { hasGroups } from "./structure_plan.ts";
import { populationsOf, type UnitKind, type UnitPart, type UnitPopulation, type UnitValues } from "./units.ts";

export interface UnitScoresOptions extends StageOptions {
  /** @default ["channels", "attention groups"] (Bypass Back-propagation); without the groups where queries are normalised over all heads */
  kinds?: readonly UnitKind[];
}

/**
 * Scores of structures in the manner of Wanda, as Bypass Back-propagation begins with (arXiv 2406.10576, released code). The score of column j of a
 * matrix W is c_j = mean_i |W_ij| · √(mean_t x_tj²), x what the matrix meets in the dense model, over the tokens that it meets.
 *
 * - A channel: c_j of `down`; 0 in an expert that no token meets.
 * - An attention group: c_j of `o_proj`, summed over a head, mean over the query heads of the group.
 * - An expert (ours): Σ_j c_j of its `down`, but with the mean over all tokens, so that experts that are rarely used score low.
 * - A layer: its block influence (ShortGPT; the released code has no score for layers).
 *
 * The released code feeds a layer what the layers before it give once they are masked; here inputs are those of the dense model. One walk, and one more for
 * layers. Weights are read twice.
 *
 * @param sequences Token ids, the model's BOS first where it has one.
 * @returns Every unit of the kinds that are asked for, by population.
 * @throws {TypeError} If a kind is none.
 * @throws {RangeError} If there are no tokens, or a weight or input is not finite.
 * @throws {Error} If experts are constants, skipped, merged, of low rank, biased or differences, attention is of low rank, or groups are asked for where
 * queries are normalised over all heads.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), tokens = [model.tokenizer.encode("Sum: 12 + 30 = 42.")];
 * const { populations } = await unitScores(device, model, tokens, { kinds: ["attention groups"] });
 * assertEquals(populations.map(({ values }) => values.length), [2, 2, 2, 2]);
 * ```
 */
export async function unitScores(
  device: Device,
  model: Model,
  sequences: Sequences,
  options: UnitScoresOptions = {},
): Promise<UnitValues> {
  const purpose = "score structures";
  expectStage(device, model, purpose, options);
  const { kinds = hasGroups(model.config) ? ["channels", "attention groups"] : ["channels"] } = options,
    populations = populationsOf(model, kinds, purpose);
  using streams = new ResidualStreams(device, model, sequences, options.signal);
  if (streams.tokens === 0) throw new RangeError(`Cannot ${purpose}: there are no tokens`);
  const about = { ...options, stage: "unit scores", unit: "layers" };
  const inside = populations.some(({ layer }) => layer !== null) ? model.layers : [];
  for await (
    const { item: { index }, value } of eachPart(about, inside, ({ index }) => `layer ${index}`, (layer) => columnScores(streams, layer))
  ) {
    for (const population of populations) if (population.layer === index) fill(model, population, value, streams.tokens);
  }
  const whole = populations.find(({ kind }) => kind === "layers");
  if (whole) whole.values = (await blockInfluence(device, model, sequences, within(options, "influence"))).influence;
  return { populations };
}

/** Of one matrix: mean_i |W_ij| · √(Σ_t x_tj²) of each column, and the tokens that it met. */
interface ColumnScores {
  tokens: number;
  columns: Float64Array;
}

/** Of `o_proj` and each `down` of a layer, by name. */
async function columnScores(streams: ResidualStreams, layer: DecoderLayer): Promise<Record<string, ColumnScores>> {
  const { device, model } = streams, scores: Record<string, ColumnScores> = {};
  const linears = linearsOf(layer).filter(({ name }) => name === "attention/o_proj" || name.endsWith("/down"));
  await streams.takeThrough(model.layers.slice(0, model.layers.indexOf(layer)));
  using weights = await loadLayer(device, model.config, layer);
  using stack = new DisposableStack();
  const sums = await inputSums(streams, weights, linears, "squares", stack);
  for (const linear of linears) scores[linear.name] = await scored(linear, sums.get(linear.name)!, `score layer ${layer.index}`);
  return scores;
}

async function scored({ name, weight }: Linear, { tokens, squares }: InputSums, purpose: string): Promise<ColumnScores> {
  const where = `${purpose}, ${name}`, weights = await finiteWeights(weight, where), [rows, count] = weight.shape;
  const columns = new Float64Array(count);
  for (let i = 0; i < weights.length; i++) columns[i % count] += Math.abs(weights[i]);
  for (let j = 0; j < count; j++) columns[j] *= Math.sqrt(squares![j]) / rows;
  if (columns.every(Number.isFinite)) return { tokens, columns };
  throw new RangeError(`Cannot ${where}: an input that it meets is not finite`);
}

/** Fills in the values of a population of one layer. */
function fill(
  { config: { attention } }: Model,
  { kind, parts, values }: UnitPopulation,
  scores: Record<string, ColumnScores>,
  all: number,
) {
  const own = ({ tokens, columns }: ColumnScores) => columns.map((c) => tokens > 0 ? c / Math.sqrt(tokens) : 0);
  if (kind === "attention groups") {
    const columns = own(scores["attention/o_proj"]), size = columns.length / values.length;
    const heads = attention.kind === "latent" ? 1 : size / attention.width; // of a group
    columns.forEach((c, j) => values[Math.floor(j / size)] += c / heads);
    return;
  }
  const nameOf = ({ of, id }: UnitPart) => of === "expert" ? `experts/${id}/down` : `${of}/down`;
  let at = 0;
  for (const part of parts) {
    const found = scores[nameOf(part)];
    if (kind === "channels") values.set(own(found), at);
    else values[at] = found.columns.reduce((a, b) => a + b, 0) / Math.sqrt(all);
    at += part.units;
  }
}
