import { assert, assertEquals, assertRejects } from "@std/assert";
import { openCheckpoint } from "../../lib/checkpoint/open_checkpoint.ts";
import { writeCheckpoint } from "../../lib/checkpoint/write_checkpoint.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { folderOf } from "../fixtures.ts";

/** The tiny Mixtral with some tensors renamed, left out or of another shape, and another config. */
async function altered(
  change: { config?: Record<string, unknown>; rename?: Record<string, string | undefined>; shape?: Record<string, number[]> },
) {
  const { tensors, config } = await openCheckpoint(folderOf("tiny-mixtral")), folder = `${await Deno.makeTempDir()}/model`;
  const kept = [...tensors.values()].flatMap(({ name, dtype, shape, read }) => {
    const renamed = change.rename && name in change.rename ? change.rename[name] : name;
    return renamed === undefined ? [] : [{ name: renamed, dtype, shape: change.shape?.[name] ?? shape, read }];
  });
  await writeCheckpoint(folder, { tensors: kept, files: new Map([["config.json", JSON.stringify({ ...config, ...change.config })]]) });
  return folder;
}

async function refused(change: Parameters<typeof altered>[0], ...parts: string[]): Promise<void> {
  const folder = await altered(change), error = await assertRejects(() => openModel(folder), Error);
  for (const part of parts) assert(error.message.includes(part), `"${error.message}" should say "${part}"`);
  assert(!/\n/.test(error.message), "one sentence");
  await Deno.remove(folder, { recursive: true });
}

Deno.test("openModel() names a missing tensor and the shape it should have", () =>
  refused(
    { rename: { "model.layers.2.block_sparse_moe.experts.5.w2.weight": undefined } },
    "model.layers.2.block_sparse_moe.experts.5.w2.weight",
    "[128, 192]",
  ));

Deno.test("openModel() names a tensor of the wrong shape, with both shapes", () =>
  refused({ shape: { "model.norm.weight": [64, 2] } }, "model.norm.weight", "[64, 2]", "[128]", "model.safetensors"));

Deno.test("openModel() notices that config and weights disagree", () =>
  refused({ config: { intermediate_size: 200 } }, "w1.weight", "[192, 128]", "[200, 128]"));

Deno.test("openModel() refuses a bias that the config does not announce", async () => {
  const folder = await altered({ config: { num_local_experts: 8 } }), { tensors, config } = await openCheckpoint(folder);
  const bias = {
    name: "model.layers.0.self_attn.q_proj.bias",
    dtype: "F32" as const,
    shape: [128],
    read: (into: Uint8Array) => Promise.resolve(void into.fill(0)),
  };
  await writeCheckpoint(`${folder}-2`, { tensors: [...tensors.values(), bias], files: new Map([["config.json", JSON.stringify(config)]]) });
  await assertRejects(
    () => openModel(`${folder}-2`),
    Error,
    '"model.layers.0.self_attn.q_proj.bias" has no place in architecture "mixtral"',
  );
});

Deno.test("openModel() refuses a malformed list of kept experts", async () => {
  for (
    const winnow of [{}, { experts: 8, layers: [{ layer: 0, experts: [3, 1] }] }, { experts: 8, layers: [] }, {
      experts: 8,
      layers: [{ layer: 0, experts: [9] }],
    }]
  ) {
    await refused({ config: { model_type: "winnow_mixtral", winnow } }, '"winnow" of config.json');
  }
});

Deno.test("openModel() refuses a list of kept experts for one wrong entry", async () => {
  const all = [0, 1, 2, 3, 4, 5, 6, 7], whole = [0, 1, 2, 3].map((layer) => ({ layer, experts: all }));
  const wrong: unknown[] = [
    null,
    ...[[3, 1], [1, 1], [9], [-1], [1.5], [], "01"].map((experts) => ({ layer: 2, experts })),
    ...[[0, 4, 4, 4, 4, 4, 4, 4], [1.5, 4, 4, 4, 4, 4, 4, 4], [4], 4].map((ranks) => ({ layer: 2, experts: all, ranks })),
    { layer: 4, experts: all },
    { layer: 1, experts: all },
  ];
  for (const entry of wrong) {
    const layers = whole.with(2, entry as typeof whole[0]);
    await refused({ config: { model_type: "winnow_mixtral", winnow: { experts: 8, layers } } }, `found ${JSON.stringify(entry)}`);
  }
});

Deno.test("openModel() reads no weight", async () => {
  const model = await openModel(folderOf("tiny-deepseek-v2"));
  assertEquals(model.layers.map((l) => l.block.kind), ["dense", "moe", "moe", "moe"]);
  assertEquals(model.tokenizer.encode("Sum: 12 + 30 = 42.").length, 8);
});
