/** Stages that were stopped go on where they were, to the same bits. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import * as winnow from "../mod.ts";
import { readWide } from "../lib/checkpoint/read_wide.ts";
import type { Device, MatrixSource, TensorSource } from "../lib/device/device.ts";
import { matrixParts } from "../lib/device/matrix_parts.ts";
import { openDevice } from "../lib/device/open_device.ts";
import { measure } from "../lib/evaluate/measure.ts";
import { type Batch, batchSequences } from "../lib/model/batch.ts";
import type { BasedSource } from "../lib/model/based_source.ts";
import { forwardLayer } from "../lib/model/decoder_layer.ts";
import { loadLayer } from "../lib/model/load_layer.ts";
import { passStreams } from "../lib/model/pass_streams.ts";
import { linearsOf } from "../lib/sparsify/linears.ts";
import { tunedBy } from "./delta/tuned.ts";
import { testOnDevices } from "./devices.ts";
import { openFixture } from "./fixtures.ts";
import { ROUTERS, withModel } from "./small_models.ts";
import { replaced } from "./replaced.ts";

/** Keeps clones of plain data in memory, and calls `onPut` after each. */
class Kept implements winnow.Resume {
  readonly parts = new Map<string, unknown>();
  readonly puts: string[] = [];
  onPut: (count: number, part: string) => void | Promise<void> = () => {};

  get(part: string): Promise<unknown> {
    return Promise.resolve(structuredClone(this.parts.get(part)));
  }

  async put(part: string, value: unknown): Promise<void> {
    assert(isPlain(value), `part "${part}" is not plain data`);
    this.parts.set(part, structuredClone(value));
    await this.onPut(this.puts.push(part), part);
  }

  /** Names of parts that are not put in place of others, in order. */
  get finished(): string[] {
    return this.puts.filter((part) => !part.endsWith("streams"));
  }
}

function isPlain(value: unknown): boolean {
  if (value === null || ["boolean", "number", "string"].includes(typeof value)) return true;
  if ([Float32Array, Float64Array, Uint32Array].some((kind) => value instanceof kind)) return true;
  if (Array.isArray(value)) return value.every(isPlain);
  return typeof value === "object" && Object.getPrototypeOf(value) === Object.prototype && Object.values(value).every(isPlain);
}

/** Text that two values share only if all their numbers have the same bits. */
function bitsOf(value: unknown): string {
  return JSON.stringify(value, (_, part) => {
    if (typeof part === "number") return new Uint8Array(Float64Array.of(part).buffer).toHex();
    return ArrayBuffer.isView(part)
      ? `${part.constructor.name} ${new Uint8Array(part.buffer, part.byteOffset, part.byteLength).toHex()}`
      : part;
  });
}

/** What a device does beside computing. */
const TRANSFERS: (keyof Device)[] = ["tensor", "read", "readIndices", "sync"];

/** Counts what a device computes. */
function counted(device: Device): { device: Device; calls: () => number } {
  let calls = 0;
  const get = (target: Device, name: keyof Device) => {
    const value = target[name];
    if (typeof value !== "function") return value;
    return (...args: unknown[]) => {
      if (!TRANSFERS.includes(name)) calls++;
      return (value as (...args: unknown[]) => unknown).apply(target, args);
    };
  };
  return { device: new Proxy(device, { get: get as never }), calls: () => calls };
}

type Run = (device: Device, options: winnow.StageOptions) => Promise<unknown>;

/** At most `most` of the numbers from 1 to `count`, first and last among them. */
function sample(count: number, most: number): number[] {
  return [...new Set(Array.from({ length: most }, (_, i) => 1 + Math.round(i * (count - 1) / (most - 1))))];
}

/** Runs a stage until it has put so many parts, and whether it got there: how often streams are put depends on time. */
async function stopped(run: () => Promise<unknown>): Promise<boolean> {
  try {
    await run();
    return false;
  } catch (error) {
    assertEquals((error as Error).message, "stop");
    return true;
  }
}

