/** Small results of every kind, made by hand. */

import type {
  BenchmarkScores,
  Candidates,
  Evaluation,
  ExpertScores,
  ExpertSpectra,
  Lineage,
  PruningBudget,
  RankPlan,
  RatioAllocation,
  ReceptionFieldPlan,
  RoutingCounts,
  Shown,
  UnitValues,
} from "../../mod.ts";
import * as winnow from "../../mod.ts";

/** A name from a file that nobody looked at. */
export const HOSTILE =
  `<script>alert("x")</script> | **b** \`c\` ]]> </style> & &amp; $e$ \\n \u0000\u001b[31m \ud800 🦉\u00a0"q' --> <!-- %{x}`;

export const scores: ExpertScores = {
  ...{ kind: "leave-one-out", topK: 2, expertShape: { hidden: 16, intermediate: 8 } },
  layers: [
    { layer: 1, experts: [0, 1, 2, 3], scores: Float64Array.of(4, 0.25, 64, 1.5) },
    { layer: 2, experts: [0, 1, 2, 3], scores: Float64Array.of(8, 0, 2, 16) },
  ],
  unseen: [{ layer: 2, expert: 1 }],
};
export const budget: PruningBudget = { layers: [{ layer: 1, drop: 2 }, { layer: 2, drop: 1 }] };
export const candidates: Candidates = {
  layers: [
    { layer: 1, sets: [{ drop: [1, 3], loss: 5 }, { drop: [0, 1], loss: 6 }], evaluated: 5, possible: 6, history: [8, 6, 5] },
    { layer: 2, sets: [{ drop: [1], loss: 0 }, { drop: [2], loss: 3 }], evaluated: 4, possible: 4, history: [0] },
  ],
};
export const plan: ReceptionFieldPlan = {
  layers: [{ layer: 1, drop: [0, 1] }, { layer: 2, drop: [1] }],
  blocks: [{ layers: [1, 2], choice: [1, 0], loss: 9, firstChoices: 10, combinations: 4 }],
};
export const ranks: RankPlan = {
  layers: [
    { layer: 1, experts: [{ expert: 2, rank: 3 }, { expert: 3, rank: 1 }], sum: 4, target: 4 },
    { layer: 2, experts: [{ expert: 0, rank: 2 }], sum: 2, target: 2 },
  ],
};
export const spectra: ExpertSpectra = {
  ...{ kind: "weights", expertShape: { hidden: 16, intermediate: 8 } },
  layers: [
    { layer: 1, experts: [2, 3].map((expert) => ({ expert, shares: Float64Array.of(1.5, 0.75, 0.5, 0.25) })) },
    { layer: 2, experts: [{ expert: 0, shares: Float64Array.of(3, 0, 0, 0) }] },
  ],
};
export const before: RoutingCounts = {
  tokens: 10,
  layers: [{ layer: 1, experts: [0, 1, 2, 3], counts: Uint32Array.of(8, 1, 7, 4) }, {
    layer: 2,
    experts: [0, 1, 2, 3],
    counts: Uint32Array.of(5, 0, 10, 5),
  }],
};
export const after: RoutingCounts = {
  tokens: 10,
  layers: [{ layer: 1, experts: [2, 3], counts: Uint32Array.of(10, 10) }, {
    layer: 2,
    experts: [0, 2, 3],
    counts: Uint32Array.of(5, 10, 5),
  }],
};
export const similarity = {
  layers: [1, 2, 4],
  similarity: [[1, 0.5, 0.25], [0.5, 1, 0.75], [0.25, 0.75, 1]].map((row) => Float64Array.from(row)),
  influence: Float64Array.of(0.5, 0.125, 0.25),
};
export const decomposition = [["gate", 0.25], ["up", 0.5], ["down", 0.125]].map(([matrix, relativeError]) => ({
  ...{ layer: 1, expert: 2, matrix: matrix as "gate", rank: 3 as number | null, relativeError: relativeError as number },
  relativeOutputError: null,
}));
export const factorization = [["attention/q_proj", "qk", 0.75, 8], ["experts/2/gate", "gate", 0.875, 3], ["experts/2/up", "up", 1, null]]
  .map((
    [linear, role, retained, rank],
  ) => ({
    ...{
      layer: 1,
      linear: linear as string,
      role: role as "qk",
      tokens: 40,
      wanted: 8,
      rank: rank as number | null,
      retained: retained as number,
    },
    entries: { before: 512, after: 400 },
  }));
