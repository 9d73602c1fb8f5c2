import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { type Item, multipleChoice, type MultipleChoiceOptions } from "../../lib/evaluate/multiple_choice.ts";
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

testOnDevices("multipleChoice() scores endings, white space and queries that are too long by the harness's rules", async (device) => {
  const { model } = await openFixture("tiny-mixtral"), { tokenizer } = model, vocabulary = model.config.vocabulary;
  const alone = async (context: readonly number[], scored: readonly number[]) => {
    const ids = Uint32Array.from([...context, ...scored]), values = await logits(device, model, ids);
    return scored.reduce((sum, id, i) => {
      const row = values.subarray((context.length + i - 1) * vocabulary, (context.length + i) * vocabulary);
      return sum + row[id] - Math.log(row.reduce((s, v) => s + Math.exp(v), 0));
    }, 0);
  };
  const encode = (text: string) => [...tokenizer.encode(text)];
  const check = async (item: Omit<Item, "task">, options: MultipleChoiceOptions, want: number[], what: string) => {
    const [{ logLikelihoods: [got] }] = await multipleChoice(device, model, [{ task: "t", ...item }], options);
    got.forEach((value, i) => assert(Math.abs(value - want[i]) < 2e-3, `${what}: choice ${i} scores ${value}, expected ${want[i]}`));
  };
  const query = "Fact: Vera Aske lives in", choices = [" Inver", " Calder", " Inver"], ending = " and works";
  const ends = choices.map((choice) =>
    alone([0, ...encode(query + choice)], encode(query + choice + ending).slice(encode(query + choice).length))
  );
  await check({ query, choices, gold: 0, ending }, {}, await Promise.all(ends), "endings");

  const spaced = choices.map((choice) => alone(encode(query), encode(query + choice).slice(encode(query).length)));
  const item = { query: `${query} `, choices: choices.map((choice) => choice.slice(1)), gold: 0 };
  await check(item, { bos: "never" }, await Promise.all(spaced), "white space goes to the choice");
  await check(item, { bos: "tokenizer" }, await Promise.all(spaced), "this tokenizer adds no BOS");

  const short = choices.map((choice) => {
    const all = [0, ...encode(query + choice)].slice(-5), scored = encode(query + choice).slice(encode(query).length);
    return alone(all.slice(0, all.length - scored.length), scored);
  });
  await check({ query, choices, gold: 0 }, { maxLength: 4 }, await Promise.all(short), "four tokens are read");
  const tooLong = multipleChoice(device, model, [{ task: "t", query, choices: [query], gold: 0 }], { maxLength: 3 });
  await assertRejects(() => tooLong, RangeError, "expected at most 3, the longest input");
});

Deno.test("multipleChoice() counts the characters and bytes of a choice without the space before it, and of all before an ending", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model } = await openFixture("tiny-mixtral");
  for (
    const [choices, lengths, bytes, ending] of [
      [[" é", " ab  ", "abc"], [1, 4, 3], [2, 4, 3], undefined],
      [["é", "abcd"], [9, 12], [10, 12], " so."],
    ] as const
  ) {
    for (const gold of choices.keys()) {
      const item = { task: "t", query: "Sum: a =".padEnd(8), choices: [...choices], gold, ending };
      const [{ accNorm, accBytes, logLikelihoods: [l] }] = await multipleChoice(device, model, [item]);
      const best = (by: readonly number[]) => Number(l.every((v, c) => v / by[c] <= l[gold] / by[gold]));
      assertEquals([accNorm, accBytes], [best(lengths), best(bytes)]);
    }
  }
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

Deno.test("multipleChoice() reads what the choices of an item begin with once, and no padding", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, items } = await openFixture("tiny-mixtral"), { tokenizer } = model, rows: number[] = [];
  const rmsNorm: typeof device.rmsNorm = (x, ...rest) => (rows.push(x.shape[0]), device.rmsNorm(x, ...rest));
  const some = [items.find(({ task }) => task === "city")!, items.find(({ task }) => task === "agree")!];
  await multipleChoice({ ...device, rmsNorm }, model, some);
  const read = some.map(({ query, choices }) => {
    const inputs = choices.map((choice) => [tokenizer.bos!, ...tokenizer.encode(query + choice)].slice(0, -1)); // the last is only predicted
    const common = inputs[0].findIndex((id, i) => inputs.some((input) => input[i] !== id)), shared = common < 0 ? inputs[0].length : common;
    assert(shared > 1 && choices.length > 1, "there is something to share");
    return shared + inputs.reduce((n, input) => n + input.length - shared, 0);
  });
  assertEquals(Math.max(...rows), read[0] + read[1]);
});
