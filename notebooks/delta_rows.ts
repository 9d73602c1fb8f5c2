/** A tuned model, what is kept of its difference from the base, and what that costs: stages, and what the notebook on Delta-CoMe shows of them. */

import {
  applyDelta,
  type BitSplit,
  type CompressedDelta,
  type DeltaServer,
  type DeltaSize,
  type Item,
  logits,
  type Model,
  serveDeltas,
  type Shown,
  shown,
  type Stage,
  stages,
  table,
} from "../mod.ts";
import type { Definitions } from "./subject.ts";

/** What is compressed, and what it is measured on. */
export interface DeltaSubject {
  base: Stage<Model>;
  tuned: Stage<Model>;
  calibration: Stage<readonly Uint32Array[]>;
  heldOut: Stage<readonly Uint32Array[]>;
  /** Of the tuned model's own tasks. */
  items: Stage<readonly Item[]>;
}

export interface DeltaRow {
  name: string;
  /** Of held-out text of the base's kind. */
  perplexity: number;
  /** Share of right answers, by task of the tuned model. */
  accuracy: Record<string, number>;
  /** Mean over tasks, and its standard error. */
  right: number;
  rightError: number;
  /** ‖tuned - approximation‖ / ‖tuned - base‖ over all linears; missing for whole models. */
  error?: number;
  size?: DeltaSize;
}

/** How a difference is compressed. */
export type Method = { split: BitSplit } | "signs";

/** Defines the measuring of a model. */
export function measuredStage(nb: Definitions, { heldOut, items }: DeltaSubject, name: string, model: Stage<Model>): Stage<DeltaRow> {
  const likelihood = nb.stage(`${name}, likelihood`, stages.perplexity({ model, heldOut }));
  const choices = nb.stage(`${name}, choices`, stages.multipleChoice({ model, items }));
  return nb.stage(`${name}, row`, {
    ...{ version: 1, stored: false, inputs: { likelihood, choices }, options: { name } },
    run: ({ likelihood: { perplexity }, choices }, { name }): DeltaRow => ({
      ...{ name, perplexity, accuracy: Object.fromEntries(choices.map(({ task, acc }) => [task, acc])) },
      right: choices.reduce((sum, { acc }) => sum + acc, 0) / choices.length,
      rightError: Math.hypot(...choices.map(({ stderr }) => stderr)) / choices.length,
    }),
  });
}

/** Defines a compressed difference, and its row: of the model that comes back from it. */
export function deltaStages(
  nb: Definitions,
  subject: DeltaSubject,
  name: string,
  method: Method,
): { delta: Stage<CompressedDelta>; row: Stage<DeltaRow> } {
  const { base, tuned, calibration } = subject, integers = method !== "signs" && method.split.some(([bits]) => bits <= 8);
  const delta = nb.stage(
    name,
    method === "signs"
      ? stages.bitDelta({ base, tuned })
      : stages.compressDelta({ base, tuned, ...(integers ? { tokens: calibration } : {}) }, method),
  );
  const back = nb.stage(`${name}, applied`, stages.applyDelta({ base, delta }));
  const measured = measuredStage(nb, subject, name, back), size = nb.stage(`${name}, size`, stages.deltaSize({ delta }));
  const row = nb.stage(`${name}, all`, {
    ...{ version: 1, stored: false, inputs: { delta, measured, size } },
    run: ({ delta: { linears }, measured, size }): DeltaRow => {
      const sum = (of: (linear: CompressedDelta["linears"][0]) => number) => linears.reduce((total, linear) => total + of(linear) ** 2, 0);
      return { ...measured, error: Math.sqrt(sum(({ error }) => error) / sum(({ norm }) => norm)), size };
    },
  });
  return { delta, row };
}

/** The first `limit` items of each task. */
export function someOfEach(items: readonly Item[], limit: number): Item[] {
  return [...Map.groupBy(items, ({ task }) => task).values()].flatMap((list) => list.slice(0, limit));
}

/** Quality and size of each row. */
export function rowsTable(rows: readonly DeltaRow[]): Shown {
  return table(
    rows.map(({ name, perplexity, accuracy, error, size }) => ({
      ...{ model: name, error, perplexity },
      ...Object.fromEntries(Object.entries(accuracy).map(([task, share]) => [`${task}, %`, (100 * share).toFixed(1)])),
      ...{ alpha: size?.linears.alpha, stored: size?.linears.alphaStored },
    })),
    {
      caption: "The tuned model, and what is left of it",
      columns: {
        error: { label: "error, of the difference", digits: 4 },
        perplexity: { digits: 4 },
        alpha: { label: "α, codes only", digits: 4 },
        stored: { label: "α, all that is stored", digits: 4 },
      },
    },
  );
}