const RATIOS = { qk: 0.5, o: 0.5, gate: 0.75, up: 0.75, down: 0.75 };
export const allocation: RatioAllocation = {
  layers: [{ layer: 1, ...RATIOS }],
  best: 1,
  tried: [4, 2, 3].map((objective) => ({ ratios: [RATIOS], share: 0.75, perplexity: objective - 0.5, divergence: 500, objective })),
};
export const history = Array.from({ length: 40 }, (_, i) => ({ step: i + 1, loss: 2 / (i + 1), learningRate: 1e-3, gradientNorm: 1 }));
export const policy = {
  history: [3, 2, 2.5, 1].map((loss, i) => ({ step: i + 1, losses: [loss, loss + 0.5, NaN], baseline: loss, learningRate: 0.1 })),
};
export const units: UnitValues = {
  populations: [
    { kind: "experts", layer: 1, parts: [0, 3].map((id) => ({ of: "expert", id, units: 1 })), values: Float64Array.of(0.25, 0.75) },
    { kind: "channels", layer: 1, parts: [{ of: "shared", units: 3 }], values: Float64Array.of(0.5, 1, 0) },
    { kind: "layers", layer: null, parts: [{ of: "layer", id: 1, units: 1 }], values: Float64Array.of(0.5) },
  ],
};
export const points = [
  { name: "dense", parameters: 2e6, accuracy: 0.8, accuracyError: 0.02 },
  { name: "random", parameters: 1e6, accuracy: 0.5, accuracyError: 0.03 },
  { name: "genetic", parameters: 1e6, accuracy: 0.7, accuracyError: null },
];
export const evaluation: Evaluation = {
  ...{ perplexity: 2.3954, parameters: 2000, bytes: 4000, activeParameters: 1000 },
  tasks: [{ task: "sums", acc: 0.75, accNorm: 0.75, items: 4, stderr: 0.25 }],
};
export const benchmarks: BenchmarkScores = {
  ...{ bos: "tokenizer", bosToken: null },
  tasks: [{
    ...{ task: "piqa", version: 1, dataset: "a folder", config: "default", split: "validation", metrics: ["acc", "accNorm"] },
    ...{ acc: 0.75, accNorm: 0.8125, accBytes: 0.8, items: 200, stderr: 0.03, stderrNorm: 0.028, logLikelihoods: [] },
  }],
  groups: [{ group: "mmlu", tasks: 57, items: 14042, acc: 0.4375, stderr: 0.004 }],
};
export const lineage: Lineage = {
  stages: [
    { name: "trace", state: "fresh", seconds: 12.5, bytes: 3e7, stored: true, inputs: [] },
    { name: "importance", state: "partial", reason: "3 parts are done", stored: true, inputs: ["trace"] },
    {
      name: "budget",
      state: "stale",
      reason: "options.ratio 0.25 -> 0.5",
      seconds: 0.01,
      bytes: 212,
      stored: true,
      inputs: ["importance"],
    },
    { name: "plan", state: "missing", reason: "never run", stored: true, inputs: ["trace", "budget"] },
    { name: "pruned", state: "failed", reason: "Cannot prune: no plan", stored: false, inputs: ["plan"] },
  ],
  edges: [["trace", "importance"], ["importance", "budget"], ["trace", "plan"], ["budget", "plan"], ["plan", "pruned"]].map((
    [from, to],
  ) => ({ from, to })),
};

