/** What the notebook on SPP shows. */

import { type Shown, table } from "../mod.ts";
import type { RecoveryRow, Way } from "./recovery.ts";
import { amountText } from "./sparse_rows.ts";
import { withError } from "./subject.ts";

const modelOf = ({ checkpoint, amount }: RecoveryRow) => `${checkpoint}, ${amountText(amount)}`;

/** Zeros of each model, and those that came or went in training. */
export function patternTable(rows: readonly RecoveryRow[]): Shown {
  return table(
    rows.map((row) => ({
      ...{ model: modelOf(row), way: row.way, trained: row.trained, zeros: row.zeros.zeros },
      ...{ "sparsity, %": (100 * row.zeros.zeros / row.zeros.entries).toFixed(2), "zeros that changed": row.changed },
    })),
    { columns: { trained: { label: "numbers trained" } } },
  );
}

/** What each model answers, and how much of the lost likelihood is back. */
export function recoveryTable(rows: readonly RecoveryRow[]): Shown {
  const lost = Map.groupBy(rows, modelOf);
  return table(
    rows.map((row) => {
      const before = lost.get(modelOf(row))!.find(({ way }) => way === "sparse")!.nll, back = (before - row.nll) / (before - row.dense);
      return {
        ...{ model: modelOf(row), way: row.way, dense: Math.exp(row.dense), perplexity: Math.exp(row.nll) },
        ...{ "recovered, %": row.way === "sparse" ? "" : (100 * back).toFixed(0), "accuracy, %": withError(row.mean, row.meanError) },
      };
    }),
    { columns: { dense: { digits: 4, label: "dense, perplexity" }, perplexity: { digits: 4 } } },
  );
}

/** In how many of the models a way was better than another. */
export function verdictTable(rows: readonly RecoveryRow[], pairs: readonly [Way, Way][]): Shown {
  const models = [...Map.groupBy(rows, modelOf).values()],
    of = (model: readonly RecoveryRow[], way: Way) => model.find((row) => row.way === way)!;
  return table(pairs.map(([one, other]) => {
    const differences = models.map((model) => of(model, one).nll - of(model, other).nll);
    const points = models.map((model) => 100 * (of(model, one).mean - of(model, other).mean));
    return {
      ...{ "": `${one} against ${other}`, "lower loss": `${differences.filter((d) => d < 0).length} of ${models.length}` },
      ...{
        "loss, nats, mean": mean(differences).toFixed(4),
        "from": Math.min(...differences).toFixed(4),
        "to": Math.max(...differences).toFixed(4),
      },
      "accuracy, points, mean": mean(points).toFixed(1),
    };
  }));
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** The verdict in sentences that follow from the rows. */
export function conclusion(rows: readonly RecoveryRow[]): string {
  const models = [...Map.groupBy(rows, modelOf)], of = (model: readonly RecoveryRow[], way: Way) => model.find((row) => row.way === way)!;
  const kept = rows.filter(({ way }) => way === "SPP" || way === "masked LoRA"), filled = rows.filter(({ way }) => way === "LoRA");
  const lower = (one: Way, other: Way) => models.filter(([, model]) => of(model, one).nll < of(model, other).nll).map(([name]) => name);
  const counted = (names: readonly string[]) =>
    names.length === models.length ? "all models" : names.length === 0 ? "none of the models" : names.join("; ");
  const share = ({ zeros: { zeros, entries } }: RecoveryRow) => (100 * zeros / entries).toFixed(2);
  return [
    `- Zeros that SPP or the mask moved: ${kept.reduce((sum, { changed }) => sum + changed, 0)}. Plain LoRA leaves ${
      filled.map((row) => `${share(row)} %`).join(", ")
    } of the weights at zero.`,
    `- SPP has a lower held-out loss than the sparse model for: ${counted(lower("SPP", "sparse"))}.`,
    `- It has a lower one than masked LoRA for: ${counted(lower("SPP", "masked LoRA"))}.`,
    `- Masked LoRA has a lower one than the sparse model for: ${counted(lower("masked LoRA", "sparse"))}.`,
  ].join("\n");
}
