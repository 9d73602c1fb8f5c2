/** Whatever goes wrong in a stage, it gives back what it holds. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import * as winnow from "../mod.ts";
import { Scratch } from "../lib/checkpoint/scratch.ts";
import { cpuDevice } from "../lib/device/cpu/cpu_device.ts";
import type { Device } from "../lib/device/device.ts";
import { TARGETS } from "../lib/finetune/adapter_sites.ts";
import { tunedBy } from "./delta/tuned.ts";
import { full } from "./devices.ts";
import { ROUTERS, withModel } from "./small_models.ts";

/** Operations that answer with a promise. */
const WAITING = ["load", "loadExperts", "read", "readIndices", "sync", "fitness", "eigen"];

/** A device whose call number `fatal` fails. */
function failingDevice(device: Device, fatal: number): { device: Device; calls: string[] } {
  const calls: string[] = [];
  const watched = <T extends object>(operations: T): T => {
    const get = (target: Record<string, unknown>, name: string) => {
      const value = target[name];
      if (name === "vjp") return watched(value as object);
      if (typeof value !== "function") return value;
      return (...args: unknown[]) => {
        if (calls.push(name) !== fatal) return value.apply(target, args);
        const error = new Error(`${name} failed`);
        if (WAITING.includes(name)) return Promise.reject(error);
        throw error;
      };
    };
    return new Proxy(operations, { get: get as never });
  };
  return { device: watched(device), calls };
}

/** Places in a stage at which something fails, beside the last call of every operation; with the first router, and with the others. */
const [PLACES, FEW] = full ? [40, 40] : [8, 3];

/** Stages that only call others: with one router, unless there is time for all. */
const COMPOSED = ["ablationLadder", "ablationLadder, learning", "recommended", "trainDecoder, moe", "trainDecoder, peer", "peerFromMoe"];

/** Networks of small decoders. */
const MIDDLES: winnow.DecoderShape["middle"][] = [
  { kind: "moe", experts: 2, topK: 1, intermediate: 2 },
  { kind: "peer", heads: 1, ranks: 2, querySize: 2, keys: 2 },
];

