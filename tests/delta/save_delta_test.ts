import { assert, assertEquals, assertRejects } from "@std/assert";
import { readWide } from "../../lib/checkpoint/read_wide.ts";
import { bitDelta } from "../../lib/delta/bit_delta.ts";
import type { CompressedDelta } from "../../lib/delta/compressed_delta.ts";
import { applyDelta } from "../../lib/delta/apply_delta.ts";
import { compressDelta } from "../../lib/delta/compress_delta.ts";
import { decodeDelta } from "../../lib/delta/decode_delta.ts";
import { deltaSize } from "../../lib/delta/delta_size.ts";
import { encodeDelta } from "../../lib/delta/encode_delta.ts";
import { openDelta } from "../../lib/delta/open_delta.ts";
import { packBits } from "../../lib/delta/pack_bits.ts";
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

async function headerOf(path: string): Promise<string> {
  const bytes = await Deno.readFile(path);
  return new TextDecoder().decode(bytes.subarray(8, 8 + Number(new DataView(bytes.buffer).getBigUint64(0, true))));
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
      assertEquals([opened.base, opened.linears], [delta.base, delta.linears]);
      const names = Object.keys(JSON.parse(await headerOf(`${folder}/delta/delta.safetensors`))).length;
      assert(names <= 1 + 3 * delta.linears.length + delta.rest.size, `${names} arrays of ${delta.linears.length} linears`);
      assertEquals(await restIn(opened), await restIn(delta));
      const counted = deltaSize(delta).linears.bytes,
        [file, record] = ["delta.safetensors", "delta.json"].map((name) => Deno.statSync(`${folder}/delta/${name}`).size);
      assertEquals(bytes, file + record);
      const header = new TextEncoder().encode(await headerOf(`${folder}/delta/delta.safetensors`)).length;
      let rest = 0;
      for (const { dtype, shape } of delta.rest.values()) rest += shape.reduce((a, b) => a * b, dtype === "F32" ? 4 : 2);
      assertEquals(deltaSize(delta).rest.bytes, rest);
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
  const [first, second] = record.linears, of = (changes: unknown) => ({ ...record, linears: [{ ...first, ...changes as object }, second] });
  for (
    const changed of [
      { ...record, format: 1 },
      { ...record, base: undefined },
      { ...record, rest: { norm: "I64" } },
      ...[{ layer: -1 }, { tokens: -1 }, { norm: "x" }, { norm: null }, { error: undefined }, { form: { scale: null } }, { shape: [0, 7] }]
        .map(of),
      ...[9, 15, 17, 31].map((bits) => of({ form: [{ bits, count: 1, groups: [1, 1] }] })),
      of({ form: [{ bits: 2, count: 1 }] }),
    ]
  ) {
    await assertRejects(() => opening(changed), Error, "its record is none that saveDelta() writes");
  }
  await assertRejects(() => opening({ ...record, linears: [first, first] }), Error, '"0/attention/q_proj" comes twice');
  await assertRejects(() => opening(of({ linear: "attention/z" })), Error, 'found no "0/attention/z/words", expected a row of U32');
  await assertRejects(() => opening(of({ shape: [7, 7] })), Error, "numbers more than its record says");
  await assertRejects(() => opening(of({ shape: [700, 700] })), Error, "numbers, expected at least 15313");
  await assertRejects(() => opening(of({ form: [{ bits: 16, count: 1, groups: [1, 1] }] })), Error, 'found no "0/attention/q_proj/halves"');
  await assertRejects(() => opening({ ...record, rest: { nothing: null } }), Error, 'found no weight "rest/nothing"');
  await Deno.remove(`${folder}/delta/delta.safetensors`);
  await assertRejects(() => openDelta(`${folder}/delta`), Error, 'Found no "delta.safetensors"');
  await Deno.remove(folder, { recursive: true });
});

Deno.test("numbers that no difference has are refused when it is opened", async () => {
  const place = "0/experts/3/up", shape: [number, number] = [4, 9];
  /** A linear [4, 9] of two components with groups of 3 columns, as it is stored, with some numbers changed. */
  const opening = async (change: (form: { scales: Float32Array; singularValues: Float32Array; groups: Uint32Array }) => void) => {
    const right = { bits: 2, rows: 2, columns: 9, codes: packBits(new Uint8Array(18).fill(3), 2), zeros: packBits([0, 1, 2, 3, 2, 1], 2) };
    const parts = {
      scales: Float32Array.of(1, 2, 0.5, 1, 2, 0.5),
      singularValues: Float32Array.of(2, 1),
      groups: packBits([0, 0, 0, 1, 1, 1, 2, 2, 2], 2),
    };
    change(parts);
    const left = { bits: 2, rows: 4, columns: 2, codes: packBits(new Uint8Array(8).fill(1), 2), scales: new Float32Array(4).fill(1) };
    const form = [{
      left: { ...left, zeros: packBits([0, 0, 0, 0], 2) },
      singularValues: parts.singularValues,
      right: { ...right, scales: parts.scales, groups: parts.groups },
    }];
    const linear = { layer: 0, linear: "experts/3/up", shape, form };
    const { json, arrays } = encodeDelta({ base: "", linears: [{ ...linear, tokens: 3, norm: 2, error: 1 }], rest: new Map() });
    return await decodeDelta(JSON.parse(JSON.stringify(json)), arrays, "here");
  };
  assertEquals((await opening(() => {})).linears[0].shape, [4, 9]);
  for (const scale of [NaN, Infinity, 0, -1]) {
    await assertRejects(() => opening((form) => form.scales[4] = scale), Error, `"${place}" has a number that is none of a difference`);
  }
  for (const value of [NaN, Infinity, -1]) {
    await assertRejects(() => opening((form) => form.singularValues[1] = value), Error, `"${place}" has a number`);
  }
  await assertRejects(
    () => opening((form) => form.groups.set(packBits([0, 0, 0, 1, 3, 1, 2, 2, 2], 2))),
    Error,
    `"${place}" has a column of a group beyond its 3`,
  );
});
