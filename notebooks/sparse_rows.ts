/** Sparse models and what they lose, as stages; what the notebook on OWL shows of them. */

import {
  type Carrier,
  chart,
  type OutlierDistribution,
  type Shown,
  type SparseModel,
  type Stage,
  stages,
  table,
  type ZeroCount,
} from "../mod.ts";
import type { Definitions, Subject } from "./subject.ts";

export interface SparseRow {
  checkpoint: string;
  carrier: Carrier;
  /** A share, or n and m of a pattern. */
  amount: number | { n: number; m: number };
  spread: "uniform" | "OWL";
  zeros: ZeroCount;
  /** Of held-out text. */
  perplexity: number;
  /** That of the dense model. */
  dense: number;
}

export interface SparseStages {
  model: Stage<SparseModel>;
  row: Stage<SparseRow>;
}

/** Defines a model with all linears made sparse by one share or pattern, or by those that OWL gives each block, and its row. */
export function sparseStages(
  nb: Definitions,
  { name, model, calibration: tokens, heldOut }: Subject,
  outliers: Stage<OutlierDistribution>,
  { carrier, amount, spread }: Pick<SparseRow, "carrier" | "amount" | "spread">,
): SparseStages {
  if (!("ids" in heldOut)) throw new Error("This notebook needs a checkpoint that brings token ids along");
  const owl = spread === "OWL", label = (what: string) => `${name} ${amountText(amount)} ${spread} ${carrier}${what}`;
  const blocks = () =>
    typeof amount === "number"
      ? { sparsity: nb.stage(label(", blocks"), stages.owlSparsity({ outliers }, { sparsity: amount })) }
      : { pattern: nb.stage(label(", blocks"), stages.owlPattern({ outliers }, { ...amount, lambda: amount.m / 4 })) };
  const same = typeof amount === "number" ? { sparsity: amount } : { pattern: amount };
  const sparse = nb.stage(
    label(""),
    owl ? stages.sparsify({ model, tokens, ...blocks() }, { carrier }) : stages.sparsify({ model, tokens }, { carrier, ...same }),
  );
  const zeros = nb.stage(label(", zeros"), stages.countZeros({ model: sparse }));
  const likelihood = nb.stage(label(", likelihood"), stages.perplexity({ model: sparse, heldOut: heldOut.ids }));
  const dense = nb.stage(`${name} dense, likelihood`, stages.perplexity({ model, heldOut: heldOut.ids }));
  const row = nb.stage(label(", row"), {
    ...{ version: 1, stored: false, inputs: { zeros, likelihood, dense }, options: { checkpoint: name, carrier, amount, spread } },
    run: ({ zeros, likelihood: { perplexity }, dense }, about): SparseRow => ({ ...about, zeros, perplexity, dense: dense.perplexity }),
  });
  return { model: sparse, row };
}

/** "50 %" or "2:4". */
export function amountText(amount: SparseRow["amount"]): string {
  return typeof amount === "number" ? `${Math.round(100 * amount)} %` : `${amount.n}:${amount.m}`;
}

/** Outliers of each block as bars. */
export function outlierBars(outliers: OutlierDistribution): Shown {
  const title = `Weights above ${outliers.threshold} times the mean of their block`;
  return chart({
    title,
    x: { label: "decoder block", places: outliers.layers.map(({ layer }) => layer) },
    y: { label: "outliers, %", zero: true },
    marks: [{ kind: "bars", points: outliers.layers.map(({ layer, percent }) => ({ x: layer, y: percent, label: percent.toFixed(2) })) }],
    text: [title, ...outliers.layers.map(({ layer, percent }) => `block ${layer}: ${percent.toFixed(2)} %`)].join("\n"),
  });
}

/** What rows lose, uniform beside OWL. */
export function sparseTable(rows: readonly SparseRow[]): Shown {
  const pairs = Map.groupBy(rows, ({ checkpoint, carrier, amount }) => [checkpoint, carrier, amountText(amount)].join("/"));
  const of = (pair: readonly SparseRow[], spread: SparseRow["spread"]) => pair.find((row) => row.spread === spread);
  const share = (row?: SparseRow) => row ? 100 * row.zeros.zeros / row.zeros.entries : NaN;
  return table(
    [...pairs.values()].map((pair) => {
      const [uniform, owl] = [of(pair, "uniform"), of(pair, "OWL")], { checkpoint, carrier, amount, dense } = pair[0];
      return {
        ...{ checkpoint, sparsity: amountText(amount), carrier },
        ...{ dense, "uniform": uniform?.perplexity ?? NaN, "OWL": owl?.perplexity ?? NaN },
        ...{ "zeros, uniform": share(uniform), "zeros, OWL": share(owl) },
      };
    }),
    {
      columns: {
        ...{ dense: { digits: 4 }, uniform: { digits: 4 }, OWL: { digits: 4 } },
        ...{ "zeros, uniform": { unit: "%", digits: 3 }, "zeros, OWL": { unit: "%", digits: 3 } },
      },
      caption: "Perplexity of held-out text",
    },
  );
}

/** Exact zeros of each block. */
export function zerosTable(rows: readonly SparseRow[]): Shown {
  return table(rows.map(({ carrier, amount, spread, zeros }) => ({
    ...{ sparsity: amountText(amount), carrier, spread },
    ...Object.fromEntries(zeros.layers.map(({ layer, zeros }) => [`block ${layer}`, zeros])),
    ...{ zeros: zeros.zeros, entries: zeros.entries },
  })));
}
