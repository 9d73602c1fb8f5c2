/**
 * Notebooks as files (nbformat 4.5), always in the same form.
 *
 * @module
 */

import canonicalize from "npm:canonicalize@5.1.0";
import { recipeHash } from "../../mod.ts";
import type { Output } from "./kernel/outputs.ts";

export interface Cell {
  cell_type: "code" | "markdown" | "raw";
  id: string;
  /** In one piece. */
  source: string;
  metadata: Record<string, unknown>;
  execution_count?: number | null;
  outputs?: Output[];
}

/** What outputs were made of. */
export interface Stamp {
  recipe: string;
  scale: "small" | "full";
}

export interface Notebook {
  cells: Cell[];
  metadata: Record<string, unknown> & { winnow?: Stamp };
  nbformat: number;
  nbformat_minor: number;
}

/** Reads a notebook; texts that are lists of lines are joined. */
export function parseNotebook(text: string): Notebook {
  const notebook = JSON.parse(text);
  for (const cell of notebook.cells) {
    cell.source = join(cell.source);
    for (const output of cell.outputs ?? []) {
      if (output.text) output.text = join(output.text);
      for (const type of Object.keys(output.data ?? {})) if (!isJson(type)) output.data[type] = join(output.data[type]);
    }
  }
  return notebook;
}

/** The one text of a notebook that is committed: keys in order, an indent of one space, texts as lists of lines, as Jupyter writes it. */
export function notebookText(notebook: Notebook): string {
  const cells = notebook.cells.map((cell) => ({
    ...cell,
    source: split(cell.source),
    outputs: cell.outputs?.map((output) => ({
      ...output,
      text: output.text === undefined ? undefined : split(output.text),
      data: output.data && Object.fromEntries(
        Object.entries(output.data).map((
          [type, content],
        ) => [type, isJson(type) || typeof content !== "string" ? content : split(content)]),
      ),
    })),
  }));
  return JSON.stringify(JSON.parse(canonicalize({ ...notebook, cells })!), null, 1) + "\n";
}

/** Names what the outputs of a notebook depend on: its code, and how much data it was given. */
export async function stampOf({ cells }: Notebook, scale: Stamp["scale"]): Promise<Stamp> {
  const code = cells.filter(({ cell_type }) => cell_type === "code").map(({ id, source }) => ({ id, source }));
  return { recipe: await recipeHash({ code, scale }), scale };
}

export function codeCells({ cells }: Notebook): Cell[] {
  return cells.filter(({ cell_type }) => cell_type === "code");
}

const isJson = (type: string) => /^application\/(.+\+)?json$/.test(type);
const join = (text: string | string[]) => Array.isArray(text) ? text.join("") : text;
const split = (text: string) => text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
