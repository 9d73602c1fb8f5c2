/** Notebooks check no types. */

import { assert, assertEquals } from "@std/assert";
import * as winnow from "../mod.ts";
import { folderOf, openFixture } from "./fixtures.ts";

/** What an engine says when it is handed the wrong thing. */
const ENGINE =
  /Cannot (read|set) propert|Cannot destructure|Cannot convert|Cannot use 'in'|Cannot mix|is not (a function|iterable|an object|valid JSON|a constructor)|Invalid (typed )?array|must be of type|BigInt|allocation failed|NUL byte/;

/** In the place of anything. */
const JUNK: unknown[] = [undefined, null, Promise.resolve(), {}, [], [undefined], 5, NaN, 2 ** 40, 1n, "text", "\0", ["text"], {
  layers: 5,
}, {
  layers: [null],
}, {
  layers: [{ layer: 0 }],
}];

/** What a fine-tuning may be told. */
const MOST_OPTIONS = {
  ...{
    rank: 1,
    alpha: 1,
    dropout: 0,
    targets: ["attention"],
    learningRate: 1e-3,
    batch: 1,
    epochs: 1,
    warmup: 0,
    schedule: "linear",
    clip: 1,
  },
  ...{ weightDecay: 0, seed: 0, maxLength: 8, entropy: 0, balance: 0, topK: { to: 1, over: 1 }, checkpointEvery: 5, residentBytes: 0 },
} satisfies winnow.FinetuneOptions;

/** A decoder with a mixture of experts, trained for a step, and a PEER layer. */
async function smallDecoder(device: winnow.Device) {
  const shape = {
    vocabulary: 1024,
    hidden: 4,
    layers: 1,
    heads: 1,
    intermediate: 2,
    middle: { kind: "moe" as const, experts: 2, topK: 1, intermediate: 2 },
  };
  const middle = { kind: "peer" as const, heads: 1, ranks: 1, querySize: 2, keys: 2 },
    numbers = (length: number) => new Float32Array(length).fill(1);
  const weights = {
    "queries.first": numbers(4),
    "queries.second": numbers(4),
    "keys.first": numbers(2),
    "keys.second": numbers(2),
    up: numbers(16),
    down: numbers(16),
  };
  const moments = { first: numbers(2), second: numbers(2) }, { kind: _, ...sizes } = middle;
  const decoder = await winnow.trainDecoder(device, [Uint32Array.of(0, 5, 7)], shape, { steps: 1 });
  return { decoder, shape, middle, layer: { ...sizes, hidden: 4, activation: "relu" as const, batchNorm: true, weights, moments } };
}

