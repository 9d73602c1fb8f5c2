/**
 * Kernels of the cpu device, element by element: four floats at a time, in WebAssembly. AssemblyScript; `deno task wasm` builds simd.wasm from it.
 *
 * Operands lie in one page of scratch memory, where lib/device/cpu/simd.ts puts them piece by piece: slot s begins at byte s * SLOT. Loops run to the next
 * multiple of four elements. No operation is fused or relaxed, so that every machine gets the same bits. Behind it lies what exp needs, then, from byte
 * 131072, room for 2^22 widened weights, which BLAS reads where they are.
 */

/** Bytes of a slot: three operands stay in a first-level cache. */
const SLOT: usize = 16384;

/** Adding and subtracting 1.5 * 2^23 rounds a float32 to a whole number, which then stands in its lowest bits; 127 more, the bias of exponents. */
const ROUND: f32 = 12583039;

/** Vectors that exp needs. As literals they would be put together anew each time: these kernels take 1.5 times as long then. */
const NUMBERS: usize = memory.data<f32>([
  -87, -87, -87, -87, 89, 89, 89, 89,
  1.4426950408889634, 1.4426950408889634, 1.4426950408889634, 1.4426950408889634, ROUND, ROUND, ROUND, ROUND,
  0.693359375, 0.693359375, 0.693359375, 0.693359375, -2.12194440e-4, -2.12194440e-4, -2.12194440e-4, -2.12194440e-4,
  1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4, 1.9875691500e-4, 1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3, 1.3981999507e-3,
  8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3, 8.3334519073e-3, 4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2, 4.1665795894e-2,
  1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1, 1.6666665459e-1, 5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1, 5.0000001201e-1,
  1, 1, 1, 1,
], 16);

// @ts-ignore: decorator
@inline
function number(i: usize): v128 {
  return v128.load(NUMBERS + 16 * i);
}

/**
 * e^x to 1.2e-7 relative, x held within [-87, 89]; above 88.3 it is infinite, so that silu(x) vanishes however far below zero x is. e^x = 2^n * e^r with
 * n = round(x / ln 2), |r| <= ln 2 / 2. ln 2 is subtracted in two parts, of which the first has few digits, so that n times it is exact; e^r = 1 + r + r^2 p(r)
 * with the coefficients of Cephes' expf; 2^n is put together from its bits.
 */
// @ts-ignore: decorator
@inline
function exp(value: v128): v128 {
  const x = f32x4.pmin(f32x4.pmax(value, number(0)), number(1)); // in this order, NaN stays NaN
  const rounded = f32x4.add(f32x4.mul(x, number(2)), number(3)), n = f32x4.sub(rounded, number(3));
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(n, number(4))), f32x4.mul(n, number(5)));
  let p = f32x4.add(f32x4.mul(number(6), r), number(7));
  p = f32x4.add(f32x4.mul(p, r), number(8));
  p = f32x4.add(f32x4.mul(p, r), number(9));
  p = f32x4.add(f32x4.mul(p, r), number(10));
  p = f32x4.add(f32x4.mul(p, r), number(11));
  p = f32x4.add(f32x4.mul(f32x4.mul(r, r), p), f32x4.add(r, number(12)));
  return f32x4.mul(p, i32x4.shl(rounded, 23));
}

/** The upper two floats first. */
// @ts-ignore: decorator
@inline
function upper(x: v128): v128 {
  return i8x16.shuffle(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
}

// @ts-ignore: decorator
@inline
function total(x: v128): f64 {
  return f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1);
}

// @ts-ignore: decorator
@inline
function sigmoid(x: v128): v128 {
  return f32x4.div(number(12), f32x4.add(number(12), exp(f32x4.neg(x))));
}

/** The bf16 numbers of slot 0 as float32, of which they are the upper halves, to byte `to`. */
export function widenBF16(count: usize, to: usize): void {
  for (let i: usize = 0; i < 2 * count; i += 16) {
    const x = v128.load(i);
    v128.store(to + 2 * i, i32x4.shl(i32x4.extend_low_i16x8_u(x), 16));
    v128.store(to + 2 * i, i32x4.shl(i32x4.extend_high_i16x8_u(x), 16), 16);
  }
}

/** Slot 2 = silu(slot 0) * slot 1. */
export function swiglu(count: usize): void {
  for (let i: usize = 0; i < 4 * count; i += 16) {
    const gate = v128.load(i);
    v128.store(i, f32x4.mul(f32x4.mul(gate, sigmoid(gate)), v128.load(i, SLOT)), 2 * SLOT);
  }
}

/** Gradients of silu(slot 0) * slot 1 with respect to both, in their places, given that of the output in slot 2. silu' = s + g * s * (1 - s). */
export function swigluVjp(count: usize): void {
  const one = number(12);
  for (let i: usize = 0; i < 4 * count; i += 16) {
    const gate = v128.load(i), up = v128.load(i, SLOT), dy = v128.load(i, 2 * SLOT), s = sigmoid(gate);
    const slope = f32x4.mul(s, f32x4.add(one, f32x4.mul(gate, f32x4.sub(one, s))));
    v128.store(i, f32x4.mul(f32x4.mul(dy, up), slope));
    v128.store(i, f32x4.mul(dy, f32x4.mul(gate, s)), SLOT);
  }
}

/** The largest element. Elements up to the next multiple of four must not be larger. */
export function peak(count: usize): f32 {
  let most = f32x4.splat(-Infinity);
  for (let i: usize = 0; i < 4 * count; i += 16) most = f32x4.pmax(most, v128.load(i));
  const pairs = f32x4.pmax(most, upper(most));
  const a = f32x4.extract_lane(pairs, 0), b = f32x4.extract_lane(pairs, 1);
  return a > b ? a : b;
}

/** Replaces each element by e^(element - top), and adds them up in float64. Elements up to the next multiple of four count too: -Infinity adds 1e-38. */
export function powers(count: usize, top: f32): f64 {
  const shift = f32x4.splat(top);
  let low = f64x2.splat(0), high = f64x2.splat(0);
  for (let i: usize = 0; i < 4 * count; i += 16) {
    const power = exp(f32x4.sub(v128.load(i), shift));
    v128.store(i, power);
    low = f64x2.add(low, f64x2.promote_low_f32x4(power));
    high = f64x2.add(high, f64x2.promote_low_f32x4(upper(power)));
  }
  return total(f64x2.add(low, high));
}

/** The sum of the squares of slot 0 less slot 1, in float64. Elements up to the next multiple of four count too. */
export function squares(count: usize): f64 {
  let low = f64x2.splat(0), high = f64x2.splat(0);
  for (let i: usize = 0; i < 4 * count; i += 16) {
    const x = v128.load(i), y = v128.load(i, SLOT), a = f64x2.sub(f64x2.promote_low_f32x4(x), f64x2.promote_low_f32x4(y));
    const b = f64x2.sub(f64x2.promote_low_f32x4(upper(x)), f64x2.promote_low_f32x4(upper(y)));
    low = f64x2.add(low, f64x2.mul(a, a)), high = f64x2.add(high, f64x2.mul(b, b));
  }
  return total(f64x2.add(low, high));
}

/** Multiplies each element by a factor. */
export function scale(count: usize, factor: f32): void {
  const by = f32x4.splat(factor);
  for (let i: usize = 0; i < 4 * count; i += 16) v128.store(i, f32x4.mul(v128.load(i), by));
}
