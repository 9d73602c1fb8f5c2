import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { multipleChoice } from "../../lib/evaluate/multiple_choice.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { logits } from "../../lib/model/logits.ts";
import { testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";

testOnDevices("multipleChoice() scores each choice as if it stood alone behind its query", async (device) => {
  const { model, items } = await openFixture("tiny-deepseek-v2"), { tokenizer } = model;
  const some = ["city", "series", "agree", "bracket"].flatMap((task) => items.filter((i) => i.task === task).slice(0, 2));
  const results = await multipleChoice(device, model, some), vocabulary = model.config.vocabulary;
  const got = results.flatMap((r) => r.logLikelihoods);
  for (const [i, { query, choices }] of some.entries()) {
    const context = [tokenizer.bos!, ...tokenizer.encode(query)];
    for (const [c, choice] of choices.entries()) {
      const ids = Uint32Array.from([tokenizer.bos!, ...tokenizer.encode(query + choice)]), values = await logits(device, model, ids);
      let sum = 0;
      for (let at = context.length; at < ids.length; at++) {
        const row = values.subarray((at - 1) * vocabulary, at * vocabulary), peak = Math.max(...row);
        sum += row[ids[at]] - peak - Math.log(row.reduce((s, v) => s + Math.exp(v - peak), 0));
      }
      assert(Math.abs(got[i][c] - sum) < 2e-3, `"${query}" + "${choice}" scores ${got[i][c]}, alone ${sum}`);
    }
  }
});

Deno.test("multipleChoice() takes the first of equal choices, divides by code points, and gives the standard error", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  const item = (choices: string[], gold: number) => ({ task: "ties", query: "Sum: 1 + 1 =", choices, gold });
  const [same] = await multipleChoice(device, model, [item([" 2", " 2"], 0), item([" 2", " 2"], 1), item([" 2", " 2"], 0)]);
  assertEquals([same.acc, same.accNorm, same.items], [2 / 3, 2 / 3, 3]);
  assert(Math.abs(same.stderr - Math.sqrt(2 / 9 / 2)) < 1e-12);
  const [{ logLikelihoods: [[short, long]], accNorm }] = await multipleChoice(device, model, [item([" 🙂", " no such number"], 0)]);
  assertEquals(accNorm, short / 1 > long / "no such number".length ? 1 : 0, "🙂 is one character");
  const one = (await multipleChoice(device, model, [item([" 2", " 3"], 0)]))[0];
  assert(Number.isNaN(one.stderr), "one item has no standard error");
});

Deno.test("multipleChoice() keeps the order of tasks, and limits each", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, items } = await openFixture("tiny-mixtral");
  const results = await multipleChoice(device, model, items, { limit: 2 });
  assertEquals(
    results.map((r) => [r.task, r.items]),
    ["city", "job", "add", "series", "agree", "recall", "compare", "bracket"].map((task) => [task, 2]),
  );
  assertEquals(await multipleChoice(device, model, []), []);
});

Deno.test("multipleChoice() and perplexity() say what they cannot score", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), item = { task: "t", query: "a", choices: [" b"], gold: 0 };
  await assertRejects(
    () => multipleChoice(device, model, [{ ...item, gold: 1 }]),
    RangeError,
    'item "a" of task "t": its gold choice 1 is not one of its 1 choices',
  );
  await assertRejects(() => multipleChoice(device, model, [{ ...item, choices: [""] }]), RangeError, 'choice "" adds no token');
  await assertRejects(() => perplexity(device, model, [Uint32Array.of(0)]), RangeError, "1 sequences have no token to predict");
  await assertRejects(() => perplexity(device, model, []), RangeError, "0 sequences");
});

Deno.test("multipleChoice() refuses items that it could only score wrongly", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral"), item = { task: "a", query: "Compare:", choices: [" yes", " no"], gold: 0 };
  const refused = (change: object, message: string) =>
    assertRejects(() => multipleChoice(device, model, [{ ...item, ...change }]), Error, message);
  await refused({ gold: "0" }, 'its gold choice "0" is not one of its 2 choices');
  await refused({ gold: 2 }, "its gold choice 2");
  await refused({ choices: undefined }, "Cannot score item 0");
  await refused({ choices: [" yes", ""] }, 'its choice "" adds no token');
  for (const limit of [0, -1, NaN, 1.5]) await assertRejects(() => multipleChoice(device, model, [item], { limit }), RangeError, '"limit"');
  const tokenizer = { bos: 0, encode: (text: string) => Uint32Array.from(text, (c) => c === "s" ? 1024 : 5), decode: () => "" };
  await assertRejects(() => multipleChoice(device, { ...model, tokenizer }, [item]), RangeError, "the tokenizer gives token 1024");
});
