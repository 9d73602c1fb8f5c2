/** Real stages: what a change computes again, what a stop keeps, all that come ready-made, and their types. */

import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "node:path";
import { allocateRanks, type RankPlan } from "../../lib/decompose/allocate_ranks.ts";
import type { RatioAllocation } from "../../lib/decompose/allocate_ratios.ts";
import type { DecomposedModel } from "../../lib/decompose/decompose_experts.ts";
import type { FactoredModel } from "../../lib/decompose/factor_linears.ts";
import type { RecommendedModel } from "../../lib/decompose/recommended.ts";
import type { TunedModel } from "../../lib/finetune/finetune.ts";
import type { Flow } from "../../lib/flow/flow.ts";
import { gc } from "../../lib/flow/gc.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import type { Results, Stage } from "../../lib/flow/stage.ts";
import { stages } from "../../lib/flow/stages.ts";
import { verify } from "../../lib/flow/verify.ts";
import type { Trace } from "../../lib/calibrate/calibrate.ts";
import type { CompressedDelta } from "../../lib/delta/compressed_delta.ts";
import type { DeltaSize } from "../../lib/delta/delta_size.ts";
import type { DeltaSpectra } from "../../lib/delta/delta_spectra.ts";
import type { ExpertScores } from "../../lib/importance/expert_scores.ts";
import type { BlockInfluence } from "../../lib/importance/block_influence.ts";
import type { LayerSimilarity } from "../../lib/importance/layer_similarity.ts";
import type { ExpertStatistics } from "../../lib/importance/expert_statistics.ts";
import type { ExpertAlignment } from "../../lib/merge/align_experts.ts";
import type { ExpertClusters } from "../../lib/merge/expert_clusters.ts";
import type { RouterSimilarity } from "../../lib/merge/router_similarity.ts";
import type { LayerMerge, Model } from "../../lib/model/model.ts";
import type { PruningPlan } from "../../lib/model/prune_experts.ts";
import type { DecoderStart } from "../../lib/peer/peer_from_moe.ts";
import type { TrainedDecoder } from "../../lib/peer/train_decoder.ts";
import type { Candidates } from "../../lib/search/candidates.ts";
import type { ReceptionFieldPlan } from "../../lib/search/reception_field.ts";
import type { ZeroCount } from "../../lib/sparsify/count_zeros.ts";
import type { OutlierDistribution } from "../../lib/sparsify/outlier_distribution.ts";
import type { SparseModel } from "../../lib/sparsify/sparsify.ts";
import type { PolicyGradientResult } from "../../lib/structured/policy_gradient_search.ts";
import type { StructurePlan } from "../../lib/structured/structure_plan.ts";
import type { UnitProbabilities, UnitValues } from "../../lib/structured/units.ts";
import type { TaskResult } from "../../lib/evaluate/multiple_choice.ts";
import { folderOf, openFixture } from "../fixtures.ts";
import { artifactOf, run, stateOf, states, withStore } from "./flows.ts";
import { pipeline } from "./pipeline.ts";

const SMALL = { name: "tiny-mixtral", sequences: 2, length: 16 };

Deno.test("a changed ratio computes again from the budget on, once; nothing else, and nothing in the next flow", async () => {
  await withStore(async ({ open }) => {
    const computed: string[] = [], onComputed = (name: string) => computed.push(name);
    const first = await open();
    await run(first, (await pipeline(first, SMALL)).small, { onComputed });
    const below = ["budget", "candidates", "plan", "trace of what is left", "importance of what is left", "ranks", "small"];
    assertEquals(computed, ["trace", "importance", ...below]);

    computed.length = 0;
    const { small, plan } = await pipeline(first, { ...SMALL, ratio: 0.5 });
    assertEquals((await states(first)).slice(2, 7), [
      "trace: fresh",
      "importance: fresh",
      "budget: stale (options.ratio 0.25 -> 0.5)",
      "candidates: stale (input budget is stale)",
      "plan: stale (input candidates is stale)",
    ]);
    await assertRejects(
      () => first.run(plan, { onComputed }),
      Error,
      'Cannot run "plan": its input "candidates" is stale (input budget is stale)',
    );
    await run(first, small, { onComputed });
    assertEquals(computed, below);

    computed.length = 0;
    const next = await open();
    for (const ratio of [0.25, 0.5]) {
      for (const stage of Object.values(await pipeline(next, { ...SMALL, ratio }))) await next.run(stage as Stage<unknown>, { onComputed });
    }
    assertEquals(computed, []);
    assert((await verify(next)).every(({ same }) => same));
    assertEquals((await gc(next)).garbage.map(({ kind }) => kind), below.map(() => "result"));
  });
});

