/**
 * Winnow compresses Mixture-of-Experts language models: it finds the experts and layers that matter, prunes, decomposes, and saves a smaller model.
 *
 * @example
 * ```ts
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const tokens = calibrationTokens(model.tokenizer, ["Sum: 12 + 30 = 42."], { sequences: 4, length: 8 });
 * using trace = await calibrate(device, model, tokens);
 * const scores = await leaveOneOut(device, model, trace);
 * const candidates = await geneticSearch(device, model, trace, pruningBudget(scores, { ratio: 0.25 }));
 * const pruned = pruneExperts(model, await receptionField(device, model, tokens, candidates));
 * console.log(countParameters(pruned).total);
 * ```
 *
 * @module
 */

// Devices
export { openDevice, type OpenDeviceOptions } from "./lib/device/open_device.ts";
export type { Device, DType } from "./lib/device/device.ts";

// Models
export { openModel } from "./lib/model/open_model.ts";
export { logits, type LogitsOptions } from "./lib/model/logits.ts";
export { type DecoderLayer, type Expert, type LayerMerge, type Model, type MoeBlock, moeLayers } from "./lib/model/model.ts";
export { type ModelConfig, parseConfig } from "./lib/model/parse_config.ts";
export type { Sequences } from "./lib/model/batch.ts";
export type { Progress, Resume, StageOptions } from "./lib/model/stage_options.ts";
export type { OpenOptions } from "./lib/checkpoint/source.ts";
export type { Tokenizer } from "./lib/checkpoint/open_tokenizer.ts";

// Calibration
export { calibrationTokens, type CalibrationTokensOptions } from "./lib/calibrate/calibration_tokens.ts";
export { type Random, random } from "./lib/calibrate/random.ts";
export { calibrate, type CalibrateOptions, type LayerTrace, type Trace } from "./lib/calibrate/calibrate.ts";

// Importance
export type { ExpertScores } from "./lib/importance/expert_scores.ts";
export { keptScores } from "./lib/importance/kept_scores.ts";
export { type ScoreAgreement, scoreAgreement, type ScoreAgreementOptions } from "./lib/importance/score_agreement.ts";
export { type ExpertStatistics, expertStatistics, type LayerStatistics } from "./lib/importance/expert_statistics.ts";
export { scoreExperts, type StatisticsScore } from "./lib/importance/score_experts.ts";
export { aimer } from "./lib/importance/aimer.ts";
export { randomScores, type RandomScoresOptions } from "./lib/importance/random_scores.ts";
export { type ExpertSignatures, expertSignatures } from "./lib/importance/expert_signatures.ts";
export { type ProtectedExperts, superExperts, type SuperExpertsOptions } from "./lib/importance/super_experts.ts";
export { leaveOneOut, type LeaveOneOutOptions } from "./lib/importance/leave_one_out.ts";
export { type BlockInfluence, blockInfluence } from "./lib/importance/block_influence.ts";
export { type LayerSimilarity, layerSimilarity, type LayerState } from "./lib/importance/layer_similarity.ts";
export { type DiffusionMap, diffusionMap, type DiffusionMapOptions } from "./lib/importance/diffusion_map.ts";
export { copulaInformation } from "./lib/importance/copula_information.ts";

// Pruning
export { type PruningBudget, pruningBudget, type PruningBudgetOptions } from "./lib/search/pruning_budget.ts";
export type { Candidates } from "./lib/search/candidates.ts";
export { exhaustiveSearch, type ExhaustiveSearchOptions } from "./lib/search/exhaustive_search.ts";
export { geneticSearch, type GeneticSearchOptions } from "./lib/search/genetic_search.ts";
export { greedySearch, type GreedySearchOptions } from "./lib/search/greedy_search.ts";
export { type ProgressivePlan, progressiveSearch, type ProgressiveSearchOptions } from "./lib/search/progressive_search.ts";
export { evolveBudget, type EvolveBudgetOptions, type EvolvedBudget } from "./lib/search/evolve_budget.ts";
export { type SearchableLayer, searchLayers } from "./lib/search/layer_search.ts";
export { receptionField, type ReceptionFieldOptions, type ReceptionFieldPlan } from "./lib/search/reception_field.ts";
export { planByScores, type PlanByScoresOptions } from "./lib/search/plan_by_scores.ts";
export { projectUniform } from "./lib/search/project_uniform.ts";
export { pruneExperts, type PruningPlan } from "./lib/model/prune_experts.ts";
export { changeTopK } from "./lib/model/change_top_k.ts";

