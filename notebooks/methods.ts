/** The methods that are compared: each makes a model of a given size from a draw of calibration data. */

import {
  aimer,
  alignExperts,
  allocateRanks,
  allocateRatios,
  type BlockSparsity,
  type Carrier,
  clusterExperts,
  countParameters,
  decomposeExperts,
  deltaExperts,
  dominantClusters,
  evolveBudget,
  type ExpertClusters,
  type ExpertScores,
  factorLinears,
  geneticSearch,
  greedySearch,
  initialProbabilities,
  mergeExperts,
  mergeLayers,
  mergePlan,
  type Model,
  moeLayers,
  owlSparsity,
  permuteExperts,
  planByScores,
  planByUnits,
  policyGradientSearch,
  progressiveSearch,
  pruneExperts,
  type PruningBudget,
  pruningBudget,
  type PruningPlan,
  randomScores,
  receptionField,
  recommended,
  replaceByMeans,
  scoreExperts,
  sliceModel,
  type SparseModel,
  sparsify,
  type StatisticsScore,
  unitScores,
} from "../mod.ts";
import { linearEntries } from "../lib/decompose/linear_entries.ts";
import { BYTES } from "../lib/device/device.ts";
import type { Draw } from "./draw.ts";

/** A model, and what making it took. */
export interface Made {
  model: Model;
  /** Of weights as they are stored, where that is not what is counted. */
  bytes?: number;
  /** Stages of the draw that it needs, for its seconds. */
  needs: string[];
  /** To be disposed of once the model is measured. */
  held?: Disposable;
}

export type Kind = "experts dropped" | "experts merged" | "layers merged" | "low rank" | "sparse";

export interface Method {
  name: string;
  kind: Kind;
  /** To be raised when it makes another model than before. */
  version: number;
  /** Drawn without looking at data, and so more often. */
  random?: true;
  /** The model without this share of the routed experts, or one of the same size; nothing where there is none. */
  make(draw: Draw, ratio: number): Promise<Made | undefined>;
}

/** Parameters that are left of the routed experts. */
const leftOf = (model: Model, ratio: number) => countParameters(model, { pruning: ratio }).experts;

/** The same count in every layer. */
const even = (scores: ExpertScores, ratio: number): PruningBudget => pruningBudget(scores, { ratio, strategy: "uniform" });

/** Runs the last stage of a method. */
async function made(draw: Draw, name: string, needs: readonly string[], make: () => Promise<Model> | Model): Promise<Made> {
  const model = await draw.stages.once(name, needs, make);
  return { model, needs: [name], ...(Symbol.dispose in model ? { held: model as Model & Disposable } : {}) };
}

/** Drops what has the lowest scores; `needs` are stages that these come from. */
function byScores(name: string, needs: readonly string[], scores: (draw: Draw) => Promise<ExpertScores>): Method {
  return {
    ...{ name, kind: "experts dropped", version: 1 },
    make: async (draw, ratio) => {
      const found = needs.length > 0 ? await scores(draw) : await draw.stages.run(name, [], () => scores(draw));
      return await made(
        draw,
        `${name} ${ratio}`,
        needs.length > 0 ? needs : [name],
        () => pruneExperts(draw.model, planByScores(found, even(found, ratio))),
      );
    },
  };
}

const byStatistics = (name: string, kind: StatisticsScore): Method =>
  byScores(name, ["statistics"], async (draw) => scoreExperts(await draw.statistics(), kind));

/** Drops what a search finds. */
function bySearch(name: string, search: (draw: Draw, ratio: number) => Promise<PruningPlan>): Method {
  return {
    ...{ name, kind: "experts dropped", version: 1 },
    make: async (draw, ratio) => {
      await draw.importance();
      return await made(draw, `${name} ${ratio}`, ["trace", "importance"], async () => pruneExperts(draw.model, await search(draw, ratio)));
    },
  };
}
/** Merges experts of each layer; routers stay, so that what is merged takes the place of all its members. */
function byMerging(
  name: string,
  needs: readonly string[],
  clusters: (draw: Draw, ratio: number) => Promise<ExpertClusters>,
  aligned: boolean,
): Method {
  return {
    ...{ name, kind: "experts merged", version: 1 },
    make: async (draw, ratio) => {
      const weights = scoreExperts(await draw.statistics(), "frequency"), groups = await clusters(draw, ratio);
      return await made(draw, `${name} ${ratio}`, ["statistics", ...needs], async () => {
        const { device, model } = draw;
        const inLine = aligned ? permuteExperts(model, await alignExperts(device, model, groups)) : model;
        return mergeExperts(inLine, groups, weights);
      });
    },
  };
}

