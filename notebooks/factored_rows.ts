/** Linears factored by what their outputs vary in, beside other factors of the same size: as stages, and what the notebook on Bolaco shows of them. */

import {
  countParameters,
  type FactoredModel,
  type Model,
  moeLayers,
  type RankPlan,
  type RatioAllocation,
  type Sequences,
  type Shown,
  type Stage,
  stages,
  table,
} from "../mod.ts";
import { linearEntries } from "../lib/decompose/linear_entries.ts";
import { type Definitions, measure, type Measured, type Subject, tune, withError } from "./subject.ts";

/** Text to calibrate on, and other text to try ratios on. */
export interface SearchText {
  tokens: Stage<Sequences>;
  validation: Stage<Sequences>;
}

export interface FactoredRow extends Measured {
  share: number;
  way: string;
  parameters: number;
  /** Of the numbers in all linears of decoder layers. */
  left: number;
}

/** A model made in one way, and its row. */
export interface FactoredStages {
  model: Stage<Model>;
  row: Stage<FactoredRow>;
}

/** Defines a search for ratios that leave a share of the numbers in all linears; with as many `initial` points as evaluations it is a random one. */
export function searchStage(
  nb: Definitions,
  { name, model }: Subject,
  text: SearchText,
  about: { share: number; layerGroups: number; evaluations: number; initial: number },
): Stage<RatioAllocation> {
  const kind = about.initial < about.evaluations ? "Bayesian" : "random", { share, layerGroups } = about;
  return nb.stage(`${name} ${share} ${kind} 5×${layerGroups}`, stages.allocateRatios({ model, ...text }, about));
}

/** Defines the model with the best ratios of a search; with `even`, those that it began with. */
export function factored(
  nb: Definitions,
  { name, model }: Subject,
  { tokens }: SearchText,
  { share, way, search, even = false }: { share: number; way: string; search: Stage<RatioAllocation>; even?: boolean },
): Stage<FactoredModel> {
  const ratios = even
    ? nb.stage(`${name} ${share} ratios that searches begin with`, {
      ...{ version: 1, inputs: { search } },
      run: ({ search: { layers, tried: [{ ratios: [first] }] } }) => ({ layers: layers.map(({ layer }) => ({ layer, ...first })) }),
    })
    : search;
  return nb.stage(`${name} ${share} ${way}`, stages.factorLinears({ model, tokens, ratios }));
}

/** Defines a model whose experts alone are cut, by their weights or whitened, all at the rank that leaves the share of the numbers in all linears. */
export function cutExperts(
  nb: Definitions,
  { name, model }: Subject,
  { tokens }: SearchText,
  { share, way, whiten }: { share: number; way: string; whiten: boolean },
): Stage<Model> {
  const ranks = nb.stage(`${name} ${share} rank of all experts`, {
    ...{ version: 1, inputs: { model }, options: { share } },
    run: ({ model }, { share }) => evenRanks(model, share),
  });
  const trace = nb.stage(`${name} trace`, stages.calibrate({ model, tokens }));
  return nb.stage(`${name} ${share} ${way}`, stages.decomposeExperts({ model, ranks, ...(whiten && { trace }) }));
}

function evenRanks(model: Model, share: number): RankPlan {
  const { hidden, moe: { intermediate } } = model.config, layers = moeLayers(model), total = linearEntries(model);
  const count = layers.reduce((n, { block }) => n + block.experts.length, 0), others = total - 3 * count * hidden * intermediate;
  const rank = Math.floor((share * total - others) / (3 * count * (hidden + intermediate)));
  if (rank < 1) throw new RangeError(`Cannot cut experts: nothing is left of them at a share of ${share}`);
  return {
    layers: layers.map(({ index, block: { experts } }) => {
      const sum = rank * experts.length;
      return { layer: index, experts: experts.map(({ id }) => ({ expert: id, rank })), sum, target: sum };
    }),
  };
}

/** Defines the row of a model. */
export function rowOf(
  nb: Definitions,
  subject: Subject,
  model: Stage<Model>,
  { share, way }: { share: number; way: string },
): FactoredStages {
  const { model: original } = subject, measured = measure(nb, subject, model);
  const row = nb.stage(`${model.name}, row`, {
    ...{ version: 1, stored: false, inputs: { original, model, measured }, options: { share, way } },
    run: ({ original, model, measured }, about): FactoredRow => {
      const parameters = countParameters(model).total;
      return { ...about, ...measured, parameters, left: 1 - (countParameters(original).total - parameters) / linearEntries(original) };
    },
  });
  return { model, row };
}

/** Defines a model with its factors trained by low-rank adapters, and its row. */
export function recovered(
  nb: Definitions,
  subject: Subject,
  { model }: FactoredStages,
  about: { share: number; way: string },
): FactoredStages {
  return rowOf(nb, subject, tune(nb, subject, model, { epochs: 1 }), about);
}

/** Sizes, perplexity of held-out text and accuracy. */
export function factoredTable(rows: readonly FactoredRow[]): Shown {
  return table(
    rows.map(({ share, way, parameters, left, nll, mean, meanError }) => ({
      ...{ "share asked for": share, way, parameters, "left of linears": 100 * left },
      ...{ perplexity: Math.exp(nll), "mean accuracy, %": withError(mean, meanError) },
    })),
    { columns: { "share asked for": { digits: 2 }, "left of linears": { unit: "%", digits: 3 }, perplexity: { digits: 4 } } },
  );
}

/** The best ratios of searches, by what to call them. */
export function ratioTable(searches: Readonly<Record<string, RatioAllocation>>): Shown {
  return table(
    Object.entries(searches).flatMap(([search, { best, tried }]) =>
      tried[best].ratios.map((ratios, group) => ({
        search,
        "group of layers": group,
        ...ratios,
        "left of linears": 100 * tried[best].share,
      }))
    ),
    {
      columns: {
        ...Object.fromEntries(["qk", "o", "gate", "up", "down"].map((role) => [role, { digits: 2 }])),
        "left of linears": { unit: "%", digits: 3 },
      },
      caption: "Ratio of each kind of linear; 1 is dense",
    },
  );
}

/** Whether searches were worth it on text that they never saw: against even ratios and random search at the same share. */
export function verdictTable(rows: readonly FactoredRow[], ways: { even: string; random: string; searches: readonly string[] }): Shown {
  const of = (share: number, way: string) => rows.find((row) => row.share === share && row.way === way)!;
  return table(
    [...new Set(rows.filter(({ way }) => way === ways.even).map(({ share }) => share))].flatMap((share) =>
      ways.searches.map((way) => {
        const found = of(share, way),
          against = (other: string) => `${(100 * (Math.exp(found.nll - of(share, other).nll) - 1)).toFixed(1)} %`;
        return {
          ...{ "share asked for": share, way, perplexity: Math.exp(found.nll).toFixed(4) },
          ...{ [`against ${ways.even}`]: against(ways.even), [`against ${ways.random}`]: against(ways.random) },
        };
      })
    ),
    {
      columns: { "share asked for": { digits: 2 } },
      caption: "Perplexity of held-out text, and by how much it is above; what is below 0 is better",
    },
  );
}