// Skipping
export { skipThresholds, type SkipThresholdsOptions } from "./lib/importance/skip_thresholds.ts";
export { skipExperts, type SkipThresholds } from "./lib/model/skip_experts.ts";

// Merging layers
export { mergePlan, type MergePlanOptions } from "./lib/merge/merge_plan.ts";
export { mergeLayers } from "./lib/merge/merge_layers.ts";

// Low-rank experts
export { allocateRanks, type AllocateRanksOptions, type RankPlan } from "./lib/decompose/allocate_ranks.ts";
export { allocateRanksGlobally, type AllocateRanksGloballyOptions } from "./lib/decompose/allocate_ranks_globally.ts";
export { type ExpertSpectra, expertSpectra, type ExpertSpectraOptions } from "./lib/decompose/expert_spectra.ts";
export { type DecomposedModel, decomposeExperts, type DecomposeExpertsOptions } from "./lib/decompose/decompose_experts.ts";
export { recommended, type RecommendedModel, type RecommendedOptions } from "./lib/decompose/recommended.ts";
export { deltaExperts, type DeltaExpertsOptions } from "./lib/decompose/delta_experts.ts";

// Low-rank linears
export { rankFor } from "./lib/decompose/rank_for.ts";
export type { LinearRatios, RatioPlan } from "./lib/decompose/linear_ratios.ts";
export type { FactoredLinear } from "./lib/decompose/factored_layers.ts";
export { type FactoredModel, factorLinears, type FactorLinearsOptions } from "./lib/decompose/factor_linears.ts";
export { allocateRatios, type AllocateRatiosOptions, type RatioAllocation, type TriedRatios } from "./lib/decompose/allocate_ratios.ts";
export { type BayesianSearch, bayesianSearch, type BayesianSearchOptions, type Evaluated } from "./lib/search/bayesian_search.ts";
export type { SearchSpace } from "./lib/search/feasible_points.ts";

// Merging
export type { ExpertClusters } from "./lib/merge/expert_clusters.ts";
export { clusterExperts, type ExpertFeatures } from "./lib/merge/cluster_experts.ts";
export { type RouterSimilarity, routerSimilarity } from "./lib/merge/router_similarity.ts";
export { dominantClusters, type DominantClustersOptions } from "./lib/merge/dominant_clusters.ts";
export { alignExperts, type ExpertAlignment } from "./lib/merge/align_experts.ts";
export { permuteExperts } from "./lib/merge/permute_experts.ts";
export { mergeExperts } from "./lib/merge/merge_experts.ts";
export { replaceByMeans } from "./lib/merge/replace_by_means.ts";

// Sparse weights
export type { BlockPattern, BlockSparsity } from "./lib/sparsify/amounts.ts";
export { type SparseLinear, type SparseModel, sparsify } from "./lib/sparsify/sparsify.ts";
export type { Carrier, SparsifyOptions } from "./lib/sparsify/sparsify_options.ts";
export {
  type BlockOutliers,
  type OutlierDistribution,
  outlierDistribution,
  type OutlierDistributionOptions,
} from "./lib/sparsify/outlier_distribution.ts";
export { owlSparsity, type OwlSparsityOptions } from "./lib/sparsify/owl_sparsity.ts";
export { owlPattern, type OwlPatternOptions } from "./lib/sparsify/owl_pattern.ts";
export { countZeros, type ZeroCount } from "./lib/sparsify/count_zeros.ts";

