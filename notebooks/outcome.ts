/** What training wins back: a model dense, compressed and tuned, side by side. */

import { type Row, type Shown, type Stage, table, type TrainingPoint } from "../mod.ts";
import { compress, type Definitions, measure, type Measured, percent, type Subject, tune, withError } from "./subject.ts";

export interface Outcome {
  dense: Measured;
  compressed: Measured;
  tuned: Measured;
  history: readonly TrainingPoint[];
}

/** Outcomes by the name of the model. */
type Outcomes = Readonly<Record<string, Outcome>>;

/** Defines all that it takes to compress a model, to tune it, and to measure it before, between and after. */
export function outcome(
  nb: Definitions,
  subject: Subject,
  { epochs, ...compression }: { ratio: number; averageRank: number; epochs: number },
): Stage<Outcome> {
  const { small } = compress(nb, subject, compression), model = tune(nb, subject, small, { epochs });
  const [dense, compressed, tuned] = [subject.model, small, model].map((model) => measure(nb, subject, model));
  return nb.stage(`${subject.name} ${percent(compression.ratio)} outcome`, {
    version: 1,
    stored: false,
    inputs: { dense, compressed, tuned, model },
    run: ({ model: { history }, ...measured }) => ({ ...measured, history }),
  });
}

/** Held-out losses, and the part of what compression costs that training wins back. */
export function likelihoodTable(outcomes: Outcomes): Shown {
  return table(
    Object.entries(outcomes).map(([name, { dense, compressed, tuned }]): Row => ({
      "held-out loss, nats": name,
      "dense": dense.nll.toFixed(4),
      "compressed": compressed.nll.toFixed(4),
      "tuned": tuned.nll.toFixed(4),
      "recovered": percent((compressed.nll - tuned.nll) / (compressed.nll - dense.nll)),
    })),
  );
}

/** The same of accuracies; a dash where nothing was lost for sure. */
export function accuracyTable(outcomes: Outcomes): Shown {
  return table(
    Object.entries(outcomes).map(([name, { dense, compressed, tuned }]): Row => {
      const lost = dense.accuracy - compressed.accuracy, sure = lost > 2 * Math.hypot(dense.stderr, compressed.stderr);
      return {
        "accuracy, %": name,
        "dense": withError(dense.accuracy, dense.stderr),
        "compressed": withError(compressed.accuracy, compressed.stderr),
        "tuned": withError(tuned.accuracy, tuned.stderr),
        "recovered": sure ? percent((tuned.accuracy - compressed.accuracy) / lost) : "–",
      };
    }),
  );
}

/** Whether training made anything worse. */
export function verdictTable(outcomes: Outcomes): Shown {
  return table(
    Object.entries(outcomes).map(([name, { compressed, tuned }]) => ({
      "25 %, tuned against compressed": name,
      "held-out loss": `${(tuned.nll - compressed.nll).toFixed(4)} nats`,
      "accuracy": `${(100 * (tuned.accuracy - compressed.accuracy)).toFixed(1)} points`,
      "worse": tuned.nll > compressed.nll || tuned.accuracy < compressed.accuracy ? "yes" : "no",
    })),
  );
}
