import { assertEquals, assertRejects } from "@std/assert";
import { executeNotebook } from "./execute_notebook.ts";
import { machinePath, withoutMachine } from "./machine.ts";
import { type Notebook, notebookText, parseNotebook, stampOf } from "./notebook_file.ts";
import { structureDifferences } from "./structure.ts";

const notebookOf = (...sources: string[]): Notebook => ({
  cells: sources.map((source, i) => ({ cell_type: "code", id: `cell-${i}`, metadata: {}, source, outputs: [], execution_count: null })),
  metadata: {},
  nbformat: 4,
  nbformat_minor: 5,
});

async function inFolder(use: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.mkdir(`${folder}/notebooks`);
    await use(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("executeNotebook() fills in outputs and counts, tells of each cell, and stamps what was executed", async () => {
  await inFolder(async (folder) => {
    const notebook = notebookOf(`let steps = 20;`, `console.log(\`\\u001b[1m\${steps}\\u001b[0m steps\\n\${Deno.cwd()}/store\`);`);
    const told: string[] = [];
    const result = await executeNotebook(notebook, { folder, scale: "full", onCell: (id) => told.push(id) });
    assertEquals(told, ["cell-0", "cell-1"]);
    assertEquals(result.cells.map((cell) => cell.execution_count), [1, 2]);
    assertEquals(result.cells[1].outputs, [{ output_type: "stream", name: "stdout", text: "20 steps\nnotebooks/store\n" }]);
    assertEquals(result.metadata.winnow, await stampOf(notebook, "full"));
    assertEquals(notebook.cells[1].outputs, [], "the notebook itself is left as it is");
    assertEquals(parseNotebook(notebookText(result)), result);

    result.cells[0].source = "let steps = 21;";
    assertEquals((await stampOf(result, "full")).recipe === result.metadata.winnow?.recipe, false, "a changed cell has another name");
    assertEquals((await stampOf(notebook, "small")).recipe === result.metadata.winnow?.recipe, false, "so has another scale");
  });
});

Deno.test("a cell that ends with a chart, and one that shows it, have its spec, its image and its words", async () => {
  await inFolder(async (folder) => {
    const from = (name: string) => `from "${new URL(`../../lib/${name}`, import.meta.url)}"`;
    const result = await executeNotebook(
      notebookOf(
        `import { lossCurve } ${from("display/loss_curve.ts")};\nimport { show } ${from("notebook/show.ts")};`,
        `const curve = lossCurve({ tuned: [{ step: 1, loss: 2.5 }] });\ncurve`,
        `await show(curve);`,
      ),
      { folder, scale: "small" },
    );
    const bundles = result.cells.slice(1).map(({ outputs }) => outputs!.map(({ data }) => Object.keys(data!).sort()));
    assertEquals(bundles, Array(2).fill([["application/vnd.plotly.v1+json", "image/svg+xml", "text/plain"]]));
  });
});

Deno.test("executeNotebook() stops at the first cell that fails, and names it", async () => {
  await inFolder(async (folder) => {
    const fails = (source: string, sentence: string) =>
      assertRejects(() => executeNotebook(notebookOf("1", source, "2"), { folder, scale: "small" }), Error, sentence);
    await fails(
      `throw new RangeError("expected an even number, found 3")`,
      `Cannot run cell "cell-1": RangeError: expected an even number, found 3`,
    );
    await fails(`const = 3`, `Cannot run cell "cell-1": its syntax is wrong`);
    await fails(`console.warn("careful")`, `Cannot keep the outputs of cell "cell-1": expected nothing on stderr, found "careful"`);
    await fails(`console.log("/home/somebody/model")`, `expected none that tells of this machine, found "/home/somebody/model`);
    await fails(`Deno.exit(3)`, `Cannot run cell "cell-1": The kernel ended with code 3`);
  });
});

Deno.test("structureDifferences() compares kinds of outputs and headings of tables, not numbers", () => {
  const run = (...bundles: Record<string, unknown>[]): Notebook => {
    const notebook = notebookOf("shown");
    notebook.cells[0].outputs = bundles.map((data) => ({ output_type: "display_data", data, metadata: {} }));
    return notebook;
  };
  const table = (heading: string, value: string) => ({
    "text/plain": `| model | ${heading} |\n| :---- | -------: |\n| tiny  | ${value} |`,
    "text/html":
      `<table><thead><tr><th>model</th><th>${heading}</th></tr></thead><tbody><tr><th>tiny</th><td>${value}</td></tr></tbody></table>`,
  });
  const plain = { "text/plain": "20 steps in 1.5 s" };
  assertEquals(
    structureDifferences(run(plain, table("loss after 200", "0.25")), run({ "text/plain": "2 steps" }, table("loss after 20", "3"))),
    [],
  );
  assertEquals(structureDifferences(run(plain), run(plain, plain)), [], "how many there are in a row is a matter of the data");
  assertEquals(structureDifferences(run(plain), run(plain, table("loss", "1"))).length, 1);
  assertEquals(structureDifferences(run(plain), run()), [
    `cell "cell-0", output 1: committed is display_data text/plain, found nothing`,
  ]);
  assertEquals(structureDifferences(run(plain), run({ ...plain, "image/svg+xml": "<svg></svg>" })), [
    `cell "cell-0", output 1: committed is display_data text/plain, found display_data image/svg+xml + text/plain`,
  ]);
  for (const type of ["text/html", "text/plain"] as const) {
    const [loss, accuracy] = ["loss", "accuracy"].map((heading) => run({ [type]: table(heading, "1")[type] }));
    assertEquals(structureDifferences(loss, accuracy), [
      `cell "cell-0", output 1: committed is display_data ${type}, a table of "model", "loss", found display_data ${type}, a table of "model", "accuracy"`,
    ]);
  }
});

Deno.test("machinePath() finds paths, withoutMachine() makes those of a folder relative", () => {
  for (const path of ["/home/a/b", "file:///x", "C:\\Users\\a", "see /tmp/x.", "/root/.cache"]) {
    assertEquals(machinePath(path) === undefined, false, path);
  }
  for (const text of ["https://example.org/home/a", "./out/x", "and/or", "3 / 4", "<svg></svg>", "a/tmp/b"]) {
    assertEquals(machinePath({ text }), undefined, text);
  }
  assertEquals(withoutMachine({ a: ["file:///tmp/w/lib/a.ts:3", "/tmp/w/out"] }, "/tmp/w"), { a: ["lib/a.ts:3", "out"] });
});
