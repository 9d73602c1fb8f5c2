/**
 * How LAPACK is called: Fortran's interface, with everything by reference, then the lengths of the strings.
 *
 * @module
 */

// deno-lint-ignore no-explicit-any -- pointers, and lengths of strings
export type Routine = (...args: any[]) => void;

/** Types of so many arguments by reference. */
export function pointers(count: number): "buffer"[] {
  return Array<"buffer">(count).fill("buffer");
}

export function int(value: number): Int32Array<ArrayBuffer> {
  return Int32Array.of(value);
}

export function text(letter: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(letter);
}

/** The work space that a routine asked for: it says so in a float32, which may have rounded the number down. */
export function workSpace(asked: Float32Array): Float32Array<ArrayBuffer> {
  return new Float32Array(Math.ceil(asked[0] * (1 + 1e-6)));
}