Deno.test("stopped in the midst of real stages, a run goes on to the same bytes", async () => {
  const bytes: Record<string, string>[] = [];
  for (const stops of [0, 4]) {
    await withStore(async ({ open }) => {
      const flow = await open(), { small, plan, again } = await pipeline(flow, SMALL);
      for (let stop = 1; stop <= stops; stop++) {
        const abort = new AbortController();
        let steps = 0;
        const onProgress = () => void (++steps > 9 * stop && abort.abort(new Error("stop")));
        await assertRejects(() => run(flow, small, { signal: abort.signal, onProgress }), Error, "stop");
      }
      if (stops > 0) {
        assert((await states(flow)).some((line) => /partial \(\d+ parts? (is|are) done\)/.test(line)), `${await states(flow)}`);
      }
      await run(flow, small);
      const files: Record<string, string> = {};
      for (const stage of [plan, again, small]) {
        const folder = await artifactOf(flow, stage);
        for (const file of ["value.json", "arrays.safetensors"]) {
          files[`${stage.name}/${file}`] = (await Deno.readFile(join(folder, file)).catch(() => new Uint8Array())).toHex();
        }
      }
      bytes.push(files);
    });
  }
  assertEquals(bytes[1], bytes[0]);
});

Deno.test("a training that is stopped goes on from its last state", async () => {
  await withStore(async ({ open }) => {
    const flow = await open(), model = await modelSource(flow, "model", folderOf("tiny-mixtral"));
    const examples = await source(flow, "examples", ["Sum: 1 + 1 = 2.", "Sum: 2 + 2 = 4.", "Sum: 3 + 1 = 4."]);
    const recipe = { rank: 1, epochs: 2, batch: 1, targets: ["attention" as const], checkpointEvery: 1 };
    const define = (name: string) => flow.stage(name, stages.finetune({ model, examples }, recipe));
    const want = await flow.run(define("undisturbed")), stage = define("disturbed"), abort = new AbortController(), seen: number[] = [];
    const emit = (curve: unknown) => {
      seen.push((curve as unknown[]).length);
      if (seen.length === 3) abort.abort(new Error("stop"));
    };
    await assertRejects(() => flow.run(stage, { signal: abort.signal, emit }), Error, "stop");
    assertEquals(await stateOf(flow, stage), "partial (a checkpoint is kept)");
    const tuned = await flow.run(stage, { emit });
    assertEquals([tuned.history, tuned.adapters], [want.history, want.adapters] as unknown[]);
    assertEquals(seen.length, 6); // steps taken, both times together
  });
});

