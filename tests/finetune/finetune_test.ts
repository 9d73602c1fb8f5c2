import { assert, assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { TARGETS } from "../../lib/finetune/adapter_sites.ts";
import { finetune, type FinetuneOptions, type TunedModel } from "../../lib/finetune/finetune.ts";
import { perplexity } from "../../lib/evaluate/perplexity.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { changeTopK } from "../../lib/model/change_top_k.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { fastDevices, testOnDevices } from "../devices.ts";
import { openFixture } from "../fixtures.ts";

const EXAMPLES = [
  ...["Sum: 1 + 2 = 3.", "Fact: Dov Dane lives in Arden.", "Series: 3 8 13 18 then 23.", "Compare: is 18 greater than 31 ? no."],
  { prompt: "Sum: 20 + 2 =", completion: " 22." },
];
const OPTIONS: FinetuneOptions = { rank: 4, batch: 2, epochs: 3, dropout: 0.1, targets: TARGETS, seed: 5 };

/** Everything that a training gives, as text. */
function outcome({ adapters, history }: TunedModel): string {
  return JSON.stringify([history, [...adapters.values].map(([name, values]) => [name, [...values]])]);
}

async function inFolder(run: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await run(`${folder}/state`);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

testOnDevices("finetune() gives the same bits every time, and what it merges is what it trained", async (device) => {
  const { model } = await openFixture("tiny-qwen2-moe"), points: number[] = [];
  const tuned = await finetune(device, model, EXAMPLES, { ...OPTIONS, onStep: ({ step }) => points.push(step) });
  assertEquals(points, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  assertEquals(outcome(await finetune(device, model, EXAMPLES, OPTIONS)), outcome(tuned));
  const rates = tuned.history.map((p) => p.learningRate);
  assert(rates.every((rate, i) => i < 2 || rate < rates[i - 1]), `learning rates ${rates} do not fall`);
  assert(tuned.history.at(-1)!.loss < tuned.history[0].loss, "the loss does not fall");

  // One step of learning rate next to nothing tells the loss that the trained model has on an example.
  const text = [EXAMPLES[0]], ids = [model.tokenizer.bos!, ...model.tokenizer.encode(EXAMPLES[0] as string)];
  const [{ loss }] = (await finetune(device, tuned, text, { learningRate: 1e-30, epochs: 1 })).history;
  assertAlmostEquals((await perplexity(device, tuned, [Uint32Array.from(ids)])).nll, loss, 1e-4);
}, fastDevices);

testOnDevices("finetune() continues a stopped training to the same bits", async (device) => {
  const { model } = await openFixture("tiny-deepseek-v2"), whole = await finetune(device, model, EXAMPLES, OPTIONS);
  await inFolder(async (checkpoint) => {
    const stop = new AbortController();
    await assertRejects(
      () =>
        finetune(device, model, EXAMPLES, {
          ...{ ...OPTIONS, checkpoint, checkpointEvery: 3, signal: stop.signal },
          onStep: ({ step }) => step === 5 && stop.abort(new Error("stopped by the user")),
        }),
      Error,
      "stopped by the user",
    );
    const steps: number[] = [];
    const rest = await finetune(device, model, EXAMPLES, { ...OPTIONS, checkpoint, onStep: ({ step }) => steps.push(step) });
    assertEquals(steps, [6, 7, 8, 9]);
    assertEquals(outcome(rest), outcome(whole));
    const again = await finetune(device, model, EXAMPLES, { ...OPTIONS, checkpoint, onStep: () => assert(false, "nothing is left to do") });
    assertEquals(outcome(again), outcome(whole));
    await assertRejects(
      () => finetune(device, model, EXAMPLES, { ...OPTIONS, checkpoint, learningRate: 0.01 }),
      Error,
      'its "learningRate" is 0.001, now it is 0.01',
    );
    await assertRejects(() => finetune(device, model, EXAMPLES.slice(1), { ...OPTIONS, checkpoint }), Error, '"examples"');
    await assertRejects(() => finetune(device, model, EXAMPLES, { ...OPTIONS, epochs: 4, checkpoint }), Error, '"epochs"');
  });
}, fastDevices);

testOnDevices("finetune() trains layer by layer to the same bits as with all weights on the device", async (device) => {
  const { model } = await openFixture("tiny-mixtral"), options = { ...OPTIONS, epochs: 1 };
  const streamed = await finetune(device, model, EXAMPLES, { ...options, residentBytes: 0 });
  assertEquals(outcome(streamed), outcome(await finetune(device, model, EXAMPLES, options)));
}, fastDevices);

testOnDevices("finetune() wins back what pruning cost", async (device) => {
  const { model, heldOut } = await openFixture("tiny-mixtral");
  const pruned = pruneExperts(model, { layers: [{ layer: 0, drop: [0, 1, 2] }, { layer: 2, drop: [3, 4, 5] }] });
  const lines = (await Deno.readTextFile(new URL("../../notebooks/checkpoints/tiny-mixtral/tuning.jsonl", import.meta.url))).split("\n");
  const tuned = await finetune(device, pruned, lines.slice(0, 320).map((line) => JSON.parse(line)), { epochs: 1 });
  const [before, cut, after] = await Promise.all([model, pruned, tuned].map(async (m) => (await perplexity(device, m, heldOut)).nll));
  assert(cut - after > 0.3 * (cut - before), `nll ${before} dense, ${cut} pruned, ${after} after 40 steps`);
}, fastDevices);

testOnDevices("finetune() fits the routers of a pruned model to the predictions of the whole one", async (device) => {
  const { model, heldOut, calibration } = await openFixture("tiny-qwen2-moe");
  const pruned = pruneExperts(model, { layers: [0, 1, 2, 3].map((layer) => ({ layer, drop: [0, 1, 2, 3, 4, 5, 6, 7] })) });
  const texts = calibration.slice(0, 16).map((ids) => model.tokenizer.decode(ids.subarray(1)));
  const tuned = await finetune(device, pruned, texts, { teacher: model, targets: ["router"], epochs: 3, batch: 4, learningRate: 1e-2 });
  const [dense, cut, after] = await Promise.all([model, pruned, tuned].map(async (m) => (await perplexity(device, m, heldOut)).nll));
  assert(cut - after > 0.1 * (cut - dense), `nll ${dense} dense, ${cut} pruned, ${after} with fitted routers`);
  assertEquals([...tuned.adapters.values.keys()], [0, 1, 2, 3].map((layer) => `${layer}/router/weight`));
  const { model: other } = await openFixture("tiny-deepseek-v2");
  const odd = { ...other, config: { ...other.config, vocabulary: 5 } };
  await assertRejects(
    () => finetune(device, pruned, texts, { teacher: odd }),
    RangeError,
    'its "vocabulary" is 5, that of the model is 1024',
  );
  await assertRejects(() => finetune(device, pruned, texts, { teacher: other }), RangeError, "its final norm is not that of the model");
}, fastDevices);

testOnDevices("finetune() with the entropy term makes routers surer while top-k falls, and continues to the same bits", async (device) => {
  const { model } = await openFixture("tiny-qwen2-moe");
  const options: FinetuneOptions = { ...OPTIONS, epochs: 4, entropy: 0.3, balance: 0.05, topK: { to: 2, over: 2 / 3 } };
  const whole = await finetune(device, model, EXAMPLES, options), { history } = whole, plain = { ...options, entropy: 0, balance: 0 };
  assertEquals(history.map(({ topK }) => topK), [4, 4, 4, 4, 3, 3, 3, 3, 2, 2, 2, 2]);
  assertEquals([whole.config.moe.topK, model.config.moe.topK], [2, 4]);
  const without = (await finetune(device, model, EXAMPLES, plain)).history;
  assertEquals(history[0], { ...without[0], gradientNorm: history[0].gradientNorm }); // before the first step all is the same, but for the gradient
  assert(history[11].entropy < without[11].entropy - 0.1, `entropy ${history[11].entropy}, ${without[11].entropy} without the term`);
  assert(history[0].entropy < history[0].meanEntropy && history[0].meanEntropy < Math.log(16));
  await inFolder(async (checkpoint) => {
    const stop = new AbortController();
    const stopped = {
      ...{ ...options, checkpoint, signal: stop.signal },
      onStep: ({ step }: { step: number }) => step === 6 && stop.abort(new Error("stopped by the user")),
    };
    await assertRejects(() => finetune(device, model, EXAMPLES, stopped), Error, "stopped by the user");
    for (const change of [{ entropy: 0.2 }, { balance: 0 }, { topK: { to: 2 } }, { topK: undefined }]) {
      const [name] = Object.keys(change);
      await assertRejects(() => finetune(device, model, EXAMPLES, { ...options, checkpoint, ...change }), Error, `its "${name}" is`);
    }
    const three = changeTopK(model, 3);
    await assertRejects(() => finetune(device, three, EXAMPLES, { ...options, checkpoint }), Error, 'its "model" is');
    assertEquals(outcome(await finetune(device, model, EXAMPLES, { ...options, checkpoint })), outcome(whole));
  });
  await inFolder(async (folder) => {
    await saveModel(whole, folder, { dtype: "F32" });
    const text = [Uint32Array.of(0, 389, 26, 7)];
    const [got, want] = await Promise.all([await openModel(folder), whole].map((m) => perplexity(device, m, text)));
    assertEquals(got, want);
  });
}, fastDevices);

testOnDevices("finetune() names what it cannot do", async (device) => {
  const { model } = await openFixture("tiny-mixtral");
  const refused = (options: FinetuneOptions, message: string) =>
    assertRejects(() => finetune(device, model, EXAMPLES, options), RangeError, `Cannot fine-tune: ${message}`);
  await refused({ rank: 0 }, '"rank" must be a whole number of at least 1, received 0');
  await refused({ rank: 2 ** 40 }, '"rank" must be at most 128, that of the matrices, received 1099511627776');
  await refused({ targets: ["shared", "dense"] }, "the model has none of the targets shared, dense");
  await refused({ batch: 1.5 }, '"batch" must be a whole number of at least 1, received 1.5');
  await refused({ entropy: -1 }, '"entropy" must be at least 0, received -1');
  await refused({ balance: Infinity }, '"balance" must be at least 0, received Infinity');
  await refused({ topK: { to: 0 } }, '"topK" must be an object with a whole number of at least 1 as "to"');
  await refused({ topK: { to: 1, over: 2 } }, '"topK" must be an object');
  await refused({ topK: { to: 3 } }, '"topK" must fall from the model\'s 2 experts a token, received 3 as "to"');
  await refused({ dropout: 1 }, '"dropout" must be at least 0 and below 1, received 1');
  await refused({ learningRate: NaN }, '"learningRate" must be a positive number, received ');
  await refused({ targets: ["router", "norms" as "router"] }, '"targets" must be some of attention, experts, shared, dense, router');
  await assertRejects(() => finetune(device, model, []), RangeError, "none of the 0 examples has a token to learn");
  await assertRejects(() => finetune(device, model, ["Sum: 1 + 2 = 3."], { maxLength: 1 }), RangeError, "none of the 1 examples");
  await assertRejects(() => finetune(device, model, [{ question: "?" } as never]), TypeError, "example 0: it has the fields question");
  const numbered = [{ instruction: "Add.", input: 5, output: "7" }];
  await assertRejects(() => finetune(device, model, numbered as never), TypeError, "the fields instruction, input, output, expected texts");
  await assertRejects(
    () => finetune(device, model, EXAMPLES, { learningRate: 1e30, clip: 1e30, warmup: 0, epochs: 20 }),
    Error,
    "a lower learning rate than 1e+30 may help",
  );
}, fastDevices);
