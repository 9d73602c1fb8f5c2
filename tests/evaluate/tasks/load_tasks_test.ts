import { assert, assertEquals, assertRejects } from "@std/assert";
import { dirname, join } from "node:path";
import { CORPORA, loadTexts } from "../../../lib/evaluate/datasets/load_texts.ts";
import type { Columns } from "../../../lib/evaluate/datasets/parquet_rows.ts";
import { loadTasks } from "../../../lib/evaluate/tasks/load_tasks.ts";
import type { Task } from "../../../lib/evaluate/tasks/task.ts";
import { TASK_GROUPS, TASKS } from "../../../lib/evaluate/tasks/tasks.ts";
import { COMMIT, fakeHub } from "../../checkpoint/fake_hub.ts";
import { temporaryFolder } from "../../checkpoint/fixtures.ts";
import { parquet } from "../parquet.ts";
import made from "./rows.json" with { type: "json" };

type Made = { rows: Record<string, unknown>[]; items: Record<string, unknown>[] };
const tables = made as Record<string, Made>;

async function write(path: string, bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  await Deno.mkdir(dirname(path), { recursive: true });
  await Deno.writeFile(path, bytes);
}

const pathOf = (task: Task, file = "0000") => `${task.repository}/${task.config}/${task.split}/${file}.parquet`;

/** A folder with the hand-made rows of every task. */
async function dataFolder() {
  const folder = await temporaryFolder();
  for (const [name, { rows }] of Object.entries(tables)) {
    await write(join(folder.path, pathOf(TASKS[name])), parquet(rows, TASKS[name].columns));
  }
  return folder;
}

Deno.test("loadTasks() turns rows into the harness's requests", async () => {
  await using folder = await dataFolder();
  const loaded = await loadTasks(Object.keys(tables), { from: folder.path });
  assertEquals(loaded.map(({ task }) => task), Object.keys(tables));
  for (const { task, dataset, items } of loaded) {
    assertEquals(items, tables[task].items.map((item) => ({ task, ...item })), task);
    assertEquals(dataset, join(folder.path, TASKS[task].repository));
  }
});

Deno.test("the table has the ten tasks, MMLU in 57 subjects of four parts", () => {
  const names = Object.keys(TASKS), mmlu = TASK_GROUPS.mmlu;
  assertEquals(
    names.filter((name) => !mmlu.includes(name)),
    ["arc_challenge", "arc_easy", "boolq", "hellaswag", "mathqa", "openbookqa", "piqa", "rte", "winogrande"],
  );
  assertEquals(Object.entries(TASK_GROUPS).map(([group, tasks]) => [group, new Set(tasks).size]), [
    ["mmlu", 57],
    ["mmlu_stem", 19],
    ["mmlu_other", 13],
    ["mmlu_social_sciences", 12],
    ["mmlu_humanities", 13],
  ]);
  assert(mmlu.every((name) => TASKS[name].config === name.replace("mmlu_", "")));
  const parts = Object.entries(TASK_GROUPS).filter(([group]) => group !== "mmlu").flatMap(([, tasks]) => tasks);
  assertEquals(parts.sort(), [...mmlu]);
});

Deno.test("loadTasks() reads the first rows, from as many files as it needs, in either layout", async () => {
  await using folder = await temporaryFolder();
  const task = TASKS.boolq, rows = Array.from({ length: 5 }, (_, i) => ({ passage: `p${i}`, question: "q", label: i % 2 }));
  const queries = async (limit?: number) =>
    (await loadTasks(["boolq"], { from: folder.path, limit }))[0].items.map(({ query }) => query[1]).join("");
  const uploaded = join(folder.path, task.repository, "boolq/validation-00000-of-00001.parquet");
  await write(uploaded, parquet(rows, task.columns));
  assertEquals([await queries(), await queries(2)], ["01234", "01"]);
  await Deno.remove(uploaded);
  await write(join(folder.path, task.repository, "data/validation-00000-of-00001.parquet"), parquet(rows.slice(4), task.columns));
  assertEquals(await queries(), "4");
  await write(join(folder.path, pathOf(task)), parquet(rows.slice(0, 2), task.columns));
  await write(join(folder.path, pathOf(task, "0001")), parquet(rows.slice(2), task.columns));
  assertEquals(await queries(), "01234");
  await write(join(folder.path, pathOf(task, "0001")), new Uint8Array(9)); // is not looked at
  assertEquals(await queries(2), "01");
  for (const limit of [0, 1.5, NaN]) {
    await assertRejects(() => queries(limit), RangeError, `"limit" must be a positive whole number, received ${limit}`);
  }
});