/** Stops a stage after some of its puts, by the signal or by an exception, and runs it again. */
async function assertResumes(device: Device, run: Run, most: number): Promise<void> {
  const plain = counted(device), want = bitsOf(await run(plain.device, {})), whole = new Kept();
  assertEquals(bitsOf(await run(device, { resume: whole })), want, "nothing changes where parts are kept");
  assert(whole.puts.length > 1, "the stage has parts");
  assertEquals(new Set(whole.finished).size, whole.finished.length, "names of parts are not used twice");
  for (const last of sample(whole.puts.length, most)) {
    const kept = new Kept(), controller = new AbortController(), what = `after a stop at part ${last} of ${whole.puts.length}`;
    kept.onPut = (count) => {
      if (count < last) return;
      if (last % 2 === 1) throw new Error("stop"); // streams have not been put since what was found
      controller.abort(new Error("stop"));
    };
    const early = await stopped(() => run(device, { resume: kept, signal: controller.signal }));
    assert(early ? kept.puts.length - last <= 1 : kept.puts.length < last, `${kept.puts.length} parts ${what}`);
    assertEquals(device.live.tensors, 0, what);
    kept.onPut = () => {};
    const again = counted(device), seen: winnow.Progress[] = [];
    assertEquals(bitsOf(await run(again.device, { resume: kept, onProgress: (p) => void seen.push(p) })), want, what);
    // What was found at the first layer may be nothing, and the streams behind it are the second part.
    assert(again.calls() - plain.calls() < (last > 1 ? 0 : 1), `${again.calls()} calls ${what}, ${plain.calls()} without one`);
    assertEquals(kept.finished, whole.finished, "each part is made once");
    for (const [i, { stage, done, total }] of seen.entries()) {
      assert(i === 0 || seen[i - 1].stage !== stage || seen[i - 1].done <= done, `${stage} falls back to ${done} ${what}`);
      assert(i < seen.length - 1 || done === total, `${stage} ends at ${done} ${what}`);
    }
  }
  assertEquals(device.live.tensors, 0);
}

async function traceData({ layers, tokens }: winnow.Trace): Promise<unknown> {
  const data = [];
  for (const { inputs, ...rest } of layers) {
    const values = new Float32Array(inputs.tokens * inputs.hidden);
    await inputs.read(0, values);
    data.push({ ...rest, values });
  }
  return { tokens, data };
}

async function weightsOf(model: winnow.DecomposedModel): Promise<unknown> {
  const read = async ({ shape, read }: TensorSource) => {
    const bytes = new Uint8Array(shape.reduce((a, b) => a * b, 4));
    await read(bytes);
    return { shape, bytes };
  };
  const weights = [];
  for (const { index, block } of winnow.moeLayers(model)) {
    for (const { id, gate, up, down } of block.experts) {
      for (const matrix of [gate, up, down] as MatrixSource[]) {
        const product = "terms" in matrix ? (matrix as BasedSource).terms : matrix;
        if ("left" in product) weights.push({ index, id, left: await read(product.left), right: await read(product.right) });
      }
    }
  }
  return { decomposition: model.decomposition, weights };
}

async function linearsIn(model: winnow.SparseModel): Promise<unknown> {
  const weights = await Promise.all(model.layers.flatMap((layer) => linearsOf(layer).map(({ weight }) => readWide(weight))));
  return [model.sparsification, weights];
}

