/** The whole pipeline on the three fixtures against PyTorch and transformers. */

import { assert, assertEquals } from "@std/assert";
import { calibrate, type Trace } from "../lib/calibrate/calibrate.ts";
import { allocateRanks } from "../lib/decompose/allocate_ranks.ts";
import { decomposeExperts } from "../lib/decompose/decompose_experts.ts";
import { truncatedSvd } from "../lib/decompose/truncated_svd.ts";
import type { Device, TensorSource } from "../lib/device/device.ts";
import { multipleChoice } from "../lib/evaluate/multiple_choice.ts";
import { perplexity } from "../lib/evaluate/perplexity.ts";
import { leaveOneOut } from "../lib/importance/leave_one_out.ts";
import { batchSequences } from "../lib/model/batch.ts";
import { routerProbabilities } from "../lib/model/decoder_layer.ts";
import { logits } from "../lib/model/logits.ts";
import { type Model, moeLayers } from "../lib/model/model.ts";
import { pruneExperts } from "../lib/model/prune_experts.ts";
import { tokenLosses } from "../lib/model/token_losses.ts";
import { walk } from "../lib/model/walk.ts";
import { exhaustiveSearch } from "../lib/search/exhaustive_search.ts";
import { geneticSearch } from "../lib/search/genetic_search.ts";
import { pruningBudget } from "../lib/search/pruning_budget.ts";
import { receptionField } from "../lib/search/reception_field.ts";
import { assertClose, fastDevices, testOnDevices } from "./devices.ts";
import { type Fixture, openFixture, references } from "./fixtures.ts";
import type { Reference } from "./references/reference.ts";

/** What float32 in another order of summation may change, by kind of device. */
const TOLERANCES = {
  cpu: { logits: 2e-3, perplexity: 1e-4, importance: 1e-3 },
  webgpu: { logits: 1e-2, perplexity: 1e-3, importance: 1e-2 },
};

const near = (got: number, want: number, relative: number, what: string) =>
  assert(Math.abs(got / want - 1) <= relative, `${what} is ${got}, expected ${want} within ${relative}`);

/** |got - want| <= tolerance · max(want, layer mean / 1000). */
function assertImportance(got: ArrayLike<number>, want: number[], tolerance: number, layer: string): void {
  const floor = want.reduce((a, b) => a + b) / want.length / 1000;
  want.forEach((value, e) => {
    const allowed = tolerance * Math.max(value, floor);
    assert(
      Math.abs(got[e] - value) <= allowed,
      `importance of expert ${e} in layer ${layer} is ${got[e]}, expected ${value} within ${allowed}`,
    );
  });
}