/** The hub with two subjects of MMLU, its `main` and converted branch at a commit, and what was asked of it. */
async function mmluHub(commit: string, file: (config: string) => string) {
  const subjects = ["mmlu_anatomy", "mmlu_virology"], { rows } = tables.mmlu_high_school_us_history;
  const bytes = parquet(rows, TASKS.mmlu_anatomy.columns), files = subjects.map((name) => file(TASKS[name].config));
  const others = ["anatomy/dev/0000.parquet", "anatomy/auxiliary_train/0000.parquet"].map((
    path,
  ) => [path, ["lfs", new Uint8Array(3)] as const]);
  const hub = await fakeHub(
    Object.fromEntries([...files.map((path) => [path, ["lfs", bytes] as const]), ...others]),
    "datasets/cais/mmlu",
    commit,
  );
  const asked = () => hub.hub.requests.map(({ url }) => decodeURIComponent(new URL(url).pathname)).sort();
  return { subjects, asked, url: hub.hub.url, [Symbol.asyncDispose]: () => hub[Symbol.asyncDispose]() };
}

Deno.test("loadTasks() asks the hub once a dataset, reads only the split, and then does without the hub's files", async () => {
  await using cache = await temporaryFolder();
  await using hub = await mmluHub(COMMIT, (config) => `${config}/test/0000.parquet`);
  const { subjects, asked } = hub, revisions = { "cais/mmlu": "refs/convert/parquet" };
  const options = { hubUrl: hub.url, cacheDir: cache.path, token: "hf_secret", delay: 1, retries: 0, revisions };

  const first = await loadTasks(subjects, options);
  assertEquals(
    first.map(({ task, dataset, items }) => [task, dataset, items.length]),
    subjects.map((name) => [name, `hf://datasets/cais/mmlu@${COMMIT}`, 1]),
  );
  assertEquals(
    first[1].items[0].query.slice(0, 82),
    "The following are multiple choice questions (with answers) about virology.\n\nWho du",
  );
  assertEquals(asked().filter((path) => path === "/api/datasets/cais/mmlu/revision/refs/convert/parquet").length, 1);
  assertEquals(asked().filter((path) => path.includes("/tree/")).length, 1);
  assert(asked().every((path) => !path.includes("dev") && !path.includes("auxiliary")));

  const before = asked().length;
  assertEquals(await loadTasks(subjects, { ...options, revisions: { "cais/mmlu": COMMIT } }), first);
  assertEquals(asked().length, before, "everything of a pinned commit is in the cache");
});

Deno.test("loadTasks() and loadTexts() read the commits that tasks and corpora name, as uploaded, and ask for no branch", async () => {
  await using cache = await temporaryFolder();
  const commit = TASKS.mmlu_anatomy.revision!;
  await using hub = await mmluHub(commit, (config) => `${config}/test-00000-of-00001.parquet`);
  const options = { hubUrl: hub.url, cacheDir: cache.path, token: "hf_secret", delay: 1, retries: 0 };
  assertEquals((await loadTasks(hub.subjects, options)).map(({ dataset }) => dataset), Array(2).fill(`hf://datasets/cais/mmlu@${commit}`));
  assertEquals(hub.asked().filter((path) => path.includes("/revision/")), []);

  const named = {
    piqa: { rows: tables.piqa.rows, columns: TASKS.piqa.columns },
    pages: { rows: [{ page: "= Tide =" }], columns: { page: "text" } },
  };
  const { wikitext2Pages } = CORPORA;
  for (const [{ rows, columns }, { repository, revision, file }] of [[named.piqa, TASKS.piqa], [named.pages, wikitext2Pages]] as const) {
    await using hub = await fakeHub({ [file!]: ["lfs", parquet([...rows], columns as Columns)] }, `datasets/${repository}`, revision);
    const here = { ...options, hubUrl: hub.hub.url };
    if (repository === TASKS.piqa.repository) assertEquals((await loadTasks(["piqa"], here))[0].items.length, named.piqa.rows.length);
    else assertEquals(await loadTexts("wikitext2Pages", here), { texts: ["= Tide ="], dataset: `hf://datasets/${repository}@${revision}` });
  }
});

