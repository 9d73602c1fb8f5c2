/**
 * The notebook around us, if there is one.
 *
 * @module
 */

/** What the kernel offers; undefined outside of a notebook, where a look at `Deno.jupyter` throws. */
export const jupyter: typeof Deno.jupyter | undefined = (() => {
  try {
    return Deno.jupyter;
  } catch {
    return undefined;
  }
})();
