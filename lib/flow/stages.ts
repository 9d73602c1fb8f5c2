/**
 * Ready definitions of stages: the functions of the pipeline with their inputs, options and kernels.
 *
 * @module
 */

import { calibrate } from "../calibrate/calibrate.ts";
import { calibrationTokens } from "../calibrate/calibration_tokens.ts";
import type { Trace } from "../calibrate/calibrate.ts";
import { isObject } from "../checkpoint/parse_json_object.ts";
import { allocateRanks, type RankPlan } from "../decompose/allocate_ranks.ts";
import { allocateRanksGlobally } from "../decompose/allocate_ranks_globally.ts";
import { decomposeExperts } from "../decompose/decompose_experts.ts";
import { deltaExperts } from "../decompose/delta_experts.ts";
import { type ExpertSpectra, expertSpectra } from "../decompose/expert_spectra.ts";
import { recommended } from "../decompose/recommended.ts";
import { DECOMPOSITION, FORWARD, PEER, PREDICTIONS, SEARCH, SIGNATURES, SPARSIFICATION, TRAINING } from "../device/kernel_texts.ts";
import { ablationLadder } from "../evaluate/ablation_ladder.ts";
import { blockPerplexity } from "../evaluate/block_perplexity.ts";
import { esap } from "../evaluate/esap.ts";
import { evaluate } from "../evaluate/evaluate.ts";
import { expertsPerToken } from "../evaluate/experts_per_token.ts";
import { type Item, multipleChoice } from "../evaluate/multiple_choice.ts";
import { perplexity } from "../evaluate/perplexity.ts";
import type { Example } from "../finetune/examples.ts";
import { finetune, type FinetuneOptions } from "../finetune/finetune.ts";
import { aimer } from "../importance/aimer.ts";
import { blockInfluence } from "../importance/block_influence.ts";
import type { ExpertScores } from "../importance/expert_scores.ts";
import { expertSignatures } from "../importance/expert_signatures.ts";
import { type ExpertStatistics, expertStatistics } from "../importance/expert_statistics.ts";
import { scoreExperts, type StatisticsScore } from "../importance/score_experts.ts";
import { type LayerSimilarity, layerSimilarity } from "../importance/layer_similarity.ts";
import { leaveOneOut } from "../importance/leave_one_out.ts";
import { randomScores } from "../importance/random_scores.ts";
import { skipThresholds } from "../importance/skip_thresholds.ts";
import { type ProtectedExperts, superExperts } from "../importance/super_experts.ts";
import { alignExperts, type ExpertAlignment } from "../merge/align_experts.ts";
import { clusterExperts, type ExpertFeatures } from "../merge/cluster_experts.ts";
import { dominantClusters } from "../merge/dominant_clusters.ts";
import type { ExpertClusters } from "../merge/expert_clusters.ts";
import { mergeExperts } from "../merge/merge_experts.ts";
import { permuteExperts } from "../merge/permute_experts.ts";
import { replaceByMeans } from "../merge/replace_by_means.ts";
import { type RouterSimilarity, routerSimilarity } from "../merge/router_similarity.ts";
import { mergeLayers } from "../merge/merge_layers.ts";
import { mergePlan, type MergePlanOptions } from "../merge/merge_plan.ts";
import type { Sequences } from "../model/batch.ts";
import { changeTopK } from "../model/change_top_k.ts";
import { expect } from "../model/expect.ts";
import { expectOptions } from "../model/expect_stage.ts";
import type { LayerMerge, Model } from "../model/model.ts";
import { pruneExperts, type PruningPlan } from "../model/prune_experts.ts";
import { skipExperts, type SkipThresholds } from "../model/skip_experts.ts";
import type { StageOptions } from "../model/stage_options.ts";
import type { DecoderShape } from "../peer/decoder_shape.ts";
import { type DecoderStart, peerFromMoe, type PeerFromMoeOptions } from "../peer/peer_from_moe.ts";
import { trainDecoder, type TrainedDecoder } from "../peer/train_decoder.ts";
import type { Candidates } from "../search/candidates.ts";
import { evolveBudget } from "../search/evolve_budget.ts";
import { exhaustiveSearch } from "../search/exhaustive_search.ts";
import { geneticSearch } from "../search/genetic_search.ts";
import { greedySearch } from "../search/greedy_search.ts";
import { planByScores } from "../search/plan_by_scores.ts";
import { progressiveSearch } from "../search/progressive_search.ts";
import { projectUniform } from "../search/project_uniform.ts";
import { type PruningBudget, pruningBudget } from "../search/pruning_budget.ts";
import { receptionField } from "../search/reception_field.ts";
import type { BlockPattern, BlockSparsity } from "../sparsify/amounts.ts";
import { countZeros } from "../sparsify/count_zeros.ts";
import { type OutlierDistribution, outlierDistribution } from "../sparsify/outlier_distribution.ts";
import { owlPattern } from "../sparsify/owl_pattern.ts";
import { owlSparsity } from "../sparsify/owl_sparsity.ts";
import { type SparseModel, sparsify } from "../sparsify/sparsify.ts";
import { modelCodec, tunedCodec } from "./model_codec.ts";
import type { Stage, StageContext, StageDefinition } from "./stage.ts";
import { traceCodec } from "./trace_codec.ts";