Deno.test("no public function lets a message of the engine through, whatever it is given", async (t) => {
  using device = await winnow.openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"), tokens = [calibration[0].subarray(0, 8)];
  using trace = await winnow.calibrate(device, model, tokens);
  const scores = await winnow.leaveOneOut(device, model, trace), budget = winnow.pruningBudget(scores);
  const candidates = await winnow.exhaustiveSearch(device, model, trace, budget);
  const item = { task: "compare", query: "Compare:", choices: [" yes", " no"], gold: 0 };
  const small = { layers: [{ layer: 0, experts: [{ expert: 0, rank: 4 }], sum: 4, target: 4 }] }, folder = await Deno.makeTempDir();
  const raw = JSON.parse(await Deno.readTextFile(`${folderOf("tiny-mixtral")}/config.json`));
  const spectra = await winnow.expertSpectra(device, model), statistics = await winnow.expertStatistics(device, model, tokens);
  const thresholds = winnow.skipThresholds(statistics);
  const evolve = (device: winnow.Device, model: winnow.Model, tokens: winnow.Sequences, scores: winnow.ExpertScores) =>
    winnow.evolveBudget(device, model, tokens, scores, { population: 2, generations: 1 });
  const ladder = await winnow.ablationLadder(device, model, tokens, { heldOut: tokens, rows: ["least important"] });
  const evaluation = { perplexity: 2, tasks: [], parameters: 1, bytes: 2, activeParameters: 1 };
  const save = (model: winnow.Model, record?: winnow.Provenance) => winnow.saveModel(model, `${folder}/model`, { overwrite: true, record });
  const several = Array.from({ length: 6 }, (_, i) => calibration[i].subarray(0, 4)), merges = [{ keep: 2, absorb: 3, ratio: 0.5 }];
  const similarity = await winnow.layerSimilarity(device, model, several);
  const task = { task: "compare", version: 1, dataset: "", config: "", split: "", metrics: ["acc" as const], items: [item] };
  const blocks = (device: winnow.Device, model: winnow.Model, texts: string[]) =>
    winnow.blockPerplexity(device, model, texts, { length: 5 });
  const texts = ["Sum: 12 + 30 = 42."], tune = winnow.finetune;
  const tuned = await tune(device, model, texts, { rank: 1, targets: ["attention"], epochs: 1 }), { adapters } = tuned;
  const plan = { layers: [{ layer: 0, drop: [1] }] }, clusters = { layers: [{ layer: 0, clusters: [[1, 2]] }] };
  const features = { layers: scores.layers.map(({ layer, experts, scores }) => ({ layer, experts, means: scores })) };
  const fewRanks = { layers: [{ layer: 0, experts: scores.layers[0].experts.map((expert) => ({ expert, rank: 1 })), sum: 8, target: 8 }] };
  const outliers = await winnow.outlierDistribution(device, model, tokens);
  const space: winnow.SearchSpace = { bounds: [[0, 1]], cost: ([x]) => x, costs: [0, 0.5] };
  const search = (objective: (point: readonly number[]) => number, space: winnow.SearchSpace) =>
    winnow.bayesianSearch(objective, space, { evaluations: 2 });
  const allocate = (device: winnow.Device, model: winnow.Model, tokens: winnow.Sequences, validation: winnow.Sequences) =>
    winnow.allocateRatios(device, model, tokens, validation, { evaluations: 1 });
  const allocation = await allocate(device, model, tokens, tokens);
  using factored = await winnow.factorLinears(device, model, tokens);
  const block = { layers: [0], choice: [0], loss: 1, firstChoices: 1, combinations: 3 },
    stage: winnow.StageStatus = { name: "plan", state: "fresh", stored: true, inputs: [] };
  const run = {
    title: "A run",
    sections: [{ shown: winnow.stageTable({}) }],
    lineage: { stages: [stage], edges: [] },
    stages: [stage],
    recipe: "",
    versions: {},
  };
  using flow = await winnow.openFlow({ device, store: `${folder}/store`, onWarning: () => {} });
  const one = flow.stage("one", { version: 1, run: () => 1 }),
    definition = { version: 1, inputs: { one }, options: { two: 2 }, run: () => 3 };
  await flow.run(one);
  const defined = (name: string) => (value: never) => flow.stage("next", { ...definition, [name]: value });
  const worth = await winnow.unitScores(device, model, tokens, { kinds: ["attention groups"] }), probabilities = Float64Array.of(0.5, 0.25);
  const masks = [Uint8Array.of(1, 0), Uint8Array.of(0, 1)],
    likely = winnow.initialProbabilities(worth),
    learned = await winnow.policyGradientSearch(device, model, tokens, likely, { steps: 1 });
  const structures: winnow.StructurePlan = { layers: [{ layer: 0, groups: [1], channels: [{ of: "expert", id: 2, drop: [0] }] }] };
  const explore = (device: winnow.Device, model: winnow.Model, tokens: winnow.Sequences, initial: winnow.UnitProbabilities) =>
    winnow.policyGradientSearch(device, model, tokens, initial, { steps: 1 });
  const { decoder, shape, layer, middle } = await smallDecoder(device), learn = winnow.trainDecoder;
  const shallow = { ...model, layers: model.layers.slice(0, 1) }, delta = await winnow.bitDelta(shallow, shallow);
  const lowRank = await winnow.compressDelta(device, shallow, shallow, [], { split: [[16, 1]] });
  const serve = async (device: winnow.Device, base: winnow.Model, deltas: Record<string, winnow.CompressedDelta>) =>
    (await winnow.serveDeltas(device, base, deltas))[Symbol.dispose]();
  /** A good call of each function; one argument at a time is replaced. */
  const calls: [(...args: never[]) => unknown, unknown[]][] = [
    [winnow.openModel, [folderOf("tiny-mixtral")]],
    [save, [model, { scores, candidates, seed: 0, options: {} }]],
    [(scores: winnow.ExpertScores) => save(model, { scores }), [scores]],
    [(candidates: winnow.Candidates) => save(model, { candidates }), [candidates]],
    [winnow.readRecord, [`${folder}/model`]],
    [winnow.recipeHash, [{ ratio: 0.25 }]],
    [winnow.planByScores, [scores, budget, candidates]],
    [winnow.projectUniform, [plan, scores]],
    [winnow.keptScores, [scores, plan]],
    [winnow.logits, [device, model, tokens[0]]],
    [winnow.moeLayers, [model]],
    [winnow.parseConfig, [raw]],
    [winnow.calibrationTokens, [model.tokenizer, ["Sum: 12 + 30 = 42."]]],
    [winnow.calibrate, [device, model, tokens]],
    [winnow.leaveOneOut, [device, model, trace]],
    [winnow.expertStatistics, [device, model, tokens]],
    [winnow.scoreExperts, [statistics, "REAP"]],
    [winnow.aimer, [model]],
    [winnow.randomScores, [model]],
    [winnow.expertSignatures, [device, model, tokens]],
    [winnow.superExperts, [statistics]],
    [winnow.skipThresholds, [statistics]],
    [winnow.skipExperts, [model, thresholds]],
    [winnow.expertsPerToken, [device, model, tokens]],
    [winnow.esap, [device, model, model, tokens]],
    [winnow.progressiveSearch, [device, model, tokens, budget]],
    [evolve, [device, model, tokens, scores]],
    [(protect: winnow.ProtectedExperts) => winnow.planByScores(scores, budget, candidates, { protect }), [{
      layers: [{ layer: 0, experts: [1] }],
    }]],
    [(protect: winnow.ProtectedExperts) => winnow.pruningBudget(scores, { protect }), [{ layers: [{ layer: 0, experts: [1] }] }]],
    [winnow.blockInfluence, [device, model, tokens]],
    [winnow.layerSimilarity, [device, model, several]],
    [winnow.diffusionMap, [[0, 1, 5], 1, { sigma: 1, alpha: 0.5, dims: 1 }]],
    ...(["sigma", "alpha", "dims"] as const).map((name) =>
      [(value: never) => winnow.diffusionMap([0, 1, 5], 1, { [name]: value }), [1]] as (typeof calls)[number]
    ),
    [winnow.copulaInformation, [Float64Array.of(1, 2, 3), Float64Array.of(3, 1, 2), 1]],
    [winnow.mergePlan, [similarity, { layers: 1, ratio: 0.5 }]],
    [winnow.mergeLayers, [model, merges]],
    ...(["keep", "absorb", "ratio"] as const).map((name) =>
      [(value: never) => winnow.mergeLayers(model, [{ ...merges[0], [name]: value }]), [merges[0][name]]] as (typeof calls)[number]
    ),
    [winnow.displayed, [winnow.stageTable({})]],
    [winnow.similarityMap, [similarity, { plan: merges }]],
    [(plan: winnow.LayerMerge[]) => winnow.similarityMap(similarity, { plan }), [merges]],
    [winnow.influenceBars, [similarity]],
    [winnow.pruningBudget, [scores]],
    [winnow.exhaustiveSearch, [device, model, trace, budget]],
    [winnow.geneticSearch, [device, model, trace, budget]],
    [winnow.greedySearch, [device, model, trace, budget]],
    [winnow.receptionField, [device, model, tokens, candidates]],
    [winnow.pruneExperts, [model, plan]],
    [winnow.changeTopK, [model, 1]],
    [winnow.annealTopK, [3, { from: 4, to: 2, steps: 6 }]],
    [winnow.allocateRanks, [scores, { averageRank: 16 }]],
    [winnow.decomposeExperts, [device, model, small]],
    [winnow.expertSpectra, [device, model]],
    [winnow.deltaExperts, [device, model, trace, { ranks: fewRanks }]],
    [winnow.rankFor, [64, 128, 0.5, 8]],
    [winnow.factorLinears, [device, model, tokens]],
    [(ratios: winnow.RatioPlan) => winnow.factorLinears(device, model, tokens, { ratios }), [allocation]],
    [(ratios: winnow.LinearRatios) => winnow.factorLinears(device, model, tokens, { ratios }), [allocation.tried[0].ratios[0]]],
    [allocate, [device, model, tokens, tokens]],
    [search, [([x]: readonly number[]) => x, space]],
    ...(["bounds", "cost", "costs"] as const).map((name) =>
      [(value: never) => search(([x]) => x, { ...space, [name]: value }), [space[name]]] as (typeof calls)[number]
    ),
    [winnow.retainedVariance, [factored.factorization]],
    [winnow.ratioSearch, [{ search: allocation }]],
    [(tried: winnow.TriedRatios[]) => winnow.ratioSearch({ search: { ...allocation, tried } }), [allocation.tried]],
    [winnow.clusterExperts, [features, budget]],
    [winnow.routerSimilarity, [device, model, tokens]],
    [winnow.dominantClusters, [scores, await winnow.routerSimilarity(device, model, tokens), { ratio: 0.5 }]],
    [winnow.alignExperts, [device, model, clusters]],
    [winnow.permuteExperts, [model, await winnow.alignExperts(device, model, clusters)]],
    [winnow.mergeExperts, [model, clusters, scores]],
    [winnow.replaceByMeans, [model, await winnow.expertStatistics(device, model, tokens), plan]],
    [winnow.allocateRanksGlobally, [scores, spectra, { averageRank: 16 }]],
    [winnow.recommended, [device, model, tokens]],
    [winnow.planBits, [64, 128, {}]],
    ...["alpha", "split", "groupSize"].map((name) =>
      [(value: never) => winnow.planBits(64, 128, { [name]: value }), [undefined]] as (typeof calls)[number]
    ),
    [winnow.deltaSpectra, [device, shallow, shallow]],
    [winnow.compressDelta, [device, shallow, shallow, tokens, { split: [[16, 1]] }]],
    ...["alpha", "split", "groupSize", "damping"].map((name) =>
      [
        (value: never) =>
          winnow.compressDelta(device, shallow, shallow, tokens, { [name]: value, signal: AbortSignal.abort(new Error("enough")) }),
        [undefined],
      ] as (typeof calls)[number]
    ),
    [winnow.bitDelta, [shallow, shallow]],
    [winnow.applyDelta, [shallow, delta]],
    [(linears: never) => winnow.applyDelta(shallow, { ...delta, linears }), [delta.linears]],
    [(rest: never) => winnow.applyDelta(shallow, { ...delta, rest }), [delta.rest]],
    [winnow.deltaSize, [delta]],
    [(delta: winnow.CompressedDelta) => winnow.saveDelta(delta, `${folder}/delta`), [delta]],
    [(path: string) => winnow.saveDelta(delta, `${folder}/${path}`), ["other delta"]],
    [winnow.openDelta, [`${folder}/delta`]],
    [serve, [device, shallow, { lowRank }]],
    [(delta: winnow.CompressedDelta) => serve(device, shallow, { delta }), [lowRank]],
    [async (requests: winnow.ServedRequest[]) => {
      using server = await winnow.serveDeltas(device, shallow, { lowRank });
      await server.logits(requests);
    }, [[{ model: "lowRank", sequence: tokens[0] }]]],
    [(resident: boolean) => winnow.serveDeltas(device, shallow, {}, { resident, signal: AbortSignal.abort(new Error("enough")) }), [true]],
    [winnow.deltaCurves, [{ layers: [{ layer: 0, linears: [] }] }]],
    [winnow.deltaTable, [delta]],
    [winnow.deltaSizeTable, [{ tuned: winnow.deltaSize(delta) }]],
    [winnow.bitPlanTable, [{ matrix: winnow.planBits(64, 128) }]],
    [winnow.sparsify, [device, model, tokens, { carrier: "magnitude", scope: "experts" }]],
    ...(["sparsity", "pattern"] as const).map((name) =>
      [
        (value: never) =>
          winnow.sparsify(device, model, tokens, { [name]: value, carrier: "magnitude", signal: AbortSignal.abort(new Error("enough")) }),
        [outliers],
      ] as (typeof calls)[number]
    ),
    [winnow.outlierDistribution, [device, model, tokens]],
    [winnow.owlSparsity, [outliers]],
    [winnow.owlPattern, [outliers]],
    [winnow.countZeros, [model]],
    [winnow.unitScores, [device, model, tokens]],
    [winnow.unitScores, [device, model, tokens, { kinds: ["layers"] }]],
    [winnow.initialProbabilities, [worth]],
    [winnow.sampleMasks, [probabilities, 2, winnow.random(0, "masks")]],
    [winnow.policyGradient, [probabilities, masks, [1, 2], 1.5, "released"]],
    [winnow.policyGradientStep, [{ probabilities }, masks, [1, 2], { keep: 0.5, learningRate: 0.1 }]],
    ...(["keep", "learningRate", "period", "estimator", "baseline", "budgets"] as const).map((name) =>
      [
        (value: never) => winnow.policyGradientStep({ probabilities }, masks, [1, 2], { keep: 0.5, learningRate: 0.1, [name]: value }),
        [undefined],
      ] as (typeof calls)[number]
    ),
    [winnow.projectBudget, [probabilities, 0.5]],
    [winnow.hardMask, [probabilities, 0.5, { parts: [1, 1], least: 1 }]],
    [(parts: number[]) => winnow.hardMask(probabilities, 0.5, { parts }), [[1, 1]]],
    [winnow.planByUnits, [worth, { keep: 0.5 }]],
    [winnow.maskedLosses, [device, model, tokens, [structures]]],
    [winnow.sliceModel, [model, structures]],
    ...(["layer", "whole", "experts", "groups", "channels"] as const).map((name) =>
      [(value: never) => winnow.sliceModel(model, { layers: [{ ...structures.layers[0], [name]: value }] }), [
        undefined,
      ]] as (typeof calls)[number]
    ),
    [explore, [device, model, tokens, likely]],
    ...(["keep", "scope", "steps", "samples", "batch", "learningRate", "period", "estimator", "baseline", "seed", "residentBytes"] as const)
      .map((name) =>
        [
          (value: never) =>
            winnow.policyGradientSearch(device, model, tokens, likely, {
              steps: 1,
              [name]: value,
              signal: AbortSignal.abort(new Error("enough")),
            }),
          [undefined],
        ] as (typeof calls)[number]
      ),
    [winnow.unitTable, [worth, { plan: structures }]],
    [(plan: winnow.StructurePlan) => winnow.unitTable(worth, { plan }), [structures]],
    [winnow.policyCurve, [{ experts: learned }]],
    [(history: winnow.PolicyStep[]) => winnow.policyCurve({ experts: { history } }), [learned.history]],
    [winnow.perplexity, [device, model, tokens]],
    [winnow.multipleChoice, [device, model, [item]]],
    [winnow.countParameters, [raw, small]],
    [winnow.evaluate, [device, model, { heldOut: tokens }]],
    [winnow.blockOutputLoss, [device, model, model, tokens]],
    [winnow.ablationLadder, [device, model, tokens, { heldOut: tokens, rows: ["least important"] }]],
    [winnow.ladderTable, [ladder]],
    [blocks, [device, model, texts]],
    [winnow.documentPerplexity, [device, model, texts]],
    [(document: winnow.Document) => winnow.documentPerplexity(device, model, [document]), [{ text: "Sum", original: "Sum" }]],
    [winnow.wikitextDocument, ["= Tide ="]],
    [winnow.peerForward, [device, new Float32Array(4), layer]],
    ...Object.keys(layer).map((name) =>
      [
        (value: never) => winnow.peerForward(device, new Float32Array(4), { ...layer, [name]: value }),
        [layer[name as "keys"]],
      ] as (typeof calls)[number]
    ),
    [winnow.productKeyTopK, [device, new Float32Array(4), { querySize: 2, first: new Float32Array(2), second: new Float32Array(2) }, 1]],
    [winnow.peerUsage, [{ experts: Uint32Array.of(0), gates: Float32Array.of(1) }, 4]],
    [winnow.feedForwardFlops, [64, middle]],
    [learn, [device, tokens, shape, { steps: 1 }]],
    ...["steps", "batch", "learningRate", "clip", "measureEvery", "seed", "heldOut", "start"].map((name) =>
      [
        (value: never) => learn(device, tokens, shape, { steps: 1, [name]: value, signal: AbortSignal.abort(new Error("enough")) }),
        [undefined],
      ] as (typeof calls)[number]
    ),
    ...Object.keys(shape).map((name) =>
      [
        (value: never) => learn(device, tokens, { ...shape, [name]: value }, { signal: AbortSignal.abort(new Error("enough")) }),
        [shape[name as "hidden"]],
      ] as (typeof calls)[number]
    ),
    [winnow.peerFromMoe, [device, decoder, tokens, { middle }]],
    [(middle: never) => winnow.peerFromMoe(device, decoder, tokens, { middle }), [middle]],
    [(weights: never) => winnow.peerFromMoe(device, { ...decoder, weights }, tokens, { middle }), [decoder.weights]],
    [winnow.evaluateTasks, [device, model, [task]]],
    [(items: winnow.Item[]) => winnow.evaluateTasks(device, model, [{ ...task, items }]), [[item]]],
    [(names: string[]) => winnow.loadTasks(names, { from: folder }), [["piqa"]]],
    [(task: winnow.Task) => winnow.loadTasks([task], { from: folder }), [winnow.TASKS.piqa]],
    [(corpus: "wikitext2") => winnow.loadTexts(corpus, { from: folder }), ["wikitext2"]],
    [tune, [device, model, texts, {}]],
    ...Object.keys(MOST_OPTIONS).map((name) =>
      [
        (value: unknown) =>
          tune(device, model, texts, { ...MOST_OPTIONS, [name]: value as never, signal: AbortSignal.abort(new Error("enough")) }),
        [MOST_OPTIONS[name as "rank"]],
      ] as (typeof calls)[number]
    ),
    [(teacher: winnow.Model) => tune(device, model, texts, { ...MOST_OPTIONS, teacher }), [model]],
    [winnow.mergeAdapters, [model, adapters]],
    ...(["rank", "alpha", "values"] as const).map((name) =>
      [
        (value: never) => winnow.mergeAdapters(model, { ...adapters, [name]: value }),
        [adapters[name]],
      ] as (typeof calls)[number]
    ),
    [(numbers: never) => winnow.mergeAdapters(model, { ...adapters, values: new Map([["0/attention/q_proj/up", numbers]]) }), [
      new Float32Array(128),
    ]],
    [(tuned: winnow.TunedModel, base: string) => winnow.saveAdapters(tuned, `${folder}/adapters`, base), [tuned, "base"]],
    [(adapters: winnow.Adapters) => winnow.saveAdapters({ ...tuned, adapters }, `${folder}/adapters`, "base"), [adapters]],
    [(path: string) => winnow.saveAdapters(tuned, `${folder}/${path}`, "base"), ["other adapters"]],
    [(path: string) => winnow.saveModel(model, `${folder}/${path}`), ["other model"]],
    [(path: string) => tune(device, model, texts, { ...MOST_OPTIONS, checkpoint: `${folder}/${path}` }), ["state"]],
    [(gold: number) => winnow.multipleChoice(device, model, [{ ...item, gold }]), [0]],
    [winnow.comparisonTable, [{ dense: evaluation }]],
    [winnow.stageTable, [{ calibrate: 1 }]],
    [winnow.table, [[{ model: "dense", size: 1 }], { columns: { size: { unit: "MiB", digits: 1 } }, caption: "Sizes" }]],
    [(column: never) => winnow.table([{ size: 1 }], { columns: { size: column } }), [{ digits: 1 }]],
    [winnow.expertImportance, [scores, { plan }]],
    [(plan: winnow.PruningPlan) => winnow.expertImportance(scores, { plan }), [plan]],
    [winnow.layerBudgets, [budget, scores]],
    [winnow.searchConvergence, [candidates, { optimum: candidates }]],
    [(optimum: winnow.Candidates) => winnow.searchConvergence(candidates, { optimum }), [candidates]],
    [winnow.candidatesTable, [candidates]],
    [winnow.planTable, [plan]],
    [winnow.receptionTree, [{ ...plan, blocks: [block] }, candidates]],
    [(blocks: winnow.ReceptionFieldPlan["blocks"]) => winnow.receptionTree({ ...plan, blocks }), [[block]]],
    [winnow.singularSpectra, [spectra, small, { layer: 0 }]],
    [winnow.rankMap, [small]],
    [winnow.decompositionErrors, [[{ layer: 0, expert: 0, matrix: "gate", rank: 4, relativeError: 0.5, relativeOutputError: null }]]],
    [winnow.routingLoad, [trace, trace]],
    [winnow.lossCurve, [{ tuned: tuned.history }]],
    [(history: winnow.TrainingPoint[]) => winnow.lossCurve({ history }), [tuned.history]],
    [winnow.accuracyAgainstSize, [[{ name: "dense", parameters: 5, accuracy: 0.5 }]]],
    [winnow.sequencesTable, [tokens, { tokenizer: model.tokenizer, show: 1 }]],
    [winnow.sizeTable, [{ dense: winnow.countParameters(raw) }]],
    [winnow.benchmarkTable, [{ dense: { bos: "never", bosToken: null, tasks: [], groups: [] } }]],
    [winnow.savedTable, [{ path: "out", form: "native", files: [], bytes: 1, recipe: "" }]],
    [winnow.statusTable, [[stage]]],
    [winnow.openFlow, [{ device, store: `${folder}/store` }]],
    [(store: string) => winnow.openFlow({ device, store: store === "text" ? folder : store }), [`${folder}/store`]],
    [(device: winnow.Device) => winnow.openFlow({ device, store: `${folder}/store` }), [device]],
    [flow.stage, ["next", definition]],
    ...["version", "inputs", "options", "kernels", "codec", "stored", "run"].map((name) =>
      [defined(name), [undefined]] as (typeof calls)[number]
    ),
    [flow.run, [one, {}]],
    [flow.resolve, [["one"]]],
    [flow.onChange, [() => {}]],
    [winnow.status, [flow]],
    [winnow.lineage, [flow]],
    [winnow.verify, [flow, { stages: [one] }]],
    [(stages: winnow.Stage<unknown>[]) => winnow.verify(flow, { stages }), [[one]]],
    [winnow.gc, [flow, {}]],
    [winnow.source, [flow, "data", [1]]],
    [winnow.modelSource, [flow, "model", folderOf("tiny-mixtral"), {}]],
    [winnow.stages.expertStatistics, [{ model: one as winnow.Stage<never>, tokens: one as winnow.Stage<never> }, {}]],
    [winnow.stages.trainDecoder, [{ tokens: one as winnow.Stage<never> }, { shape }]],
    [winnow.stages.scoreExperts, [{ statistics: one as winnow.Stage<never> }, { kind: "REAP" }]],
    [winnow.stages.leaveOneOut, [{ model: one as winnow.Stage<never>, trace: one as winnow.Stage<never> }, {}]],
    [winnow.lineageGraph, [{ stages: [stage], edges: [] }]],
    [(edges: winnow.Lineage["edges"]) => winnow.lineageGraph({ stages: [stage], edges }), [[{ from: "plan", to: "plan" }]]],
    [(run: winnow.Run) => winnow.report(run, `${folder}/report.html`), [run]],
    ...(["sections", "lineage", "stages", "recipe", "versions"] as const).map((name) =>
      [
        (value: never) => winnow.report({ ...run, [name]: value }, `${folder}/report.html`),
        [run[name]],
      ] as (typeof calls)[number]
    ),
  ];
  for (const [run, good] of calls) {
    await t.step(run.name, async () => {
      for (const [place, bad] of good.flatMap((_, i) => JUNK.map((junk) => [i, junk] as const))) {
        try {
          await run(...good.with(place, bad) as never[]);
        } catch (error) {
          const { message, stack } = error as Error;
          assert(!ENGINE.test(message), `argument ${place} is ${Deno.inspect(bad)}: ${stack}`);
        }
      }
      assert(device.live.tensors === 0, `${device.live.tensors} tensors are still alive`);
    });
  }
  await Deno.remove(folder, { recursive: true });
});

