import { assert, assertEquals, assertRejects } from "@std/assert";
import { openDevice } from "../../lib/device/open_device.ts";
import { evaluateTasks } from "../../lib/evaluate/evaluate_tasks.ts";
import { multipleChoice } from "../../lib/evaluate/multiple_choice.ts";
import type { LoadedTask } from "../../lib/evaluate/tasks/load_tasks.ts";
import { TASK_GROUPS } from "../../lib/evaluate/tasks/tasks.ts";
import type { Progress } from "../../lib/model/stage_options.ts";
import { openFixture } from "../fixtures.ts";

const described = { version: 1, dataset: "by hand", config: "default", split: "test", metrics: ["acc" as const] };

Deno.test("evaluateTasks() scores tasks as multipleChoice() does, says how, and estimates the time that is left", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, items } = await openFixture("tiny-mixtral");
  const task = (name: string): LoadedTask => ({ ...described, task: name, items: items.filter((i) => i.task === name).slice(0, 5) });
  const tasks = [task("compare"), task("add")], seen: Progress[] = [];
  const result = await evaluateTasks(device, model, tasks, { onProgress: (progress) => seen.push(progress) });
  const want = await multipleChoice(device, model, tasks.flatMap((t) => t.items), { bos: "never" });
  assertEquals(result.tasks, want.map((score) => ({ ...described, ...score })));
  assertEquals([result.bos, result.bosToken, result.groups], ["tokenizer", null, []]);
  const { bos, bosToken, tasks: [{ logLikelihoods }] } = await evaluateTasks(device, model, tasks, { bos: "always" });
  assertEquals([bos, bosToken], ["always", 0]);
  assert(logLikelihoods[0][0] !== want[0].logLikelihoods[0][0]);
  assertEquals([seen[0].secondsLeft, seen.at(-1)!.secondsLeft], [undefined, 0]);
  assert(seen.slice(1, -1).every(({ secondsLeft }) => secondsLeft! > 0));
  await assertRejects(() => evaluateTasks(device, model, [tasks[0], tasks[0]]), RangeError, 'task "compare": it is listed twice');
  const strange = { ...task("add"), items: tasks[0].items };
  await assertRejects(
    () => evaluateTasks(device, model, [strange]),
    RangeError,
    'task "add": one of its items says that it is of task "compare"',
  );
  const none = { ...task("add"), items: [] };
  await assertRejects(() => evaluateTasks(device, model, [none]), RangeError, 'Cannot evaluate task "add" from "by hand": it has no items');
});

Deno.test("evaluateTasks() weights the subjects of MMLU by their items, and pools their errors", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, items } = await openFixture("tiny-mixtral");
  const tasks = TASK_GROUPS.mmlu_social_sciences.map((task, i): LoadedTask => ({
    ...described,
    task,
    items: items.slice(20 * i, 20 * i + 2 + i).map((item) => ({ ...item, task })),
  }));
  const { tasks: scores, groups } = await evaluateTasks(device, model, tasks);
  assertEquals(groups.map(({ group, tasks }) => [group, tasks]), [["mmlu_social_sciences", 12]]);
  const [{ acc, stderr, items: count }] = groups, total = scores.reduce((n, s) => n + s.items, 0);
  assertEquals(count, total);
  const right = scores.reduce((n, s) => n + Math.round(s.acc * s.items), 0);
  assert(Math.abs(acc - right / total) < 1e-12);
  // Squared deviations of all items from the mean of their subject.
  const deviations = scores.reduce((sum, s) => sum + s.items * s.acc * (1 - s.acc), 0);
  const within = scores.reduce((sum, s) => sum + s.items * (s.items - 1) * s.stderr ** 2, 0);
  assert(Math.abs(within - deviations) < 1e-9);
  assert(Math.abs(stderr - Math.sqrt(deviations / (total - 12) / total)) < 1e-12);
  const { groups: partial } = await evaluateTasks(device, model, tasks.slice(1));
  assertEquals(partial, []);
});
