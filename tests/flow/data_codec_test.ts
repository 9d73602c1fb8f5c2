/** Plain data comes back to the bit. */

import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { decoded, decodeData, encodeData } from "../../lib/flow/data_codec.ts";
import { withStore } from "./flows.ts";
import fc from "../properties.ts";

/** The same value, NaN and -0 included, and the same types, Maps in their order. */
function same(a: unknown, b: unknown): boolean {
  if (typeof a !== "object" || a === null || typeof b !== "object" || b === null) return Object.is(a, b);
  if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) {
    const [x, y] = [a, b].map((view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
    return a.constructor === b.constructor && x.length === y.length && x.every((byte, i) => byte === y[i]);
  }
  if (a instanceof Map || a instanceof Set) return a.constructor === b.constructor && same([...a], [...b as Iterable<unknown>]);
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  const [x, y] = [a, b].map((value) => Object.entries(value));
  return x.length === y.length && x.every(([key, item], i) => key === y[i][0] && same(item, y[i][1]));
}

const EXAMPLES: Record<string, unknown> = {
  "numbers": [NaN, -0, 0, Infinity, -Infinity, 5e-324, Number.MAX_VALUE, 0.1, 2 ** 53],
  "nothing": [undefined, null, { a: undefined }, "", [], {}, new Map(), new Set()],
  "bigint": [0n, -(2n ** 70n)],
  "text": ["\u0000", "\ud800", "😀", '"$"', "__proto__"],
  "keys that look like ours": { $array: "0", $number: "NaN", a: { $F32: [1] }, b: [{ $object: [["x", 1]] }, { $: 1 }, { $map: [] }] },
  "keys that objects have": JSON.parse('{"__proto__": {"a": 1}, "constructor": 2}'),
  "Map and Set": new Map<unknown, unknown>([[{ a: 1 }, [1, [2]]], [NaN, new Set([1, "1", [new Map([["k", undefined]])]])], [
    "$array",
    "0",
  ]]),
  "empty arrays": [new Float32Array(0), new Float64Array(0), new Uint8Array(0), new Uint16Array(0), new Int32Array(0), new Uint32Array(0)],
  "short arrays": {
    deep: [[{ values: Float32Array.of(NaN, -0, Infinity, 0.1) }], Float64Array.of(-0, NaN), Int32Array.of(-1), Uint32Array.of(2 ** 32 - 1)],
  },
  "long arrays": {
    a: new Float32Array(1000).map((_, i) => Math.sin(i)),
    b: [new Uint16Array(600).fill(65535), new Uint8Array(2000).fill(7)],
  },
  "a part of an array": new Float64Array(400).map((_, i) => i).subarray(13, 390),
  "an array alone": new Uint32Array(300).fill(9),
  "a value alone": -0,
  "nothing alone": undefined,
};

Deno.test("plain data comes back from the disk as it went there", async (t) => {
  await withStore(async ({ open }) => {
    for (const [name, value] of Object.entries(EXAMPLES)) {
      await t.step(name, async () => {
        const first = await open(),
          define = (flow: typeof first) => flow.stage("value", { version: 1, options: { name }, run: () => value });
        const computed = await first.run(define(first)), again = await open(), stored = await again.run(define(again));
        assert(same(computed, value), Deno.inspect(computed));
        assert(same(stored, value), Deno.inspect(stored));
      });
    }
  });
});

const anything = fc.letrec((tie) => {
  const numbers = fc.oneof(fc.double(), fc.integer(), fc.constantFrom(NaN, -0, Infinity, -Infinity));
  const keys = fc.oneof(fc.string(), fc.constantFrom("__proto__", "$array", "$number", "$object", "$F64", "a"));
  const value = tie("value");
  return {
    value: fc.oneof(
      { maxDepth: 4 },
      fc.oneof(numbers, fc.string(), fc.boolean(), fc.constantFrom(null, undefined), fc.bigInt()),
      fc.oneof(fc.float32Array(), fc.float64Array(), fc.uint32Array(), fc.int32Array(), fc.uint16Array(), fc.uint8Array()),
      fc.array(value, { maxLength: 5 }),
      fc.uniqueArray(fc.tuple(keys, value), { maxLength: 5, selector: ([key]) => key }).map((entries) => Object.fromEntries(entries)),
      fc.array(fc.tuple(value, value), { maxLength: 4 }).map((entries) => new Map(entries)),
      fc.array(value, { maxLength: 4 }).map((items) => new Set(items)),
    ),
  };
}).value;

Deno.test("any plain data comes back, however long an array must be to lie beside the JSON", async () => {
  await fc.assert(
    fc.asyncProperty(anything, fc.constantFrom(0, 24, 1024), async (value, large) => {
      const { json, arrays } = encodeData(value, large);
      assert(same(await decodeData(JSON.parse(JSON.stringify(json)), arrays), value));
      assert(same(decoded(JSON.parse(JSON.stringify(encodeData(value, Infinity).json))), value));
    }),
    { numRuns: 400 },
  );
});

Deno.test("what is no plain data is refused by where it is", async () => {
  class Model {}
  const circle: Record<string, unknown> = { a: {} };
  circle.a = [circle];
  const refused: [unknown, string][] = [
    [() => 1, "Cannot keep a result: expected plain data, found a function"],
    [{ layers: [{ read() {} }] }, 'Cannot keep "layers[0].read": expected plain data, found a function'],
    [{ at: Symbol("x") }, 'Cannot keep "at": expected plain data, found a symbol'],
    [{ model: new Model() }, 'Cannot keep "model": expected plain data, found a Model'],
    [new Date(), "Cannot keep a result: expected plain data, found a Date"],
    [new Map([["k", new Model()]]), 'Cannot keep ".entries[0][1]": expected plain data, found a Model'],
    [circle, 'Cannot keep "a[0]": expected plain data, found something that it is itself a part of'],
    [Promise.resolve(1), "Cannot keep a result: expected plain data, found a Promise"],
    [{ b: new BigInt64Array(1) }, 'Cannot keep "b": expected plain data, found a BigInt64Array; known are Float32Array'],
    [{ b: new DataView(new ArrayBuffer(1)) }, 'Cannot keep "b": expected plain data, found a DataView; known are Float32Array'],
    [{ b: new ArrayBuffer(1) }, 'Cannot keep "b": expected plain data, found a ArrayBuffer'],
  ];
  for (const [value, sentence] of refused) assertThrows(() => encodeData(value), TypeError, sentence);
  const twice = { x: 1 };
  assertEquals(await decodeData(encodeData([twice, twice]).json, new Map()), [twice, twice]);
  await withStore(async ({ open }) => {
    const flow = await open(), lost = flow.stage("lost", { version: 1, run: () => new Model() });
    await assertRejects(() => flow.run(lost), TypeError, "Cannot keep a result: expected plain data, found a Model");
  });
});
