/** Importing the library loads what every user needs, and no more. */

import { assertEquals } from "@std/assert";
import { fileURLToPath } from "node:url";
import { runDeno } from "./run_deno.ts";

/** Small libraries of functions that do not wait. All others are loaded by `import()` where they are first needed. */
const AT_ONCE = [
  "canonicalize",
  "d3-scale-chromatic",
  "html-escaper",
  "jstat",
  "markdown-table",
  "ml-hclust",
  "ml-matrix",
  "pure-rand",
];

interface Graph {
  roots: string[];
  modules: { specifier: string; dependencies?: { specifier: string; isDynamic?: boolean; code?: { specifier: string } }[] }[];
  redirects: Record<string, string>;
}

async function graphOf(path: string): Promise<Graph> {
  return JSON.parse(await runDeno(["info", "--json", path], { cwd: fileURLToPath(new URL("..", import.meta.url)) }));
}

/** What an import of the root loads before anything runs. */
function loadedAtOnce({ roots: [root], modules, redirects }: Graph): string[] {
  const known = new Map(modules.map((module) => [module.specifier, module])), found = new Set<string>(), ahead = [root];
  for (let specifier = ahead.pop(); specifier !== undefined; specifier = ahead.pop()) {
    const target = redirects[specifier] ?? specifier;
    if (found.has(target)) continue;
    found.add(target);
    for (const { code, isDynamic } of known.get(target)?.dependencies ?? []) if (code && !isDynamic) ahead.push(code.specifier);
  }
  return [...found];
}

const nameOf = (specifier: string) => specifier.match(/^npm:\/?((?:@[^/]+\/)?[^@/]+)/)?.[1];

const packages = (specifiers: readonly string[]) => [...new Set(specifiers.map(nameOf).filter((name) => name !== undefined))].sort();

const graph = await graphOf("mod.ts"), atOnce = loadedAtOnce(graph);

Deno.test("an import of mod.ts loads no library that only some users need", () => {
  const others = packages(atOnce).filter((name) => !AT_ONCE.includes(name));
  assertEquals(others, [], "loaded by every program: import() them in the function that needs them, or list them here and say why");
});

Deno.test("an import of mod.ts loads neither the WebGPU device nor what draws images", () => {
  const early = atOnce.filter((specifier) => /lib\/device\/webgpu\/webgpu_device|lib\/display\/chart_svg/.test(specifier));
  assertEquals(early, []);
});

Deno.test("deno cache finds what is loaded later", () => {
  const all = packages(graph.modules.map(({ specifier }) => specifier));
  const expected = ["@huggingface/hub", "@huggingface/tokenizers", "@observablehq/plot", "@viz-js/viz", "cli-progress", "hyparquet"];
  const lost = [...expected, "linear-sum-assignment", "linkedom", "plotly.js-dist-min"].filter((name) => !all.includes(name));
  assertEquals(lost, [], "specifiers of import() have to be literals");
});
