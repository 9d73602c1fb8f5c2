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

/**
 * Calls a routine twice: to ask how much work space it wants, which it is asked with a length of -1, then with that much.
 *
 * @throws {Error} If it reports a failure.
 */
export function withSpace(
  purpose: string,
  run: (space: Float32Array<ArrayBuffer>, length: Int32Array<ArrayBuffer>, info: Int32Array<ArrayBuffer>) => void,
): void {
  const asked = new Float32Array(1), info = int(0);
  run(asked, int(-1), info);
  const space = workSpace(asked);
  run(space, int(space.length), info);
  if (info[0] !== 0) throw new Error(`Cannot ${purpose}: LAPACK reports ${info[0]}`);
}

/** The work space that a routine asked for: it says so in a float32, which may have rounded the number down. */
function workSpace(asked: Float32Array): Float32Array<ArrayBuffer> {
  return new Float32Array(Math.ceil(asked[0] * (1 + 1e-6)));
}
