/**
 * A notebook with the traits of ours, and nothing of Winnow in it: a chart that later cells draw anew, a number to change, a long cell that
 * Stop ends and that goes on where it was, and a progress display that is updated.
 *
 * @module
 */

import { type Notebook, notebookText } from "../notebook_file.ts";

const CELLS: Record<string, string> = {
  entry: `let stop = new AbortController();
Deno.addSignalListener("SIGINT", () => stop.abort(new Error("Stopped; run the cell again to go on")));
const PLOTLY = "application/vnd.plotly.v1+json";
/** A place in the outputs of this cell, drawn in again by later calls, of later cells too. */
function place() {
  const display_id = crypto.randomUUID();
  let update = false;
  return async (bundle) => {
    const options = { raw: true, display_id, update };
    // JupyterLab's plotly extension draws in an output once: so that it draws again, another type stands there in between.
    if (update && PLOTLY in bundle) await Deno.jupyter.display({ ...bundle, [PLOTLY]: undefined }, options);
    await Deno.jupyter.display(bundle, options);
    update = true;
    await new Promise((done) => setTimeout(done));
  };
}
let steps = 0;`,
  chart: `const draw = place();
async function drawChart(ratio) {
  const kept = [1, 2, 3, 4].map((layer) => Math.round(8 * (1 - ratio) * (1 + layer / 20)));
  const bars = kept.map((height, i) => \`<rect x="\${30 * i}" y="\${100 - 10 * height}" width="20" height="\${10 * height}" fill="#0072B2"/>\`);
  await draw({
    [PLOTLY]: {
      data: [{ type: "bar", x: ["layer 1", "layer 2", "layer 3", "layer 4"], y: kept }],
      layout: { title: { text: \`Experts kept at ratio \${ratio}\` }, height: 300 },
      config: { responsive: true },
    },
    "image/svg+xml": \`<svg xmlns="http://www.w3.org/2000/svg" width="120" height="100">\${bars.join("")}</svg>\`,
    "text/plain": \`Experts kept at ratio \${ratio}: \${kept.join(", ")}\`,
  });
}
await drawChart(0);`,
  ratio: `const ratio = 0.25, total = 3;
await drawChart(ratio);`,
  long: `stop = new AbortController();
const from = steps, progress = place();
while (steps < total) {
  await new Promise((done) => setTimeout(done, 50));
  stop.signal.throwIfAborted();
  steps++;
  const text = \`step \${steps} of \${total}, went on from \${from}\`;
  await progress({ "text/plain": text, "text/html": \`<progress max="\${total}" value="\${steps}"></progress> \${text}\` });
}`,
  table: `await place()({
  "text/plain": "| model | experts |\\n| :---- | ------: |\\n| small |      24 |",
  "text/html": "<table><thead><tr><th>model</th><th>experts</th></tr></thead><tbody><tr><td>small</td><td>24</td></tr></tbody></table>",
});
console.log("done");`,
};

/** The notebook, not executed. */
export function smallNotebook(): Notebook {
  return {
    cells: Object.entries(CELLS).map(([id, source]) => (
      { cell_type: "code", id, metadata: {}, source, outputs: [], execution_count: null }
    )),
    metadata: {
      kernelspec: { display_name: "Deno", language: "typescript", name: "deno" },
      language_info: { name: "typescript", file_extension: ".ts", mimetype: "text/x.typescript" },
    },
    nbformat: 4,
    nbformat_minor: 5,
  };
}

/** Writes it to a folder. */
export async function writeSmallNotebook(folder: string): Promise<string> {
  await Deno.mkdir(folder, { recursive: true });
  await Deno.writeTextFile(`${folder}/small.ipynb`, notebookText(smallNotebook()));
  return "small.ipynb";
}
