/**
 * The threads of a BLAS, which are the whole process's: each of JavaScript's threads counts who of its own wants them at one, and knows of no other.
 * Where two of them want that at once, the one that ends first gives the threads back while the other still computes, and the other leaves one thread behind.
 *
 * @module
 */

export interface BlasThreads {
  /** How many a call uses while nobody has them at one; what was agreed on before, while somebody has. */
  count(): number;
  /** One thread a call from now on, until everybody who asked for that has given it back: what runs at once ends in any order. */
  one(): Disposable;
}

/** @param library How many threads the library's calls use, and how that is changed. */
export function blasThreads(library: { count(): number; use(count: number): void }): BlasThreads {
  let holders = 0, before = 0;
  return {
    count: () => holders > 0 ? before : library.count(),
    one: () => {
      if (holders++ === 0) {
        before = library.count();
        library.use(1);
      }
      let held = true;
      return {
        [Symbol.dispose]: () => {
          if (held && --holders === 0) library.use(before);
          held = false;
        },
      };
    },
  };
}