/** Everything that comes ready-made, on one small model. What the assignments say of types is checked by the compiler. */
async function everything(flow: Flow) {
  const { calibration, heldOut, items } = await openFixture("tiny-mixtral"),
    cut = (ids: Uint32Array[]) => ids.slice(0, 2).map((ids) => ids.slice(0, 12));
  const whole: Stage<Model> = await modelSource(flow, "whole", folderOf("tiny-mixtral"));
  const rest = await source(flow, "rest", { layers: [0, 1, 2, 3].map((layer) => ({ layer, drop: [0, 2, 4, 5, 7] })) }); // three experts a layer: quick
  const model: Stage<Model> = flow.stage("model", stages.pruneExperts({ model: whole, plan: rest }));
  const texts = await source(flow, "texts", ["Sum: 12 + 30 = 42. Sum: 1 + 2 = 3. Sum: 5 + 6 = 11. Sum: 7 + 8 = 15."]);
  const drawn: Stage<readonly Uint32Array[]> = flow.stage(
    "drawn",
    stages.calibrationTokens({ model, texts }, { sequences: 2, length: 12 }),
  );
  const tokens = await source(flow, "tokens", cut(calibration)), held = await source(flow, "held out", cut(heldOut));
  const questions = await source(flow, "questions", items.slice(0, 3)), examples = await source(flow, "examples", ["Sum: 1 + 1 = 2."]);
  const trace: Stage<Trace> = flow.stage("trace", stages.calibrate({ model, tokens: drawn }, { searchTokens: 100 }));
  const importance: Stage<ExpertScores> = flow.stage("importance", stages.leaveOneOut({ model, trace }, { loss: "relative" }));
  const statistics: Stage<ExpertStatistics> = flow.stage("statistics", stages.expertStatistics({ model, tokens: drawn }));
  const counted: Stage<ExpertScores> = flow.stage("counted", stages.scoreExperts({ statistics }, { kind: "REAP" }));
  const several = await source(flow, "several", calibration.slice(0, 6).map((ids) => ids.slice(0, 6)));
  const influence: Stage<BlockInfluence> = flow.stage("influence", stages.blockInfluence({ model, tokens: several }));
  const similarity: Stage<LayerSimilarity> = flow.stage("similarity", stages.layerSimilarity({ model, tokens: several }, { dims: 2 }));
  const merges: Stage<LayerMerge[]> = flow.stage("merges", stages.mergePlan({ similarity }, { layers: 1, ratio: "released" }));
  const shorter: Stage<Model> = flow.stage("shorter", stages.mergeLayers({ model, plan: merges }));
  const ofShorter = flow.stage("perplexity of shorter", stages.perplexity({ model: shorter, heldOut: held }));
  const weighed: Stage<ExpertScores> = flow.stage("weighed", stages.aimer({ model }));
  const chance: Stage<ExpertScores> = flow.stage("chance", stages.randomScores({ model }, { seed: 1 }));
  const signatures = flow.stage("signatures", stages.expertSignatures({ model, tokens: drawn }));
  const protect = flow.stage("protect", stages.superExperts({ statistics }, { depth: 0.5 }));
  const thresholds = flow.stage("thresholds", stages.skipThresholds({ statistics }, { share: 0.3 }));
  const skipping: Stage<Model> = flow.stage("skipping", stages.skipExperts({ model, thresholds }));
  const used = flow.stage("used", stages.expertsPerToken({ model: skipping, tokens: drawn }));
  const evolved = flow.stage("evolved", stages.evolveBudget({ model, tokens, scores: weighed }, { population: 2, generations: 1 }));
  const budget = flow.stage("budget", stages.pruningBudget({ scores: importance, protect }, { strategy: "uniform", ratio: 0.34 }));
  const progressive: Stage<PruningPlan> = flow.stage("progressive", stages.progressiveSearch({ model, tokens, budget }));
  const genetic: Stage<Candidates> = flow.stage(
    "genetic",
    stages.geneticSearch({ model, trace, budget }, { population: 4, generations: 1 }),
  );
  const greedy = flow.stage("greedy", stages.greedySearch({ model, trace, budget }, { rounds: 1 }));
  const exhaustive = flow.stage("exhaustive", stages.exhaustiveSearch({ model, trace, budget }));
  const plan: Stage<ReceptionFieldPlan> = flow.stage("plan", stages.receptionField({ model, tokens, candidates: genetic }, { keep: 1 }));
  const byScores = flow.stage("by scores", stages.planByScores({ scores: importance, budget, candidates: greedy, protect }));
  const uniform = flow.stage("uniform", stages.projectUniform({ plan: byScores, scores: importance }));
  const pruned: Stage<Model> = flow.stage("pruned", stages.pruneExperts({ model, plan: uniform }));
  const ranks: Stage<RankPlan> = flow.stage("ranks", stages.allocateRanks({ scores: importance }, { averageRank: 4 }));
  const spectra = flow.stage("spectra", stages.expertSpectra({ model, trace }));
  const globally = flow.stage("globally", stages.allocateRanksGlobally({ scores: importance, spectra }, { averageRank: 4 }));
  const small: Stage<DecomposedModel> = flow.stage("small", stages.decomposeExperts({ model, ranks: globally, trace }));
  const deltas: Stage<DecomposedModel> = flow.stage("deltas", stages.deltaExperts({ model, trace }, { share: 0.1 }));
  const clusters: Stage<ExpertClusters> = flow.stage("clusters", stages.clusterExperts({ features: signatures, budget }));
  const alike: Stage<RouterSimilarity> = flow.stage("alike", stages.routerSimilarity({ model, tokens: drawn }));
  const dominant: Stage<ExpertClusters> = flow.stage(
    "dominant",
    stages.dominantClusters({ frequencies: counted, similarity: alike }, { ratio: 0.5 }),
  );
  const alignment: Stage<ExpertAlignment> = flow.stage("alignment", stages.alignExperts({ model, clusters: dominant }));
  const aligned: Stage<Model> = flow.stage("aligned", stages.permuteExperts({ model, alignment }));
  const merged: Stage<Model> = flow.stage("merged", stages.mergeExperts({ model: aligned, clusters: dominant, weights: counted }));
  const means: Stage<Model> = flow.stage("means", stages.replaceByMeans({ model, statistics, plan: uniform }));
  const [ofDeltas, ofMerged, ofMeans] = [deltas, merged, means].map((model, i) =>
    flow.stage(`surprise ${i}`, stages.perplexity({ model, heldOut: held }))
  );
  const best: Stage<RecommendedModel> = flow.stage("best", stages.recommended({ model, tokens }, { share: 0.3 }));
  const ratios: Stage<RatioAllocation> = flow.stage(
    "ratios",
    stages.allocateRatios({ model, tokens, validation: held }, { share: 0.7, slack: 0.5, evaluations: 3, initial: 1 }),
  );
  const factored: Stage<FactoredModel> = flow.stage("factored", stages.factorLinears({ model, tokens, ratios }, { multiple: 4 }));
  const ofFactored = flow.stage("perplexity of factored", stages.perplexity({ model: factored, heldOut: held }));
  const outliers: Stage<OutlierDistribution> = flow.stage("outliers", stages.outlierDistribution({ model, tokens }, { threshold: 6 }));
  const sparsity = flow.stage("sparsity", stages.owlSparsity({ outliers }, { sparsity: 0.6 }));
  const pattern = flow.stage("pattern", stages.owlPattern({ outliers }));
  const sparse: Stage<SparseModel> = flow.stage("sparse", stages.sparsify({ model: small, tokens, sparsity }, { carrier: "sparsegpt" }));
  const patterned = flow.stage("patterned", stages.sparsify({ model, tokens, pattern }));
  const zeros: Stage<ZeroCount> = flow.stage("zeros", stages.countZeros({ model: patterned }));
  const low = flow.stage("low", stages.compressDelta({ base: model, tuned: patterned }, { split: [[16, 2]] }));
  const integers: Stage<CompressedDelta> = flow.stage(
    "integers",
    stages.compressDelta({ base: model, tuned: patterned, tokens }, { alpha: 1 / 32 }),
  );
  const signs: Stage<CompressedDelta> = flow.stage("signs", stages.bitDelta({ base: model, tuned: patterned }));
  const ofDifference: Stage<DeltaSpectra> = flow.stage("of the difference", stages.deltaSpectra({ base: model, tuned: patterned }));
  const back: Stage<Model> = flow.stage("back", stages.applyDelta({ base: model, delta: integers }));
  const ofBack = flow.stage("perplexity of back", stages.perplexity({ model: back, heldOut: held }));
  const size: Stage<DeltaSize> = flow.stage("size", stages.deltaSize({ delta: integers }));
  const tuned: Stage<TunedModel> = flow.stage("tuned", stages.finetune({ model: small, examples }, { rank: 1, epochs: 1 }));
  const worth: Stage<UnitValues> = flow.stage("worth", stages.unitScores({ model, tokens }, { kinds: ["experts", "attention groups"] }));
  const likely: Stage<UnitProbabilities> = flow.stage("likely", stages.initialProbabilities({ scores: worth }, { keep: 0.7 }));
  const learned: Stage<PolicyGradientResult> = flow.stage(
    "learned",
    stages.policyGradientSearch({ model, tokens, initial: likely }, { keep: 0.7, steps: 2 }),
  );
  const structures: Stage<StructurePlan> = flow.stage("structures", stages.planByUnits({ units: learned }, { keep: 0.7 }));
  const sliced: Stage<Model> = flow.stage("sliced", stages.sliceModel({ model, plan: structures }));
  const lists = await source(flow, "lists", [{ layers: [{ layer: 1, groups: [0] }] }]);
  const losses: Stage<Float64Array> = flow.stage("losses", stages.maskedLosses({ model: sliced, tokens, plans: lists }));
  const evaluation = flow.stage("evaluation", stages.evaluate({ model: tuned, heldOut: held, items: questions }, { limit: 1 }));
  const accepted = flow.stage("accepted", stages.esap({ model, other: pruned, tokens: held }));
  const fewer: Stage<Model> = flow.stage("fewer", stages.changeTopK({ model: pruned }, { topK: 1 }));
  const surprise = flow.stage("surprise", stages.perplexity({ model: fewer, heldOut: held }));
  const blocks = flow.stage("blocks", stages.blockPerplexity({ model: best, texts }, { length: 8 }));
  const choices: Stage<TaskResult[]> = flow.stage("choices", stages.multipleChoice({ model, items: questions }));
  const mixture = { kind: "moe" as const, experts: 2, topK: 1, intermediate: 2 };
  const middle = { kind: "peer" as const, heads: 1, ranks: 2, querySize: 4, keys: 2 };
  const shape = { vocabulary: 1024, hidden: 8, layers: 1, heads: 2, intermediate: 4, middle: mixture };
  const decoder: Stage<TrainedDecoder> = flow.stage("decoder", stages.trainDecoder({ tokens, heldOut: held }, { shape, steps: 2 }));
  const start: Stage<DecoderStart> = flow.stage("start", stages.peerFromMoe({ decoder, tokens }, { middle }));
  const rows = ["least important"];
  const ladder = flow.stage("ladder", stages.ablationLadder({ model, tokens, heldOut: held }, { rows, randomRuns: 1 }));
  return {
    start,
    counted,
    chance,
    signatures,
    used,
    evolved,
    progressive,
    accepted,
    exhaustive,
    plan,
    ranks,
    evaluation,
    surprise,
    blocks,
    choices,
    ladder,
    best,
    clusters,
    ofDeltas,
    ofMerged,
    ofMeans,
    influence,
    ofShorter,
    ofFactored,
    sparse,
    zeros,
    losses,
    low,
    signs,
    ofDifference,
    ofBack,
    size,
  };
}

