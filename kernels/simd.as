/**
 * Kernels of the cpu device, element by element: four floats at a time, in WebAssembly. AssemblyScript; `deno task wasm` builds simd.wasm from it.
 *
 * Operands lie in one page of scratch memory, where lib/device/cpu/simd.ts puts them piece by piece: slot s begins at byte s * SLOT. Loops run to the next
 * multiple of four elements. No operation is fused or relaxed, so that every machine gets the same bits.
 */

/** Bytes of a slot: three operands stay in a first-level cache. */
const SLOT: usize = 16384;

/** Adding and subtracting 1.5 * 2^23 rounds a float32 to a whole number, which then stands in its lowest bits. */
const ROUND: f32 = 12582912;

/**
 * e^x to 1.2e-7 relative, x held within [-87, 89]; above 88.3 it is infinite, so that silu(x) vanishes however far below zero x is. e^x = 2^n * e^r with
 * n = round(x / ln 2), |r| <= ln 2 / 2. ln 2 is subtracted in two parts, of which the first has few digits, so that n times it is exact; e^r = 1 + r + r^2 p(r)
 * with the coefficients of Cephes' expf; 2^n is put together from its bits.
 */
// @ts-ignore: decorator
@inline
function exp(value: v128): v128 {
  const x = f32x4.pmin(f32x4.pmax(value, f32x4.splat(-87)), f32x4.splat(89)); // in this order, NaN stays NaN
  const rounded = f32x4.add(f32x4.mul(x, f32x4.splat(1.4426950408889634)), f32x4.splat(ROUND));
  const n = f32x4.sub(rounded, f32x4.splat(ROUND));
  const r = f32x4.sub(f32x4.sub(x, f32x4.mul(n, f32x4.splat(0.693359375))), f32x4.mul(n, f32x4.splat(-2.12194440e-4)));
  let p = f32x4.splat(1.9875691500e-4);
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.3981999507e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(8.3334519073e-3));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(4.1665795894e-2));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(1.6666665459e-1));
  p = f32x4.add(f32x4.mul(p, r), f32x4.splat(5.0000001201e-1));
  p = f32x4.add(f32x4.mul(f32x4.mul(r, r), p), f32x4.add(r, f32x4.splat(1)));
  return f32x4.mul(p, i32x4.shl(i32x4.add(rounded, i32x4.splat(127)), 23));
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
  return f32x4.div(f32x4.splat(1), f32x4.add(f32x4.splat(1), exp(f32x4.neg(x))));
}

/** Slots 1 and 2 = the bf16 numbers of slot 0 as float32, of which they are the upper halves. */
export function widenBF16(count: usize): void {
  const zero = i16x8.splat(0);
  for (let i: usize = 0; i < 2 * count; i += 16) {
    const x = v128.load(i);
    v128.store(2 * i, i8x16.shuffle(zero, x, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23), SLOT);
    v128.store(2 * i, i8x16.shuffle(zero, x, 0, 1, 24, 25, 2, 3, 26, 27, 4, 5, 28, 29, 6, 7, 30, 31), SLOT + 16);
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
  const one = f32x4.splat(1);
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
