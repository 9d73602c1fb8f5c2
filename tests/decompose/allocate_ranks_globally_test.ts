import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import fc from "../properties.ts";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { allocateRanks, largestRank } from "../../lib/decompose/allocate_ranks.ts";
import { allocateRanksGlobally } from "../../lib/decompose/allocate_ranks_globally.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { type ExpertSpectra, expertSpectra } from "../../lib/decompose/expert_spectra.ts";
import type { ExpertScores } from "../../lib/importance/expert_scores.ts";
import { leaveOneOut } from "../../lib/importance/leave_one_out.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { moeLayers } from "../../lib/model/model.ts";
import { testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";

/** Layers of experts, each an importance and a spectrum of `size` shares. */
function given(layers: { importance: number; shares: number[] }[][], size = layers[0][0].shares.length) {
  const expertShape = { hidden: size, intermediate: size };
  const scores: ExpertScores = {
    kind: "test",
    topK: 1,
    expertShape,
    layers: layers.map((l, layer) => ({ layer, experts: l.map((_, i) => 3 * i), scores: Float64Array.from(l, (e) => e.importance) })),
    unseen: [],
  };
  const spectra: ExpertSpectra = {
    kind: "weights",
    expertShape,
    layers: layers.map((l, layer) => ({ layer, experts: l.map((e, i) => ({ expert: 3 * i, shares: Float64Array.from(e.shares) })) })),
  };
  return { scores, spectra };
}

const expert = fc.record({
  importance: fc.double({ min: 0, max: 10, noNaN: true }),
  shares: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { minLength: 6, maxLength: 6 }).map((s) => s.sort((a, b) => b - a)),
});
const models = fc.array(fc.array(expert, { minLength: 1, maxLength: 2 }), { minLength: 1, maxLength: 2 });

Deno.test("allocateRanksGlobally() loses as little as the best of all ways to spend the same ranks", () => {
  fc.assert(
    fc.property(
      models,
      fc.double({ min: 1, max: 6, noNaN: true }),
      fc.integer({ min: 1, max: 3 }),
      fc.constantFrom(0, 1, 2),
      (model, average, least, alpha) => {
        const { scores, spectra } = given(model), experts = model.flat();
        const plan = allocateRanksGlobally(scores, spectra, { averageRank: average, minimumRank: least, alpha, cap: false });
        const ranks = plan.layers.flatMap((l) => l.experts.map((e) => e.rank)), budget = ranks.reduce((a, b) => a + b, 0);
        assertEquals(budget, Math.min(6 * experts.length, Math.max(least * experts.length, Math.floor(average * experts.length + 1e-6))));
        assert(ranks.every((rank) => rank >= least && rank <= 6));
        const loss = (ranks: number[]) =>
          ranks.reduce(
            (sum, rank, i) => sum + experts[i].importance ** alpha * experts[i].shares.slice(rank).reduce((a, b) => a + b, 0),
            0,
          );
        const best = (i: number, left: number, chosen: number[]): number => {
          if (i === experts.length) return left === 0 ? loss(chosen) : Infinity;
          let found = Infinity;
          for (let rank = least; rank <= Math.min(6, left); rank++) found = Math.min(found, best(i + 1, left - rank, [...chosen, rank]));
          return found;
        };
        const got = loss(ranks), want = best(0, budget, []);
        assert(got <= want + 1e-9 * Math.max(1, want), `${got} with ${ranks}, possible ${want}`);
      },
    ),
  );
});

Deno.test("allocateRanksGlobally() shares evenly among equals, keeps minimum and cap, and reads its arguments from JSON", () => {
  const shares = Array.from({ length: 64 }, (_, i) => 0.8 ** i), same = [1, 1, 1].map((importance) => ({ importance, shares }));
  const ranksOf = (layers: Parameters<typeof given>[0], options: Parameters<typeof allocateRanksGlobally>[2]) => {
    const { scores, spectra } = JSON.parse(JSON.stringify(given(layers)));
    return allocateRanksGlobally(scores, spectra, options).layers.map((l) => l.experts.map((e) => e.rank));
  };
  assertEquals(ranksOf([same, same], { averageRank: 16 }), [[16, 16, 16], [16, 16, 16]]);
  const none = same.map((e) => ({ ...e, importance: 0 }));
  assertEquals(ranksOf([none, none], { averageRank: 16 }), [[16, 16, 16], [16, 16, 16]], "no importance at all");
  assertEquals(ranksOf([none, same], { averageRank: 16 }), [[4, 4, 4], [28, 28, 28]], "the minimum stays");
  assertEquals(ranksOf([none, same], { averageRank: 20 }), [[9, 9, 9], [31, 31, 31]], "the cap too");
  assertEquals(largestRank(64, 64), 31);
  assertEquals(ranksOf([none, same], { averageRank: 34, cap: false }), [[4, 4, 4], [64, 64, 64]]);
  assertEquals(ranksOf([same, same], { averageRank: 1000 }), [[31, 31, 31], [31, 31, 31]]);
  const steep = ranksOf([[{ importance: 1, shares }, { importance: 1, shares: shares.map((s) => Math.sqrt(s)) }]], { averageRank: 12 })[0];
  assert(steep[0] < steep[1], "a flatter spectrum needs more rank");
});