for (const [kind, variant] of Object.entries({ ...ROUTERS, "renormalising, shared expert": "qwen2_moe, old spellings" })) {
  Deno.test(`a stage that fails anywhere gives back all tensors, ${kind} router`, (t) =>
    withModel(variant, async (model, all) => {
      using device = cpuDevice("asked for by a test", undefined);
      const sequences = all.slice(0, 3), budget = { layers: winnow.moeLayers(model).map((l) => ({ layer: l.index, drop: 1 })) };
      using trace = await winnow.calibrate(device, model, sequences);
      using part = await winnow.calibrate(device, model, sequences, { searchTokens: 5 });
      const candidates = await winnow.exhaustiveSearch(device, model, trace, budget);
      const scores = await winnow.leaveOneOut(device, model, trace), ranks = winnow.allocateRanks(scores, { averageRank: 5 });
      const skipping = winnow.skipExperts(model, { layers: budget.layers.map(({ layer }) => ({ layer, share: 0.3 })) });
      const kinds = ["experts", "channels", "attention groups", "layers"] as const;
      const units = winnow.initialProbabilities(await winnow.unitScores(device, model, sequences, { kinds }));
      const structures = [0.6, 0.8].map((keep) => winnow.planByUnits(units, { keep }));
      const tokenizer = { bos: 0, encode: (text: string) => Uint32Array.from(text, (c) => c.charCodeAt(0) % 96), decode: () => "" };
      const items = [{ task: "a", query: "abc", choices: [" de", " f"], gold: 0 }];
      const [{ index, block: { experts: [{ id }] } }] = winnow.moeLayers(model);
      const mixed = { layers: [{ layer: index, experts: [{ expert: id, rank: 3 }], sum: 3, target: 3 }] };
      const partly = { ...await winnow.decomposeExperts(device, model, mixed), tokenizer };
      const tuned = await tunedBy(model, 0.01), delta = await winnow.compressDelta(device, model, tuned, [], { split: [[16, 1]] });
      const recipe = { targets: TARGETS, rank: 2, batch: 2, epochs: 1, dropout: 0.1 }, examples = ["abcdef", "bcd", "cdefg"];
      const mixture = await winnow.trainDecoder(device, sequences.slice(0, 1), {
        ...{ vocabulary: 96, hidden: 4, layers: 1, heads: 1, intermediate: 2, middle: MIDDLES[0] },
      }, { steps: 1 });
      type Run = (device: Device, options: winnow.StageOptions) => Promise<unknown>;
      const stages: Record<string, Run> = {
        calibrate: async (d, o) => (await winnow.calibrate(d, model, sequences, { ...o, searchTokens: 9 }))[Symbol.dispose](),
        "expertStatistics": (d, o) => winnow.expertStatistics(d, model, sequences, o),
        expertSignatures: (d, o) => winnow.expertSignatures(d, model, sequences, o),
        expertsPerToken: (d, o) => winnow.expertsPerToken(d, skipping, sequences, o),
        progressiveSearch: (d, o) => winnow.progressiveSearch(d, model, sequences, budget, o),
        evolveBudget: (d, o) => winnow.evolveBudget(d, model, sequences, scores, { ...o, population: 3, generations: 1 }),
        esap: (d, o) => winnow.esap(d, model, skipping, sequences, o),
        blockInfluence: (d, o) => winnow.blockInfluence(d, model, sequences, o),
        layerSimilarity: (d, o) => winnow.layerSimilarity(d, model, all, { ...o, dims: 1 }),
        "leaveOneOut, kept inputs": (d, o) => winnow.leaveOneOut(d, model, trace, o),
        "leaveOneOut, second walk": (d, o) => winnow.leaveOneOut(d, model, part, o),
        "leaveOneOut, lm": (d, o) => winnow.leaveOneOut(d, model, trace, { ...o, loss: "lm" }),
        "leaveOneOut, relative": (d, o) => winnow.leaveOneOut(d, model, trace, { ...o, loss: "relative" }),
        greedySearch: (d, o) => winnow.greedySearch(d, model, trace, budget, o),
        exhaustiveSearch: (d, o) => winnow.exhaustiveSearch(d, model, trace, budget, o),
        geneticSearch: (d, o) => winnow.geneticSearch(d, model, trace, budget, { ...o, population: 4, generations: 1 }),
        receptionField: (d, o) => winnow.receptionField(d, model, sequences, candidates, { ...o, block: 2, keep: 2 }),
        decomposeExperts: (d, o) => winnow.decomposeExperts(d, model, ranks, o),
        "decomposeExperts, whitened": (d, o) => winnow.decomposeExperts(d, model, ranks, { ...o, whiten: trace }),
        expertSpectra: (d, o) => winnow.expertSpectra(d, model, o),
        "expertSpectra, whitened": (d, o) => winnow.expertSpectra(d, model, { ...o, whiten: trace }),
        deltaExperts: (d, o) => winnow.deltaExperts(d, model, trace, { ...o, share: 0.3 }),
        routerSimilarity: (d, o) => winnow.routerSimilarity(d, model, sequences, o),
        alignExperts: (d, o) => winnow.alignExperts(d, model, { layers: [{ layer: index, clusters: [[0, 2], [3, 1]] }] }, o),
        recommended: async (d, o) => (await winnow.recommended(d, model, sequences, o))[Symbol.dispose](),
        sparsify: (d, o) => winnow.sparsify(d, model, sequences, { ...o, scope: "experts" }),
        "sparsify, SparseGPT": (d, o) => winnow.sparsify(d, partly, sequences, { ...o, carrier: "sparsegpt", blockSize: 16 }),
        deltaSpectra: (d, o) => winnow.deltaSpectra(d, model, tuned, o),
        compressDelta: (d, o) => winnow.compressDelta(d, model, tuned, sequences, { ...o, alpha: 1, split: [[8, 1], [3, 2]] }),
        ...Object.fromEntries(
          [true, false].map((resident) => [`serveDeltas, resident: ${resident}`, async (d: Device, o: winnow.StageOptions) => {
            using server = await winnow.serveDeltas(d, model, { tuned: delta }, { ...o, resident });
            await server.logits([{ model: "tuned", sequence: sequences[0] }], o);
          }]),
        ),
        outlierDistribution: (d, o) => winnow.outlierDistribution(d, model, sequences, o),
        unitScores: (d, o) => winnow.unitScores(d, model, sequences, { ...o, kinds: ["experts", "channels", "layers"] }),
        maskedLosses: (d, o) => winnow.maskedLosses(d, model, sequences, structures, o),
        policyGradientSearch: (d, o) => winnow.policyGradientSearch(d, model, sequences, units, { ...o, steps: 2 }),
        factorLinears: async (d, o) =>
          (await winnow.factorLinears(d, model, sequences, { ...o, ratios: 0.5, multiple: 2, group: 2 }))[Symbol.dispose](),
        allocateRatios: (d, o) => {
          const few = { share: 0.6, slack: 0.4, evaluations: 3, initial: 1, candidates: 5, multiple: 2 };
          return winnow.allocateRatios(d, model, sequences, sequences.slice(0, 2), { ...o, ...few });
        },
        perplexity: (d, o) => winnow.perplexity(d, model, sequences, o),
        documentPerplexity: (d, o) => winnow.documentPerplexity(d, { ...model, tokenizer }, ["abcdef"], { ...o, maxLength: 4 }),
        blockOutputLoss: (d, o) => winnow.blockOutputLoss(d, model, winnow.pruneExperts(model, { layers: [] }), sequences, o),
        ablationLadder: (d, o) =>
          winnow.ablationLadder(d, model, sequences, { ...o, heldOut: sequences, rows: ["all options"], averageRank: 5 }),
        "ablationLadder, learning": (d, o) => {
          const rows = ["+ fine-tuning", "router distillation"], learning = { rows, population: 4, generations: 1, examples, recipe };
          return winnow.ablationLadder(d, { ...model, tokenizer }, sequences, { ...o, ...learning, heldOut: sequences, averageRank: 5 });
        },
        finetune: (d, o) => winnow.finetune(d, partly, examples, { ...o, ...recipe }),
        "finetune, a teacher": (d, o) => winnow.finetune(d, partly, examples, { ...o, ...recipe, targets: ["router"], teacher: model }),
        "finetune, routers regularised": (d, o) => {
          const terms = { entropy: 0.1, balance: 0.1, topK: { to: 1 } };
          return winnow.finetune(d, partly, examples, { ...o, ...recipe, ...terms, targets: ["router"] });
        },
        "finetune, SPP": (d, o) => winnow.finetune(d, partly, examples, { ...o, ...recipe, adapter: "spp", dropout: 0.5 }),
        "finetune, layer by layer": (d, o) => winnow.finetune(d, partly, examples, { ...o, ...recipe, residentBytes: 0 }),
        ...Object.fromEntries(MIDDLES.map((middle) => [`trainDecoder, ${middle.kind}`, (d: Device, o: winnow.StageOptions) => {
          const shape = { vocabulary: 96, hidden: 4, layers: 1, heads: 1, intermediate: 2, middle };
          return winnow.trainDecoder(d, sequences.slice(0, 2), shape, { ...o, steps: 2, measureEvery: 1, heldOut: sequences.slice(1, 2) });
        }])),
        peerFromMoe: (d, o) => winnow.peerFromMoe(d, mixture, sequences.slice(0, 2), { ...o, middle: MIDDLES[1] as never }),
        multipleChoice: (d, o) => winnow.multipleChoice(d, { ...model, tokenizer }, items, o),
      };
      for (const [name, run] of Object.entries(stages)) {
        if (!full && COMPOSED.includes(name) && kind !== "renormalising") continue;
        await t.step(name, async () => {
          const { device: counted, calls } = failingDevice(device, 0);
          await run(counted, {});
          const count = kind === "renormalising" ? PLACES : FEW;
          const places = Array.from({ length: count }, (_, i) => Math.floor(i * calls.length / count));
          for (const place of new Set([...places, ...new Map(calls.map((name, i) => [name, i])).values()])) {
            const fatal = 1 + place;
            const { message } = await assertRejects(() => run(failingDevice(device, fatal).device, {}), Error, "failed");
            assertEquals(device.live.tensors, 0, `after "${message}" in call ${fatal}`);
          }
          for (const last of [1, 2]) {
            const controller = new AbortController();
            let seen = 0;
            const onProgress = () => ++seen === last && controller.abort(new Error("stop"));
            await assertRejects(() => run(device, { signal: controller.signal, onProgress }), Error, "stop");
            assertEquals(device.live.tensors, 0, `after an abort at progress ${last}`);
          }
          await assertRejects(() => run(device, { signal: AbortSignal.abort(new Error("never begun")) }), Error, "never begun");
        });
      }
    }));
}

