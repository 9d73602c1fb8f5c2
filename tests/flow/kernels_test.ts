/** Results are kept until a kernel changes that they were made by: so every stage has to name all of its kernels. */

import { assert, assertEquals } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { openFlow } from "../../lib/flow/flow.ts";
import { modelSource } from "../../lib/flow/model_source.ts";
import { source } from "../../lib/flow/source.ts";
import type { Stage, StageDefinition } from "../../lib/flow/stage.ts";
import { stages } from "../../lib/flow/stages.ts";
import { textHash } from "../../lib/flow/files.ts";
import { requestAdapter } from "../../lib/device/webgpu/request_adapter.ts";
import type { FeedForwardShape } from "../../lib/peer/decoder_shape.ts";
import { folderOf, openFixture } from "../fixtures.ts";

/** Definitions with the inputs that they need, made on the processor. */
async function definitions(store: string) {
  using device = await openDevice({ kind: "cpu" });
  using flow = await openFlow({ device, store });
  const { calibration, items } = await openFixture("tiny-mixtral"), model = await modelSource(flow, "model", folderOf("tiny-mixtral"));
  const tokens = await source(flow, "tokens", [calibration[0].slice(0, 4)]), examples = await source(flow, "examples", ["Sum: 1 + 1 = 2."]);
  const questions = await source(flow, "questions", items.slice(0, 1)),
    ranks = await source(flow, "ranks", {
      layers: [{ layer: 1, experts: [{ expert: 0, rank: 2 }, { expert: 3, rank: 2 }], sum: 4, target: 4 }],
    });
  const trace = flow.stage("trace", stages.calibrate({ model, tokens }));
  const scores = flow.stage("scores", stages.leaveOneOut({ model, trace })),
    budget = flow.stage("budget", stages.pruningBudget({ scores }));
  const candidates = flow.stage("candidates", stages.exhaustiveSearch({ model, trace, budget }));
  const small = flow.stage("small", stages.decomposeExperts({ model, ranks }));
  const mixture = { kind: "moe" as const, experts: 2, topK: 1, intermediate: 2 };
  const peer = { kind: "peer" as const, heads: 1, ranks: 2, querySize: 4, keys: 2 };
  const shapeWith = (middle: FeedForwardShape) => ({ vocabulary: 1024, hidden: 8, layers: 1, heads: 2, intermediate: 4, middle });
  const decoder = flow.stage("decoder", stages.trainDecoder({ tokens }, { shape: shapeWith(mixture), steps: 1 }));
  const start = flow.stage("start", stages.peerFromMoe({ decoder, tokens }, { middle: peer }));
  const others = await source(flow, "others", { layers: [{ layer: 1, drop: [1, 2, 4, 5, 6, 7] }] });
  const two = flow.stage("two", stages.pruneExperts({ model, plan: others })),
    traceOfTwo = flow.stage("trace of two", stages.calibrate({ model: two, tokens }));
  const signs = flow.stage("signs", stages.bitDelta({ base: model, tuned: model })),
    back = flow.stage("back", stages.applyDelta({ base: model, delta: signs }));
  const tuned = flow.stage("tuned", stages.pruneExperts({ model, plan: others }));
  const deltas = flow.stage("deltas", stages.deltaExperts({ model: two, trace: traceOfTwo, ranks }));
  const clusters = await source(flow, "clusters", { layers: [{ layer: 0, clusters: [[2, 5]] }] });
  const thresholds = await source(flow, "thresholds", { layers: [{ layer: 1, share: 0.3 }] });
  const skipping = flow.stage("skipping", stages.skipExperts({ model, thresholds }));
  const whole = flow.stage("whole", stages.changeTopK({ model }, { topK: 1 })),
    kinds = ["experts", "channels", "attention groups"] as const;
  const initial = flow.stage(
    "initial",
    stages.initialProbabilities({ scores: flow.stage("worth", stages.unitScores({ model: whole, tokens }, { kinds })) }),
  );
  const plans = await source(flow, "plans", [{
    layers: [{ layer: 0, groups: [0], channels: [{ of: "expert" as const, id: 1, drop: [3] }] }],
  }]);
  const few = {
    rank: 1,
    epochs: 1,
    dropout: 0.1,
    entropy: 0.1,
    balance: 0.1,
    targets: ["attention" as const, "experts" as const, "router" as const],
  };
  const all: Record<string, StageDefinition<never, never, unknown>> = {
    "calibrate": stages.calibrate({ model: small, tokens }),
    "expertStatistics": stages.expertStatistics({ model: small, tokens }),
    "expertSignatures": stages.expertSignatures({ model: small, tokens }),
    "progressiveSearch": stages.progressiveSearch({ model, tokens, budget }),
    "evolveBudget": stages.evolveBudget({ model, tokens, scores }, { population: 2, generations: 0 }),
    "expertsPerToken": stages.expertsPerToken({ model: skipping, tokens }),
    "blockInfluence": stages.blockInfluence({ model: small, tokens }),
    "leaveOneOut": stages.leaveOneOut({ model: small, trace }, { loss: "relative" }),
    "exhaustiveSearch": stages.exhaustiveSearch({ model, trace, budget }),
    "receptionField": stages.receptionField({ model, tokens, candidates }, { keep: 2 }),
    "decomposeExperts": stages.decomposeExperts({ model: small, ranks, trace }),
    "deltaExperts": stages.deltaExperts({ model: two, trace: traceOfTwo, ranks }),
    "routerSimilarity": stages.routerSimilarity({ model: small, tokens }),
    "alignExperts": stages.alignExperts({ model, clusters }),
    "perplexity": stages.perplexity({ model: deltas, heldOut: tokens }),
    "sparsify": stages.sparsify({ model: small, tokens }, { carrier: "sparsegpt" }),
    "factorLinears": stages.factorLinears({ model, tokens }, { ratios: 0.5 }),
    "allocateRatios": stages.allocateRatios({ model, tokens, validation: tokens }, { evaluations: 1 }),
    "deltaSpectra": stages.deltaSpectra({ base: two, tuned }),
    "compressDelta": stages.compressDelta({ base: two, tuned, tokens }, { split: [[8, 1], [2, 1]] }),
    "perplexity of a difference": stages.perplexity({ model: back, heldOut: tokens }),
    "outlierDistribution": stages.outlierDistribution({ model: small, tokens }),
    "unitScores": stages.unitScores({ model: whole, tokens }),
    "policyGradientSearch": stages.policyGradientSearch({ model: whole, tokens, initial }, { steps: 1 }),
    "maskedLosses": stages.maskedLosses({ model: whole, tokens, plans }),
    "finetune": stages.finetune({ model: small, examples, teacher: model }, few),
    "finetune, SPP": stages.finetune({ model: small, examples }, { ...few, adapter: "spp" }),
    "trainDecoder, dense": stages.trainDecoder({ tokens }, { shape: shapeWith({ kind: "dense", intermediate: 4 }), steps: 1 }),
    "trainDecoder, moe": stages.trainDecoder({ tokens }, { shape: shapeWith(mixture), steps: 1 }),
    "trainDecoder, peer": stages.trainDecoder({ tokens, heldOut: tokens, start }, { shape: shapeWith(peer), steps: 1 }),
    "peerFromMoe": stages.peerFromMoe({ decoder, tokens }, { middle: peer }),
    "evaluate": stages.evaluate({ model: small, heldOut: tokens, items: questions }),
  } as never;
  const values: Record<string, Record<string, unknown>> = {};
  for (const [name, { inputs }] of Object.entries(all)) {
    values[name] = {};
    for (const [input, stage] of Object.entries(inputs ?? {} as Record<string, Stage<unknown>>)) {
      values[name][input] = await flow.run(stage as Stage<unknown>, { upstream: true });
    }
  }
  return { all, values };
}

