/** What a person does with a notebook in JupyterLab, done in a browser. */

import { findClients } from "./environment.ts";
import { playInLab } from "./play_in_lab.ts";
import { writeSmallNotebook } from "./small_notebook.ts";

const clients = await findClients();

Deno.test({
  name: "JupyterLab: cells run, an earlier chart is drawn anew, Stop keeps the kernel, and what was stopped goes on",
  ignore: clients?.browser === undefined,
  sanitizeOps: false, // the browser's driver keeps timers and pipes
  sanitizeResources: false,
  async fn() {
    const folder = await Deno.makeTempDir();
    try {
      await playInLab(clients!, folder, await writeSmallNotebook(folder), {
        name: "small",
        edit: { cell: "ratio", from: "ratio = 0.25, total = 3", to: "ratio = 0.5, total = 300" },
        views: [{ cell: "chart", before: "ratio 0.25", changed: "ratio 0.5" }],
        long: {
          cell: "long",
          running: /step \d{2,} of 300/,
          stopped: "Stopped; run the cell again to go on",
          done: /step 300 of 300, went on from \d{2,}/,
        },
        plot: "chart",
      });
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  },
});