/** Sets weights of routed experts to zero. Nothing here stores such a matrix smaller: it is counted as its other weights and one bit for each that there was. */
function bySparsity(name: string, carrier: Carrier, owl = false): Method {
  return {
    ...{ name, kind: "sparse", version: 1 },
    make: async (draw, ratio) => {
      const { device, model, tokens } = draw, { experts, bytes } = countParameters(model), size = BYTES[model.embedding.dtype];
      const bit = 1 / (8 * size); // of a weight's bytes
      const sparsity = owl ? await byOutliers(draw, ratio + bit) : ratio + bit;
      const sparse = await made(
        draw,
        `${name} ${ratio}`,
        owl ? ["outliers"] : [],
        () => sparsify(device, model, tokens, { carrier, sparsity, scope: "experts" }),
      );
      const zeros = (sparse.model as SparseModel).sparsification.reduce((sum, linear) => sum + linear.zeros, 0);
      return { ...sparse, bytes: Math.round(bytes - size * (zeros - bit * experts)) };
    },
  };
}

/** Sparsity of each block by OWL, for those that have experts; the others have nothing to lose. */
async function byOutliers(draw: Draw, sparsity: number): Promise<BlockSparsity> {
  const { layers } = owlSparsity(await draw.outliers(), { sparsity });
  return { layers: draw.model.layers.map(({ index }) => layers.find(({ layer }) => layer === index) ?? { layer: index, sparsity }) };
}

/** The rank at which all experts of a model have so many parameters. */
const rankFor = ({ config: { hidden, moe } }: Model, parameters: number, experts: number) =>
  parameters / (3 * experts * (hidden + moe.intermediate));

const countOf = (model: Model) => moeLayers(model).reduce((sum, { block }) => sum + block.experts.length, 0);