/** Options that are plain data: what a function is told beside its inputs. */
type Plain<F extends (...args: never[]) => unknown, N extends string = never> = Omit<
  NonNullable<Parameters<F> extends [...unknown[], infer O] ? O : Required<Parameters<F>> extends [...unknown[], infer O] ? O : never>,
  keyof StageOptions | N
>;

/** Stages whose results a function takes. */
type StagesOf<V> = { readonly [K in keyof V]: Stage<Exclude<V[K], undefined>> };

/** A function that is given the stages it takes, and options, and gives a definition for `stage()`. */
type Ready<V, O, T> = (inputs: StagesOf<V>, options?: O) => StageDefinition<StagesOf<V> & Record<string, Stage<unknown>>, O, T>;

/** Wraps a function of the pipeline. `V` are the results it takes, by name. */
function around<V extends object, O extends object, T>(
  about: Pick<StageDefinition<never, O, T>, "version" | "kernels" | "codec" | "stored">,
  run: (inputs: V, options: O, context: StageContext) => T | Promise<T>,
): Ready<V, O, T> {
  return ((inputs: StagesOf<V>, options = {} as O) => {
    expect(isObject(inputs), "define a stage", "the stages that it takes, by name", inputs);
    expectOptions(options, "define a stage");
    const given = Object.fromEntries(Object.entries(inputs).filter(([, stage]) => stage !== undefined));
    return { ...about, inputs: given, options, run };
  }) as Ready<V, O, T>;
}

/** What of the context goes on into options. */
const control = ({ signal, onProgress, resume }: StageContext): StageOptions => ({ signal, onProgress, resume });

/**
 * Ready definitions, by the function that they wrap.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openFlow } from "./flow.ts";
 * import { modelSource } from "./model_source.ts";
 * import { source } from "./source.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice({ kind: "cpu" });
 * const store = await Deno.makeTempDir();
 * using flow = await openFlow({ device, store });
 * const model = await modelSource(flow, "model", "notebooks/checkpoints/tiny-mixtral");
 * const tokens = await source(flow, "tokens", [Uint32Array.of(0, 389, 26, 7)]);
 * const trace = flow.stage("trace", stages.calibrate({ model, tokens }));
 * const importance = flow.stage("importance", stages.leaveOneOut({ model, trace }, { batch: 8 }));
 * assertEquals((await flow.run(importance, { upstream: true })).layers.length, 4);
 * await Deno.remove(store, { recursive: true });
 * ```
 */