Deno.test("every dataset but MathQA's has a commit of its own, the same for all its tasks", () => {
  const pins = new Map<string, Set<string | undefined>>();
  for (const { repository, revision } of [...Object.values(TASKS), ...Object.values(CORPORA)]) {
    pins.set(repository, (pins.get(repository) ?? new Set()).add(revision));
  }
  const commits = [...pins].map(([repository, revisions]) => {
    assertEquals(revisions.size, 1, repository);
    return [repository, [...revisions][0]] as const;
  });
  const pinned = commits.filter(([, revision]) => /^[0-9a-f]{40}$/.test(revision ?? ""));
  assertEquals(commits.filter(([, revision]) => !revision).map(([repository]) => repository), ["regisss/math_qa"]);
  assertEquals(new Set(pinned.map(([, revision]) => revision)).size, commits.length - 1, "no commit is that of two datasets");
});

Deno.test("loadTasks() says which file, which column, and what it found", async () => {
  await using folder = await temporaryFolder();
  const { piqa } = TASKS, path = join(folder.path, pathOf(piqa)), [row] = tables.piqa.rows, from = folder.path;
  const fails = async (bytes: Uint8Array<ArrayBuffer>, ...words: string[]) => {
    await write(path, bytes);
    const { message } = await assertRejects(() => loadTasks(["piqa"], { from }), Error);
    for (const word of [join("piqa", "default", "validation", "0000.parquet"), ...words]) {
      assert(message.includes(word), `expected "${word}" in: ${message}`);
    }
  };
  const { sol2: _, ...three } = piqa.columns;
  await fails(parquet([row], three), 'it has no column "sol2", expected goal, sol1, sol2, label, found goal, sol1, label');
  await fails(parquet([row, { ...row, sol1: null }], piqa.columns), '"sol1" of row 1 holds nothing, expected a text');
  await fails(
    parquet([{ ...row, label: "0" }], { ...piqa.columns, label: "text" } as Columns),
    '"label" of row 0 holds "0", expected a whole number',
  );
  await fails(new TextEncoder().encode("goal,sol1"), "it is not a parquet file");
  await fails(new Uint8Array(2), "it is not a parquet file");
  const damaged = parquet([row], piqa.columns);
  damaged.fill(0xff, 4, 40);
  await fails(damaged, "its data are damaged");
  await Deno.remove(path);
  await assertRejects(
    () => loadTasks(["piqa"], { from }),
    Error,
    `Found no split "validation" of "default" in "${join(from, "baber/piqa")}", expected "default/validation/0000.parquet" or ` +
      '"default/validation-00000-of-00001.parquet" or "data/validation-00000-of-00001.parquet" or "piqa_validation.parquet"',
  );
  await assertRejects(() => loadTasks(["rte"], { from }), Error, `Cannot open "${join(from, "nyu-mll/glue")}": no such file or directory`);
});

Deno.test("loadTasks() refuses tasks that it does not know, and rows without an answer", async () => {
  await using folder = await temporaryFolder();
  const from = folder.path;
  for (const name of ["arc", "toString"]) {
    await assertRejects(
      () => loadTasks([name], { from }),
      RangeError,
      `There is no task "${name}", expected one of arc_challenge, arc_easy, boolq,`,
    );
  }
  await assertRejects(() => loadTasks("arc_easy" as unknown as string[]), TypeError, 'expected a list of names such as "arc_easy"');
  const [swag] = tables.hellaswag.rows, [wino] = tables.winogrande.rows;
  await write(join(from, pathOf(TASKS.hellaswag)), parquet([{ ...swag, label: "" }], TASKS.hellaswag.columns));
  await assertRejects(() => loadTasks(["hellaswag"], { from }), Error, 'Cannot use row 0 of split "validation" of "default"');
  await write(join(from, pathOf(TASKS.winogrande)), parquet([{ ...wino, sentence: "No gap." }], TASKS.winogrande.columns));
  await assertRejects(() => loadTasks(["winogrande"], { from }), Error, 'Cannot ask "No gap.": it has no blank, expected "_"');
});

Deno.test("loadTasks() takes tasks of one's own", async () => {
  await using folder = await temporaryFolder();
  const task: Task = { ...TASKS.piqa, task: "piqa_train", split: "train" };
  await write(join(folder.path, pathOf(task)), parquet(tables.piqa.rows, task.columns));
  const [loaded] = await loadTasks([task, task], { from: folder.path });
  assertEquals([loaded.task, loaded.split, loaded.items.length, loaded.items[0].task], ["piqa_train", "train", 2, "piqa_train"]);
});