/** Every chart, by what it is called. */
export const charts: Record<string, () => Shown> = {
  "expertImportance()": () => winnow.expertImportance(scores, { plan }),
  "layerBudgets()": () => winnow.layerBudgets(budget, scores),
  "layerBudgets() without scores": () => winnow.layerBudgets(budget),
  "searchConvergence()": () => winnow.searchConvergence(candidates, { optimum: candidates }),
  "receptionTree()": () => winnow.receptionTree(plan, candidates),
  "singularSpectra()": () => winnow.singularSpectra(spectra, ranks),
  "singularSpectra() of a layer": () => winnow.singularSpectra(spectra, ranks, { layer: 1 }),
  "decompositionErrors()": () => winnow.decompositionErrors(decomposition),
  "retainedVariance()": () => winnow.retainedVariance(factorization),
  "ratioSearch()": () => winnow.ratioSearch({ "5×1": allocation }),
  "ratioSearch() of two": () => winnow.ratioSearch({ "5×1": allocation, random: { ...allocation, best: 0 } }),
  "routingLoad()": () => winnow.routingLoad(before, after),
  "accuracyAgainstSize()": () => winnow.accuracyAgainstSize(points),
  "lossCurve()": () => winnow.lossCurve({ tuned: history, short: history.slice(0, 5) }),
  "similarityMap()": () => winnow.similarityMap(similarity, { plan: [{ keep: 2, absorb: 4, ratio: 0.75 }] }),
  "influenceBars()": () => winnow.influenceBars(similarity),
  "policyCurve()": () => winnow.policyCurve({ experts: policy, again: policy }),
  "policyCurve() of one search": () => winnow.policyCurve({ experts: policy }),
  "rankMap()": () => winnow.rankMap(ranks),
  "deltaCurves()": () => winnow.deltaCurves(deltaSpectra),
};

const deltaSpectra: winnow.DeltaSpectra = {
  layers: [{
    layer: 1,
    linears: [
      { linear: "attention/q_proj", shape: [2, 3], values: Float64Array.of(4, 3) },
      { linear: "experts/3/up", shape: [2, 3], values: Float64Array.of(12, 5) },
      { linear: "experts/4/up", shape: [2, 3], values: Float64Array.of(0, 0) },
    ],
  }],
};
const factor = { bits: 32 as const, rows: 4, columns: 1, values: Float32Array.of(0.5, 0.5, 0.5, 0.5) };
const group = { left: factor, singularValues: Float32Array.of(2), right: { ...factor, rows: 1, columns: 4 } };
export const delta: winnow.CompressedDelta = {
  base: "",
  linears: [
    { layer: 1, linear: "attention/q_proj", shape: [4, 4], form: [group], tokens: 0, norm: 3, error: 2 },
    {
      layer: 2,
      linear: "attention/q_proj",
      shape: [4, 4],
      form: { negative: Uint32Array.of(5), scale: 0.5 },
      tokens: null,
      norm: 0,
      error: 0,
    },
  ],
  rest: new Map(),
};

/** Every table, by what it is called. */
export const tables: Record<string, () => Shown> = {
  "table()": () => winnow.table([{ model: "dense", size: 2.5 }]),
  "bitPlanTable()": () => winnow.bitPlanTable({ small: winnow.planBits(64, 128), large: winnow.planBits(4096, 4096) }),
  "deltaSizeTable()": () => winnow.deltaSizeTable({ tuned: winnow.deltaSize(delta) }),
  "deltaTable()": () => winnow.deltaTable(delta),
  "benchmarkTable()": () => winnow.benchmarkTable({ dense: benchmarks }),
  "unitTable()": () => winnow.unitTable(units, { plan: { layers: [{ layer: 1, experts: [0] }] } }),
  "candidatesTable()": () => winnow.candidatesTable(candidates),
  "comparisonTable()": () => winnow.comparisonTable({ dense: evaluation }),
  "planTable()": () => winnow.planTable(plan),
  "savedTable()": () => winnow.savedTable({ path: "out/small", form: "native", files: ["config.json"], bytes: 300, recipe: "ab" }),
  "sequencesTable()": () => winnow.sequencesTable([Uint32Array.of(1, 2, 3)]),
  "sizeTable()": () => winnow.sizeTable({ dense: { total: 4000, active: 2000, experts: 3000, bytes: 8000 } }),
  "stageTable()": () => winnow.stageTable({ calibrate: 1.25 }),
  "statusTable()": () => winnow.statusTable(lineage.stages),
};
