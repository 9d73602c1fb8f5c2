import { assert, assertEquals, assertRejects } from "@std/assert";
import fc from "../properties.ts";
import { planRows } from "../../lib/checkpoint/plan_rows.ts";
import { storedTensor } from "../../lib/checkpoint/stored_tensor.ts";
import { memorySource } from "./fixtures.ts";

const MiB = 2 ** 20;

/** A matrix in the middle of a file, each byte derived from where it stands. */
function matrix(rows: number, width: number) {
  const file = Uint8Array.from({ length: 10 + 2 * rows * width }, (_, i) => i * 7 ^ i >> 8);
  const source = memorySource({ weights: file });
  const tensor = storedTensor(source, {
    ...{ name: "matrix", dtype: "BF16", shape: [rows, width], file: "weights", start: 10, bytes: 2 * rows * width },
  });
  return { file, source, tensor };
}

Deno.test("read() gives the bytes of the tensor", async () => {
  const { file, tensor } = matrix(3, 4);
  const into = new Uint8Array(24);
  await tensor.read(into);
  assertEquals(into, file.subarray(10, 34));
});

Deno.test("read() and readRows() refuse a buffer of another length", async () => {
  const { tensor } = matrix(3, 4);
  await assertRejects(
    () => tensor.read(new Uint8Array(23)),
    RangeError,
    'tensor "matrix" of "memory/weights": the buffer has 23 bytes, expected 24',
  );
  await assertRejects(() => tensor.readRows(Uint32Array.of(1), new Uint8Array(9)), RangeError, "has 9 bytes, expected 8");
});

Deno.test("readRows() refuses rows outside the tensor and rows that do not ascend", async () => {
  const { tensor } = matrix(3, 4);
  await assertRejects(() => tensor.readRows(Uint32Array.of(3), new Uint8Array(8)), RangeError, "row 3 is outside its 3 rows");
  await assertRejects(() => tensor.readRows(Uint32Array.of(1, 1), new Uint8Array(16)), RangeError, "row 1 comes after 1");
  await assertRejects(() => tensor.readRows(Uint32Array.of(2, 0), new Uint8Array(16)), RangeError, "row 0 comes after 2");
});

Deno.test("readRows() gives any choice of rows", async () => {
  const { file, tensor } = matrix(300, 5000);
  const choice = fc.uniqueArray(fc.nat(299), { maxLength: 40 }).map((rows) => Uint32Array.from(rows).sort());
  await fc.assert(
    fc.asyncProperty(choice, async (rows) => {
      const into = new Uint8Array(rows.length * 10_000);
      await tensor.readRows(rows, into);
      rows.forEach((row, i) => {
        const found = into.subarray(i * 10_000, (i + 1) * 10_000), expected = file.subarray(10 + row * 10_000, 10 + (row + 1) * 10_000);
        assert(found.every((byte, j) => byte === expected[j]), `row ${row}`);
      });
    }),
    { numRuns: 20 },
  );
});

Deno.test("readRows() reads neighbours in one go and leaves wide gaps out", async () => {
  const { source, tensor } = matrix(300, 5000);
  const rows = Uint32Array.of(0, 1, 2, 20, 100, 299);
  await tensor.readRows(rows, new Uint8Array(rows.length * 10_000));
  assertEquals(source.reads.map(({ start, length }) => [(start - 10) / 10_000, length / 10_000]), [[0, 21], [100, 1], [299, 1]]);
});

Deno.test("planRows() covers every row once, in runs of at most 16 MiB", () => {
  const rows = fc.uniqueArray(fc.nat(200_000), { maxLength: 300 }).map((rows) => Uint32Array.from(rows).sort());
  fc.assert(fc.property(rows, fc.integer({ min: 1, max: 20 * MiB }), (rows, rowBytes) => {
    const runs = planRows(rows, rowBytes);
    assertEquals(runs.flatMap(({ begin, end }) => [...rows.subarray(begin, end)]), [...rows]);
    for (const { begin, end } of runs) {
      assert(end === begin + 1 || (rows[end - 1] - rows[begin] + 1) * rowBytes <= 16 * MiB);
    }
  }));
});

Deno.test("planRows() joins rows across less than 256 KiB only", () => {
  assertEquals(planRows(Uint32Array.of(0, 256), 1024).length, 1);
  assertEquals(planRows(Uint32Array.of(0, 257), 1024).length, 2);
});
