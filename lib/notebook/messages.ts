/**
 * What a notebook says of what it did.
 *
 * @module
 */

import { formatBytes, formatSeconds } from "../display/format_amounts.ts";
import { type Shown, shown } from "../display/shown.ts";
import { table } from "../display/table.ts";
import type { Collection } from "../flow/gc.ts";
import type { StageStatus } from "../flow/status.ts";
import type { Verification } from "../flow/verify.ts";

/**
 * One line on how a result was got.
 *
 * @param computed Stages that were computed for it, and the seconds of each that were spent before it was stopped and went on.
 */
export function said(name: string, states: readonly StageStatus[], computed: ReadonlyMap<string, number>): Shown {
  const { stored, seconds = 0, bytes = 0 } = states.find((state) => state.name === name)!;
  const others = states.filter((state) => computed.has(state.name) && state.name !== name);
  const spent = others.reduce((sum, { seconds = 0 }) => sum + seconds, 0);
  const [count, what] = [others.length, others.length === 1 ? "stage" : "stages"];
  const needed = count > 0 ? `; ${count} ${what} that it needs took ${formatSeconds(spent)}` : "";
  const before = computed.get(name);
  const got = !stored
    ? "ready"
    : before !== undefined
    ? `computed in ${formatSeconds(seconds)}${before > 0 ? `, ${formatSeconds(before)} of it before Stop` : ""}, ${
      formatBytes(bytes)
    } in the store`
    : `from the store, where it was computed in ${formatSeconds(seconds)}`;
  return shown({ "text/plain": `${name}: ${got}${needed}` });
}

/** What came of computing results again. */
export function verified(found: readonly Verification[]): Shown {
  return table(
    found.map(({ name, same, differs }) => ({
      stage: name,
      "computed again": same ? "the same bytes" : `differs in ${differs.join(", ")}`,
    })),
    {
      caption: `${found.filter(({ same }) => same).length} of ${found.length} results are the same when computed again`,
    },
  );
}

/** What can be collected, or was. */
export function unreferenced({ garbage, bytes, removed }: Collection): Shown {
  return table(garbage, {
    caption: `${formatBytes(bytes)} that nothing refers to${
      removed ? ", removed" : garbage.length > 0 ? "; remove it by gc({ remove: true })" : ""
    }`,
    ...(garbage.length > 0
      ? { columns: { bytes: { label: "size", align: "right", format: (bytes) => formatBytes(bytes as number) } } }
      : {}),
  });
}

/** An error that says one thing: a notebook prints its stack, which is of no use to a reader there. */
export function brief(sentence: string, cause: unknown): Error {
  const error = new Error(sentence, { cause });
  error.stack = sentence;
  return error;
}
