import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { pruningBudget } from "../../lib/search/pruning_budget.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { tokenIds } from "../numbers.ts";
import { distance, routedOutputs, ROUTERS, withModel } from "../small_models.ts";

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `leaveOneOut() is the change of the layer without the expert, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const scores = await leaveOneOut(device, model, trace, { batch: 2 });
        for (const { layer, experts, scores: got } of scores.layers) {
          const want = new Float64Array(experts.length);
          for (const batch of [sequences.slice(0, 2), sequences.slice(2, 4), sequences.slice(4)]) {
            const whole = await routedOutputs(device, model, batch, layer, []);
            for (const [i, expert] of experts.entries()) {
              want[i] += distance(whole, await routedOutputs(device, model, batch, layer, [expert]));
            }
          }
          assertClose(got, want, 1e-4, `layer ${layer}`);
        }
      }),
  );
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `leaveOneOut() divides each batch's change by the norm of its routed output where asked, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        using part = await calibrate(device, model, sequences, { searchTokens: 5 });
        const scores = await leaveOneOut(device, model, trace, { batch: 2, loss: "relative" });
        assertEquals(scores.kind, "leave-one-out, relative");
        for (const { layer, experts, scores: got } of scores.layers) {
          const want = new Float64Array(experts.length);
          for (const batch of [sequences.slice(0, 2), sequences.slice(2, 4), sequences.slice(4)]) {
            const whole = await routedOutputs(device, model, batch, layer, []),
              norm = distance(whole, whole.map((row) => row.map(() => 0)));
            for (const [i, expert] of experts.entries()) {
              want[i] += distance(whole, await routedOutputs(device, model, batch, layer, [expert])) / norm;
            }
          }
          assertClose(got, want, 1e-4, `layer ${layer}`);
        }
        const walked = await leaveOneOut(device, model, part, { batch: 2, loss: "relative" });
        walked.layers.forEach(({ scores: got }, i) => assertClose(got, scores.layers[i].scores, 1e-5));
      }),
  );
}

testOnDevices(
  "leaveOneOut() gives the same from kept inputs and from a second walk",
  (device) =>
    withModel(ROUTERS["not renormalising"], async (model, sequences) => {
      using whole = await calibrate(device, model, sequences);
      using part = await calibrate(device, model, sequences, { searchTokens: 5 });
      const kept = await leaveOneOut(device, model, whole, { batch: 2 }), walked = await leaveOneOut(device, model, part, { batch: 2 });
      kept.layers.forEach(({ scores }, i) => assertClose(walked.layers[i].scores, scores, 1e-5));
      assertEquals(kept.unseen, walked.unseen);
    }),
);

Deno.test("leaveOneOut() takes one norm over a batch that goes through the layer in pieces", () =>
  withModel(ROUTERS["renormalising"], async (model) => {
    using device = await openDevice({ kind: "cpu" });
    const sequences = [1, 2, 3].map((i) => tokenIds(`long.${i}`, 3000, 96)), [layer] = moeLayers(model);
    using trace = await calibrate(device, model, sequences);
    const { layers: [{ scores }] } = await leaveOneOut(device, model, trace, { layers: [layer.index] });
    const whole = await routedOutputs(device, model, sequences, layer.index, []);
    assertClose([scores[2]], [distance(whole, await routedOutputs(device, model, sequences, layer.index, [2]))], 1e-4);
  }));

testOnDevices(
  "an expert that serves no token scores 0 where the router renormalises, else the change of the softmax denominator",
  async (device) => {
    for (const variant of [ROUTERS["renormalising"], ROUTERS["not renormalising"]]) {
      await withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, [sequences[1]]); // so few tokens that some experts serve none
        const { layers, unseen } = await leaveOneOut(device, model, trace);
        assert(unseen.length > 0, "some experts are unseen");
        for (const { layer, expert } of unseen) {
          const { experts, scores } = layers.find((l) => l.layer === layer)!, score = scores[experts.indexOf(expert)];
          if (model.config.moe.renormalise) assertEquals(score, 0);
          else {
            const whole = await routedOutputs(device, model, [sequences[1]], layer, []);
            const without = await routedOutputs(device, model, [sequences[1]], layer, [expert]);
            // All weights grow by the same factor: the change is parallel to the output.
            whole.forEach((row, t) => {
              const grown = without[t].map((v, d) => v / row[d]);
              assertClose(grown, grown.map(() => grown[0]), 1e-3, `growth of token ${t}`);
              assert(grown[0] > 1, `token ${t} grows by ${grown[0]}`);
            });
            assertClose([score], [distance(whole, without)], 1e-3);
          }
        }
      });
    }
  },
);