Deno.test("a stage that is stopped at any part goes on from there to the same bits", async (t) => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration, items } = await openFixture("tiny-deepseek-v2"), { tokenizer } = model;
  const sequences = calibration.slice(0, 3).map((ids, i) => ids.slice(0, 12 + 5 * i)),
    texts = sequences.map((ids) => tokenizer.decode(ids));
  const budget = { layers: winnow.moeLayers(model).map((l, i) => ({ layer: l.index, drop: i === 1 ? 0 : 2 })) };
  using trace = await winnow.calibrate(device, model, sequences);
  using part = await winnow.calibrate(device, model, sequences, { searchTokens: 5 });
  const scores = await winnow.leaveOneOut(device, model, trace), ranks = winnow.allocateRanks(scores, { averageRank: 6 });
  const skipping = winnow.skipExperts(model, { layers: budget.layers.map(({ layer }) => ({ layer, share: 0.3 })) });
  const few = { layers: ranks.layers.map((l) => ({ ...l, experts: l.experts.slice(1, 4) })) };
  const less = winnow.pruneExperts({ ...model, layers: model.layers.slice(0, 3) }, {
    layers: [1, 2].map((layer) => ({ layer, drop: Array.from({ length: 12 }, (_, i) => i) })),
  });
  const tuned = await tunedBy(less, 0.01);
  using traceOfLess = await winnow.calibrate(device, less, sequences);
  const candidates = await winnow.greedySearch(device, model, trace, budget);
  const pruned = winnow.pruneExperts(model, { layers: [{ layer: 1, drop: [0, 3] }] }), [one, two] = ["compare", "add"];
  const tasks = [one, two].map((task) => ({
    ...{ task, version: 1, dataset: "by hand", config: "default", split: "test", metrics: ["acc"] as const },
    items: items.filter((item) => item.task === task).slice(0, 2),
  }));
  const some = tasks.flatMap(({ items }) => items), heldOut = sequences.slice(0, 2);
  const units = winnow.initialProbabilities(await winnow.unitScores(device, model, sequences, { kinds: ["experts", "attention groups"] }));
  const structures = [0.5, 0.75].map((keep) => winnow.planByUnits(units, { keep }));
  const stages: Record<string, Run> = {
    calibrate: async (d, o) => {
      using made = await winnow.calibrate(d, model, sequences, { ...o, searchTokens: 20 });
      return await traceData(made);
    },
    "expertStatistics": (d, o) => winnow.expertStatistics(d, model, sequences, o),
    expertSignatures: (d, o) => winnow.expertSignatures(d, model, sequences, o),
    expertsPerToken: (d, o) => winnow.expertsPerToken(d, skipping, sequences, o),
    progressiveSearch: (d, o) => winnow.progressiveSearch(d, model, sequences, budget, o),
    evolveBudget: (d, o) => winnow.evolveBudget(d, model, sequences, scores, { ...o, population: 3, generations: 2 }),
    esap: (d, o) => winnow.esap(d, model, skipping, sequences, o),
    blockInfluence: (d, o) => winnow.blockInfluence(d, model, sequences, o),
    layerSimilarity: (d, o) => winnow.layerSimilarity(d, model, [...sequences, ...texts.map((_, i) => calibration[4 + i])], o),
    "leaveOneOut, kept inputs": (d, o) => winnow.leaveOneOut(d, model, trace, { ...o, batch: 1 }),
    "leaveOneOut, kept inputs, relative": (d, o) => winnow.leaveOneOut(d, model, trace, { ...o, batch: 2, loss: "relative" }),
    "leaveOneOut, second walk": (d, o) => winnow.leaveOneOut(d, model, part, { ...o, batch: 1, layers: [3, 1] }),
    "leaveOneOut, second walk, relative": (d, o) => winnow.leaveOneOut(d, model, part, { ...o, batch: 2, loss: "relative" }),
    "leaveOneOut, lm": (d, o) => winnow.leaveOneOut(d, model, trace, { ...o, batch: 1, loss: "lm", layers: [3, 1] }),
    geneticSearch: (d, o) => winnow.geneticSearch(d, model, trace, budget, { ...o, population: 6, generations: 2 }),
    greedySearch: (d, o) => winnow.greedySearch(d, model, trace, budget, o),
    exhaustiveSearch: (d, o) => winnow.exhaustiveSearch(d, model, trace, budget, o),
    receptionField: (d, o) => winnow.receptionField(d, model, sequences, candidates, { ...o, block: 1, keep: 2 }),
    "receptionField, not sequential": (d, o) =>
      winnow.receptionField(d, model, sequences, candidates, { ...o, block: 2, sequential: false }),
    decomposeExperts: async (d, o) => {
      using made = await winnow.decomposeExperts(d, model, few, o);
      return await weightsOf(made);
    },
    "decomposeExperts, whitened": async (d, o) => {
      using made = await winnow.decomposeExperts(d, model, few, { ...o, whiten: trace });
      return await weightsOf(made);
    },
    expertSpectra: (d, o) => winnow.expertSpectra(d, less, o),
    "expertSpectra, whitened": (d, o) => winnow.expertSpectra(d, less, { ...o, whiten: traceOfLess }),
    deltaExperts: async (d, o) => {
      using made = await winnow.deltaExperts(d, less, traceOfLess, { ...o, share: 0.1 });
      return await weightsOf(made);
    },
    routerSimilarity: (d, o) => winnow.routerSimilarity(d, model, sequences, o),
    alignExperts: (d, o) => winnow.alignExperts(d, model, { layers: [{ layer: 2, clusters: [[5, 0, 9], [1, 4, 2]] }] }, o),
    recommended: async (d, o) => {
      using made = await winnow.recommended(d, less, sequences, o);
      return [made.ranks, await weightsOf(made)];
    },
    sparsify: async (d, o) => {
      using made = await winnow.sparsify(d, less, sequences, { ...o, carrier: "wanda", pattern: { n: 2, m: 4 } });
      return await linearsIn(made);
    },
    "sparsify, SparseGPT": async (d, o) => {
      using made = await winnow.sparsify(d, less, sequences, { ...o, carrier: "sparsegpt", scope: "experts", blockSize: 16 });
      return await linearsIn(made);
    },
    factorLinears: async (d, o) => {
      using made = await winnow.factorLinears(d, less, sequences, { ...o, ratios: 0.5, group: 2 });
      const weights = [];
      for (const { attention, block } of made.layers) {
        const matrices = block.kind === "dense"
          ? []
          : block.experts.flatMap(({ gate, up, down, biases }) => [gate, up, down, ...Object.values(biases ?? {})]);
        for (const matrix of [...Object.values(attention), ...matrices]) {
          for (const part of matrixParts(matrix)) weights.push(await readWide(part));
        }
      }
      return [made.factorization, weights];
    },
    allocateRatios: (d, o) => {
      const few = { share: 0.7, slack: 0.5, evaluations: 4, initial: 1, candidates: 10 };
      return winnow.allocateRatios(d, less, sequences, sequences.slice(1), { ...o, ...few });
    },
    bayesianSearch: async (d, o) => {
      const { best, evaluated } = await winnow.bayesianSearch(
        async ([x, y]) => {
          using point = d.tensor(Float32Array.of(x, y), [1, 2]);
          using squares = d.squares(point);
          return (await d.read(squares))[0];
        },
        { bounds: [[-1, 2], [-2, 1]] },
        { ...o, evaluations: 6, initial: 2, candidates: 10 },
      );
      return [best, evaluated];
    },
    deltaSpectra: (d, o) => winnow.deltaSpectra(d, less, tuned, o),
    compressDelta: async (d, o) => {
      const split = [[8, 1], [3, 2], [16, 1]] as const;
      return (await winnow.compressDelta(d, less, tuned, sequences, { ...o, alpha: 1, split })).linears;
    },
    outlierDistribution: (d, o) => winnow.outlierDistribution(d, model, sequences, o),
    unitScores: (d, o) => winnow.unitScores(d, model, sequences, { ...o, kinds: ["experts", "channels", "attention groups", "layers"] }),
    maskedLosses: (d, o) => winnow.maskedLosses(d, model, sequences, structures, o),
    policyGradientSearch: (d, o) => winnow.policyGradientSearch(d, model, sequences, units, { ...o, steps: 5, samples: 3, batch: 1 }),
    logits: (d, o) => winnow.logits(d, model, sequences[0], o),
    perplexity: (d, o) => winnow.perplexity(d, model, sequences, o),
    blockPerplexity: (d, o) => winnow.blockPerplexity(d, model, texts, { ...o, length: 8 }),
    documentPerplexity: (d, o) => winnow.documentPerplexity(d, model, texts, { ...o, maxLength: 9 }),
    multipleChoice: (d, o) => winnow.multipleChoice(d, model, some, o),
    evaluateTasks: (d, o) => winnow.evaluateTasks(d, model, tasks, o),
    evaluate: (d, o) => winnow.evaluate(d, model, { ...o, heldOut, items: some }),
    blockOutputLoss: (d, o) => winnow.blockOutputLoss(d, model, pruned, sequences, { ...o, block: 1 }),
    trainDecoder: (d, o) => {
      const middle = { kind: "peer" as const, heads: 2, ranks: 2, querySize: 4, keys: 3 };
      const shape = { vocabulary: 1024, hidden: 8, layers: 1, heads: 2, intermediate: 4, middle };
      return winnow.trainDecoder(d, sequences, shape, { ...o, steps: 6, batch: 2, measureEvery: 2, heldOut });
    },
    measure: (d, o) => measure(d, model, pruned, sequences, { ...o, heldOut, items: some, block: 2 }),
  };
  for (const [name, run] of Object.entries(stages)) {
    await t.step(name, () => assertResumes(device, run, 6));
  }
});

