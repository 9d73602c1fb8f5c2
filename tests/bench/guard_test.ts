/**
 * Guards the algorithms that make the heavy steps fast: each is compared with the long way to the same result, on small shapes, in the same run. A guard asks
 * for a fraction of the ratio that a quiet machine shows, which is still out of reach without the algorithm; it never asks for seconds.
 */

import { fail } from "@std/assert";
import { truncatedSvd } from "../../lib/decompose/truncated_svd.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { ranksNeeded } from "../../lib/importance/layer_fitness.ts";
import { blockOutput } from "../../lib/model/decoder_layer.ts";
import { pricedLayer } from "../../lib/search/layer_search.ts";
import { assertClose, noise } from "../devices.ts";
import { byBruteForce, leaveEachOut } from "./importance.ts";
import { benchLayer, chunks, type LayerShape, preparedLayer } from "./layer.ts";
import { candidateSets } from "./search.ts";
import { timed } from "./timed.ts";

/** Rounds that a guard takes, and may take: other tests run at the same time. */
const LEAST = 3, MOST = 12;

/**
 * Takes turns until the least time of the long way is `atLeast` times that of the short one. Both should take milliseconds: on a busy machine, what takes
 * longer than a slice of time is interrupted.
 *
 * @param short Gives the seconds of a unit.
 */
async function assertFaster(what: string, atLeast: number, short: () => Promise<number>, long: () => Promise<number>): Promise<void> {
  let least = Infinity, longest = Infinity;
  await short(), await long(); // what is compiled now is fast later
  for (let round = 1; round <= MOST; round++) {
    least = Math.min(least, await short()), longest = Math.min(longest, await long());
    if (round >= LEAST && longest / least >= atLeast) return;
  }
  fail(`${what}: ${(longest / least).toFixed(2)} times as fast, by the least times of ${MOST} rounds, expected at least ${atLeast} times`);
}

async function seconds(work: () => Promise<unknown> | unknown): Promise<number> {
  return (await timed(work))[1];
}

const SHAPE: LayerShape = { hidden: 128, intermediate: 96, experts: 48, topK: 4, renormalise: false, drop: 12 };

Deno.test("pricing a set of dropped experts is far cheaper than running the layer without them", async () => {
  using device = await openDevice({ kind: "cpu" });
  using layer = await benchLayer(device, "guard", SHAPE, 256);
  using stack = new DisposableStack();
  const { experts, drop } = SHAPE, sets = candidateSets("guard", SHAPE);
  const parts = await preparedLayer(device, layer, ranksNeeded(layer.config, experts, drop), stack);
  const price = () => pricedLayer(device, () => parts, { layer: 0, experts, drop }).price(sets);
  const run = () => {
    for (const x of chunks(device, layer, Infinity)) blockOutput(device, layer.config, layer.moe, x, sets[0])[Symbol.dispose]();
  };
  await assertFaster(
    "Pricing a set, compared with running the layer",
    50,
    async () => await seconds(price) / sets.length,
    () => seconds(run),
  );
});

Deno.test("leaving out every expert in turn is far cheaper than running the layer for each", async () => {
  using device = await openDevice({ kind: "cpu" });
  using layer = await benchLayer(device, "guard", SHAPE, 256);
  const { experts } = SHAPE, ranks = ranksNeeded(layer.config, experts, 1);
  assertClose(await leaveEachOut(device, layer, ranks), await byBruteForce(device, layer, experts), 1e-4, "importances");
  await assertFaster(
    "Importance of all experts, compared with the brute force",
    15,
    () => seconds(() => leaveEachOut(device, layer, ranks)),
    // The layer, and once more without one expert.
    async () => await seconds(() => byBruteForce(device, layer, 1)) * (experts + 1) / 2,
  );
});

Deno.test("a truncated decomposition is cheaper than a whole one", async () => {
  using device = await openDevice({ kind: "cpu" });
  const rows = 384, columns = 768, rank = 96;
  using matrix = device.tensor(noise(rows * columns), [rows, columns]);
  await assertFaster(
    `A decomposition of rank ${rank} of ${rows} x ${columns}, compared with the whole one`,
    1.2,
    () => seconds(() => truncatedSvd(device, matrix, rank)),
    () => seconds(() => truncatedSvd(device, matrix, rows)),
  );
});

Deno.test("experts take about the time of one product with as many operations", async () => {
  using device = await openDevice({ kind: "cpu" });
  const tokens = 1024,
    shape = { ...SHAPE, hidden: 256, intermediate: 256, experts: 8, topK: 2 },
    { hidden, intermediate, experts, topK } = shape;
  using layer = await benchLayer(device, "guard", shape, tokens);
  using x = device.tensor(layer.values.slice(), [tokens, hidden]);
  using table = device.tensor(Uint32Array.from({ length: topK * tokens }, (_, i) => i * 5 % experts), [tokens, topK]);
  // The three matrices of a token's experts, one below the other.
  const width = topK * 3 * intermediate;
  using weight = device.tensor(noise(width * hidden), [width, hidden]);
  await assertFaster(
    "Experts, compared with one product",
    1 / 4,
    () => seconds(() => device.experts(x, table, layer.moe.experts)[Symbol.dispose]()),
    () => seconds(() => device.linear(x, weight)[Symbol.dispose]()),
  );
});
