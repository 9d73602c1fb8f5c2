/** What a person does with a notebook in JupyterLab, done in a browser. */

import { findClients } from "./environment.ts";
import { type Play, playInLab } from "./play_in_lab.ts";
import { writeSmallNotebook } from "./small_notebook.ts";
import { workingCopyWith } from "../working_copy.ts";

const clients = await findClients();

/** Plays in a folder of its own. */
function test(name: string, prepare: (folder: string) => Promise<string>, play: Play): void {
  Deno.test({
    name: `JupyterLab: ${name}`,
    ignore: clients?.browser === undefined,
    sanitizeOps: false, // the browser's driver keeps timers and pipes
    sanitizeResources: false,
    async fn() {
      const folder = await Deno.makeTempDir();
      try {
        await playInLab(clients!, folder, await prepare(folder), play);
      } finally {
        await Deno.remove(folder, { recursive: true });
      }
    },
  });
}

test("cells run, an earlier chart is drawn anew, Stop keeps the kernel, and what was stopped goes on", writeSmallNotebook, {
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

test(
  "01_quickstart.ipynb turns stale where the ratio says so, and training goes on after Stop",
  (folder) => workingCopyWith("01_quickstart.ipynb", folder),
  {
    name: "quickstart",
    edit: { cell: "budget", from: "ratio = 0.25", to: "ratio = 0.5" },
    views: [
      { cell: "open", before: "22 stages: 22 fresh", changed: /22 stages: .*stale/, done: "22 stages: 19 fresh, 3 stale" },
      { cell: "search", before: "Least loss found by each generation", changed: "candidates is stale: input budget changed" },
      { cell: "evaluate", before: "perplexity", changed: "measured, pruned is stale" },
    ],
    between: ["search", "plan", "decompose"],
    long: {
      cell: "tune",
      from: "epochs: 1",
      to: "epochs: 40",
      running: /fine-tune: [1-9]\d+ of 80 steps/,
      stopped: 'Stopped: did not run "tuned" to the end',
      done: /tuned: computed in .* before Stop/,
    },
    plot: "importance",
    env: { WINNOW_SCALE: "small" },
  },
);
