/** Text for models of all kinds. */

import { loadTexts } from "../mod.ts";
import { openSource } from "../lib/checkpoint/open_source.ts";
import { readLines } from "./read_lines.ts";

/** Documents to calibrate on, and others to measure on. */
export interface Documents {
  calibration: string[];
  heldOut: string[];
}

/**
 * Documents for a model: one's own, every other one to measure on; else those that come with an embedded checkpoint (`texts.jsonl` beside it); else pages of
 * WikiText-2.
 *
 * @param location Of the model.
 * @param own Documents of one's own.
 * @param from Where WikiText-2 comes from, if it is needed: the hub, or a folder that has one folder `owner/name` a dataset.
 */
export async function documentsFor(location: string, own: readonly string[], from = "hf://datasets"): Promise<Documents> {
  if (own.length > 0) return halves(own);
  if (!location.startsWith("hf://") && await (await openSource(location)).size("texts.jsonl") !== undefined) {
    const lines = await readLines<{ split: string; text: string }>(`${location}/texts.jsonl`);
    const of = (split: string) => lines.filter((line) => line.split === split).map(({ text }) => text);
    return { calibration: of("calibration"), heldOut: of("heldout") };
  }
  return halves((await loadTexts("wikitext2Pages", { from })).texts);
}

function halves(texts: readonly string[]): Documents {
  return { calibration: texts.filter((_, i) => i % 2 === 0), heldOut: texts.filter((_, i) => i % 2 === 1) };
}
