/**
 * Delta-CoMe.
 *
 * @module
 */

import { Scratch, type Stored } from "../checkpoint/scratch.ts";
import { BYTES, type Device } from "../device/device.ts";
import { modelFingerprint } from "../finetune/fingerprint.ts";
import type { Sequences } from "../model/batch.ts";
import { expectStage } from "../model/expect_stage.ts";
import { loadLayer } from "../model/load_layer.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { advance, pause } from "../model/stage_options.ts";
import { type InputSums, inputSums } from "../sparsify/input_sums.ts";
import { mapLinears } from "../sparsify/linears.ts";
import { ResidualStreams } from "../sparsify/residual_streams.ts";
import { linearRuns } from "../sparsify/linear_runs.ts";
import { type CompressDeltaOptions, inStages, plansOf } from "./compress_options.ts";
import type { ComponentGroup, CompressedDelta, DeltaLinear } from "./compressed_delta.ts";
import { type Components, deltaSvd } from "./delta_svd.ts";
import { tunedSource } from "./delta_values.ts";
import { measuredLinear } from "./measured_linear.ts";
import { restOf } from "./map_rest.ts";
import { differenceOf, type LinearPair, linearPairs } from "./model_pair.ts";
import type { BitPlan } from "./plan_bits.ts";
import { quantiseGroup } from "./quantise_group.ts";

const PURPOSE = "compress a difference";

/**
 * Compresses what tuning changed of a model (Delta-CoMe, arXiv 2406.08903): the difference of each linear (attention projections, dense networks, shared and
 * routed experts) is cut by its singular values, and the vectors of the largest ones get most bits, by {@linkcode planBits}. All other weights are the tuned
 * model's own.
 *
 * Block by block, bits by bits in the order of the split, and within a block in the order in which inputs become final: the vectors are rounded by GPTQ with
 * the inputs that the model gives as far as it is compressed, what is done of the block included. An expert that meets no token is rounded to the nearest. A
 * block's inputs move on once, when all of it is done (the released code moves them once a group of bits).
 *
 * Scales and singular values are float16, so that components below 3e-8 are lost (see `error`); codes and zeros take the bits that they have. With `split: [[16, "rest"]]` this is the plain low-rank cut, which
 * needs no tokens. One layer is on the device at a time, its components in memory up to 512 MiB and in a temporary file beyond; the result is in memory.
 *
 * @param base The model that the tuned one was made from, of the same structure.
 * @param sequences Calibration: token ids, the model's BOS first where it has one.
 * @throws {TypeError} If an argument is none of its kind.
 * @throws {RangeError} If the models differ in more than the numbers of their weights, a linear's weight is not finite, a singular value is more than float16 holds,
 * an option is out of range, or integers are asked for and there are no tokens.
 * @throws {Error} If experts are skipped, constants, or differences from a shared one.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assert } from "@std/assert";
 * using device = await openDevice();
 * const [base, tuned] = await Promise.all(["", "-tuned"].map((end) => openModel(`notebooks/checkpoints/tiny-mixtral${end}`)));
 * const [one, two] = [base, tuned].map((model) => ({ ...model, layers: model.layers.slice(0, 1) }));
 * const { linears } = await compressDelta(device, one, two, [tuned.tokenizer.encode("Fact: Greta Berg lives in Arden.")]);
 * assert(linears.every(({ norm, error }) => error < 0.7 * norm));
 * ```
 */
export async function compressDelta(
  device: Device,
  base: Model,
  tuned: Model,
  sequences: Sequences,
  options: CompressDeltaOptions = {},
): Promise<CompressedDelta> {
  expectStage(device, tuned, PURPOSE, options);
  const layers = linearPairs(base, tuned, PURPOSE), plans = plansOf(layers.flat(), options);
  using streams = new ResidualStreams(device, tuned, sequences, options.signal);
  const integers = [...plans.values()].some(({ groups }) => groups.some(({ bits, count }) => bits <= 8 && count > 0));
  if (integers && streams.tokens === 0) throw new RangeError(`Cannot ${PURPOSE}: there are no tokens`);
  const linears: DeltaLinear[] = [], done: DecoderLayer[] = [], report = reporter(plans, options);
  for (const [l, pairs] of layers.entries()) {
    const made = await compressedLayer(streams, tuned.layers[l], pairs, plans, done, options, report);
    done.push(changed(tuned.layers[l], pairs, made));
    for (const pair of pairs) {
      const { groups, tokens } = made.get(pair)!;
      await pause(options.signal);
      linears.push(await measuredLinear(pair, groups, tokens, PURPOSE));
    }
  }
  await report(0);
  return { base: await modelFingerprint(base), linears, rest: restOf(tuned) };
}

/** What there is of a linear so far. */
interface Progressing {
  groups: ComponentGroup[];
  tokens: number | null;
}

/** The parts of the work that are kept: groups of some linears, in order. */
type KeptGroups = { group: ComponentGroup; tokens: number | null }[];

