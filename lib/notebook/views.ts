/**
 * Displays that follow what they show.
 *
 * @module
 */

import { htmlText, plainLine } from "../display/safe_text.ts";
import { type Shown, shown } from "../display/shown.ts";
import type { Flow } from "../flow/flow.ts";
import type { Inputs, Stage } from "../flow/stage.ts";
import { type StageStatus, status } from "../flow/status.ts";
import { expect } from "../model/expect.ts";
import { asHtml } from "./as_html.ts";
import { errorBlock } from "./error_block.ts";
import { type Place, place } from "./place.ts";

/** Displays with the same key that are kept up to date: those of a loop, and of cells that were run again, whose outputs nobody sees any more. */
const SAME = 12;

/** One display, in the cell where it was made. */
interface View {
  /** The same when its cell is run again. */
  key: string;
  heading: string;
  place: Place;
  /** Of the states and keys of what it shows: what it drew last. */
  drawn?: string;
  /** As it was when all of that was fresh. */
  last?: Shown;
  /** What stands at the place now. */
  now?: Shown;
  look(states: readonly StageStatus[]): { mark: string; fresh: boolean; draw: () => Shown | Promise<Shown> };
}

/** All displays of a notebook. */
export interface Views {
  /** Shows results of stages, now and whenever they change; says so where they are not fresh. */
  results<T>(stages: Stage<T>, draw: (result: T) => Shown | Promise<Shown>, at?: Place): Promise<void>;
  results<I extends Inputs>(
    stages: I,
    draw: (results: { [K in keyof I]: I[K] extends Stage<infer T> ? T : never }) => Shown | Promise<Shown>,
    at?: Place,
  ): Promise<void>;
  /** Shows the states of all stages, now and whenever they change. */
  states(key: string, draw: (states: StageStatus[]) => Shown | Promise<Shown>): Promise<void>;
  /** Redraws what is no longer true, and waits for it. */
  settle(): Promise<void>;
  /** @throws {Error} If it is called by a drawing before its first `await`: that would wait for itself. */
  expectOutside(): void;
  /** What is shown now, in the order in which it came to be. */
  contents(): { heading: string; shown: Shown }[];
}

/**
 * Displays bound to the stages of a flow. After a run or a new definition everything below is drawn again in its own cell, wherever that stands. Nothing is
 * computed for it: a display of a stage that is not fresh says why, above what it showed before.
 *
 * @param makePlace Makes the place of a display. @default in the cell that runs, or on the terminal
 */
export function openViews(flow: Flow, makePlace = place): Views & Disposable {
  const views: View[] = [];
  let settling: Promise<void> | undefined, again = false, drawing = false;
  /** Calls what draws. Contexts of `AsyncLocalStorage` would tell more, but in Deno's kernel they leak into the cells that come after. */
  const called = (draw: () => Shown | Promise<Shown>) => {
    drawing = true;
    try {
      return draw();
    } finally {
      drawing = false;
    }
  };
  const expectOutside = () => {
    if (drawing) throw new Error("Cannot run or show a stage within a display: name it beside those that the display shows");
  };
  const settle = async () => {
    try {
      do {
        again = false;
        const due = [...views], states = await status(flow); // in this order: a display that comes meanwhile is not to see what was before it
        for (const view of due) await redraw(view, states);
      } while (again);
    } finally {
      settling = undefined;
    }
  };
  const request = () => {
    if (settling) again = true;
    else settling = new Promise<void>((resolve) => setTimeout(resolve)).then(settle); // once for all changes of a cell
    return settling;
  };
  const stop = flow.onChange(() => void request().catch(() => {})); // who waits for it is told
  const add = async (view: View) => {
    expectOutside();
    const same = views.filter(({ key }) => key === view.key);
    if (same.length >= SAME) views.splice(views.indexOf(same[0]), 1);
    views.push(view);
    await request(); // in turn with other changes: nothing is drawn twice
  };
  const results = async (given: Stage<unknown> | Inputs, draw: (results: never) => Shown | Promise<Shown>, at?: Place) => {
    const single = isStage(given), inputs: Inputs = single ? { it: given } : given;
    const names = Object.values(inputs).map((stage) => stage.name), unknown = names.find((name) => !flow.definitions.has(name));
    if (unknown !== undefined) throw new RangeError(`Cannot show "${unknown}": there is no such stage; run the cell that defines it`);
    await add({
      key: JSON.stringify([names, draw.name || `${draw}`]),
      heading: names.join(", "),
      place: at ?? makePlace(),
      look: (states) => {
        const mine = names.map((name) => states.find((state) => state.name === name)!),
          waiting = mine.filter((state) => state.state !== "fresh");
        const mark = JSON.stringify(
          mine.map(({ state, reason, key, hash }) => state === "fresh" ? [state, hash ?? key] : [state, reason, key]),
        );
        if (waiting.length > 0) return { mark, fresh: false, draw: () => waitingFor(waiting) };
        const drawResults = async () => {
          const values = await Promise.all(
            Object.entries(inputs).map(async ([name, stage]) => [name, await flow.run(stage, { compute: false })] as const),
          );
          return await called(() => draw((single ? values[0][1] : Object.fromEntries(values)) as never));
        };
        return { mark, fresh: true, draw: drawResults };
      },
    });
  };
  return {
    results: results as Views["results"],
    states: async (key, draw) => {
      await add({
        key,
        heading: key,
        place: makePlace({ once: true }),
        look: (states) => ({ mark: JSON.stringify(states), fresh: true, draw: () => called(() => draw([...states])) }),
      });
    },
    settle: async () => await request(),
    expectOutside,
    contents: () => {
      const said = new Set<string>();
      const news = views.toReversed().filter(({ key, now }) => {
        const text = JSON.stringify([key, now?.["text/plain"]]), again = said.has(text); // of a cell that was run again
        said.add(text);
        return now !== undefined && !again;
      });
      return news.toReversed().map(({ heading, now }) => ({ heading, shown: now! }));
    },
    [Symbol.dispose]: stop,
  };
}

async function redraw(view: View, states: readonly StageStatus[]): Promise<void> {
  const { mark, fresh, draw } = view.look(states);
  if (mark === view.drawn) return;
  view.drawn = mark;
  try {
    const content = await draw();
    expect(
      typeof content?.["text/plain"] === "string",
      "draw this",
      "a display, such as table() gives, from the function that draws",
      content,
    );
    if (fresh) view.last = content;
    view.now = fresh || !view.last ? content : await outdated(content, view.last);
    await view.place(view.now);
  } catch (error) {
    await view.place(view.now = errorBlock("draw this", error));
  }
}

/** Whether it is one stage, not several by name. */
export const isStage = (given: Stage<unknown> | Inputs): given is Stage<unknown> => typeof given.name === "string";

function waitingFor(stages: readonly StageStatus[]): Shown {
  const lines = stages.map(({ name, state, reason }) => `${name} is ${state}${reason ? `: ${reason}` : ""}`);
  const html = lines.map((line) => `<div>${htmlText(line)}</div>`).join("");
  return shown({
    "text/html": `<div role="status" style="border-left: 4px solid #E69F00; padding: 0.2em 0.8em">${html}</div>`,
    "text/plain": lines.map(plainLine).join("\n"),
  });
}

/** What was shown before, faint, below the reason why it is no longer true. */
async function outdated(why: Shown, before: Shown): Promise<Shown> {
  return shown({
    "text/html": `${why["text/html"]}<div style="opacity: 0.45" title="not up to date">${await asHtml(before)}</div>`,
    "text/plain": `${why["text/plain"]}\nBefore:\n${before["text/plain"]}`,
  });
}
