import { assert, assertEquals, assertRejects } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { bitDelta } from "../../lib/delta/bit_delta.ts";
import type { CompressedDelta } from "../../lib/delta/compressed_delta.ts";
import { applyDelta } from "../../lib/delta/apply_delta.ts";
import { compressDelta } from "../../lib/delta/compress_delta.ts";
import { deltaSize } from "../../lib/delta/delta_size.ts";
import { openDelta } from "../../lib/delta/open_delta.ts";
import { saveDelta } from "../../lib/delta/save_delta.ts";
import { saveModel } from "../../lib/export/save_model.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { openModel } from "../../lib/model/open_model.ts";
import { linearsOf } from "../../lib/sparsify/linears.ts";
import { folderOf } from "../fixtures.ts";
import { ROUTERS, withModel } from "../small_models.ts";
import { tunedBy } from "./tuned.ts";

async function restIn({ rest }: CompressedDelta): Promise<unknown> {
  const all = [...rest].map(async ([place, weight]) => [place, weight.shape, weight.origin ?? weight.dtype, await readWide(weight)]);
  return await Promise.all(all);
}

Deno.test("a saved difference is the same when it is opened, and as large as was counted", async () => {
  using device = await openDevice({ kind: "cpu" });
  const folder = await Deno.makeTempDir();
  await withModel(ROUTERS["group-limited, scaled"], async (base, sequences) => {
    const tuned = await tunedBy(base, 0.01), split = [[8, 2], [3, 4], [2, 3], [16, 2], [32, 1]] as const;
    const deltas = [
      await compressDelta(device, base, tuned, sequences, { alpha: 100, split, groupSize: 5 }),
      await compressDelta(device, base, tuned, [], { split: [[16, 0]] }),
      await bitDelta(base, tuned),
    ];
    for (const delta of deltas) {
      const { bytes } = await saveDelta(delta, `${folder}/delta`), opened = await openDelta(`${folder}/delta`);
      assertEquals(opened.linears, delta.linears);
      assertEquals(await restIn(opened), await restIn(delta));
      const counted = deltaSize(delta).linears.bytes,
        [file, record] = ["delta.safetensors", "delta.json"].map((name) => Deno.statSync(`${folder}/delta/${name}`).size);
      assertEquals(bytes, file + record);
      const header = Number(new DataView((await Deno.readFile(`${folder}/delta/delta.safetensors`)).buffer).getBigUint64(0, true));
      let rest = 0;
      for (const { dtype, shape } of delta.rest.values()) rest += shape.reduce((a, b) => a * b, dtype === "F32" ? 4 : 2);
      const scales = delta.linears.filter(({ form }) => !Array.isArray(form)).length; // stand in the record
      assertEquals(file - 8 - header - rest, counted - 4 * scales);
      applyDelta(base, opened);
    }
  });
  await Deno.remove(folder, { recursive: true });
});

Deno.test("a tuned model that came back from its difference is an ordinary checkpoint", async () => {
  const folder = await Deno.makeTempDir(),
    [base, tuned] = await Promise.all(["tiny-mixtral", "tiny-mixtral-tuned"].map((name) => openModel(folderOf(name))));
  const back = applyDelta(base, await bitDelta(base, tuned));
  assertEquals((await saveModel(back, `${folder}/back`)).form, "native");
  const opened = await openModel(`${folder}/back`), [one, two] = [opened, back].map(({ layers }) => linearsOf(layers[1])[7].weight);
  assertEquals(one.dtype, "BF16");
  const [got, want] = [await readWide(one), await readWide(two)];
  assert(got.every((value, i) => Math.abs(value - want[i]) <= 2 ** -8 * Math.abs(want[i])));
  await Deno.remove(folder, { recursive: true });
});

Deno.test("what is no saved difference is refused, and what stands in the way stays", async () => {
  const folder = await Deno.makeTempDir(),
    [base, tuned] = await Promise.all(["tiny-mixtral", "tiny-mixtral-tuned"].map((name) => openModel(folderOf(name))));
  const [one, two] = [base, tuned].map((model) => ({ ...model, layers: model.layers.slice(0, 1) })), delta = await bitDelta(one, two);
  await Deno.mkdir(`${folder}/taken`);
  await Deno.writeTextFile(`${folder}/taken/notes`, "mine");
  await assertRejects(() => saveDelta(delta, `${folder}/taken`), Error, "Cannot write a difference to");
  assertEquals(await Deno.readTextFile(`${folder}/taken/notes`), "mine");
  await saveDelta(delta, `${folder}/delta`);
  const record = JSON.parse(await Deno.readTextFile(`${folder}/delta/delta.json`));
  const opening = async (changed: unknown) => {
    await Deno.writeTextFile(`${folder}/delta/delta.json`, JSON.stringify(changed));
    return await openDelta(`${folder}/delta`);
  };
  await assertRejects(() => opening({ ...record, format: 2 }), Error, "its record is none that saveDelta() writes");
  await assertRejects(
    () => opening({ ...record, linears: [{ ...record.linears[0], linear: "attention/z" }] }),
    Error,
    'found no "0/attention/z/negative"',
  );
  await assertRejects(() => opening({ ...record, linears: [{ ...record.linears[0], shape: [7, 7] }] }), Error, "expected U32 of 2");
  await assertRejects(() => opening({ ...record, linears: [{ ...record.linears[0], form: [{ bits: 2, count: 1 }] }] }), Error, "found no");
  await assertRejects(() => opening({ ...record, rest: { nothing: null } }), Error, 'found no weight "rest/nothing"');
  await Deno.remove(`${folder}/delta/delta.safetensors`);
  await assertRejects(() => openDelta(`${folder}/delta`), Error, 'Found no "delta.safetensors"');
  await Deno.remove(folder, { recursive: true });
});