function reporter(plans: ReadonlyMap<LinearPair, BitPlan>, options: CompressDeltaOptions): (more: number) => Promise<void> {
  const total = [...plans.values()].reduce((sum, { groups }) => sum + groups.filter(({ count }) => count > 0).length, 0);
  let done = 0;
  return (more) => advance(options, { stage: "compress difference", done: done += more, total, unit: "groups" });
}

/** The tuned layer with the linears of the base and what there is of their differences. */
function changed(layer: DecoderLayer, pairs: readonly LinearPair[], made: ReadonlyMap<LinearPair, Progressing>): DecoderLayer {
  const named = new Map(pairs.map((pair) => [pair.name, pair]));
  return mapLinears(layer, ({ name }) => {
    const pair = named.get(name)!;
    return tunedSource(pair.base, made.get(pair)!.groups);
  });
}

async function compressedLayer(
  streams: ResidualStreams,
  layer: DecoderLayer,
  pairs: readonly LinearPair[],
  plans: ReadonlyMap<LinearPair, BitPlan>,
  before: readonly DecoderLayer[],
  { damping = 0.01, groupSize = 128, resume, signal }: CompressDeltaOptions,
  report: (more: number) => Promise<void>,
): Promise<Map<LinearPair, Progressing>> {
  const { device, model } = streams, made = new Map(pairs.map((pair): [LinearPair, Progressing] => [pair, { groups: [], tokens: null }]));
  using scratch = new Scratch();
  const components = componentsOf(device, plans, scratch, report), bitGroups = plans.get(pairs[0])!.groups.length;
  const compute = async (run: readonly LinearPair[], g: number): Promise<KeptGroups> => {
    const bits = plans.get(run[0])!.groups[g].bits, kept: KeptGroups = [];
    using stack = new DisposableStack();
    let sums: Map<string, InputSums> | undefined;
    if (bits <= 8) {
      await streams.takeThrough(before);
      const weights = stack.use(await loadLayer(device, model.config, changed(layer, pairs, made)));
      sums = await inputSums(streams, weights, run.map(({ name, base: weight }) => ({ name, weight })), "products", stack);
    }
    for (const pair of run) {
      await report(0);
      const part = await components(pair, g), sum = sums?.get(pair.name), largest = part.singularValues[0];
      if (bits !== 32 && Math.f16round(largest) === Infinity) {
        throw new RangeError(
          `Cannot ${PURPOSE} of layer ${layer.index}, ${pair.name}: its singular value ${largest} is more than float16 holds; use a split of 32 bits`,
        );
      }
      kept.push({
        group: await quantiseGroup(device, part, sum?.products, { bits, groupSize, damping, signal }),
        tokens: sum?.tokens ?? (sums ? 0 : null),
      });
    }
    return kept;
  };
  for (let g = 0; g < bitGroups; g++) {
    for (const [s, stage] of inStages(pairs.filter((pair) => plans.get(pair)!.groups[g].count > 0)).entries()) {
      const weighed = stage.map((pair) => ({ name: pair.name, weight: pair.base, pair }));
      for (const [r, run] of linearRuns(weighed, BYTES.F32).entries()) {
        const name = `layer ${layer.index}, bits ${g}, stage ${s}, run ${r}`, mine = run.map(({ pair }) => pair);
        const known = await resume?.get(name) as KeptGroups | undefined, kept = known ?? await compute(mine, g);
        if (!known) await resume?.put(name, kept);
        for (const [i, pair] of mine.entries()) {
          const { groups, tokens } = made.get(pair)!, { group, tokens: met } = kept[i];
          made.set(pair, { groups: [...groups, group], tokens: met ?? tokens });
        }
        await report(mine.length);
      }
    }
  }
  return made;
}

/** Gives the components of a group of a linear; all of a linear's are worked out when the first are asked for, and put aside. */
function componentsOf(
  device: Device,
  plans: ReadonlyMap<LinearPair, BitPlan>,
  scratch: Scratch,
  report: (more: number) => Promise<void>,
): (pair: LinearPair, g: number) => Promise<Components> {
  const found = new Map<LinearPair, { columns: Stored; rows: Stored; singularValues: Float64Array }>();
  return async (pair, g) => {
    const { groups, rank } = plans.get(pair)!, [rows, columns] = pair.base.shape;
    const first = groups.slice(0, g).reduce((sum, { count }) => sum + count, 0), { count } = groups[g];
    if (!found.has(pair)) {
      await report(0);
      const { left, singularValues, right } = await deltaSvd(device, await differenceOf(pair, PURPOSE), [rows, columns], rank);
      found.set(pair, { columns: await scratch.store(left), rows: await scratch.store(right), singularValues });
    }
    const kept = found.get(pair)!, all = new Float32Array(rows * rank), right = new Float32Array(count * columns);
    await kept.columns.read(0, all), await kept.rows.read(first * columns, right);
    const left = new Float32Array(rows * count);
    for (let i = 0; i < rows; i++) left.set(all.subarray(i * rank + first, i * rank + first + count), i * count);
    return { left, singularValues: kept.singularValues.slice(first, first + count), right };
  };
}
