/** Tables and charts of how large models are, and of what it takes to compress them. */

import {
  type Axis,
  chart,
  type Compression,
  countParameters,
  type ModelPart,
  parameterParts,
  recipeHash,
  type Shown,
  stageMemory,
  type StageMemoryOptions,
  table,
} from "../mod.ts";

/** Something that is counted: a model, in one of its forms. */
export interface Form {
  model: string;
  form: string;
  /** On the axis of a chart. */
  short: string;
  config: Readonly<Record<string, unknown>>;
  compression: Compression;
}

const GIBI = 2 ** 30, MEBI = 2 ** 20, two = { digits: 2 };

/** Models by name, each whole, pruned by the ratio, and decomposed to a rank beside. */
export function formsOf(configs: Readonly<Record<string, Form["config"]>>, ratio: number, ranks: Readonly<Record<string, number>>): Form[] {
  const share = `${100 * ratio} % pruned`;
  return Object.entries(configs).flatMap(([model, config]) => {
    const name = model.split("-")[0], common = { model, config };
    return [
      { ...common, form: "original", short: name, compression: {} },
      { ...common, form: share, short: `${name} P`, compression: { pruning: ratio } },
      { ...common, form: `${share}, decomposed`, short: `${name} P+D`, compression: { pruning: ratio, ranks: ranks[model] } },
    ];
  });
}

/** Parameters of whole models. */
export function parametersTable(configs: Readonly<Record<string, Form["config"]>>): Shown {
  const rows = Object.entries(configs).map(([model, config]) => {
    const { total, active, experts } = countParameters(config);
    return { model, total, active, experts, share: 100 * experts / total };
  });
  return table(rows, {
    columns: {
      total: { label: "parameters" },
      active: { label: "active a token" },
      experts: { label: "routed experts" },
      share: { label: "their share", unit: "%", digits: 1 },
    },
  });
}

/**
 * Sizes beside published ones.
 *
 * @param published Reduction of the experts and memory of each model's forms, as texts.
 */
export async function sizesTable(
  forms: readonly Form[],
  published: Readonly<Record<string, readonly (readonly [reduction: string, memory: string])[]>>,
): Promise<Shown> {
  const rows = await Promise.all(forms.map(async ({ model, form, config, compression }) => {
    const { total, experts, bytes } = countParameters(config, compression), recipe = await recipeHash({ config, ...compression });
    const [told, memory] = published[model][forms.filter((other) => other.model === model).findIndex((other) => other.form === form)];
    const reduction = 100 * (1 - experts / countParameters(config).experts);
    return { model, form, total, told, reduction, memory, gibibytes: bytes / GIBI, recipe: recipe.slice(0, 12) };
  }));
  return table(rows, {
    columns: {
      total: { label: "parameters" },
      told: { label: "experts' reduction, %", source: "published", align: "right" },
      reduction: { label: "computed", ...two },
      memory: { label: "memory, GiB", source: "published", align: "right" },
      gibibytes: { label: "computed", ...two },
    },
  });
}

/** Names of all parts, and the GiB of each in every form. */
function partsOf(forms: readonly Form[]) {
  const found = forms.map((form) => ({ ...form, parts: parameterParts(form.config, form.compression) }));
  const longest = found.reduce((a, b) => b.parts.length > a.parts.length ? b : a).parts.map(({ part }) => part);
  const kinds = [...new Set([...longest, ...found.flatMap(({ parts }) => parts.map(({ part }) => part))])];
  const gibibytes = ({ parts }: typeof found[0], kind: ModelPart) => {
    const part = parts.find(({ part }) => part === kind);
    return part ? part.bytes / GIBI : null;
  };
  return { found, kinds, gibibytes };
}

/** Weights by part of the model. */
export function partsTable(forms: readonly Form[]): Shown {
  const { found, kinds, gibibytes } = partsOf(forms);
  return table(
    found.map((one) => ({ model: one.model, form: one.form, ...Object.fromEntries(kinds.map((kind) => [kind, gibibytes(one, kind)])) })),
    {
      caption: "Weights on disk by part, GiB",
      columns: Object.fromEntries(kinds.map((kind) => [kind, { digits: ["norms", "routers"].includes(kind) ? 4 : 2 }])),
    },
  );
}