testOnDevices(
  "calibrate() goes on where it was stopped",
  (device) =>
    withModel(ROUTERS["group-limited, scaled"], async (model, sequences) => {
      const run: Run = async (d, o) => {
        using made = await winnow.calibrate(d, model, sequences.slice(0, 3), o);
        return await traceData(made);
      };
      await assertResumes(device, run, 4);
    }),
);

/** Σ of squares of each stream after every other layer, of groups of one batch and two. */
async function squaresOf(device: Device, model: winnow.Model, batches: Batch[], options: winnow.StageOptions): Promise<number[]> {
  const squares: number[] = [];
  await passStreams<winnow.DecoderLayer, number>(device, {
    ...options,
    ...{ stage: "test", unit: "layers", batches, groups: [[0], [1, 2]], models: [model, model], steps: model.layers },
    finds: ({ index }) => index % 2 === 1,
    found: (square) => void squares.push(square),
    forward: async (layer, streams, find) => {
      using weights = await loadLayer(device, model.config, layer);
      for (const { batch, hidden } of streams) {
        for (const stream of hidden) {
          forwardLayer(device, model.config, weights, stream, batches[batch].segments);
          if (!find) continue;
          using rows = device.squares(stream);
          await find((await device.read(rows)).reduce((a, b) => a + b));
        }
      }
    },
  });
  return squares;
}

