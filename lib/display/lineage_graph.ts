/**
 * What is made of what.
 *
 * @module
 */

import type { Lineage } from "../flow/lineage.ts";
import type { StageStatus } from "../flow/status.ts";
import { expect } from "../model/expect.ts";
import { formatBytes, formatSeconds } from "./format_amounts.ts";
import { plainLine } from "./safe_text.ts";
import { type Shown, shown } from "./shown.ts";
import { STATE_COLORS } from "./status_table.ts";

/** Letters in a line of a reason. */
const LETTERS = 32;

/**
 * The stages of a flow as a graph, drawn by Graphviz and as Mermaid text: every stage with its state by colour and by word, why, the seconds it took and the bytes of its result.
 *
 * @param lineage What `lineage(flow)` gives.
 * @returns An SVG image, Markdown with a Mermaid diagram, and a list as text.
 * @throws {TypeError} If it is no lineage.
 * @throws {RangeError} If an edge names a stage that is not there.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const stages = [
 *   { name: "trace", state: "fresh" as const, seconds: 2.5, bytes: 1536, stored: true, inputs: [] },
 *   { name: "importance", state: "missing" as const, reason: "never run", stored: true, inputs: ["trace"] },
 * ];
 * const drawn = await lineageGraph({ stages, edges: [{ from: "trace", to: "importance" }] });
 * assertEquals(drawn["text/plain"].split("\n").slice(1), ["trace: fresh, 2.50 s, 1.5 KiB", "importance: missing (never run), from trace"]);
 * ```
 */
export async function lineageGraph(lineage: Lineage): Promise<Shown> {
  const { stages, edges } = checked(lineage);
  const [svg, parts] = [await draw(stages, edges), stages.map((stage) => ({ stage, amounts: amountsOf(stage) }))];
  const sources = (name: string) => edges.filter(({ to }) => to === name).map(({ from }) => from);
  const lines = parts.map(({ stage: { name, state, reason }, amounts }) => {
    const from = sources(name);
    return plainLine(
      [`${name}: ${state}${reason ? ` (${reason})` : ""}`, ...amounts, ...(from.length > 0 ? [`from ${from.join(", ")}`] : [])].join(", "),
    );
  });
  return shown({
    // Without it JupyterLab and nbconvert would take Markdown for the richer type.
    "text/html": `<img alt="stages and what they need" src="${dataUrl(svg)}">`,
    "image/svg+xml": svg,
    "text/markdown": `\`\`\`mermaid\n${mermaid(stages, edges)}\n\`\`\``,
    "text/plain": [`${stages.length} stage${stages.length === 1 ? "" : "s"}, each after those it needs`, ...lines].join("\n"),
  });
}

/** An image as an address. */
export function dataUrl(svg: string): string {
  return `data:image/svg+xml;base64,${new TextEncoder().encode(svg).toBase64()}`;
}

function checked(lineage: Lineage): Lineage {
  const purpose = "draw a lineage", { stages, edges }: Partial<Lineage> = lineage ?? {};
  const listed = Array.isArray(stages) &&
    stages.every((stage) => typeof stage?.name === "string" && Object.hasOwn(STATE_COLORS, stage.state));
  const joined = Array.isArray(edges) && edges.every((edge) => typeof edge?.from === "string" && typeof edge.to === "string");
  expect(listed && joined, purpose, "what lineage() gives, with its stages and edges", lineage);
  const names = new Set(lineage.stages.map(({ name }) => name));
  for (const { from, to } of lineage.edges) {
    const missing = [from, to].find((name) => !names.has(name));
    if (missing !== undefined) {
      throw new RangeError(`Cannot ${purpose}: an edge from "${from}" to "${to}" names "${missing}", which is no stage`);
    }
  }
  return lineage;
}

function amountsOf({ seconds, bytes }: StageStatus): string[] {
  return [...(seconds === undefined ? [] : [formatSeconds(seconds)]), ...(bytes === undefined ? [] : [formatBytes(bytes)])];
}

async function draw(stages: Lineage["stages"], edges: Lineage["edges"]): Promise<string> {
  const { instance } = await import("npm:@viz-js/viz@3.31.0"), viz = await instance(); // a megabyte that only graphs need
  const id = new Map(stages.map(({ name }, i) => [name, `stage ${i}`])); // names may hold what Graphviz takes for ports and escapes
  const svg = viz.renderString({
    graphAttributes: { bgcolor: "white", rankdir: "TB", nodesep: 0.3, ranksep: 0.35, pad: 0.15 },
    nodeAttributes: {
      shape: "box",
      style: "rounded,filled",
      fontname: "Helvetica,Arial,sans-serif",
      fontsize: 11,
      margin: "0.3,0.08",
      penwidth: 2,
      fontcolor: "#222222",
    },
    edgeAttributes: { color: "#666666", arrowsize: 0.7 },
    nodes: stages.map((stage) => ({
      name: id.get(stage.name)!,
      attributes: {
        label: label(stage),
        color: STATE_COLORS[stage.state],
        fillcolor: `${STATE_COLORS[stage.state]}22`,
        ...(stage.stored === false ? { style: "rounded,filled,dashed" } : {}),
      },
    })),
    edges: edges.map(({ from, to }) => ({ tail: id.get(from)!, head: id.get(to)! })),
  }, { format: "svg" });
  // The first line of a label is a name.
  return svg.slice(svg.indexOf("<svg")).replace(/<g id="node\d+" class="node">[^]*?<text /g, '$&font-weight="bold" ');
}

/** The label of a node, a line below the other. Graphviz reads backslashes and entities in it. */
function label(stage: StageStatus): string {
  const lines = [plainLine(stage.name), stage.state, ...wrapped(stage.reason ?? ""), amountsOf(stage).join(", ")].filter((line) =>
    line !== ""
  );
  return lines.map((line) => line.replaceAll("\\", "\\\\").replaceAll("&", "&amp;")).join("\n");
}

function wrapped(text: string): string[] {
  const lines: string[] = [];
  for (const word of plainLine(text).split(" ").filter((word) => word !== "")) {
    if (lines.length > 0 && `${lines.at(-1)} ${word}`.length <= LETTERS) lines[lines.length - 1] += ` ${word}`;
    else lines.push(word);
  }
  return lines;
}

function mermaid(stages: Lineage["stages"], edges: Lineage["edges"]): string {
  const id = new Map(stages.map(({ name }, i) => [name, `s${i}`]));
  // Mermaid's own entities: "#60;" is "<" and does not end the label.
  const safe = (text: string) => plainLine(text).replace(/[^\p{L}\p{N} .,:;()%+/=>_-]|[;>]/gu, (sign) => `#${sign.codePointAt(0)};`);
  return [
    "flowchart TB",
    ...stages.map((stage) => {
      const { name, state, reason } = stage, lines = [name, reason ? `${state}: ${reason}` : state, amountsOf(stage).join(", ")];
      return `  ${id.get(name)}["${lines.filter((line) => line !== "").map(safe).join("<br>")}"]:::${state}`;
    }),
    ...edges.map(({ from, to }) => `  ${id.get(from)} --> ${id.get(to)}`),
    ...Object.entries(STATE_COLORS).map(([state, color]) =>
      `  classDef ${state} fill:#ffffff,color:#222222,stroke:${color},stroke-width:3px`
    ),
  ].join("\n");
}
