import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { ladderTable } from "../../lib/display/ladder_table.ts";
import { type AblationLadder, ablationLadder } from "../../lib/evaluate/ablation_ladder.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import type { Example } from "../../lib/finetune/examples.ts";
import { finetune } from "../../lib/finetune/finetune.ts";
import { ROUTER_RECIPE } from "../../lib/finetune/recipe.ts";
import { moeLayers } from "../../lib/model/model.ts";
import type { Progress } from "../../lib/model/stage_options.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { folderOf, openFixture, references } from "../fixtures.ts";

const row = ({ rows }: AblationLadder, name: string) => rows.find((r) => r.row === name)!;
/** The first lines of a fixture's text for tuning. */
async function examplesOf(name: string, count: number): Promise<Example[]> {
  const text = await Deno.readTextFile(`${folderOf(name)}/tuning.jsonl`);
  return text.split("\n").slice(0, count).map((line) => JSON.parse(line));
}
const QUICK = { population: 20, generations: 10, randomRuns: 3 };

for (const name of Object.keys(references)) {
  for (const ratio of [0.25, 0.5]) {
    Deno.test(`the ladder on ${name} at ${100 * ratio} % goes down where it must`, async () => {
      using device = await openDevice({ kind: "cpu" });
      const { model, calibration, heldOut } = await openFixture(name), tokens = calibration.slice(0, 8);
      const options = { ...QUICK, ratio, heldOut: heldOut.slice(0, 2) }, uniform = ["random", "least important", "genetic, uniform counts"];

      // With equal counts the search's set changes the first MoE layer's output least, and so the residual stream behind it: by construction where
      // it tries all sets, else because it finds the best one.
      const first = await ablationLadder(device, model, tokens, { ...options, rows: uniform, block: 1 });
      const [random, least, genetic] = uniform.map((n) => row(first, n)), before = (r: typeof random) => r.blocks[0].loss;
      assert(genetic.blocks.length === moeLayers(model).length && before(least) >= before(genetic) * (1 - 1e-5));
      for (const run of random.runs!) assert(run.blocks[0].loss >= before(genetic) * (1 - 1e-5), "no random set beats the search's");
      assertAlmostEquals(before(random), random.runs!.reduce((sum, r) => sum + r.blocks[0].loss, 0) / 3, 1e-6 * before(random));

      // By construction: the reception field tries the genetic search's own choice. Later blocks get other inputs, so only for the first one.
      const rows = [...uniform, "genetic", "+ reception field"], whole = await ablationLadder(device, model, tokens, { ...options, rows });
      assert(row(whole, "+ reception field").blocks[0].loss <= row(whole, "genetic").blocks[0].loss * (1 + 1e-5));

      // Not by construction, but so it is here, over all blocks: chance loses more than any choice. The order of the choices among each other is not
      // the same on all checkpoints: counts by importance and the reception field can lose more over all blocks than they win in the first.
      for (const name of rows.slice(1)) assert(row(whole, "random").blockLoss > row(whole, name).blockLoss, `random beats "${name}"`);
    });
  }
}