Deno.test("allocateRanksGlobally() names what it cannot use", () => {
  const { scores, spectra } = given([[{ importance: 1, shares: [2, 1] }]]);
  assertThrows(
    () => allocateRanksGlobally(scores, spectra, { averageRank: 0 }),
    RangeError,
    '"averageRank" must be at least 1, received 0',
  );
  assertThrows(() => allocateRanksGlobally(scores, spectra, { averageRank: 1, minimumRank: 1.5 }), RangeError, "a whole number");
  assertThrows(() => allocateRanksGlobally(scores, spectra, { averageRank: 1, alpha: -1 }), RangeError, '"alpha"');
  const message = "expert 0 of layer 0 needs a spectrum of 2 shares, found none";
  assertThrows(() => allocateRanksGlobally(scores, { ...spectra, layers: [] }, { averageRank: 1 }), RangeError, message);
  spectra.layers[0].experts[0].shares[1] = NaN;
  assertThrows(() => allocateRanksGlobally(scores, spectra, { averageRank: 1 }), RangeError, "must be finite and at least 0, found NaN");
});

testOnDevices(
  "expertSpectra() says what every rank leaves of the weights and, whitened, of the outputs",
  (device) =>
    withModel(ROUTERS["renormalising"], async (model, sequences) => {
      using trace = await calibrate(device, model, sequences);
      const ranks = moeLayers(model).map(({ index, block }) => ({
        layer: index,
        experts: block.experts.map(({ id }) => ({ expert: id, rank: 5 })),
        sum: 0,
        target: 0,
      }));
      const plain = await expertSpectra(device, model), white = await expertSpectra(device, model, { whiten: trace, ridge: 1e-4 });
      assertEquals([plain.kind, white.kind], ["weights", "outputs"]);
      using low = await decomposeExperts(device, model, { layers: ranks });
      using whiteLow = await decomposeExperts(device, model, { layers: ranks }, { whiten: trace, ridge: 1e-4 });
      for (
        const [spectra, errors] of [
          [plain, low.decomposition.map((d) => ({ ...d, error: d.relativeError }))],
          [white, whiteLow.decomposition.map((d) => ({ ...d, error: d.relativeOutputError! }))],
        ] as const
      ) {
        for (const { layer, experts } of spectra.layers) {
          for (const { expert, shares } of experts) {
            assert(shares.every((s, i) => s >= 0 && (i === 0 || s <= shares[i - 1] + 1e-6)), "gains fall");
            const want = errors.filter((d) => d.layer === layer && d.expert === expert).reduce((sum, d) => sum + d.error ** 2, 0);
            const got = shares.slice(5).reduce((a, b) => a + b, 0);
            // An expert that met no token has no outputs: its spectrum is that of its weights.
            if (want > 0) {
              assert(Math.abs(got - want) < 2e-3 + 0.02 * want, `${spectra.kind} of expert ${expert}: ${got}, measured ${want}`);
            }
          }
        }
      }
      const scores = await leaveOneOut(device, model, trace);
      const [one, two] = [allocateRanks(scores, { averageRank: 5 }), allocateRanksGlobally(scores, white, { averageRank: 5 })];
      assertEquals(
        one.layers.map((l) => l.experts.map((e) => e.expert)),
        two.layers.map((l) => l.experts.map((e) => e.expert)),
      );
    }),
);

Deno.test("expertSpectra() refuses the trace of another model", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-mixtral");
  using trace = await calibrate(device, model, calibration.slice(0, 1));
  const other = (await openFixture("tiny-qwen2-moe")).model;
  await assertRejects(() => expertSpectra(device, other, { whiten: trace }), RangeError, "the trace is of another model");
});
