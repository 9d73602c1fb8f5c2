/** Shows tables and charts in a notebook or, as text, on a terminal. */

import type { Shown } from "../mod.ts";

/** Shows something once. */
export async function show(shown: Shown | string): Promise<void> {
  await place()(shown);
}

/** A place in the output of a cell: what is shown there replaces what was shown before. */
export function place(): (shown: Shown | string) => Promise<void> {
  const display_id = crypto.randomUUID();
  let update = false;
  return async (shown) => {
    const bundle = typeof shown === "string" ? { "text/markdown": shown, "text/plain": shown } : shown,
      options = { raw: true, display_id, update };
    update = true;
    if (jupyter) await jupyter.display(bundle, options);
    else console.log(bundle["text/plain"]);
    await new Promise((resolve) => setTimeout(resolve)); // the kernel may end a cell before its last output has left
  };
}

/** Looking at `Deno.jupyter` outside the kernel throws. */
const jupyter = (() => {
  try {
    return Deno.jupyter;
  } catch {
    return undefined;
  }
})();