Deno.test("sparsify() gives its masks back when it fails, else when the model is disposed", () =>
  withModel(ROUTERS["renormalising"], async (model, [sequence]) => {
    using device = cpuDevice("asked for by a test", undefined);
    const options = { carrier: "magnitude" as const }, abort = new AbortController();
    const onProgress = ({ done }: winnow.Progress) => done === 5 && abort.abort(new Error("stop"));
    await assertRejects(() => winnow.sparsify(device, model, [], { ...options, signal: abort.signal, onProgress }), Error, "stop");
    const sparse = await winnow.sparsify(device, model, [], options);
    assert((await winnow.logits(device, sparse, sequence)).length > 0);
    sparse[Symbol.dispose]();
    await assertRejects(() => winnow.logits(device, sparse, sequence), Error, "disposed");
    assertEquals(device.live.tensors, 0);
  }));

Deno.test("decomposeExperts() gives its factors back when it fails, else when the model is disposed", () =>
  withModel(ROUTERS["renormalising"], async (model, [sequence]) => {
    using device = cpuDevice("asked for by a test", undefined);
    const [{ index }] = winnow.moeLayers(model), dispose = Scratch.prototype[Symbol.dispose];
    let disposed = 0;
    Scratch.prototype[Symbol.dispose] = function () {
      disposed++;
      dispose.call(this);
    };
    try {
      const plan = { layers: [{ layer: index, experts: [{ expert: 0, rank: 4 }, { expert: 1, rank: 4 }], sum: 8, target: 8 }] };
      const controller = new AbortController(),
        onProgress = ({ done }: winnow.Progress) => done === 1 && controller.abort(new Error("stop"));
      await assertRejects(() => winnow.decomposeExperts(device, model, plan, { signal: controller.signal, onProgress }), Error, "stop");
      assertEquals(disposed, 1);
      const small = await winnow.decomposeExperts(device, model, plan);
      assert((await winnow.logits(device, small, sequence)).length > 0);
      small[Symbol.dispose]();
      assertEquals(disposed, 2);
      await assertRejects(() => winnow.logits(device, small, sequence), Error, "disposed");
    } finally {
      Scratch.prototype[Symbol.dispose] = dispose;
    }
    assertEquals(device.live.tensors, 0);
  }));
