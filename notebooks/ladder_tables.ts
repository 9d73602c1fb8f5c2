/** What the notebook on the ablation ladder shows: all of it computed from ladders, nothing said beforehand. */

import { type Row, type Shown, table } from "../mod.ts";
import { accuracyChange, change, type Ladder, type Ladders, LEARNING, rowOf, type Verdict, verdict } from "./ladders.ts";
import { percent } from "./subject.ts";

/** The rows of the paper, from the least important experts on. */
const isStep = (name: string) => name.startsWith("+") || name.startsWith("genetic") || name === "least important";

const firstOf = (ladders: Ladders) => Object.values(ladders)[0];
const againstOf = (ladders: Ladders, name: string) => rowOf(firstOf(ladders), name).against;

/** The names of the steps that the paper takes, or of the options beside it. */
function namesOf(ladders: Ladders, which: "steps" | "options"): string[] {
  return firstOf(ladders).rows.filter(({ row, against }) => against !== null && isStep(row) === (which === "steps")).map(({ row }) => row);
}

/** A line for every row, a column for every ladder. */
function across(ladders: Ladders, heading: string, names: readonly string[], cell: (ladder: Ladder, name: string) => string): Row[] {
  const cells = (name: string) => Object.fromEntries(Object.entries(ladders).map(([title, ladder]) => [title, cell(ladder, name)]));
  return names.map((name) => ({ [heading]: name, ...cells(name) }));
}

/** A number with its sign, if it is not zero to so many digits. */
function signed(value: number, digits: number): string {
  const size = Math.abs(value).toFixed(digits);
  return Number(size) === 0 ? "0" : `${value < 0 ? "−" : "+"}${size}`;
}

/** Perplexity and mean accuracy of all rows. */
export function overviewTable(ladders: Ladders): Shown {
  const names = firstOf(ladders).rows.map(({ row }) => row);
  return table(across(ladders, "perplexity / accuracy, %", names, (ladder, name) => {
    const { perplexity, accuracy } = rowOf(ladder, name);
    return `${perplexity.toFixed(3)} / ${(100 * accuracy!).toFixed(1)}`;
  }));
}

/** Perplexities after the random choices one by one. */
export function chanceTable(ladders: Ladders): Shown {
  return table(
    Object.entries(ladders).map(([title, ladder]) => {
      const { runs, ...only } = rowOf(ladder, "random"), least = rowOf(ladder, "least important").perplexity;
      const found = (runs ?? [only]).map(({ perplexity }) => perplexity).sort((a, b) => a - b);
      return {
        "perplexity": title,
        "random, each": found.map((perplexity) => perplexity.toFixed(2)).join(", "),
        "least important": least.toFixed(2),
        "random ones below that": `${found.filter((perplexity) => perplexity < least).length} of ${found.length}`,
      };
    }),
  );
}

/** What rows do to the log perplexity of those that they change. */
export function changeTable(ladders: Ladders, which: "steps" | "options", nothing: number): Shown {
  const names = namesOf(ladders, which), rows = across(ladders, "change", names, (ladder, name) => signed(change(ladder, name), 4));
  return table(rows.map(({ change, ...changes }, i) => ({
    ...{ "change of log perplexity": change, "against": againstOf(ladders, names[i]) },
    ...{ ...changes, "verdict": verdictOf(ladders, names[i], nothing) },
  })));
}

/** What options do to the mean accuracy; a star where it is more than two standard errors. */
export function accuracyTable(ladders: Ladders): Shown {
  return table(across(ladders, "change of accuracy, points", namesOf(ladders, "options"), (ladder, name) => {
    const { points, sure } = accuracyChange(ladder, name);
    return `${signed(points, 1)}${sure ? " *" : ""}`;
  }));
}

const verdictOf = (ladders: Ladders, name: string, nothing: number): Verdict =>
  verdict(Object.values(ladders).map((ladder) => change(ladder, name)), nothing);

