import { assert, assertEquals } from "@std/assert";
import fc from "../properties.ts";
import { narrow } from "../../lib/checkpoint/narrow.ts";

const float = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer)[0];

const halves = (values: number[], dtype: "BF16" | "F16") => [...new Uint16Array(narrow(Float32Array.from(values), dtype).buffer)];

Deno.test("narrow() rounds to bfloat16, ties to even", () => {
  const cases = [
    [0x3f800000, 0x3f80], // exact
    [0x3f808000, 0x3f80], // tie, even below
    [0x3f818000, 0x3f82], // tie, even above
    [0x3f807fff, 0x3f80], // just below a tie
    [0x3f808001, 0x3f81], // just above one
    [0x80000000, 0x8000], // -0
    [0x00000001, 0x0000], // smallest subnormal
    [0x7f7fffff, 0x7f80], // largest number, beyond bfloat16
    [0x7f800000, 0x7f80], // infinity
    [0xff800000, 0xff80],
  ];
  assertEquals(halves(cases.map(([from]) => float(from)), "BF16"), cases.map(([, to]) => to));
});

Deno.test("narrow() gives the nearest bfloat16 for any number", () => {
  fc.assert(
    fc.property(fc.float({ noNaN: true, noDefaultInfinity: true, max: Math.fround(3.3e38), min: Math.fround(-3.3e38) }), (value) => {
      const [half] = halves([value], "BF16");
      const error = (bits: number) => Math.abs(float((bits & 0xffff) << 16 >>> 0) - value);
      assert(error(half) <= error(half + 1) || Number.isNaN(error(half + 1)));
      assert((half & 0x7fff) === 0 || error(half) <= error(half - 1));
    }),
  );
});

Deno.test("narrow() keeps NaN, also one whose payload is in the low bits", () => {
  for (const bits of [0x7fc00000, 0x7f800001, 0xffffffff, 0xff800001]) {
    const words = new Float32Array(Uint32Array.of(bits).buffer);
    assert(Number.isNaN(float(new Uint16Array(narrow(words, "BF16").buffer)[0] << 16 >>> 0)));
    assert(Number.isNaN(new Float16Array(narrow(words, "F16").buffer)[0]));
  }
});

Deno.test("narrow() rounds to float16, ties to even, and beyond its range to infinity", () => {
  assertEquals(halves([1, 1 + 2 ** -11, 1 + 3 * 2 ** -11, 65504, 65520, 2 ** -24, -0], "F16"), [
    0x3c00,
    0x3c00,
    0x3c02,
    0x7bff,
    0x7c00,
    0x0001,
    0x8000,
  ]);
});

Deno.test("narrow() copies float32, also from the middle of a buffer", () => {
  const values = Float32Array.of(1, 2, 3, 4).subarray(1, 3);
  assertEquals([...new Float32Array(narrow(values, "F32").buffer)], [2, 3]);
  assertEquals(halves([...values], "BF16"), [...new Uint16Array(narrow(values, "BF16").buffer)]);
  narrow(values, "F32").fill(0);
  assertEquals([...values], [2, 3]);
});