Deno.test("all ready-made stages work in one flow, and again from the store", async () => {
  await withStore(async ({ open, device }) => {
    const flow = await open(), ends = await everything(flow), computed: string[] = [];
    for (const stage of Object.values(ends)) await run(flow, stage as Stage<unknown>);
    const lines = await states(flow);
    assertEquals(lines.filter((line) => !line.endsWith(": fresh")), []);
    assertEquals(Object.keys(stages).length, lines.length - 18, "a ready-made stage is not in this flow"); // nine sources; pruning, sparsity and differences twice, perplexity seven times

    const again = await open(),
      { evaluation, choices, ladder, best, exhaustive, counted, clusters, zeros, ...others } = await everything(again);
    const onComputed = (name: string) => computed.push(name);
    const { perplexity, tasks } = await again.run(evaluation, { onComputed });
    assert(perplexity > 1 && tasks.length > 0);
    assertEquals((await again.run(choices, { onComputed }))[0].logLikelihoods.length, 3);
    assertEquals((await again.run(ladder, { onComputed })).rows.map(({ row }) => row), ["dense", "least important"]);
    assert((await again.run(best, { onComputed })).ranks.layers.length > 0);
    assertEquals((await again.run(exhaustive, { onComputed })).layers.length, 4);
    assertEquals((await again.run(counted, { onComputed })).layers[3].scores.length, 3);
    assertEquals((await again.run(clusters, { onComputed })).layers.length, 4);
    assertEquals((await again.run(others.losses, { onComputed })).length, 1);
    for (const name of ["ofDeltas", "ofMerged", "ofMeans", "ofFactored"] as const) {
      assert((await again.run(others[name], { onComputed })).perplexity > 1);
    }
    for (const name of ["ofDeltas", "ofMerged", "ofMeans", "ofBack"] as const) {
      assert((await again.run(others[name], { onComputed })).perplexity > 1);
    }
    const { linears: { alpha, alphaStored } } = await again.run(others.size, { onComputed });
    assert(alpha <= 1 / 32 && alphaStored > alpha);
    const { entries, zeros: count } = await again.run(zeros, { onComputed });
    assert(count > 0.55 * entries && count < 0.9 * entries, `${count} of ${entries}`);
    assertEquals(computed, []);
    assertEquals(device.live.tensors, 0);
  });
});

