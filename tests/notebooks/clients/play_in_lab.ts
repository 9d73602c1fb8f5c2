/**
 * A session of work on a notebook.
 *
 * @module
 */

import { assertEquals } from "@std/assert";
import type { Clients } from "./environment.ts";
import { openLab } from "./open_lab.ts";

/** What is done with a notebook and seen, by ids of its cells; texts are looked for in what a cell has put out. */
export interface Play {
  /** Begins the names of screenshots. */
  name: string;
  /** A cell whose source is changed. */
  edit: { cell: string; from: string; to: string };
  /** Cells that show something else without being run themselves: at first, after the change, and in the end if that is yet another thing. */
  views: { cell: string; before: string | RegExp; changed: string | RegExp; done?: string | RegExp }[];
  /** A cell that takes long after the change, or after one of its own: what it shows while it runs, once it was stopped, and at the end of the next run. */
  long: { cell: string; from?: string; to?: string; running: string | RegExp; stopped: string | RegExp; done: string | RegExp };
  /** Cells that are run before the long one. */
  between?: string[];
  /** A cell with a plotly chart. */
  plot: string;
  /** Variables of the kernel's environment. */
  env?: Record<string, string>;
}

/**
 * Opens a notebook in JupyterLab, runs it, changes a number, sees other outputs change, stops a long cell and goes on with it.
 *
 * @param folder Root of what JupyterLab shows.
 * @param notebook Path in the folder.
 * @throws {Error} If anything else is seen.
 */
export async function playInLab(
  clients: Clients,
  folder: string,
  notebook: string,
  { name, edit, views, long, between = [], plot, env }: Play,
): Promise<void> {
  await using lab = await openLab(clients, folder, notebook, env);
  const shows = async (id: string, text: string | RegExp) => {
    await lab.output(id).filter({ hasText: text }).first().waitFor().catch(async (cause) => {
      throw new Error(`Cell "${id}" does not show ${text}, but ${await lab.output(id).allInnerTexts()}`, { cause });
    });
  };
  try {
    await lab.runAll();
    await lab.finish(lab.last);
    assertEquals(await lab.errors(), []);
    await lab.output(plot).locator(".js-plotly-plot .main-svg").first().waitFor();
    for (const { cell, before } of views) await shows(cell, before);
    await lab.screenshot(`${name}-1-all-cells`);

    await lab.edit(edit.cell, edit.from, edit.to);
    await lab.run(edit.cell);
    let count = await lab.finish(edit.cell);
    for (const { cell, changed } of views) await shows(cell, changed);
    await lab.screenshot(`${name}-2-changed`);

    for (const id of between) {
      await lab.run(id);
      count = await lab.finish(id);
    }
    if (long.from !== undefined) await lab.edit(long.cell, long.from, long.to!);
    await lab.run(long.cell);
    await shows(long.cell, long.running);
    await lab.stop(); // at once: a picture takes as long as the cell may
    const stopped = await lab.finish(long.cell);
    await shows(long.cell, long.stopped);
    await lab.screenshot(`${name}-3-stopped`, long.cell);

    await lab.run(long.cell);
    await lab.screenshot(`${name}-4-going-on`, long.cell);
    await shows(long.cell, long.done);
    const again = await lab.finish(long.cell);
    for (const { cell, done } of views) if (done !== undefined) await shows(cell, done);
    await lab.screenshot(`${name}-5-went-on`, long.cell);
    assertEquals([stopped, again], [count + 1, count + 2], "the kernel is the one that ran all the time");
    assertEquals(await lab.errors(), []);
  } catch (error) {
    await lab.screenshot(`${name}-failed`);
    throw error;
  }
}