testOnDevices(
  "leaveOneOut() stays finite in a layer that has only top-k experts left, and such a layer loses nothing more",
  (device) =>
    withModel(ROUTERS["renormalising"], async (model, sequences) => {
      const [layer] = moeLayers(model), pruned = pruneExperts(model, { layers: [{ layer: layer.index, drop: [0, 2, 3, 5] }] });
      using trace = await calibrate(device, pruned, sequences);
      const scores = await leaveOneOut(device, pruned, trace);
      assertEquals(scores.layers[0].experts, [1, 4]);
      assert(scores.layers[0].scores.every((s) => Number.isFinite(s) && s > 0), `${scores.layers[0].scores}`);
      const whole = await routedOutputs(device, pruned, sequences, layer.index, []),
        alone = await routedOutputs(device, pruned, sequences, layer.index, [4]);
      assertClose([scores.layers[0].scores[1]], [distance(whole, alone)], 1e-4);
      assertEquals(pruningBudget(scores, { ratio: 0.5 }).layers[0].drop, 0);
    }),
);

testOnDevices(
  "leaveOneOut() by the language-model loss is the loss of the pruned model less that of the dense one",
  (device) =>
    withModel(ROUTERS["group-limited, scaled"], async (model, sequences) => {
      const long = sequences.filter((s) => s.length > 1), [, layer] = moeLayers(model);
      using trace = await calibrate(device, model, long);
      const { layers } = await leaveOneOut(device, model, trace, { loss: "lm", batch: 1, layers: [layer.index] });
      const mean = async (m: typeof model) => {
        let sum = 0;
        for (const sequence of long) sum += (await perplexity(device, m, [sequence])).nll / long.length;
        return sum;
      };
      const dense = await mean(model);
      for (const expert of [0, 5]) {
        const want = await mean(pruneExperts(model, { layers: [{ layer: layer.index, drop: [expert] }] })) - dense;
        assert(Math.abs(layers[0].scores[expert] - want) < 1e-5, `expert ${expert} scores ${layers[0].scores[expert]}, expected ${want}`);
      }
    }),
);

testOnDevices("leaveOneOut() says what it cannot do", async (device) => {
  const { model, calibration } = await openFixture("tiny-deepseek-v2");
  using trace = await calibrate(device, model, calibration.slice(0, 1));
  await assertRejects(() => leaveOneOut(device, model, trace, { batch: 0 }), RangeError, '"batch"');
  await assertRejects(() => leaveOneOut(device, model, trace, { layers: [0] }), RangeError, "MoE layers are 1, 2, 3");
  await assertRejects(() => leaveOneOut(device, model, trace, { loss: "mse" as "lm" }), TypeError, '"mse"');
  const pruned = pruneExperts(model, { layers: [{ layer: 2, drop: [0, 1] }] });
  await assertRejects(
    () => leaveOneOut(device, pruned, trace),
    RangeError,
    "the trace is of another model, its layer 2 has experts 0, 1, 2",
  );
  const { model: other } = await openFixture("tiny-qwen2-moe");
  await assertRejects(() => leaveOneOut(device, other, trace), RangeError, "its MoE layers are 1, 2, 3, the model's are 0, 1, 2, 3");
  const once = await leaveOneOut(device, model, trace, { layers: [2] });
  assertEquals(await leaveOneOut(device, model, trace, { layers: [2, 2] }), once, "a layer that is asked for twice is scored once");
  const gone = await calibrate(device, model, calibration.slice(0, 1));
  gone[Symbol.dispose]();
  await assertRejects(() => leaveOneOut(device, model, gone), Error, "the trace has been disposed");
});