Deno.test("every function that takes options says what is none: a number, a promise, a signal or a callback that is something else", async () => {
  using device = await winnow.openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral"),
    tokens = [calibration[0].subarray(0, 8)],
    texts = ["Sum: 12 + 30 = 42."];
  using trace = await winnow.calibrate(device, model, tokens);
  const scores = await winnow.leaveOneOut(device, model, trace), budget = winnow.pruningBudget(scores), folder = await Deno.makeTempDir();
  const candidates = await winnow.exhaustiveSearch(device, model, trace, budget), spectra = await winnow.expertSpectra(device, model);
  const statistics = await winnow.expertStatistics(device, model, tokens);
  const several = Array.from({ length: 6 }, (_, i) => calibration[i].subarray(0, 4));
  const alike = { layers: [0, 1], similarity: [Float64Array.of(1, 0.5), Float64Array.of(0.5, 1)] };
  const outliers = await winnow.outlierDistribution(device, model, tokens);
  const item = { task: "compare", query: "Compare:", choices: [" yes", " no"], gold: 0 };
  const task = { task: "compare", version: 1, dataset: "", config: "", split: "", metrics: ["acc" as const], items: [item] };
  const ranks = { layers: [{ layer: 0, experts: [{ expert: 0, rank: 4 }], sum: 4, target: 4 }] };
  await winnow.saveModel(model, `${folder}/saved`);
  const similarity = await winnow.routerSimilarity(device, model, tokens);
  const small = await smallDecoder(device), shallow = { ...model, layers: model.layers.slice(0, 1) };
  const worth = await winnow.unitScores(device, model, tokens, { kinds: ["attention groups"] });
  const delta = await winnow.bitDelta(shallow, shallow);
  const calls: Record<string, [(options: never) => unknown, object?]> = {
    openDevice: [(o) => winnow.openDevice(o), { kind: "cpu" }],
    openModel: [(o) => winnow.openModel(folderOf("tiny-mixtral"), o)],
    logits: [(o) => winnow.logits(device, model, tokens[0], o)],
    calibrationTokens: [(o) => winnow.calibrationTokens(model.tokenizer, texts, o), { length: 8 }],
    calibrate: [(o) => winnow.calibrate(device, model, tokens, o)],
    leaveOneOut: [(o) => winnow.leaveOneOut(device, model, trace, o)],
    expertStatistics: [(o) => winnow.expertStatistics(device, model, tokens, o)],
    aimer: [(o) => winnow.aimer(model, o)],
    randomScores: [(o) => winnow.randomScores(model, o)],
    expertSignatures: [(o) => winnow.expertSignatures(device, model, tokens, o)],
    superExperts: [(o) => winnow.superExperts(statistics, o)],
    skipThresholds: [(o) => winnow.skipThresholds(statistics, o)],
    expertsPerToken: [(o) => winnow.expertsPerToken(device, model, tokens, o)],
    esap: [(o) => winnow.esap(device, model, model, tokens, o)],
    progressiveSearch: [(o) => winnow.progressiveSearch(device, model, tokens, budget, o)],
    evolveBudget: [(o) => winnow.evolveBudget(device, model, tokens, scores, o), { population: 2, generations: 1 }],
    planByScores: [(o) => winnow.planByScores(scores, budget, candidates, o)],
    blockInfluence: [(o) => winnow.blockInfluence(device, model, tokens, o)],
    layerSimilarity: [(o) => winnow.layerSimilarity(device, model, several, o)],
    diffusionMap: [(o) => winnow.diffusionMap([0, 1, 5], 1, o)],
    mergePlan: [(o) => winnow.mergePlan(alike, o)],
    pruningBudget: [(o) => winnow.pruningBudget(scores, o)],
    exhaustiveSearch: [(o) => winnow.exhaustiveSearch(device, model, trace, budget, o)],
    geneticSearch: [(o) => winnow.geneticSearch(device, model, trace, budget, o)],
    greedySearch: [(o) => winnow.greedySearch(device, model, trace, budget, o)],
    receptionField: [(o) => winnow.receptionField(device, model, tokens, candidates, o)],
    allocateRanks: [(o) => winnow.allocateRanks(scores, o), { averageRank: 16 }],
    allocateRanksGlobally: [(o) => winnow.allocateRanksGlobally(scores, spectra, o), { averageRank: 16 }],
    decomposeExperts: [(o) => winnow.decomposeExperts(device, model, ranks, o)],
    expertSpectra: [(o) => winnow.expertSpectra(device, model, o)],
    recommended: [(o) => winnow.recommended(device, model, tokens, o)],
    deltaExperts: [(o) => winnow.deltaExperts(device, model, trace, o), { share: 0.02 }],
    factorLinears: [(o) => winnow.factorLinears(device, model, tokens, o)],
    allocateRatios: [(o) => winnow.allocateRatios(device, model, tokens, tokens, o), { evaluations: 1 }],
    bayesianSearch: [(o) => winnow.bayesianSearch(([x]) => x, { bounds: [[0, 1]] }, o), { evaluations: 2 }],
    routerSimilarity: [(o) => winnow.routerSimilarity(device, model, tokens, o)],
    dominantClusters: [(o) => winnow.dominantClusters(scores, similarity, o)],
    alignExperts: [(o) => winnow.alignExperts(device, model, { layers: [] }, o)],
    sparsify: [(o) => winnow.sparsify(device, model, tokens, o)],
    planBits: [(o) => winnow.planBits(64, 128, o)],
    deltaSpectra: [(o) => winnow.deltaSpectra(device, shallow, shallow, o)],
    compressDelta: [(o) => winnow.compressDelta(device, shallow, shallow, tokens, o), { split: [[16, 1]] }],
    bitDelta: [(o) => winnow.bitDelta(shallow, shallow, o)],
    saveDelta: [(o) => winnow.saveDelta(delta, `${folder}/delta`, o)],
    openDelta: [(o) => winnow.openDelta(`${folder}/saved`, o)],
    serveDeltas: [(o) => winnow.serveDeltas(device, shallow, {}, o)],
    outlierDistribution: [(o) => winnow.outlierDistribution(device, model, tokens, o)],
    owlSparsity: [(o) => winnow.owlSparsity(outliers, o)],
    owlPattern: [(o) => winnow.owlPattern(outliers, o)],
    countZeros: [(o) => winnow.countZeros(model, o)],
    unitScores: [(o) => winnow.unitScores(device, model, tokens, o), { kinds: ["attention groups"] }],
    initialProbabilities: [(o) => winnow.initialProbabilities(worth, o)],
    hardMask: [(o) => winnow.hardMask(Float64Array.of(1, 2), 0.5, o)],
    planByUnits: [(o) => winnow.planByUnits(worth, o)],
    policyGradientStep: [
      (o) => winnow.policyGradientStep({ probabilities: Float64Array.of(0.5) }, [Uint8Array.of(1), Uint8Array.of(0)], [1, 2], o),
      {
        ...{ keep: 0.5, learningRate: 0.1 },
      },
    ],
    maskedLosses: [(o) => winnow.maskedLosses(device, model, tokens, [], o)],
    policyGradientSearch: [(o) => winnow.policyGradientSearch(device, model, tokens, winnow.initialProbabilities(worth), o), { steps: 1 }],
    finetune: [(o) => winnow.finetune(device, model, texts, o), { rank: 1, targets: ["attention"], epochs: 1 }],
    readRecord: [(o) => winnow.readRecord(`${folder}/saved`, o)],
    saveModel: [(o) => winnow.saveModel(model, `${folder}/other`, o)],
    perplexity: [(o) => winnow.perplexity(device, model, tokens, o)],
    blockPerplexity: [(o) => winnow.blockPerplexity(device, model, texts, o), { length: 5 }],
    documentPerplexity: [(o) => winnow.documentPerplexity(device, model, texts, o)],
    multipleChoice: [(o) => winnow.multipleChoice(device, model, [item], o)],
    evaluateTasks: [(o) => winnow.evaluateTasks(device, model, [task], o)],
    evaluate: [(o) => winnow.evaluate(device, model, o), { heldOut: tokens }],
    blockOutputLoss: [(o) => winnow.blockOutputLoss(device, model, model, tokens, o)],
    trainDecoder: [(o) => winnow.trainDecoder(device, tokens, small.shape, o), { steps: 1 }],
    peerFromMoe: [(o) => winnow.peerFromMoe(device, small.decoder, tokens, o), { middle: small.middle }],
    loadTasks: [(o) => winnow.loadTasks(["piqa"], o), { from: folder }],
    loadTexts: [(o) => winnow.loadTexts("wikitext2", o), { from: folder }],
  };
  const refused = async (name: string, call: (options: never) => unknown, options: unknown) => {
    const what = `${name}(…, ${Deno.inspect(options)})`;
    const message = await Promise.resolve().then(() => call(options as never)).then(() => "", (error: Error) => error.message);
    assert(/^Cannot /.test(message) && !ENGINE.test(message), `${what} ${message ? `says: ${message}` : "is accepted"}`);
    assert(device.live.tensors === 0, `${what} leaves ${device.live.tensors} tensors`);
  };
  const plain = ["openDevice", "calibrationTokens", "diffusionMap", "mergePlan", "pruningBudget", "allocateRanks", "allocateRanksGlobally"]
    .concat("randomScores", "superExperts", "skipThresholds", "planByScores", "dominantClusters", "owlSparsity", "owlPattern", "planBits")
    .concat("initialProbabilities", "hardMask", "planByUnits", "policyGradientStep");
  for (const [name, [call, good = {}]] of Object.entries(calls)) {
    for (const bad of [null, 0.5, "0.5", ...(name === "openDevice" ? [] : [Promise.resolve(good)])]) await refused(name, call, bad);
    if (plain.includes(name)) continue;
    await refused(name, call, { ...good, signal: {} });
    await refused(name, call, { ...good, onProgress: "print" });
  }
  await refused("finetune", calls.finetune[0], { ...calls.finetune[1], onStep: "print" });
  await refused("blockPerplexity", calls.blockPerplexity[0], { length: 5, separator: 5 });
  for (const name of ["averageRank", "alpha", "minimumRank"]) {
    for (const bad of [true, "16", 16n, null]) {
      await refused("allocateRanks", calls.allocateRanks[0], { averageRank: 16, [name]: bad });
      await refused("allocateRanksGlobally", calls.allocateRanksGlobally[0], { averageRank: 16, [name]: bad });
    }
  }
  assertEquals([...Deno.readDirSync(folder)].map((entry) => entry.name), ["saved"]);
  await Deno.remove(folder, { recursive: true });
});
