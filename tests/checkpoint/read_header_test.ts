import { assertEquals, assertRejects } from "@std/assert";
import { readHeader } from "../../lib/checkpoint/read_header.ts";
import { memorySource, safetensors } from "./fixtures.ts";

const pair = (begin: number) => ({ dtype: "BF16", shape: [2], data_offsets: [begin, begin + 4] });

const read = (file: Uint8Array) => readHeader(memorySource({ "model.safetensors": file }), "model.safetensors");

/** A file whose header is refused with all of these words. */
function refused(name: string, file: Uint8Array, ...words: string[]) {
  Deno.test(`readHeader() refuses ${name}`, async () => {
    const { message } = await assertRejects(() => read(file), Error, 'Cannot read "memory/model.safetensors"');
    for (const word of words) assertEquals(message.includes(word), true, `expected "${word}" in: ${message}`);
  });
}

const withLength = (length: bigint) => {
  const file = safetensors({ a: pair(0) }, 4);
  new DataView(file.buffer).setBigUint64(0, length, true);
  return file;
};

refused("a file shorter than the length of its header", new Uint8Array(5), "5 bytes", "at least 8");
refused("a header of length 0", withLength(0n), "claims 0 bytes");
refused("a header longer than the file", withLength(5000n), "claims 5000 bytes", "expected 2 to");
refused("a header length beyond all numbers", withLength(2n ** 64n - 1n), "claims 18446744073709551615 bytes");
refused("a Git LFS pointer", new TextEncoder().encode("version https://git-lfs.github.com/spec/v1\n"), "git lfs pull");
refused("a header that does not begin with a brace", safetensors(' {"a":1}', 0), 'begins with " {', 'expected "{"');
refused("a header with a byte order mark", safetensors("\ufeff{}", 0), 'expected "{"');
refused("a header that is not JSON", safetensors('{"a":', 0), "not JSON");
refused("an entry that is no object", safetensors({ a: 3 }, 0), 'entry of tensor "a" is 3');
refused("an entry without a type", safetensors({ a: { shape: [2], data_offsets: [0, 4] } }, 4), 'dtype of tensor "a"');
refused("a shape that is no array", safetensors({ a: { ...pair(0), shape: 2 } }, 4), 'shape of tensor "a" is 2');
refused("a negative size", safetensors({ a: { ...pair(0), shape: [-2] } }, 4), "[-2]", "from 0 on");
refused("a size that is no integer", safetensors({ a: { ...pair(0), shape: [1.5] } }, 4), "[1.5]");
refused("a size beyond exact integers", safetensors({ a: { ...pair(0), shape: [2 ** 53] } }, 4), "9007199254740992");
refused("offsets that are not two", safetensors({ a: { ...pair(0), data_offsets: [0, 2, 4] } }, 4), "data_offsets", "[0,2,4]");
refused("offsets that end before they begin", safetensors({ a: { ...pair(0), data_offsets: [4, 0] } }, 4), "begin <= end");
refused(
  "bytes that do not follow from type and shape",
  safetensors({ a: { ...pair(0), shape: [3] } }, 4),
  '"a" has 4 bytes',
  "6 for BF16 [3]",
);
refused("more bytes than type and shape need", safetensors({ a: { ...pair(0), shape: [1] } }, 4), '"a" has 4 bytes', "2 for BF16 [1]");
refused("a tensor named twice", safetensors('{"a":{"dtype":"BF16","shape":[0],"data_offsets":[0,0]},"\\u0061":{}}', 0), '"a" twice');
refused(
  "a key named twice in an entry",
  safetensors('{"a":{"dtype":"F32","dtype":"BF16","shape":[0],"data_offsets":[0,0]}}', 0),
  '"dtype" twice',
);
refused("two tensors that overlap", safetensors({ a: pair(0), b: pair(2) }, 6), 'tensor "b" begins', 'after tensor "a"', "an overlap");
refused("a gap between two tensors", safetensors({ b: pair(6), a: pair(0) }, 10), 'tensor "b" begins', "a gap");
refused("a gap before the first tensor", safetensors({ a: pair(2) }, 6), "after the header", "a gap");
refused("a file that was cut short", safetensors({ a: pair(0), b: pair(4) }, 7), 'tensor "b" ends', "truncated");
refused("bytes after the last tensor", safetensors({ a: pair(0) }, 5), 'where tensor "a" ends');
refused("data without tensors", safetensors({}, 1), "where the header ends");

Deno.test("readHeader() refuses a header beyond 100 MB without reading it", async () => {
  const source = memorySource({ "model.safetensors": withLength(100_000_001n) });
  source.size = () => Promise.resolve(10 ** 9);
  await assertRejects(() => readHeader(source, "model.safetensors"), Error, "claims 100000001 bytes, expected 2 to 100000000");
  assertEquals(source.reads.length, 1);
});

Deno.test("readHeader() takes metadata, padding, scalars, empty tensors and unknown types", async () => {
  const header = {
    __metadata__: { format: "pt" },
    scalar: { dtype: "F32", shape: [], data_offsets: [0, 4] },
    empty: { dtype: "F32", shape: [0, 7], data_offsets: [4, 4] },
    half: { dtype: "F4", shape: [6], data_offsets: [4, 7] },
    future: { dtype: "F5_NEW", shape: [9], data_offsets: [7, 8] },
  };
  const tensors = await read(safetensors(JSON.stringify(header) + "   ", 8));
  assertEquals(tensors?.map(({ name, bytes }) => [name, bytes]), [["scalar", 4], ["empty", 0], ["half", 3], ["future", 1]]);
});

Deno.test("readHeader() gives undefined for a file that is not there", async () => {
  assertEquals(await readHeader(memorySource({}), "model.safetensors"), undefined);
});