/** Never run: what the compiler has to accept, and to refuse. */
export function types(flow: Flow, model: Stage<Model>, tokens: Stage<Uint32Array[]>, scores: Stage<ExpertScores>): void {
  const own = flow.stage("own", {
    ...{ version: 1, inputs: { scores, tokens }, options: { power: 2 } },
    run: ({ scores, tokens }, { power }, { device }) => {
      const topK: number = scores.topK, first: Uint32Array = tokens[0], squared: number = power ** 2, name: string = device.name;
      return { topK, first, squared, name };
    },
  });
  const value: Promise<{ topK: number; first: Uint32Array; squared: number; name: string }> = flow.run(own);
  const async: Stage<string> = flow.stage("async", { version: 1, run: () => Promise.resolve("text") });
  const results: Results<{ own: typeof own; async: typeof async }>["async"] = "text";
  // @ts-expect-error the result of a stage is of its function's type
  const wrong: Stage<number> = flow.stage("async", { version: 1, run: () => "text" });
  // @ts-expect-error there is no such option
  flow.stage("importance", stages.leaveOneOut({ model, trace: {} as Stage<Trace> }, { bach: 8 }));
  // @ts-expect-error a trace is missing
  flow.stage("importance", stages.leaveOneOut({ model }));
  // @ts-expect-error a budget follows from scores, not from a model
  flow.stage("budget", stages.pruningBudget({ scores: model }));
  // @ts-expect-error ranks need their average
  flow.stage("ranks", stages.allocateRanks({ scores }, {}));
  const ranked = ({ scores }: { scores: ExpertScores }) => allocateRanks(scores, { averageRank: 1 });
  // @ts-expect-error a function takes what its stage has as inputs
  flow.stage("own", { version: 1, inputs: { model }, run: ranked });
  void [value, results, wrong];
}