export const stages = {
  calibrationTokens: around(
    { version: 1 },
    ({ model, texts }: { model: Model; texts: readonly string[] }, options: Plain<typeof calibrationTokens>): Sequences =>
      calibrationTokens(model.tokenizer, texts, options),
  ),
  calibrate: around(
    { version: 1, kernels: SEARCH, codec: traceCodec },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof calibrate>, context) =>
      calibrate(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  leaveOneOut: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace }: { model: Model; trace: Trace }, options: Plain<typeof leaveOneOut>, context) =>
      leaveOneOut(context.device, model, trace, { ...options, ...control(context) }),
  ),
  expertStatistics: around(
    { version: 2, kernels: SEARCH },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof expertStatistics>, context) =>
      expertStatistics(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  blockInfluence: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof blockInfluence>, context) =>
      blockInfluence(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  layerSimilarity: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof layerSimilarity>, context) =>
      layerSimilarity(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  mergePlan: around(
    { version: 1 },
    ({ similarity }: { similarity: LayerSimilarity }, options: MergePlanOptions) => mergePlan(similarity, options),
  ),
  mergeLayers: around(
    { version: 1, stored: false },
    ({ model, plan }: { model: Model; plan: readonly LayerMerge[] }, _: Record<never, never>) => mergeLayers(model, plan),
  ),
  scoreExperts: around(
    { version: 1 },
    ({ statistics }: { statistics: ExpertStatistics }, { kind }: { kind: StatisticsScore }) => scoreExperts(statistics, kind),
  ),
  aimer: around({ version: 1 }, ({ model }: { model: Model }, _: Record<never, never>, context) => aimer(model, control(context))),
  randomScores: around(
    { version: 1 },
    ({ model }: { model: Model }, options: Parameters<typeof randomScores>[1]) => randomScores(model, options),
  ),
  expertSignatures: around(
    { version: 1, kernels: SIGNATURES },
    ({ model, tokens }: { model: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      expertSignatures(context.device, model, tokens, control(context)),
  ),
  superExperts: around(
    { version: 1 },
    ({ statistics }: { statistics: ExpertStatistics }, options: Parameters<typeof superExperts>[1]) => superExperts(statistics, options),
  ),
  skipThresholds: around(
    { version: 1 },
    ({ statistics }: { statistics: ExpertStatistics }, options: Parameters<typeof skipThresholds>[1]) =>
      skipThresholds(statistics, options),
  ),
  skipExperts: around(
    { version: 1, stored: false },
    ({ model, thresholds }: { model: Model; thresholds: SkipThresholds }, _: Record<never, never>) => skipExperts(model, thresholds),
  ),
  pruningBudget: around(
    { version: 1 },
    (
      { scores, protect }: { scores: ExpertScores; protect?: ProtectedExperts },
      options: Omit<NonNullable<Parameters<typeof pruningBudget>[1]>, "protect">,
    ) => pruningBudget(scores, { ...options, protect }),
  ),
  evolveBudget: around(
    { version: 1, kernels: PREDICTIONS },
    (
      { model, tokens, scores }: { model: Model; tokens: Sequences; scores: ExpertScores },
      options: Plain<typeof evolveBudget>,
      context,
    ) => evolveBudget(context.device, model, tokens, scores, { ...options, ...control(context) }),
  ),
  geneticSearch: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace, budget }: SearchInputs, options: Plain<typeof geneticSearch>, context) =>
      geneticSearch(context.device, model, trace, budget, { ...options, ...control(context) }),
  ),
  greedySearch: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace, budget }: SearchInputs, options: Plain<typeof greedySearch>, context) =>
      greedySearch(context.device, model, trace, budget, { ...options, ...control(context) }),
  ),
  exhaustiveSearch: around(
    { version: 1, kernels: SEARCH },
    ({ model, trace, budget }: SearchInputs, options: Plain<typeof exhaustiveSearch>, context) =>
      exhaustiveSearch(context.device, model, trace, budget, { ...options, ...control(context) }),
  ),
  progressiveSearch: around(
    { version: 1, kernels: SEARCH },
    (
      { model, tokens, budget }: { model: Model; tokens: Sequences; budget: PruningBudget },
      options: Plain<typeof progressiveSearch>,
      context,
    ) => progressiveSearch(context.device, model, tokens, budget, { ...options, ...control(context) }),
  ),
  receptionField: around(
    { version: 1, kernels: SEARCH },
    (
      { model, tokens, candidates }: { model: Model; tokens: Sequences; candidates: Candidates },
      options: Plain<typeof receptionField>,
      context,
    ) => receptionField(context.device, model, tokens, candidates, { ...options, ...control(context) }),
  ),
  planByScores: around(
    { version: 1 },
    (
      { scores, budget, candidates, protect }: {
        scores: ExpertScores;
        budget: PruningBudget;
        candidates?: Candidates;
        protect?: ProtectedExperts;
      },
      _: Record<never, never>,
    ) => planByScores(scores, budget, candidates, { protect }),
  ),
  projectUniform: around(
    { version: 1 },
    ({ plan, scores }: { plan: PruningPlan; scores: ExpertScores }, _: Record<never, never>) => projectUniform(plan, scores),
  ),
  pruneExperts: around(
    { version: 1, stored: false },
    ({ model, plan }: { model: Model; plan: PruningPlan }, _: Record<never, never>) => pruneExperts(model, plan),
  ),
  changeTopK: around(
    { version: 1, stored: false },
    ({ model }: { model: Model }, { topK }: { topK: number }) => changeTopK(model, topK),
  ),
  allocateRanks: around(
    { version: 1 },
    ({ scores }: { scores: ExpertScores }, options: Parameters<typeof allocateRanks>[1]) => allocateRanks(scores, options),
  ),
  expertSpectra: around(
    { version: 1, kernels: DECOMPOSITION },
    ({ model, trace }: { model: Model; trace?: Trace }, options: Plain<typeof expertSpectra, "whiten">, context) =>
      expertSpectra(context.device, model, { ...options, whiten: trace, ...control(context) }),
  ),
  allocateRanksGlobally: around(
    { version: 1 },
    ({ scores, spectra }: { scores: ExpertScores; spectra: ExpertSpectra }, options: Parameters<typeof allocateRanksGlobally>[2]) =>
      allocateRanksGlobally(scores, spectra, options),
  ),
  decomposeExperts: around(
    { version: 1, kernels: DECOMPOSITION, codec: modelCodec<Awaited<ReturnType<typeof decomposeExperts>>>() },
    (
      { model, ranks, trace }: { model: Model; ranks: RankPlan; trace?: Trace },
      options: Plain<typeof decomposeExperts, "whiten">,
      context,
    ) => decomposeExperts(context.device, model, ranks, { ...options, whiten: trace, ...control(context) }),
  ),
  deltaExperts: around(
    { version: 1, kernels: DECOMPOSITION, codec: modelCodec<Awaited<ReturnType<typeof deltaExperts>>>() },
    (
      { model, trace, ranks }: { model: Model; trace: Trace; ranks?: RankPlan },
      options: Plain<typeof deltaExperts, "ranks">,
      context,
    ) => deltaExperts(context.device, model, trace, { ...options, ranks, ...control(context) }),
  ),
  clusterExperts: around(
    { version: 1 },
    ({ features, budget }: { features: ExpertFeatures; budget: PruningBudget }, _: Record<never, never>) =>
      clusterExperts(features, budget),
  ),
  routerSimilarity: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      routerSimilarity(context.device, model, tokens, control(context)),
  ),
  dominantClusters: around(
    { version: 1 },
    (
      { frequencies, similarity }: { frequencies: ExpertScores; similarity: RouterSimilarity },
      options: Plain<typeof dominantClusters>,
    ) => dominantClusters(frequencies, similarity, options),
  ),
  alignExperts: around(
    { version: 1, kernels: FORWARD },
    ({ model, clusters }: { model: Model; clusters: ExpertClusters }, _: Record<never, never>, context) =>
      alignExperts(context.device, model, clusters, control(context)),
  ),
  permuteExperts: around(
    { version: 1, stored: false },
    ({ model, alignment }: { model: Model; alignment: ExpertAlignment }, _: Record<never, never>) => permuteExperts(model, alignment),
  ),
  mergeExperts: around(
    { version: 1, stored: false },
    ({ model, clusters, weights }: { model: Model; clusters: ExpertClusters; weights: ExpertScores }, _: Record<never, never>) =>
      mergeExperts(model, clusters, weights),
  ),
  replaceByMeans: around(
    { version: 1, stored: false },
    ({ model, statistics, plan }: { model: Model; statistics: ExpertStatistics; plan: PruningPlan }, _: Record<never, never>) =>
      replaceByMeans(model, statistics, plan),
  ),
  recommended: around(
    { version: 1, kernels: [...SEARCH, ...DECOMPOSITION], codec: modelCodec<Awaited<ReturnType<typeof recommended>>>() },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof recommended>, context) =>
      recommended(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  /** Amounts that differ by block may come from stages. */
  sparsify: around(
    { version: 1, kernels: SPARSIFICATION, codec: modelCodec<SparseModel>() },
    (
      { model, tokens, ...amounts }: { model: Model; tokens: Sequences; sparsity?: BlockSparsity; pattern?: BlockPattern },
      options: Plain<typeof sparsify>,
      context,
    ) => sparsify(context.device, model, tokens, { ...options, ...amounts, ...control(context) }),
  ),
  outlierDistribution: around(
    { version: 1, kernels: SPARSIFICATION },
    ({ model, tokens }: { model: Model; tokens: Sequences }, options: Plain<typeof outlierDistribution>, context) =>
      outlierDistribution(context.device, model, tokens, { ...options, ...control(context) }),
  ),
  owlSparsity: around(
    { version: 1 },
    ({ outliers }: { outliers: OutlierDistribution }, options: Parameters<typeof owlSparsity>[1]) => owlSparsity(outliers, options),
  ),
  owlPattern: around(
    { version: 1 },
    ({ outliers }: { outliers: OutlierDistribution }, options: Parameters<typeof owlPattern>[1]) => owlPattern(outliers, options),
  ),
  countZeros: around(
    { version: 1 },
    ({ model }: { model: Model }, _: Record<never, never>, context) => countZeros(model, control(context)),
  ),
  /** Emits the loss curve so far after every step. */
  finetune: around(
    { version: 2, kernels: TRAINING, codec: tunedCodec },
    (
      { model, examples, teacher }: { model: Model; examples: readonly Example[]; teacher?: Model },
      options: Plain<typeof finetune, "teacher" | "onStep" | "checkpoint">,
      context,
    ) => {
      const onStep: FinetuneOptions["onStep"] = (_, history) => context.emit([...history]);
      return finetune(context.device, model, examples, { ...options, teacher, checkpoint: context.folder, onStep, ...control(context) });
    },
  ),
  evaluate: around(
    { version: 1, kernels: FORWARD },
    ({ model, heldOut, items }: { model: Model; heldOut: Sequences; items?: readonly Item[] }, options: { limit?: number }, context) =>
      evaluate(context.device, model, { ...options, heldOut, items, ...control(context) }),
  ),
  /** Rows that train are there where `examples` are given. */
  ablationLadder: around(
    { version: 1, kernels: [...SEARCH, ...DECOMPOSITION, ...TRAINING] },
    (
      { model, tokens, heldOut, items, examples }: {
        model: Model;
        tokens: Sequences;
        heldOut: Sequences;
        items?: readonly Item[];
        examples?: readonly Example[];
      },
      options: Plain<typeof ablationLadder, "heldOut" | "items" | "examples">,
      context,
    ) => ablationLadder(context.device, model, tokens, { ...options, heldOut, items, examples, ...control(context) }),
  ),
  perplexity: around(
    { version: 1, kernels: FORWARD },
    ({ model, heldOut }: { model: Model; heldOut: Sequences }, _: Record<never, never>, context) =>
      perplexity(context.device, model, heldOut, control(context)),
  ),
  esap: around(
    { version: 1, kernels: PREDICTIONS },
    ({ model, other, tokens }: { model: Model; other: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      esap(context.device, model, other, tokens, control(context)),
  ),
  expertsPerToken: around(
    { version: 1, kernels: FORWARD },
    ({ model, tokens }: { model: Model; tokens: Sequences }, _: Record<never, never>, context) =>
      expertsPerToken(context.device, model, tokens, control(context)),
  ),
  blockPerplexity: around(
    { version: 1, kernels: FORWARD },
    ({ model, texts }: { model: Model; texts: readonly string[] }, options: Plain<typeof blockPerplexity>, context) =>
      blockPerplexity(context.device, model, texts, { ...options, ...control(context) }),
  ),
  multipleChoice: around(
    { version: 1, kernels: FORWARD },
    ({ model, items }: { model: Model; items: readonly Item[] }, options: Plain<typeof multipleChoice>, context) =>
      multipleChoice(context.device, model, items, { ...options, ...control(context) }),
  ),
  /** The sizes of the decoder are an option here. */
  trainDecoder: around(
    { version: 1, kernels: PEER },
    (
      { tokens, heldOut, start }: { tokens: Sequences; heldOut?: Sequences; start?: DecoderStart },
      { shape, ...options }: Plain<typeof trainDecoder, "heldOut" | "start"> & { shape: DecoderShape },
      context,
    ) => trainDecoder(context.device, tokens, shape, { ...options, heldOut, start: start?.weights, ...control(context) }),
  ),
  peerFromMoe: around(
    { version: 1, kernels: PEER },
    (
      { decoder, tokens }: { decoder: TrainedDecoder; tokens: Sequences },
      { middle, ...options }: Plain<typeof peerFromMoe> & { middle: PeerFromMoeOptions["middle"] },
      context,
    ) => peerFromMoe(context.device, decoder, tokens, { middle, ...options, ...control(context) }),
  ),
};

interface SearchInputs {
  model: Model;
  trace: Trace;
  budget: PruningBudget;
}