const MEANING: Record<Verdict, string> = {
  "helps": "perplexity falls on every ladder",
  "never harms": "perplexity falls on some ladders, rises on none",
  "depends": "perplexity falls on some ladders, rises on others",
  "changes nothing": "perplexity stays as it is on every ladder",
  "never helps": "perplexity rises on some ladders, falls on none",
  "harms": "perplexity rises on every ladder",
};

/** Which options help, and which do not. */
export function verdictTable(ladders: Ladders, nothing: number): Shown {
  const options = namesOf(ladders, "options"), list = (names: readonly string[]) => names.join("; ") || "none";
  const surely = (sign: 1 | -1) =>
    options.filter((name) =>
      Object.values(ladders).some((ladder) => {
        const { points, sure } = accuracyChange(ladder, name);
        return sure && sign * points > 0;
      })
    );
  const rises = surely(1), falls = surely(-1), verdicts = Object.keys(MEANING) as Verdict[];
  return table([
    ...verdicts.map((key) => ({
      "what happens": MEANING[key],
      "options": list(options.filter((name) => verdictOf(ladders, name, nothing) === key)),
    })),
    {
      "what happens": "accuracy surely rises somewhere, surely falls nowhere",
      "options": list(rises.filter((name) => !falls.includes(name))),
    },
    { "what happens": "accuracy surely falls somewhere", "options": list(falls) },
  ]);
}

/** Sets that searches price, and whether they end with the same experts. */
export function searchTable(ladders: Ladders): Shown {
  return table(
    Object.entries(ladders).map(([title, ladder]) => {
      const [genetic, greedy] = ["+ reception field", "greedy + swaps"].map((name) => rowOf(ladder, name));
      return {
        "sets priced": title,
        "genetic": genetic.evaluations,
        "greedy + swaps": greedy.evaluations,
        "same experts": JSON.stringify(genetic.plan) === JSON.stringify(greedy.plan) ? "yes" : "no",
      };
    }),
  );
}

const RECOMMENDED = "decomposed only, whitened, global ranks";

/** Rows of one size may differ by so much: ranks are rounded down. */
const ALIKE = 0.03;

/** The best of what needs no training, at the size of the paper's pruned models and at that of its decomposed ones. */
export function bestTable(ladders: Ladders): Shown {
  const sizes = [
    { size: "pruned", paper: "+ reception field", ours: RECOMMENDED },
    { size: "pruned, decomposed", paper: "+ decomposition", ours: `${RECOMMENDED}, smaller` },
  ];
  return table(
    Object.entries(ladders).flatMap(([title, ladder]) =>
      sizes.map(({ size, paper, ours }) => {
        const { parameters, perplexity } = rowOf(ladder, paper), untrained = ladder.rows.filter(({ row }) => !LEARNING.includes(row));
        const alike = untrained.filter((row) => Math.abs(row.parameters / parameters - 1) < ALIKE);
        const best = alike.reduce((least, row) => row.perplexity < least.perplexity ? row : least);
        return {
          "perplexity": `${title} ${size}`,
          "parameters": parameters,
          "MoE-I²": perplexity.toFixed(3),
          "best": best.perplexity.toFixed(3),
          "which is": best.row,
          "recommended()": ladder.rows.find(({ row }) => row === ours)?.perplexity.toFixed(3) ?? "–",
        };
      })
    ),
  );
}

/** The part of the log perplexity that training wins back; a dash where compression costs nothing. */
export function trainedTable(ladders: Ladders, nothing: number): Shown {
  return table(across(ladders, "won back", LEARNING, (ladder, name) => {
    const rows = ["dense", rowOf(ladder, name).against!, name],
      [dense, then, now] = rows.map((row) => Math.log(rowOf(ladder, row).perplexity));
    return then - dense > nothing ? percent((then - now) / (then - dense)) : "–";
  }));
}
