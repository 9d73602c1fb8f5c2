/**
 * Where things are shown.
 *
 * @module
 */

import { displayed } from "../display/displayed.ts";
import { PLOTLY, type Shown } from "../display/shown.ts";
import { jupyter } from "./jupyter.ts";

/** Shows something in place of what it showed before. */
export type Place = (content: Shown) => Promise<void>;

/**
 * A place in the output of the cell that runs: what is shown there later replaces it, also while other cells run. On a terminal everything is a new
 * paragraph, and what is the same as before is not said again.
 *
 * @param options.once On a terminal, say only the first thing: of what changes all the time there is no end.
 */
export function place({ once = false } = {}): Place {
  const display_id = crypto.randomUUID();
  let update = false, said: string | undefined;
  return async (content) => {
    const bundle = jupyter ? await displayed(content) : content, first = !update;
    update = true; // also for what is shown while this one is on its way
    if (jupyter) {
      const show = (content: Record<string, unknown>) => jupyter!.display(content, { raw: true, display_id, update: !first });
      // JupyterLab's plotly draws in an output once: so that it draws again, another type has to stand there in between.
      if (!first && PLOTLY in bundle) await show({ ...bundle, [PLOTLY]: undefined });
      await show({ ...bundle });
    } else if (bundle["text/plain"] !== said && (first || !once)) console.log(said = bundle["text/plain"]);
    await leave();
  };
}

/** Lets output leave: the kernel may end a cell before its last message is out, and clients stop listening then. */
async function leave(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve));
}