/** The same as bars. */
export function partsChart(forms: readonly Form[]): Shown {
  const { found, kinds, gibibytes } = partsOf(forms), places = forms.map(({ short }) => short);
  return chart({
    title: "Weights on disk by part",
    subtitle: "P: pruned; P+D: pruned, and the other experts decomposed",
    x: { label: "model", places },
    y: { label: "GiB", zero: true },
    marks: kinds.map((kind) => ({
      kind: "bars" as const,
      name: kind,
      points: found.map((one) => ({ x: one.short, y: gibibytes(one, kind) ?? 0 })),
    })),
    text: [
      "Weights on disk by part, GiB",
      ...found.map((one) => `${one.short}: ${inWords(kinds.map((kind) => [kind, gibibytes(one, kind)]))}`),
    ]
      .join("\n"),
  });
}

/** What the stages hold, by model. */
type Held = Readonly<Record<string, ReturnType<typeof stageMemory>>>;

/** What compressing each model takes, with the ranks of each. */
export function heldBy(
  configs: Readonly<Record<string, Form["config"]>>,
  ranks: Readonly<Record<string, number>>,
  options: StageMemoryOptions,
): Held {
  return Object.fromEntries(
    Object.entries(configs).map(([model, config]) => {
      return [model, stageMemory(config, { ...options, averageRank: ranks[model] })];
    }),
  );
}

/** Every line of it. */
export function heldTable(held: Held): Shown {
  const models = Object.keys(held),
    rows = held[models[0]].map(({ stage, what }, i) => ({
      ...{ stage, what },
      ...Object.fromEntries(models.map((model) => [model, held[model][i].bytes / MEBI])),
    }));
  return table(rows, { caption: "Held by the stages, MiB", columns: Object.fromEntries(models.map((model) => [model, { digits: 1 }])) });
}

/** What each stage holds in memory, beside the whole model. */
export function heldChart(held: Held, configs: Readonly<Record<string, Form["config"]>>): Shown {
  const stages = [...new Set(Object.values(held).flatMap((lines) => lines.map(({ stage }) => stage)))], whole = "whole model";
  const sums = Object.entries(held).map(([model, lines]) => {
    const sum = (stage: string) =>
      lines.filter((line) => line.stage === stage).reduce((sum, { bytes, inMemory = bytes }) => sum + inMemory, 0) / GIBI;
    return {
      model,
      values: [...stages.map((stage) => [stage, sum(stage)] as const), [whole, countParameters(configs[model]).bytes / GIBI] as const],
    };
  });
  const y: Axis = { label: "GiB", scale: "log" };
  return chart({
    title: "Held in memory by each stage, and the whole model",
    subtitle: "without what lies in temporary files, and without the activations of a batch",
    x: { label: "stage", places: [...stages, whole] },
    y,
    marks: sums.map(({ model, values }) => ({ kind: "points" as const, name: model, points: values.map(([x, y]) => ({ x, y })) })),
    text: ["Held in memory, GiB", ...sums.map(({ model, values }) => `${model}: ${inWords(values)}`)].join("\n"),
  });
}

/** What stages leave in the store, beside small files. */
export function storeTable(held: Held, configs: Readonly<Record<string, Form["config"]>>): Shown {
  const rows = Object.entries(held).map(([model, lines]) => {
    const bytesOf = (what: string) => lines.find((line) => line.what.startsWith(what))!.bytes / GIBI;
    return { model, trace: bytesOf("MoE inputs"), factors: bytesOf("factors"), whole: countParameters(configs[model]).bytes / GIBI };
  });
  return table(rows, {
    caption: "In the store, GiB",
    columns: {
      trace: { label: "a trace", ...two },
      factors: { label: "a decomposed model", ...two },
      whole: { label: "the model itself, not stored", ...two },
    },
  });
}

function inWords(values: readonly (readonly [string, number | null])[]): string {
  return values.flatMap(([name, value]) => value === null ? [] : [`${name} ${value.toFixed(2)}`]).join(", ");
}