Deno.test("ablationLadder() gives rows of equal size, shared stages and the same figures every time", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration, heldOut, items } = await openFixture("tiny-qwen2-moe"), stages = new Map<string, number>();
  const options = {
    ...QUICK,
    heldOut: heldOut.slice(0, 1),
    items: items.slice(0, 30),
    examples: await examplesOf("tiny-qwen2-moe", 12),
    recipe: { epochs: 1, batch: 4 },
  };
  const onProgress = ({ stage, done, total }: { stage: string; done: number; total: number }) => {
    if (done === total) stages.set(stage, (stages.get(stage) ?? 0) + 1);
  };
  const ladder = await ablationLadder(device, model, calibration.slice(0, 2), { ...options, onProgress }), { rows } = ladder;
  assertEquals(device.live.tensors, 0);
  assertEquals(rows.map((r) => r.row).slice(0, 8), [
    ...["dense", "random", "least important", "genetic, uniform counts", "genetic"],
    ...["+ reception field", "+ decomposition", "+ fine-tuning"],
  ]);
  const names = new Set(rows.map((r) => r.row));
  assert(rows.every((r) => r.against === null || names.has(r.against)), "every row has the one that it changes");
  assertEquals(ladder.averageRank, 30, "8/13 of the break-even rank");
  assertEquals([rows[0].blockLoss, rows[0].seconds, rows[0].evaluations], [0, 0, 0]);
  const pruned = row(ladder, "+ reception field").parameters, low = row(ladder, "+ decomposition").parameters;
  for (
    const name of ["random", "least important", "genetic", "uniform counts", "relative importance", "greedy + swaps", "router distillation"]
  ) {
    assertEquals([row(ladder, name).parameters, row(ladder, name).bytes], [pruned, 2 * pruned]);
  }
  for (const name of ["+ fine-tuning", "whitened", "global ranks", "whitened, global ranks"]) {
    assertEquals([row(ladder, name).parameters, row(ladder, name).bytes], [low, 2 * low]);
  }
  for (const name of ["half pruned, decomposed", "decomposed only", "decomposed only, whitened, global ranks"]) {
    const { parameters } = row(ladder, name);
    assert(parameters <= pruned && parameters > 0.985 * pruned, `${name} has ${parameters}, pruned ${pruned}`);
  }
  for (const name of ["half pruned, whitened, global ranks, smaller", "decomposed only, whitened, global ranks, smaller"]) {
    const { parameters } = row(ladder, name);
    assert(parameters <= low * 1.002 && parameters > 0.97 * low, `${name} has ${parameters}, decomposed ${low}`);
  }
  for (const [name, from] of [["+ fine-tuning", "+ decomposition"], ["router distillation", "+ reception field"]]) {
    const [tuned, before] = [name, from].map((n) => row(ladder, n));
    assertEquals([tuned.against, tuned.plan, tuned.ranks, tuned.evaluations], [from, before.plan, before.ranks, before.evaluations]);
    assert(tuned.seconds > before.seconds, `${name} takes what the row before it takes, and the training`);
    assert(tuned.perplexity !== before.perplexity);
  }
  assertEquals(stages.get("fine-tune"), 2);
  for (const { row: name, tasks, accuracy, accuracyError, blocks, blockLoss, seconds } of rows) {
    assertAlmostEquals(accuracy!, tasks.reduce((sum, t) => sum + t.acc, 0) / tasks.length, 1e-12);
    assertAlmostEquals(accuracyError!, Math.sqrt(tasks.reduce((sum, t) => sum + t.stderr ** 2, 0)) / tasks.length, 1e-2);
    assertAlmostEquals(blockLoss, blocks.reduce((sum, b) => sum + b.loss, 0), 1e-6 * blockLoss);
    assert(name === "dense" || name === "random" || seconds > 0, `${name} took no time`);
  }
  assert(row(ladder, "greedy + swaps").evaluations < row(ladder, "+ reception field").evaluations * 2);
  // Calibrated: the dense model once, and each pruned one that is decomposed once.
  assertEquals(
    stages.get("calibrate"),
    1 + new Set(rows.filter((r) => r.ranks && r.plan.layers.length > 0).map((r) => recipeOf(r.row))).size,
  );
  assertEquals(stages.get("ladder"), 1);
  const bare = ({ rows }: AblationLadder) => rows.map((r) => ({ ...r, seconds: 0 }));
  const rowsAgain = ["random", "+ reception field", "+ fine-tuning", "router distillation", "whitened, global ranks"];
  const again = await ablationLadder(device, model, calibration.slice(0, 2), { ...options, rows: rowsAgain });
  assertEquals(bare(again), bare(ladder).filter((r) => r.row === "dense" || rowsAgain.includes(r.row)));
  const read = JSON.parse(JSON.stringify(ladder)), table = ladderTable(read);
  assertEquals(table, ladderTable(ladder));
  assertEquals(table["text/plain"].split("\n").length, rows.length + 2);
});

Deno.test("fine-tuning wins back what half of the experts cost, and distillation moves the routers only", async () => {
  using device = await openDevice({ kind: "cpu" });
  const name = "tiny-mixtral", { model, calibration, heldOut } = await openFixture(name), tokens = calibration.slice(0, 8);
  const examples = await examplesOf(name, 320), recipe = { epochs: 1, rank: 4, seed: 3 };
  const rows = ["+ reception field", "router distillation", "+ decomposition", "+ fine-tuning"];
  const ladder = await ablationLadder(device, model, tokens, {
    ...QUICK,
    ratio: 0.5,
    heldOut: heldOut.slice(0, 4),
    rows,
    examples,
    recipe,
  });
  const nll = (name: string) => Math.log(row(ladder, name).perplexity), all = `${["dense", ...rows].map((n) => `${n} ${nll(n)}`)}`;
  assert(nll("+ fine-tuning") - nll("dense") < 0.7 * (nll("+ decomposition") - nll("dense")), all);
  assert(nll("router distillation") - nll("dense") < 0.9 * (nll("+ reception field") - nll("dense")), all);

  const pruned = pruneExperts(model, row(ladder, "+ reception field").plan);
  const tuned = await finetune(device, pruned, examples, { ...recipe, ...ROUTER_RECIPE, teacher: model });
  assertEquals((await perplexity(device, tuned, heldOut.slice(0, 4))).perplexity, row(ladder, "router distillation").perplexity);
  for (const [i, { index, attention, block }] of moeLayers(tuned).entries()) {
    const before = moeLayers(pruned)[i];
    assert(block.router !== before.block.router, `the router of layer ${index} was trained`);
    assertEquals({ attention, block: { ...block, router: 0 } }, { attention: before.attention, block: { ...before.block, router: 0 } });
  }
});