for (const [name, reference] of Object.entries(references)) {
  testOnDevices(`${name} agrees with PyTorch`, async (device, t) => {
    const fixture = await openFixture(name), { model, calibration, heldOut } = fixture, tolerance = TOLERANCES[device.kind];
    await t.step("logits", async () => {
      const got = await logits(device, model, calibration[0]), vocabulary = model.config.vocabulary;
      for (const [position, { first8, logsumexp, argmax }] of Object.entries(reference.logits)) {
        const row = got.subarray(Number(position) * vocabulary, (Number(position) + 1) * vocabulary);
        first8.forEach((value, i) =>
          assert(Math.abs(row[i] - value) <= tolerance.logits, `logit ${i} at ${position} is ${row[i]}, expected ${value}`)
        );
        const total = Math.log(row.reduce((sum, v) => sum + Math.exp(v), 0));
        assert(Math.abs(total - logsumexp) <= tolerance.logits, `log Σ exp at ${position} is ${total}, expected ${logsumexp}`);
        assertEquals(row.indexOf(Math.max(...row)), argmax, `argmax at ${position}`);
      }
    });
    await t.step("token losses and perplexity", async () => {
      const losses = await tokenLosses(device, model, batchSequences(model.config, calibration.slice(0, 4), 128), { stage: "test" });
      reference.nll.forEach((want, i) =>
        near(losses[i].reduce((a, b) => a + b) / losses[i].length, want, tolerance.perplexity, `loss of sequence ${i}`)
      );
      near((await perplexity(device, model, heldOut)).perplexity, reference.perplexity.dense, tolerance.perplexity, "perplexity");
    });
    await t.step("routing of the first tokens", () => checkRouting(device, fixture, reference));
    using trace = await calibrate(device, model, calibration);
    await t.step("counts and input norms", () => checkTrace(trace, reference));

    const scores = await leaveOneOut(device, model, trace);
    await t.step("importance", () => {
      for (const { layer, scores: got } of scores.layers) {
        assertImportance(got, reference.importance[layer], tolerance.importance, `${layer}`);
      }
    });
    await t.step("importance for the language-model loss", async () => {
      const layers = Object.keys(reference.lossImportance).map(Number),
        { layers: scored } = await leaveOneOut(device, model, trace, { loss: "lm", layers });
      for (const { layer, scores: got } of scored) {
        reference.lossImportance[layer].forEach((want, e) => {
          const allowed = Math.max(1e-2 * Math.abs(want), 2e-5);
          assert(
            Math.abs(got[e] - want) <= allowed,
            `loss without expert ${e} of layer ${layer} rises by ${got[e]}, expected ${want} within ${allowed}`,
          );
        });
      }
    });

    const budget = pruningBudget(scores, { ratio: 0.25 });
    assertEquals(
      Object.fromEntries(budget.layers.map(({ layer, drop }) => [layer, drop])),
      reference.budget,
      "experts to drop in each layer",
    );
    const candidates = await exhaustiveSearch(device, model, trace, budget);
    await t.step("the three best sets of each layer", () => {
      for (const { layer, sets } of candidates.layers) {
        const want = reference.bestSets[layer];
        assertEquals(sets.map((s) => s.drop), want.map((s) => s.drop), `sets of layer ${layer}`);
        sets.forEach(({ loss }, i) =>
          want[i].loss > 0 ? near(loss, want[i].loss, tolerance.importance, `loss of set ${i} of layer ${layer}`) : assertEquals(loss, 0)
        );
      }
    });
    await t.step("genetic search finds the exhaustive optimum with seeds 0 to 4", async () => {
      for (let seed = 0; seed < 5; seed++) {
        const { layers } = await geneticSearch(device, model, trace, budget, { seed });
        layers.forEach(({ layer, sets, evaluated, possible }, i) => {
          // The same set; products of other widths round otherwise on some processors.
          const [best] = candidates.layers[i].sets, where = `layer ${layer}, seed ${seed}`;
          assertEquals(sets[0].drop, best.drop, where);
          if (best.loss > 0) near(sets[0].loss, best.loss, 1e-6, `least loss of ${where}`);
          if (possible > 4000) assert(evaluated < possible, `layer ${layer}, seed ${seed}: priced ${evaluated} of ${possible} sets`);
        });
      }
    });

    const plan = await receptionField(device, model, calibration, candidates);
    await t.step("reception field", () => {
      assertEquals(Object.fromEntries(plan.layers.map(({ layer, drop }) => [layer, drop])), reference.plan);
      plan.blocks.forEach(({ layers, choice, loss, firstChoices, combinations }, i) => {
        const want = reference.blocks[i];
        assertEquals({ layers, choice, combinations }, {
          layers: want.layers,
          choice: want.best[0].choice,
          combinations: want.combinations,
        });
        near(loss, want.best[0].loss, tolerance.importance, `loss of block ${i}`);
        near(firstChoices, want.first_choices, tolerance.importance, `loss of the first choices of block ${i}`);
      });
    });

    const pruned = pruneExperts(model, plan),
      layerwise = { layers: candidates.layers.map(({ layer, sets }) => ({ layer, drop: sets[0].drop })) };
    await t.step("perplexity after pruning", async () => {
      near(
        (await perplexity(device, pruned, heldOut)).perplexity,
        reference.perplexity.pruned_reception_field,
        1e-3,
        "perplexity, reception field",
      );
      const best = (await perplexity(device, pruneExperts(model, layerwise), heldOut)).perplexity;
      near(best, reference.perplexity.pruned_layerwise_best, 1e-3, "perplexity, best set of each layer");
    });

    using again = await calibrate(device, pruned, calibration);
    const left = await leaveOneOut(device, pruned, again), ranks = allocateRanks(left, { averageRank: reference.averageRank });
    await t.step("importance and ranks of the pruned model", () => {
      for (const { layer, scores: got } of left.layers) {
        assertImportance(got, reference.prunedImportance[layer], tolerance.importance, `${layer}`);
      }
      for (const { layer, experts } of ranks.layers) {
        experts.forEach(({ expert, rank }, i) =>
          assert(Math.abs(rank - reference.ranks[layer][i]) <= 1, `rank of expert ${expert} in layer ${layer} is ${rank}`)
        );
      }
    });
    await t.step("singular values", () => checkSvd(device, model, reference));
    const small = await decomposeExperts(device, pruned, ranks);
    await t.step("perplexity after decomposition", async () => {
      near((await perplexity(device, small, heldOut)).perplexity, reference.perplexity.pruned_and_decomposed, 1e-3, "perplexity");
    });
    await t.step("multiple choice", async () => {
      await checkTasks(device, model, fixture, reference, "dense");
      await checkTasks(device, small, fixture, reference, "pruned_and_decomposed");
    });
  }, fastDevices);
}