/** What the rows say, in sentences. */
export function verdict(rows: readonly DeltaRow[]): Shown {
  const tuned = rows.find(({ name }) => name === "tuned")!, all = rows.filter(({ size }) => size && size.linears.codes > 0);
  const far = (row: DeltaRow) => Math.abs(row.perplexity - tuned.perplexity),
    alpha = (of: "alpha" | "alphaStored") => all.map(({ size }) => size!.linears[of]);
  const [least, ...others] = all.toSorted((a, b) => a.error! - b.error!), [nearest] = all.toSorted((a, b) => far(a) - far(b));
  const [best, ...rest] = all.toSorted((a, b) => b.right - a.right), percent = (share: number) => `${(100 * share).toFixed(1)} %`;
  const level = rest.filter((row) => best.right - row.right <= 2 * Math.hypot(best.rightError, row.rightError)).map(({ name }) => name);
  const lines = [
    `The smallest error of the difference is left by ${least.name} (${least.error!.toFixed(3)}), the largest by ${others.at(-1)!.name} (${
      others.at(-1)!.error!.toFixed(3)
    }).`,
    `Nearest to the tuned model's perplexity (${tuned.perplexity.toFixed(3)}) comes ${nearest.name} (${nearest.perplexity.toFixed(3)}).`,
    `Of the tuned model's own questions ${best.name} answers most (${percent(best.right)}; the tuned model ${
      percent(tuned.right)
    }); within two standard errors of it: ${level.join("; ") || "none"}.`,
    `Of codes alone no α is above ${Math.max(...alpha("alpha")).toFixed(4)}; with scales, zeros and singular values α goes from ${
      Math.min(...alpha("alphaStored")).toFixed(4)
    } to ${Math.max(...alpha("alphaStored")).toFixed(4)}, so that rows of one budget are not of one size.`,
  ];
  return shown({ "text/markdown": lines.map((line) => `- ${line}`).join("\n"), "text/plain": lines.join("\n") });
}

/** Two tuned models over one base. */
export interface Served {
  bytes: DeltaServer["bytes"];
  /** Largest difference of a logit from the model that is put together, over the largest logit. */
  apart: Record<string, number>;
}

/** Defines serving: logits of the first sequences by each model, beside those of the model that is put together. */
export function servedStage(
  nb: Definitions,
  base: Stage<Model>,
  sequences: Stage<readonly Uint32Array[]>,
  deltas: Record<string, Stage<CompressedDelta>>,
  count: number,
): Stage<Served> {
  return nb.stage("served", {
    ...{ version: 1, inputs: { base, sequences, ...deltas }, options: { count } },
    run: async (results, { count }, { device }): Promise<Served> => {
      const { base, sequences, ...rest } = results as unknown as
        & { base: Model; sequences: readonly Uint32Array[] }
        & Record<string, CompressedDelta>;
      const models = rest as Record<string, CompressedDelta>, some = sequences.slice(0, count), apart: Served["apart"] = {};
      using server = await serveDeltas(device, base, models);
      const requests = Object.keys(models).flatMap((model) => some.map((sequence) => ({ model, sequence }))),
        got = await server.logits(requests);
      for (const [i, { model, sequence }] of requests.entries()) {
        const want = await logits(device, applyDelta(base, models[model]), sequence);
        const [most, off] = [want.map(Math.abs), want.map((value, j) => Math.abs(value - got[i][j]))].map((values) =>
          values.reduce((a, b) => Math.max(a, b), 0)
        );
        apart[model] = Math.max(apart[model] ?? 0, off / most);
      }
      return { bytes: server.bytes, apart };
    },
  });
}

/** What lies on the device, beside as many whole models. */
export function servedTable({ bytes: { base, models, layer }, apart }: Served): Shown {
  const names = Object.keys(models), all = Object.values(models).reduce((a, b) => a + b, base) + layer;
  const row = (what: string, bytes: number, off?: number) => ({ "on the device": what, KiB: bytes / 1024, "logits apart": off });
  return table([
    row("linears, norms and routers of the base, once", base),
    ...names.map((name) => row(`${name}: head and last norm`, models[name], apart[name])),
    row("most that a layer adds while it runs", layer),
    row("all of it", all),
    row(`${names.length} whole models would take`, names.length * base + Object.values(models).reduce((a, b) => a + b, 0)),
  ], { caption: `${names.length} tuned models over one base`, columns: { KiB: { digits: 0 } } });
}