Deno.test("streams in several groups go on from the latest that were kept, or from the beginning", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral");
  const batches = calibration.slice(0, 3).flatMap((ids) => batchSequences(model.config, [ids.slice(0, 6)], 6));
  const plain = counted(device), want = await squaresOf(plain.device, model, batches, {}), whole = new Kept();
  assertEquals(await squaresOf(device, model, batches, { resume: whole }), want);
  assertEquals(whole.finished, [2, 4, 6, 8].map((n) => `layers ${n} of 8`));
  assertEquals(whole.parts.get("streams"), { taken: 0, values: [] }, "the last streams are given back");
  // Some are not kept: writing takes long. Some are damaged: then they are not there.
  const damages: Record<string, (kept: Kept) => void> = {
    nothing: () => {},
    "the streams": ({ parts }) => parts.delete("streams"),
    "the latest part": ({ parts, finished }) => finished.length > 0 && parts.delete(finished.at(-1)!),
    "the first part": ({ parts, finished }) => finished.length > 0 && parts.delete(finished[0]),
  };
  for (const seconds of [0, 0.02]) {
    for (const [what, damage] of Object.entries(damages)) {
      for (const last of sample(whole.puts.length, seconds > 0 ? 5 : whole.puts.length)) {
        const kept = new Kept();
        kept.onPut = async (count, part) => {
          if (part === "streams") await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
          if (count === last) throw new Error("stop");
        };
        const early = await stopped(() => squaresOf(device, model, batches, { resume: kept }));
        assert(early || kept.puts.length < last, `stopped at part ${last}`);
        kept.onPut = () => {};
        damage(kept);
        const again = counted(device);
        assertEquals(await squaresOf(again.device, model, batches, { resume: kept }), want, `without ${what} after part ${last}`);
        assert(
          what !== "nothing" || again.calls() < plain.calls(),
          `${again.calls()} calls after part ${last}, ${plain.calls()} without a stop`,
        );
      }
    }
  }
});

Deno.test("progress begins at what is kept", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), kept = new Kept(), tokens = [calibration[0].slice(0, 9)];
  kept.onPut = (_, part) => {
    if (part === "streams" && kept.finished.length === 3) throw new Error("stop");
  };
  {
    using _clock = replaced(performance, "now", () => 0); // nothing takes time: streams are kept behind every layer
    await assertRejects(() => winnow.calibrate(device, model, tokens, { resume: kept }), Error, "stop");
  }
  const seen: string[] = [], onProgress = ({ done, total }: winnow.Progress) => void seen.push(`${done}/${total}`);
  const trace = await winnow.calibrate(device, model, tokens, { resume: kept, onProgress });
  trace[Symbol.dispose]();
  assertEquals(seen, ["3/4", "4/4"]);
});