Deno.test({
  name: "ready-made stages name all kernels that they run",
  ignore: await requestAdapter() === null,
  fn: async (t) => {
    const store = await Deno.makeTempDir(), { setPipeline } = GPUComputePassEncoder.prototype;
    let ran = new Set<string>();
    GPUComputePassEncoder.prototype.setPipeline = function (pipeline) {
      ran.add(`${pipeline.label}.wgsl`);
      return setPipeline.call(this, pipeline);
    };
    try {
      const { all, values } = await definitions(store), files = new Map<string, string>(), named = new Set<string>();
      for await (const { name } of Deno.readDir(new URL("../../kernels", import.meta.url))) {
        files.set(textHash(await Deno.readTextFile(new URL(`../../kernels/${name}`, import.meta.url))), name);
      }
      using device = await openDevice({ kind: "webgpu" });
      for (const [name, { options, kernels = [], run }] of Object.entries(all)) {
        await t.step(name, async () => {
          ran = new Set();
          const known = new Set(kernels.map((text) => files.get(textHash(text))!));
          const result: unknown = await run(values[name] as never, (options ?? {}) as never, {
            device,
            emit: () => {},
            folder: `${store}/own of ${name}`,
          });
          await device.sync();
          if (typeof result === "object" && result !== null && Symbol.dispose in result) (result as Disposable)[Symbol.dispose]();
          assert(ran.size > 0);
          assertEquals([...ran].filter((kernel) => !known.has(kernel)), []);
          known.forEach((kernel) => named.add(kernel));
        });
      }
      assertEquals([...files.values()].filter((file) => file.endsWith(".wgsl") && !named.has(file)), []);
    } finally {
      GPUComputePassEncoder.prototype.setPipeline = setPipeline;
      await Deno.remove(store, { recursive: true });
    }
  },
});