export const METHODS: readonly Method[] = [
  { ...byScores("random", [], (draw) => Promise.resolve(randomScores(draw.model, { seed: draw.seed }))), random: true },
  byScores("AIMER", [], (draw) => aimer(draw.model)),
  byStatistics("frequency", "frequency"),
  byStatistics("SEER-MoE, soft count", "soft frequency"),
  {
    ...{ name: "SEER-MoE, global", kind: "experts dropped", version: 1 },
    make: async (draw, ratio) => {
      const scores = scoreExperts(await draw.statistics(), "soft frequency");
      return await made(
        draw,
        `SEER-MoE, global ${ratio}`,
        ["statistics"],
        () => pruneExperts(draw.model, planByScores(scores, pruningBudget(scores, { ratio, strategy: "global" }))),
      );
    },
  },
  byStatistics("EAN", "EAN"),
  byStatistics("MAN", "MAN"),
  byStatistics("REAP", "REAP"),
  byScores("leave-one-out", ["importance"], (draw) => draw.importance()),
  {
    ...{ name: "EvoESAP on REAP", kind: "experts dropped", version: 1 },
    make: async (draw, ratio) => {
      const { device, model, tokens, seed } = draw, scores = scoreExperts(await draw.statistics(), "REAP");
      return await made(draw, `EvoESAP ${ratio}`, ["statistics"], async () => {
        const budget = await evolveBudget(device, model, tokens.slice(0, 4), scores, { ratio, population: 16, generations: 10, seed });
        return pruneExperts(model, planByScores(scores, budget));
      });
    },
  },
  bySearch("NAEE", async (draw, ratio) => {
    const candidates = await greedySearch(draw.device, draw.model, await draw.trace(), even(await draw.importance(), ratio), { keep: 1 });
    return { layers: candidates.layers.map(({ layer, sets }) => ({ layer, drop: sets[0].drop })) };
  }),
  bySearch(
    "NAEE, progressive",
    async (draw, ratio) => await progressiveSearch(draw.device, draw.model, draw.tokens, even(await draw.importance(), ratio)),
  ),
  bySearch("MoE-I², pruning", async (draw, ratio) => {
    const { device, model, tokens, seed } = draw, budget = pruningBudget(await draw.importance(), { ratio });
    const candidates = await geneticSearch(device, model, await draw.trace(), budget, { seed });
    return await receptionField(device, model, tokens, candidates);
  }),
  {
    ...{ name: "Bypass Back-propagation", kind: "experts dropped", version: 1 },
    make: async (draw, ratio) => {
      const { device, model, tokens, seed } = draw, keep = 1 - ratio, pieces = tokens.map((ids) => ids.slice(0, 64));
      return await made(draw, `Bypass Back-propagation ${ratio}`, [], async () => {
        const initial = initialProbabilities(await unitScores(device, model, tokens, { kinds: ["experts"] }), { keep });
        const search = { keep, steps: 40, samples: 8, batch: 1, learningRate: 0.4, baseline: "mean", seed } as const;
        return sliceModel(model, planByUnits(await policyGradientSearch(device, model, pieces, initial, search), { keep }));
      });
    },
  },
  {
    ...{ name: "MoNE, by mean output", kind: "experts dropped", version: 1 },
    make: async (draw, ratio) => {
      const statistics = await draw.statistics(), scores = scoreExperts(statistics, "mean output norm");
      return await made(
        draw,
        `MoNE ${ratio}`,
        ["statistics"],
        () => replaceByMeans(draw.model, statistics, planByScores(scores, even(scores, ratio))),
      );
    },
  },
  byMerging(
    "HC-SMoE",
    ["signatures"],
    async (draw, ratio) => clusterExperts(await draw.signatures(), even(scoreExperts(await draw.statistics(), "frequency"), ratio)),
    false,
  ),
  byMerging(
    "MC-SMoE, merging",
    ["similarity"],
    async (draw, ratio) => dominantClusters(scoreExperts(await draw.statistics(), "frequency"), await draw.similarity(), { ratio }),
    true,
  ),
  bySparsity("magnitude", "magnitude"),
  bySparsity("Wanda", "wanda"),
  bySparsity("MoE-Pruner", "moe-pruner"),
  bySparsity("SparseGPT", "sparsegpt"),
  bySparsity("OWL, Wanda", "wanda", true),
  {
    ...{ name: "SVD", kind: "low rank", version: 1 },
    make: async (draw, ratio) => {
      const averageRank = rankFor(draw.model, leftOf(draw.model, ratio), countOf(draw.model)), scores = await draw.importance();
      return await made(
        draw,
        `SVD ${ratio}`,
        ["importance"],
        () => decomposeExperts(draw.device, draw.model, allocateRanks(scores, { averageRank, alpha: 0 })),
      );
    },
  },
  {
    ...{ name: "recommended()", kind: "low rank", version: 1 },
    make: (draw, ratio) =>
      made(draw, `recommended ${ratio}`, [], () => recommended(draw.device, draw.model, draw.tokens, { share: 1 - ratio })),
  },
  {
    ...{ name: "D²-MoE", kind: "low rank", version: 1 },
    make: async (draw, ratio) => {
      const { device, model } = draw, { hidden, moe } = model.config, layers = moeLayers(model);
      // Beside the differences each layer has one whole expert.
      const rank = Math.floor(rankFor(model, leftOf(model, ratio) - 3 * layers.length * hidden * moe.intermediate, countOf(model)));
      if (rank < 1) return undefined;
      const trace = await draw.trace(),
        ranks = {
          layers: layers.map(({ index, block }) => {
            const experts = block.experts.map(({ id }) => ({ expert: id, rank })), sum = rank * experts.length;
            return { layer: index, experts, sum, target: sum };
          }),
        };
      return await made(draw, `D²-MoE ${ratio}`, ["trace"], () => deltaExperts(device, model, trace, { ranks }));
    },
  },
  {
    ...{ name: "Bolaco, 5×1", kind: "low rank", version: 1 },
    make: async (draw, ratio) => {
      // A quarter of the calibration sequences is what ratios are tried on. Attention is factored too, so the experts keep more.
      const { device, model, tokens, seed } = draw,
        cut = Math.ceil(0.75 * tokens.length),
        [known, other] = [tokens.slice(0, cut), tokens.slice(cut)];
      const gone = countParameters(model).total - countParameters(model, { pruning: ratio }).total;
      return await made(draw, `Bolaco ${ratio}`, [], async () => {
        const search = { share: 1 - gone / linearEntries(model), evaluations: 20, initial: 7, seed };
        return await factorLinears(device, model, known, { ratios: await allocateRatios(device, model, known, other, search) });
      });
    },
  },
  {
    ...{ name: "MKA", kind: "layers merged", version: 1 },
    make: async (draw, ratio) => {
      const { model } = draw, target = countParameters(model, { pruning: ratio }).bytes, similarity = await draw.layers();
      // As many layers as bring the model to the size, where a number of layers does.
      for (let layers = 1; layers < moeLayers(model).length; layers++) {
        const plan = mergePlan(similarity, { layers }), { bytes } = countParameters(mergeLayers(model, plan));
        if (Math.abs(bytes / target - 1) > 0.1) continue;
        return await made(draw, `MKA ${ratio}`, ["layers"], () => mergeLayers(model, plan));
      }
      return undefined;
    },
  },
];
