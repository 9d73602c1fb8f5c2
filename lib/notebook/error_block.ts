/**
 * Errors in a notebook.
 *
 * @module
 */

import { htmlText, markdownText, plainLine } from "../display/safe_text.ts";
import { type Shown, shown } from "../display/shown.ts";

/** What to do about errors, by what their sentence says. The first that fits counts. */
const REMEDIES: readonly [RegExp, string][] = [
  [
    /out of memory|memory allocation|not enough memory/i,
    "Use fewer or shorter sequences, or close what else uses the GPU, and run the first cell again.",
  ],
  [/GPU/, 'Run the first cell again: it opens a new device. With `device: "cpu"` it does without the GPU.'],
  [/run (that|it) first/, "Run the cell of that stage, then this one."],
  [/another (process|kernel)/, "Wait until it is done, or give this notebook a store of its own."],
  [/No space left|disk/i, "Make room: `nb.gc({ remove: true })` removes results that nothing refers to."],
  [/hub|network|fetch|HF_/i, "Check the network and HF_TOKEN; what has been downloaded once is read from the cache."],
];

/**
 * An error as a short block: what happened, why, and what to do about it. Names in it come from anywhere, so nothing is taken for markup.
 *
 * @param what What was going on, such as `run "importance"`.
 * @param error What was thrown.
 *
 * @example
 * ```ts
 * import { assertEquals } from "@std/assert";
 * const block = errorBlock('run "plan"', new Error('Cannot run "plan": its input "candidates" is stale; run that first'));
 * assertEquals(block["text/plain"].split("\n").at(-1), "Remedy: Run the cell of that stage, then this one.");
 * ```
 */
export function errorBlock(what: string, error: unknown): Shown {
  const [message, ...causes] = sentencesOf(error),
    told = REMEDIES.find(([words]) => words.test(`${message} ${causes.join(" ")}`))?.[1];
  const lines: [label: string, text: string][] = [
    ...(message.startsWith("Cannot") ? [] : [["Could not", what]] as [string, string][]),
    ["Error", message],
    ...causes.map((cause) => ["Cause", cause] as [string, string]),
    ...(told ? [["Remedy", told]] as [string, string][] : []),
  ];
  return block("alert", "#D55E00", lines);
}

/**
 * What Stop did, as such a block.
 *
 * @param what What was going on, such as `run "importance"`.
 * @param goesOn Whether what is done of it is kept.
 */
export function stoppedBlock(what: string, goesOn: boolean): Shown {
  return block("status", "#E69F00", [["Stopped", `did not ${what} to the end`], [
    "Remedy",
    `Run the cell again: it ${goesOn ? "goes on from what is done" : "begins anew"}.`,
  ]]);
}

function block(role: string, color: string, lines: readonly [label: string, text: string][]): Shown {
  const html = lines.map(([label, text]) => `<div><b>${label}:</b> ${htmlText(text)}</div>`).join("");
  return shown({
    "text/html": `<div role="${role}" style="border-left: 4px solid ${color}; padding: 0.2em 0.8em">${html}</div>`,
    "text/markdown": lines.map(([label, text]) => `**${label}:** ${markdownText(text)}`).join("  \n"),
    "text/plain": lines.map(([label, text]) => `${label}: ${plainLine(text)}`).join("\n"),
  });
}

/** The sentence of an error, and those of what caused it, each once. */
export function sentencesOf(error: unknown): string[] {
  const sentences: string[] = [];
  let at = error;
  for (let depth = 0; at !== undefined && at !== null && depth < 10; depth++, at = at instanceof Error ? at.cause : undefined) { // chains may be rings
    const sentence = at instanceof Error ? at.message || at.name : `${at}`;
    if (!sentences.some((said) => said.includes(sentence))) sentences.push(sentence);
  }
  return sentences.length > 0 ? sentences : ["unknown"];
}