/** Which pruned model a row decomposes. */
function recipeOf(name: string): string {
  if (name.startsWith("half pruned, decomposed")) return "half, genetic";
  if (name.startsWith("half")) return "half, greedy";
  return name === "all options" ? "relative" : name.startsWith("greedy") ? "greedy" : "paper";
}

Deno.test("ablationLadder() says what it cannot do", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration, heldOut } = await openFixture("tiny-mixtral"), tokens = calibration.slice(0, 1);
  const run = (options: Record<string, unknown>) => ablationLadder(device, model, tokens, { heldOut: heldOut.slice(0, 1), ...options });
  await assertRejects(() => run({ rows: ["magic"] }), RangeError, 'there is no row "magic"; the rows are "random", "least important"');
  for (const rows of [["+ fine-tuning"], ["random", "router distillation"]]) {
    await assertRejects(() => run({ rows }), RangeError, `the row "${rows.at(-1)}" needs "examples" to learn from`);
  }
  const { message } = await assertRejects(() => run({ rows: ["magic"] }), RangeError);
  assert(
    !message.includes('"+ fine-tuning"') && !message.includes('"router distillation"'),
    "rows that need examples do not exist without",
  );
  const learning = { rows: ["router distillation", "+ fine-tuning"], ratio: 0.5, averageRank: 20, ...QUICK },
    examples = ["Sum: 1 + 2 = 3."];
  const sooner = (options: Record<string, unknown>) =>
    run({ ...learning, examples, ...options, onProgress: () => assert(false, "at work") });
  await assertRejects(() => sooner({ recipe: { rank: 0 } }), RangeError, '"rank" must be a whole number of at least 1');
  await assertRejects(() => sooner({ examples: [] }), RangeError, "none of the 0 examples has a token to learn");
  await assertRejects(() => sooner({ examples: "Sum: 1 + 2 = 3." }), TypeError, "expected a list of examples");
  for (const training of [1, 2]) { // of the adapters, of the routers
    const stop = new AbortController();
    let begun = 0;
    const onProgress = ({ stage, done }: Progress) => {
      if (stage === "fine-tune" && done === 1 && ++begun === training) stop.abort(new Error(`stopped in training ${training}`));
    };
    await assertRejects(() => run({ ...learning, examples, signal: stop.signal, onProgress }), Error, `stopped in training ${training}`);
    assertEquals(device.live.tensors, 0);
  }
  await assertRejects(() => run({ randomRuns: 0 }), RangeError, '"randomRuns" must be a positive whole number');
  await assertRejects(() => run({ rows: ["random"], ratio: 1 }), RangeError, '"ratio" must be at least 0 and below 1');
  await assertRejects(() => run({ rows: ["genetic"], population: 1 }), RangeError, '"population"');
  await assertRejects(() => run({ signal: AbortSignal.abort(new Error("stop")) }), Error, "stop");
  await assertRejects(() => ablationLadder(device, model, tokens, undefined as never), TypeError, 'options with "heldOut"');
  assertEquals(device.live.tensors, 0);
});

Deno.test("ablationLadder() keeps its rows: what was stopped goes on with the row it was at, to the same figures", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration, heldOut } = await openFixture("tiny-mixtral"),
    tokens = calibration.slice(0, 2),
    kept = new Map<string, unknown>();
  const resume = {
    get: (name: string) => Promise.resolve(structuredClone(kept.get(name))),
    put: (name: string, value: unknown) => Promise.resolve(void kept.set(name, structuredClone(value))),
  };
  const rows = ["random", "genetic", "+ reception field"], options = { ...QUICK, heldOut: heldOut.slice(0, 1), rows };
  const figures = ({ rows }: AblationLadder) => rows.map((row) => ({ ...row, seconds: 0 }));
  const want = figures(await ablationLadder(device, model, tokens, options)), stop = new AbortController();
  const until = {
    get: resume.get,
    put: async (name: string, value: unknown) =>
      (await resume.put(name, value), name === "genetic" && stop.abort(new Error("stop"))) as void,
  };
  await assertRejects(() => ablationLadder(device, model, tokens, { ...options, resume: until, signal: stop.signal }), Error, "stop");
  assertEquals([...kept.keys()], ["dense", "random", "genetic"]);
  assertEquals(figures(await ablationLadder(device, model, tokens, { ...options, resume })), want);
  const stages: string[] = [], onProgress = ({ stage }: { stage: string }) => void stages.push(stage);
  assertEquals(figures(await ablationLadder(device, model, tokens, { ...options, resume, onProgress })), want);
  assertEquals([...new Set(stages)], ["ladder"], "all rows are kept: nothing is computed");
});
