/** What the notebook on SPP shows. */

import { type Shown, table } from "../mod.ts";
import type { RecoveryRow, Way } from "./recovery.ts";
import { amountText } from "./sparse_rows.ts";
import { withError } from "./subject.ts";

/** Losses that differ by less, in nats, are taken as equal: there is one run of each, so by how much another seed would move them is not known. */
const ALIKE = 0.005;

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

/** In how many of the models a way was better than another, by sparsity. */
export function verdictTable(rows: readonly RecoveryRow[], pairs: readonly [Way, Way][]): Shown {
  return table(pairs.flatMap(([one, other]) =>
    sparsities(rows).map(([sparsity, rows]) => {
      const compared = comparisons(rows, one, other), losses = compared.map(({ loss }) => loss);
      return {
        ...{ "": `${one} against ${other}`, sparsity, "lower loss": `${losses.filter((d) => d < 0).length} of ${losses.length}` },
        ...{ "loss, nats, mean": mean(losses).toFixed(4), "from": Math.min(...losses).toFixed(4), "to": Math.max(...losses).toFixed(4) },
        "accuracy, points, mean": mean(compared.map(({ points }) => points)).toFixed(1),
      };
    })
  ));
}

/** Rows by the share of weights that are gone, in per cent. */
function sparsities(rows: readonly RecoveryRow[]): [string, RecoveryRow[]][] {
  return [...Map.groupBy(rows, ({ amount }) => amountText(typeof amount === "number" ? amount : amount.n / amount.m))];
}

/** Of each model: by how much the loss and the accuracy of one way are above those of another. */
function comparisons(rows: readonly RecoveryRow[], one: Way, other: Way): { model: string; loss: number; points: number }[] {
  return [...Map.groupBy(rows, modelOf)].map(([model, rows]) => {
    const [a, b] = [one, other].map((wanted) => rows.find(({ way }) => way === wanted)!);
    return { model, loss: a.nll - b.nll, points: 100 * (a.mean - b.mean) };
  });
}

const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;

/** The verdict in sentences that follow from the rows. */
export function conclusion(rows: readonly RecoveryRow[]): string {
  const kept = rows.filter(({ way }) => way === "SPP" || way === "masked LoRA"), filled = rows.filter(({ way }) => way === "LoRA");
  const share = ({ zeros: { zeros, entries } }: RecoveryRow) => (100 * zeros / entries).toFixed(2);
  const elsewhere = sum(filled, ({ zeros, untouched }) => zeros.zeros - untouched);
  const compared = ([["SPP", "sparse"], ["masked LoRA", "sparse"], ["SPP", "masked LoRA"]] as const).flatMap(([one, other]) =>
    sparsities(rows).map(([sparsity, rows]) => `- At ${sparsity}, ${one} against ${other}: ${verdict(comparisons(rows, one, other))}.`)
  );
  return [
    `- Zeros that SPP or the mask moved: ${sum(kept, ({ changed }) => changed)}.`,
    `- Plain LoRA leaves ${filled.map((row) => `${share(row)} %`).join(", ")} of the weights at zero. ${
      elsewhere === 0 ? "All of these zeros are" : `All but ${elsewhere} of these zeros are`
    } in matrices that training did not change at all: those of experts that no token of the training was routed to.`,
    ...compared,
    `- Differences below ${ALIKE} nats count as none: there is one run of each, with one seed.`,
  ].join("\n");
}

/** For which models the held-out loss is lower, the same or higher, with the difference in nats. */
function verdict(compared: ReturnType<typeof comparisons>): string {
  const kinds = Map.groupBy(
    compared,
    ({ loss }) => Math.abs(loss) < ALIKE ? "about the same" : loss < 0 ? "a lower loss" : "a higher loss",
  );
  return [...kinds].map(([kind, of]) =>
    `${kind} for ${of.map(({ model, loss }) => `${model} (${loss < 0 ? "" : "+"}${loss.toFixed(3)})`).join(", ")}`
  ).join("; ");
}

const sum = (rows: readonly RecoveryRow[], of: (row: RecoveryRow) => number) => rows.reduce((total, row) => total + of(row), 0);
