/**
 * What the reception field chose.
 *
 * @module
 */

import { expect, expectLayers } from "../model/expect.ts";
import type { Candidates } from "../search/candidates.ts";
import type { BlockChoice, ReceptionFieldPlan } from "../search/reception_field.ts";
import { chart } from "./chart.ts";
import { plannedDrops } from "./checked_plans.ts";
import type { Point, Series } from "./drawing.ts";
import { formatNumber } from "./format_number.ts";
import type { Shown } from "./shown.ts";

/**
 * The combinations that the reception field compared, block by block, and the one it chose: 1 is a layer's own best candidate. Beside each block, how
 * much less than with the layers' own best the chosen combination changes what comes out of it.
 *
 * @param plan What `receptionField` gives.
 * @param candidates What it chose among, to say which experts a candidate drops.
 * @throws {TypeError} If these are no plan with its blocks, and candidates.
 *
 * @example
 * ```ts
 * import { assertMatch } from "@std/assert";
 * const blocks = [{ layers: [0, 1], choice: [0, 1], loss: 9, firstChoices: 10, combinations: 4 }];
 * const plan = { layers: [{ layer: 0, drop: [2] }, { layer: 1, drop: [5] }], blocks };
 * assertMatch(receptionTree(plan)["text/plain"], /layers 0, 1: candidates 1, 2 of 4 combinations, loss 9, 10.0 % less than 10 of the first choices/);
 * ```
 */
export function receptionTree(plan: ReceptionFieldPlan, candidates?: Candidates): Shown {
  const purpose = "show the choices of a reception field";
  const drops = new Map(plannedDrops(plan, purpose).map(({ layer, drop }) => [layer, drop]));
  const fits = (b: BlockChoice) =>
    Array.isArray(b?.layers) && Array.isArray(b.choice) && b.layers.length === b.choice.length && b.layers.length > 0;
  expect(Array.isArray(plan.blocks) && plan.blocks.every(fits), purpose, 'a plan from receptionField(), which lists "blocks"', plan);
  const sets = new Map(
    (candidates === undefined ? [] : expectLayers(candidates, 'candidates, which list "layers"', purpose)).map((l) => [l.layer, l.sets]),
  );
  const layers = plan.blocks.flatMap(({ layers }) => layers);
  const widths = plan.blocks.map((block) => block.layers.map((layer) => width(block, sets.get(layer)?.length)));
  const most = Math.max(1, ...widths.flat(), ...plan.blocks.flatMap(({ choice }) => choice.map((c) => c + 1)));
  const noteOf = (layer: number, candidate: number, drop = sets.get(layer)?.[candidate]?.drop) =>
    `candidate ${candidate + 1} of layer ${layer}${drop === undefined ? "" : `: drops ${drop.join(", ") || "none"}`}`;
  const paths: Point[] = plan.blocks.flatMap(({ layers, choice }) => [
    ...layers.map((layer, i) => ({ x: layer, y: choice[i] + 1 })),
    { x: NaN, y: NaN }, // the next block has a line of its own
  ]);
  const compared: Point[] = plan.blocks.flatMap((block, b) =>
    block.layers.flatMap((layer, i) =>
      Array.from({ length: widths[b][i] }, (_, c) => ({
        ...{ x: layer, y: c + 1, note: noteOf(layer, c) },
        ...(c === 0 && i === Math.floor((block.layers.length - 1) / 2) ? { label: gain(block) } : {}), // above the block's middle
      }))
    )
  );
  const marks: Series[] = [
    { kind: "line", color: "#000000", faint: true, points: plan.blocks.flatMap((block, b) => branches(block, widths[b])) },
    { kind: "points", name: "compared", color: "#56B4E9", points: compared },
    { kind: "line", color: "#D55E00", points: paths },
    {
      kind: "points",
      name: "chosen",
      color: "#D55E00",
      points: plan.blocks.flatMap(({ layers, choice }) =>
        layers.map((layer, i) => ({
          ...{ x: layer, y: choice[i] + 1, note: noteOf(layer, choice[i], drops.get(layer)) },
        }))
      ),
    },
  ];
  return chart({
    title: "Candidates chosen by the reception field",
    subtitle: "joined: a block, chosen together; above it what that changes its loss by, against first choices",
    x: { label: "layer", places: layers },
    y: { label: "candidate, by the layer's own loss", places: Array.from({ length: most }, (_, i) => i + 1) },
    marks,
    text: ["Candidates chosen by the reception field", ...plan.blocks.map(inWords)].join("\n"),
  });
}

/** Candidates of each layer of a block: the receptive field's K, where the number of combinations does not contradict it. */
function width({ layers, combinations }: BlockChoice, known = Infinity): number {
  return Math.min(known, Math.max(1, Math.round(combinations ** (1 / layers.length))));
}

/** All ways from one layer's candidates to the next one's. */
function branches({ layers }: BlockChoice, widths: readonly number[]): Point[] {
  return layers.slice(1).flatMap((layer, i) =>
    Array.from({ length: widths[i] * widths[i + 1] }, (_, way) => [
      { x: layers[i], y: way % widths[i] + 1 },
      { x: layer, y: Math.floor(way / widths[i]) + 1 },
      { x: NaN, y: NaN },
    ]).flat()
  );
}

function gain({ loss, firstChoices }: Pick<BlockChoice, "loss" | "firstChoices">): string {
  const percent = firstChoices > 0 ? 100 * (loss / firstChoices - 1) : 0;
  return percent === 0 ? "±0 %" : `${percent > 0 ? "+" : "−"}${Math.abs(percent).toFixed(1)} %`;
}

function inWords({ layers, choice, loss, firstChoices, combinations }: BlockChoice): string {
  const less = firstChoices > loss
    ? `${(100 * (1 - loss / firstChoices)).toFixed(1)} % less than ${formatNumber(firstChoices)} of the first choices`
    : "the first choices";
  const one = layers.length === 1;
  return `layer${one ? "" : "s"} ${layers.join(", ")}: candidate${one ? "" : "s"} ${choice.map((c) => c + 1).join(", ")} of ${
    formatNumber(combinations)
  } combination${combinations === 1 ? "" : "s"}, loss ${formatNumber(loss)}, ${less}`;
}
