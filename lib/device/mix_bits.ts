/**
 * The hash that decides what dropout drops: the same on every device.
 *
 * @module
 */

/** Mixes 32 bits (Wellons' lowbias32): every bit that goes in changes about half of those that come out. */
export function mixBits(x: number): number {
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** The seed, mixed: element i is dropped where mixBits(mixBits(i) ^ key) is below rate · 2³². */
export function dropoutKey(seed: number): number {
  return mixBits((seed + 0x9e3779b9) | 0);
}