async function checkRouting(device: Device, { model, calibration }: Fixture, reference: Reference): Promise<void> {
  await walk(device, model, batchSequences(model.config, [calibration[0]], 128), {
    stage: "test",
    atBlock: async ({ layer, weights: { block }, input }) => {
      if (block.kind === "dense") return;
      using probabilities = routerProbabilities(device, block, input);
      using ranking = device.rank(probabilities, model.config.moe.topK);
      using gates = device.gates(ranking, { ...model.config.moe, groups: undefined });
      const { experts, weights } = reference.routing.find((r) => r.layer === layer.index)!, used = experts.flat().length;
      assertEquals([...(await device.readIndices(ranking.experts)).subarray(0, used)], experts.flat(), `experts of layer ${layer.index}`);
      assertClose((await device.read(gates)).subarray(0, used), weights.flat(), 1e-3, `routing weights of layer ${layer.index}`);
    },
  });
}

async function checkTrace(trace: Trace, reference: Reference): Promise<void> {
  for (const { layer, counts, inputNorm } of reference.routing) {
    const traced = trace.layers.find((l) => l.layer === layer)!, total = counts.reduce((a, b) => a + b);
    const off = counts.reduce((sum, count, e) => sum + Math.abs(count - traced.counts[e]), 0);
    assert(off <= total / 1000, `counts of layer ${layer} differ by ${off} of ${total} assignments`);
    const inputs = new Float32Array(traced.inputs.tokens * traced.inputs.hidden);
    await traced.inputs.read(0, inputs);
    near(Math.sqrt(inputs.reduce((sum, v) => sum + v * v, 0)), inputNorm, 1e-4, `norm of the inputs of layer ${layer}`);
  }
}

async function checkSvd(device: Device, model: Model, { svd, averageRank }: Reference): Promise<void> {
  const source = moeLayers(model)[0].block.experts[0].gate as TensorSource;
  using stored = await device.load(source);
  using matrix = device.widen(stored);
  const whole = await truncatedSvd(device, matrix, Math.min(...source.shape), { method: "gram" });
  assertClose(whole.singularValues, svd.singularValues, 1e-4, "singular values");
  assert(whole.relativeError < 1e-5, `full rank leaves an error of ${whole.relativeError}`);
  near((await truncatedSvd(device, matrix, averageRank, { method: "gram" })).relativeError, svd.relativeError, 1e-4, "relative error");
}

async function checkTasks(
  device: Device,
  model: Model,
  { items }: Fixture,
  reference: Reference,
  form: keyof Reference["tasks"],
): Promise<void> {
  for (const { task, acc, accNorm, items: count, logLikelihoods } of await multipleChoice(device, model, items, { limit: 60 })) {
    const [right, rightNorm] = reference.tasks[form][task];
    assertEquals(count, 60);
    for (const [got, want] of [[acc * 60, right], [accNorm * 60, rightNorm]]) {
      assert(Math.abs(got - want) < 1.5, `${form}, ${task}: ${got} of 60 right, expected ${want}`);
    }
    if (form === "dense") {
      reference.firstItems[task].forEach((want, i) => assertClose(logLikelihoods[i], want, 2e-3, `item ${i} of ${task}`));
    }
  }
}