// Structures: experts, channels, attention groups, layers
export type { LayerStructures, NetworkChannels, StructurePlan } from "./lib/structured/structure_plan.ts";
export type { BudgetScope, UnitKind, UnitPart, UnitPopulation, UnitProbabilities, UnitValues } from "./lib/structured/units.ts";
export { unitScores, type UnitScoresOptions } from "./lib/structured/unit_scores.ts";
export { initialProbabilities, type InitialProbabilitiesOptions } from "./lib/structured/initial_probabilities.ts";
export { sampleMasks } from "./lib/structured/sample_masks.ts";
export { type Estimator, policyGradient } from "./lib/structured/policy_gradient.ts";
export { policyGradientStep, type PolicyState } from "./lib/structured/policy_gradient_step.ts";
export type { PolicyStepOptions } from "./lib/structured/step_options.ts";
export { projectBudget } from "./lib/structured/project_budget.ts";
export { hardMask, type HardMaskOptions } from "./lib/structured/hard_mask.ts";
export { planByUnits, type PlanByUnitsOptions } from "./lib/structured/plan_by_units.ts";
export { maskedLosses } from "./lib/structured/masked_losses.ts";
export {
  type PolicyGradientOptions,
  type PolicyGradientResult,
  policyGradientSearch,
  type PolicyStep,
} from "./lib/structured/policy_gradient_search.ts";
export { sliceModel } from "./lib/structured/slice_model.ts";
// Differences of tuned models
export { type BitPlan, type BitSplit, planBits, type PlanBitsOptions } from "./lib/delta/plan_bits.ts";
export type { FactorMatrix, FloatMatrix, QuantisedMatrix } from "./lib/delta/factor_matrix.ts";
export type { ComponentGroup, CompressedDelta, DeltaLinear, Signs } from "./lib/delta/compressed_delta.ts";
export { type DeltaSpectra, deltaSpectra } from "./lib/delta/delta_spectra.ts";
export { compressDelta } from "./lib/delta/compress_delta.ts";
export type { CompressDeltaOptions } from "./lib/delta/compress_options.ts";
export { bitDelta } from "./lib/delta/bit_delta.ts";
export { type DeltaSize, deltaSize } from "./lib/delta/delta_size.ts";
export { applyDelta } from "./lib/delta/apply_delta.ts";
export { type SavedDelta, saveDelta } from "./lib/delta/save_delta.ts";
export { openDelta } from "./lib/delta/open_delta.ts";
export { type DeltaServer, serveDeltas, type ServeDeltasOptions, type ServedRequest } from "./lib/delta/serve_deltas.ts";

// Fine-tuning
export { finetune, type FinetuneOptions, type TunedModel } from "./lib/finetune/finetune.ts";
export { annealTopK, type TopKSchedule } from "./lib/finetune/anneal_top_k.ts";
export type { TrainingPoint } from "./lib/finetune/training_state.ts";
export type { Example } from "./lib/finetune/examples.ts";
export { MOE_I2_RECIPE, type Recipe, ROUTER_RECIPE, SEER_RECIPE, SPP_RECIPE } from "./lib/finetune/recipe.ts";
export type { Target } from "./lib/finetune/adapter_sites.ts";
export type { AdapterKind, Adapters } from "./lib/finetune/adapters.ts";
export { mergeAdapters } from "./lib/finetune/merge_adapters.ts";
export { saveAdapters } from "./lib/finetune/save_adapters.ts";

// Saved models
export type { Form } from "./lib/export/form.ts";
export { readRecord } from "./lib/export/read_record.ts";
export type { ModelRecord, Provenance } from "./lib/export/model_record.ts";
export { recipeHash } from "./lib/export/recipe_hash.ts";
export { type SavedModel, saveModel, type SaveModelOptions } from "./lib/export/save_model.ts";

