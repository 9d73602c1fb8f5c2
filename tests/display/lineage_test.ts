/** The lineage as a graph, and states of stages. */

import { assert, assertEquals, assertMatch, assertRejects } from "@std/assert";
import { lineageGraph } from "../../lib/display/lineage_graph.ts";
import { STATE_COLORS, statusTable } from "../../lib/display/status_table.ts";
import { jupyterDisplay, parseSvg } from "./bundles.ts";
import { HOSTILE, lineage } from "./samples.ts";

Deno.test("lineageGraph() draws every stage with its state, why, seconds and bytes, and every edge", async () => {
  const shown = await lineageGraph(lineage), { elements, text } = parseSvg(shown["image/svg+xml"]);
  assertEquals(Object.keys(shown), ["text/html", "image/svg+xml", "text/markdown", "text/plain"]);
  assertEquals(jupyterDisplay(shown), { ...shown });
  for (
    const words of ["trace", "fresh", "12.5 s, 28.6 MiB", "partial", "3 parts are done", "options.ratio 0.25 -> 0.5", "never run", "failed"]
  ) {
    assert(text.split("\n").includes(words), words);
  }
  const svg = `${shown["image/svg+xml"]}`;
  for (const { state } of lineage.stages) {
    assert(svg.includes(STATE_COLORS[state].toLowerCase()) || svg.includes(STATE_COLORS[state]), state);
  }
  assertEquals(svg.match(/class="edge"/g)?.length, lineage.edges.length);
  assertEquals(elements.get("g"), 1 + lineage.stages.length + lineage.edges.length);
});

Deno.test("lineageGraph() is a Mermaid diagram in Markdown, and a list in text", async () => {
  const shown = await lineageGraph(lineage), lines = `${shown["text/markdown"]}`.split("\n");
  assertEquals([lines[0], lines[1], lines.at(-1)], ["```mermaid", "flowchart TB", "```"]);
  assert(lines.includes('  s2["budget<br>stale: options.ratio 0.25 -#62; 0.5<br>0.01 s, 212 B"]:::stale'));
  assertEquals(
    lines.filter((line) => line.includes("-->")),
    ["s0 --> s1", "s1 --> s2", "s0 --> s3", "s2 --> s3", "s3 --> s4"].map((l) => `  ${l}`),
  );
  assertEquals(shown["text/plain"].split("\n")[3], "budget: stale (options.ratio 0.25 -> 0.5), 0.01 s, 212 B, from importance");
});

Deno.test("lineageGraph() takes names for text, whatever they hold", async () => {
  const names = [HOSTILE, "a\\N:b", "", "a:port", `"end"];`];
  const stages = names.map((name) => ({ name, state: "stale" as const, reason: HOSTILE, stored: true, inputs: [] }));
  const shown = await lineageGraph({ stages, edges: [{ from: HOSTILE, to: "a:port" }, { from: "a\\N:b", to: "" }] });
  const { text } = parseSvg(shown["image/svg+xml"]);
  for (const words of ["a\\N:b", "a:port", `"end"];`, '<script>alert("x")</script> | **b** ']) assert(text.includes(words), words);
  const labels = `${shown["text/markdown"]}`.split("\n").filter((line) => line.includes(":::"));
  assertEquals(labels.length, names.length);
  for (const label of labels) assertMatch(label, /^ {2}s\d\["(?:[\p{L}\p{N} .,:()%+/=_-]|#\d+;|<br>)*"\]:::stale$/u);
});

Deno.test("lineageGraph() says what does not fit together", async () => {
  await assertRejects(
    () => lineageGraph({ ...lineage, edges: [{ from: "trace", to: "nowhere" }] }),
    RangeError,
    '"nowhere", which is no stage',
  );
  assertEquals((await lineageGraph({ stages: [], edges: [] }))["text/plain"], "0 stages, each after those it needs");
});

Deno.test("statusTable() says each state by word and by colour", () => {
  const html = `${statusTable(lineage.stages)["text/html"]}`;
  for (const { state } of lineage.stages) {
    assertMatch(html, new RegExp(`<td [^>]*><span aria-hidden="true" style="color: ${STATE_COLORS[state]}">●</span>&nbsp;${state}</td>`));
  }
  assertMatch(statusTable([])["text/plain"], /^0 stages\n/);
  assertMatch(statusTable(lineage.stages)["text/plain"], /^5 stages: 1 fresh, 1 stale, 1 partial, 1 missing, 1 failed\n/);
});
