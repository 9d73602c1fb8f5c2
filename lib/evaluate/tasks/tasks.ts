/**
 * The multiple-choice tasks, after the task files of lm-evaluation-harness 0.4.13. Those pin no commit of a dataset; these do, so that a score means the same
 * next year.
 *
 * @module
 */

import { strip, stripStart } from "../python_text.ts";
import { hellaswagQuery, hellaswagText } from "./hellaswag_text.ts";
import { mathqaChoices } from "./mathqa_choices.ts";
import { MMLU_SUBJECTS } from "./mmlu_subjects.ts";
import { defineTask, type Task } from "./task.ts";

/** Commits that several published evaluations name, at which the datasets hold parquet files. None is known of MathQA. */
const DATASETS = {
  arc: { repository: "allenai/ai2_arc", revision: "210d026faf9955653af8916fad021475a3f00453" },
  glue: { repository: "nyu-mll/glue", revision: "bcdcba79d07bc864c1c254ccfcedcce55bcc9a8c" },
  hellaswag: { repository: "Rowan/hellaswag", revision: "218ec52e09a7e7462a5400043bb9a69a41d06b76" },
  mathqa: { repository: "regisss/math_qa" },
  mmlu: { repository: "cais/mmlu", revision: "c30699e8356da336a370243923dbaf21066bb9fe" },
  openbookqa: { repository: "allenai/openbookqa", revision: "388097ea7776314e93a529163e0fea805b8a6454" },
  piqa: { repository: "baber/piqa", revision: "142f6d7367fd9877f0fb3b5734ea6a545f54cdd1", file: "piqa_validation.parquet" },
  superGlue: { repository: "aps/super_glue", revision: "3de24cf8022e94f4ee4b9d55a6f539891524d646" },
  winogrande: { repository: "allenai/winogrande", revision: "01e74176c63542e6b0bcb004dcdea22d94fb67b5" },
};

const LABELLED = { text: "texts", label: "texts" } as const;

const arc = (task: string, config: string) =>
  defineTask({
    ...{ task, version: 1, ...DATASETS.arc, config, split: "test", metrics: ["acc", "accNorm"] },
    columns: { question: "text", choices: LABELLED, answerKey: "text" },
    question: ({ question, choices, answerKey }) => ({
      query: `Question: ${question}\nAnswer:`,
      choices: choices.text,
      gold: choices.label.indexOf(answerKey),
    }),
  });

const mmlu = (subject: string) =>
  defineTask({
    ...{ task: `mmlu_${subject}`, version: 1, ...DATASETS.mmlu, config: subject, split: "test", metrics: ["acc"] },
    columns: { question: "text", choices: "texts", answer: "integer" },
    question: ({ question, choices: [a, b, c, d], answer }) => ({
      query: `The following are multiple choice questions (with answers) about ${subject.replaceAll("_", " ")}.\n\n` +
        `${strip(question)}\nA. ${a}\nB. ${b}\nC. ${c}\nD. ${d}\nAnswer:`,
      choices: ["A", "B", "C", "D"],
      gold: answer,
    }),
  });

const all = [
  arc("arc_challenge", "ARC-Challenge"),
  arc("arc_easy", "ARC-Easy"),
  defineTask({
    ...{ task: "boolq", version: 2, ...DATASETS.superGlue, config: "boolq", split: "validation", metrics: ["acc"] },
    columns: { passage: "text", question: "text", label: "integer" },
    question: ({ passage, question, label }) => ({
      query: `${passage}\nQuestion: ${question}?\nAnswer:`,
      choices: ["no", "yes"],
      gold: label,
    }),
  }),
  defineTask({
    ...{
      task: "hellaswag",
      version: 1,
      ...DATASETS.hellaswag,
      config: "default",
      split: "validation",
      metrics: ["acc", "accNorm"],
    },
    columns: { activity_label: "text", ctx_a: "text", ctx_b: "text", endings: "texts", label: "text" },
    question: (row) => ({
      query: hellaswagQuery(row),
      choices: row.endings.map(hellaswagText),
      gold: /^\d+$/.test(row.label) ? Number(row.label) : -1,
    }),
  }),
  defineTask({
    ...{ task: "mathqa", version: 1, ...DATASETS.mathqa, config: "default", split: "test", metrics: ["acc", "accNorm"] },
    columns: { Problem: "text", options: "text", correct: "text" },
    question: ({ Problem, options, correct }) => ({
      query: `Question: ${Problem}\nAnswer:`,
      choices: mathqaChoices(options),
      gold: ["a", "b", "c", "d", "e"].indexOf(correct),
    }),
  }),
  defineTask({
    ...{ task: "openbookqa", version: 1, ...DATASETS.openbookqa, config: "main", split: "test", metrics: ["acc", "accNorm"] },
    columns: { question_stem: "text", choices: LABELLED, answerKey: "text" },
    question: ({ question_stem, choices, answerKey }) => ({
      query: question_stem,
      choices: choices.text,
      gold: choices.label.indexOf(stripStart(answerKey)),
    }),
  }),
  defineTask({
    ...{ task: "piqa", version: 1, ...DATASETS.piqa, config: "default", split: "validation", metrics: ["acc", "accNorm"] },
    columns: { goal: "text", sol1: "text", sol2: "text", label: "integer" },
    question: ({ goal, sol1, sol2, label }) => ({ query: `Question: ${goal}\nAnswer:`, choices: [sol1, sol2], gold: label }),
  }),
  defineTask({
    ...{ task: "rte", version: 1, ...DATASETS.glue, config: "rte", split: "validation", metrics: ["acc"] },
    columns: { sentence1: "text", sentence2: "text", label: "integer" },
    question: ({ sentence1, sentence2, label }) => ({
      query: `${sentence1}\nQuestion: ${sentence2} True or False?\nAnswer:`,
      choices: ["True", "False"],
      gold: label,
    }),
  }),
  defineTask({
    ...{ task: "winogrande", version: 1, ...DATASETS.winogrande, config: "winogrande_xl", split: "validation", metrics: ["acc"] },
    columns: { sentence: "text", option1: "text", option2: "text", answer: "text" },
    question: ({ sentence, option1, option2, answer }) => {
      const blank = sentence.indexOf("_");
      if (blank < 0) throw new Error(`Cannot ask "${sentence}": it has no blank, expected "_"`);
      return {
        query: sentence.slice(0, blank),
        choices: [option1, option2],
        ending: strip(sentence.slice(blank + 1)),
        gold: ["1", "2"].indexOf(answer),
      };
    },
  }),
  ...Object.values(MMLU_SUBJECTS).flat().sort().map(mmlu),
];

/** Every task by its name in lm-evaluation-harness: `arc_challenge`, `boolq`, `mmlu_anatomy`, … */
export const TASKS: Readonly<Record<string, Task>> = Object.fromEntries(all.map((task) => [task.task, task]));

const subjects: Record<string, readonly string[]> = {
  mmlu: Object.values(MMLU_SUBJECTS).flat().sort(),
  ...Object.fromEntries(Object.entries(MMLU_SUBJECTS).map(([part, list]) => [`mmlu_${part}`, list])),
};

/** Names of tasks that are also scored together, every item counting the same: `mmlu`, and its parts `mmlu_stem`, `mmlu_other`, … */
export const TASK_GROUPS: Readonly<Record<string, readonly string[]>> = Object.fromEntries(
  Object.entries(subjects).map(([group, list]) => [group, list.map((subject) => `mmlu_${subject}`)]),
);