// Evaluation
export { type Perplexity, perplexity } from "./lib/evaluate/perplexity.ts";
export { type ExpertsPerToken, expertsPerToken } from "./lib/evaluate/experts_per_token.ts";
export { type BlockPerplexity, blockPerplexity, type BlockPerplexityOptions } from "./lib/evaluate/block_perplexity.ts";
export {
  type Document,
  type DocumentPerplexity,
  documentPerplexity,
  type DocumentPerplexityOptions,
} from "./lib/evaluate/document_perplexity.ts";
export { wikitextDocument } from "./lib/evaluate/wikitext_document.ts";
export { CORPORA, type Corpus, loadTexts, type LoadTextsOptions } from "./lib/evaluate/datasets/load_texts.ts";
export { type Item, multipleChoice, type MultipleChoiceOptions, type TaskResult } from "./lib/evaluate/multiple_choice.ts";
export type { BosRule } from "./lib/evaluate/encode_requests.ts";
export { type BenchmarkScores, evaluateTasks, type GroupScore, type TaskScore } from "./lib/evaluate/evaluate_tasks.ts";
export { type LoadedTask, loadTasks, type LoadTasksOptions } from "./lib/evaluate/tasks/load_tasks.ts";
export type { Question, Task } from "./lib/evaluate/tasks/task.ts";
export { TASK_GROUPS, TASKS } from "./lib/evaluate/tasks/tasks.ts";
export type { DatasetOptions } from "./lib/evaluate/datasets/open_dataset.ts";
export type { Column, Columns } from "./lib/evaluate/datasets/parquet_rows.ts";
export { countParameters, type ParameterCount } from "./lib/evaluate/count_parameters.ts";
export { parameterParts, type PartCount } from "./lib/evaluate/parameter_parts.ts";
export { type HeldBytes, stageMemory, type StageMemoryOptions } from "./lib/evaluate/stage_memory.ts";
export type { Compression, ModelPart } from "./lib/evaluate/counted_weights.ts";
export type { DescribedModel } from "./lib/model/described_model.ts";
export { evaluate, type EvaluateOptions, type Evaluation } from "./lib/evaluate/evaluate.ts";
export { type Esap, esap } from "./lib/evaluate/esap.ts";
export { type BlockOutputLoss, blockOutputLoss, type BlockOutputLossOptions } from "./lib/evaluate/block_output_loss.ts";
export type { AblationLadderOptions } from "./lib/evaluate/ladder_options.ts";
export { type AblationLadder, ablationLadder, type LadderRow } from "./lib/evaluate/ablation_ladder.ts";

// Parameter-efficient expert retrieval
export { type PeerForward, peerForward, type PeerLayer } from "./lib/peer/peer_forward.ts";
export { type ProductKeys, productKeyTopK } from "./lib/peer/product_key_top_k.ts";
export { type PeerUsage, peerUsage } from "./lib/peer/peer_usage.ts";
export type { PeerPart, PeerShape } from "./lib/peer/peer_shape.ts";
export type { DecoderShape, FeedForwardShape } from "./lib/peer/decoder_shape.ts";
export { feedForwardFlops } from "./lib/peer/feed_forward_flops.ts";
export {
  type DecoderMeasurement,
  type DecoderStep,
  trainDecoder,
  type TrainDecoderOptions,
  type TrainedDecoder,
} from "./lib/peer/train_decoder.ts";
export { type DecoderStart, peerFromMoe, type PeerFromMoeOptions } from "./lib/peer/peer_from_moe.ts";

// Dataflow
export { type Flow, type FlowOptions, openFlow, type RunOptions } from "./lib/flow/flow.ts";
export type { Codec, Encoded, Filed, Inputs, Results, Stage, StageContext, StageDefinition } from "./lib/flow/stage.ts";
export { type StageStatus, status } from "./lib/flow/status.ts";
export { type Lineage, lineage } from "./lib/flow/lineage.ts";
export { type Verification, verify, type VerifyOptions } from "./lib/flow/verify.ts";
export { type Collection, type Garbage, gc, type GcOptions } from "./lib/flow/gc.ts";
export { source } from "./lib/flow/source.ts";
export { modelSource } from "./lib/flow/model_source.ts";
export { stages } from "./lib/flow/stages.ts";
export { dataCodec } from "./lib/flow/data_codec.ts";
export { traceCodec } from "./lib/flow/trace_codec.ts";
export { modelCodec, tunedCodec } from "./lib/flow/model_codec.ts";
export { deltaCodec } from "./lib/flow/delta_codec.ts";

// Displays
export { type Shown, shown } from "./lib/display/shown.ts";
export { type Row, table, type TableCell, type TableColumn, type TableOptions } from "./lib/display/table.ts";
export { chart } from "./lib/display/chart.ts";
export { displayed } from "./lib/display/displayed.ts";
export type { Axis, Cells, Chart, Place, Point, Series } from "./lib/display/drawing.ts";
export { accuracyAgainstSize, type SizePoint } from "./lib/display/accuracy_against_size.ts";
export { agreementTable } from "./lib/display/agreement_table.ts";
export { benchmarkTable } from "./lib/display/benchmark_table.ts";
export { bitPlanTable } from "./lib/display/bit_plan_table.ts";
export { candidatesTable } from "./lib/display/candidates_table.ts";
export { comparisonTable } from "./lib/display/comparison_table.ts";
export { decompositionErrors } from "./lib/display/decomposition_errors.ts";
export { deltaCurves } from "./lib/display/delta_curves.ts";
export { deltaSizeTable } from "./lib/display/delta_size_table.ts";
export { deltaTable } from "./lib/display/delta_table.ts";
export { expertImportance, type ExpertImportanceOptions } from "./lib/display/expert_importance.ts";
export { ladderTable, type LadderTableOptions } from "./lib/display/ladder_table.ts";
export { layerBudgets } from "./lib/display/layer_budgets.ts";
export { lineageGraph } from "./lib/display/lineage_graph.ts";
export { lossCurve } from "./lib/display/loss_curve.ts";
export { planTable } from "./lib/display/plan_table.ts";
export { influenceBars } from "./lib/display/influence_bars.ts";
export { similarityMap, type SimilarityMapOptions } from "./lib/display/similarity_map.ts";
export { policyCurve } from "./lib/display/policy_curve.ts";
export { rankMap } from "./lib/display/rank_map.ts";
export { ratioSearch } from "./lib/display/ratio_search.ts";
export { receptionTree } from "./lib/display/reception_tree.ts";
export { retainedVariance } from "./lib/display/retained_variance.ts";
export { report } from "./lib/display/report.ts";
export type { Run, RunSection } from "./lib/display/report_page.ts";
export { type RoutingCounts, routingLoad } from "./lib/display/routing_load.ts";
export { savedTable } from "./lib/display/saved_table.ts";
export { searchConvergence, type SearchConvergenceOptions } from "./lib/display/search_convergence.ts";
export { sequencesTable, type SequencesTableOptions } from "./lib/display/sequences_table.ts";
export { singularSpectra, type SingularSpectraOptions } from "./lib/display/singular_spectra.ts";
export { sizeTable } from "./lib/display/size_table.ts";
export { stageTable } from "./lib/display/stage_table.ts";
export { statusTable } from "./lib/display/status_table.ts";
export { terminalProgress } from "./lib/display/terminal_progress.ts";
export { unitTable, type UnitTableOptions } from "./lib/display/unit_table.ts";

// Notebooks
export { type Notebook, notebook, type NotebookOptions, type RunOptions as NotebookRunOptions } from "./lib/notebook/notebook.ts";
