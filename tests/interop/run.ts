/**
 * Runs every comparison with Python's libraries, one line a check, and fails where a tolerance is exceeded:
 *
 *     deno task interop [--python PYTHON] [--only WORD]
 *
 * PYTHON has the packages torch, transformers, peft and lm-eval. All files go to a temporary folder.
 */

import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { VARIANT_LOGITS } from "../references/variants.ts";

const { values: { python, only } } = parseArgs({ options: { python: { type: "string", default: "python3" }, only: { type: "string" } } });
const here = fileURLToPath(new URL(".", import.meta.url)), root = fileURLToPath(new URL("../..", import.meta.url));
const folder = await Deno.makeTempDir();
// Python's caches go there too: transformers copies the classes that a checkpoint brings along. The hub is not asked.
const env = { HF_HOME: `${folder}/cache`, HF_HUB_OFFLINE: "1", PYTHONDONTWRITEBYTECODE: "1", NO_COLOR: "1" };

/** Runs a program to its end, and gives what it printed. */
async function run(program: string, ...args: string[]): Promise<string> {
  const { success, stdout, stderr } = await new Deno.Command(program, { args, env, cwd: root }).output();
  const [printed, said] = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
  if (success) return printed;
  throw new Error(`${args[0]} failed:\n${[...printed.split("\n").slice(-20), ...said.split("\n").slice(-20)].join("\n").trim()}`);
}

const script = (name: string, ...args: string[]) => run(Deno.execPath(), "run", "-A", `${here}${name}`, ...args);
const program = (name: string, ...args: string[]) => run(python, `${here}${name}`, ...args);

/** The folders that hold a case. */
function cases(path: string): string[] {
  const names = [...Deno.readDirSync(path)].map(({ name }) => `${path}/${name}`).sort();
  return names.filter((name) => [...Deno.readDirSync(name)].some((file) => file.name === "case.json"));
}

/** The largest of the differences that a program printed, one a case. */
function worst(printed: string): string {
  const found = [...printed.matchAll(/largest difference(?: of log-likelihoods)? ([\d.e+-]+)/g)].map(([, number]) => Number(number));
  if (found.length === 0) throw new Error(`a program compared nothing, and printed "${printed.slice(0, 200)}"`);
  return `${found.length} cases, largest difference ${Math.max(...found).toExponential(1)}`;
}

/** Of figures that were computed now, from those that the tests compare with. */
function fromReferences(figures: typeof VARIANT_LOGITS): string {
  const numbers = ({ norm, first, middle, last }: (typeof VARIANT_LOGITS)[string]) => [norm, ...first, ...middle, ...last];
  const differences = Object.entries(VARIANT_LOGITS).flatMap(([name, want]) => {
    const got = numbers(figures[name]);
    return numbers(want).map((value, i) => Math.abs(got[i] - value) / Math.max(1, Math.abs(value)));
  });
  const largest = Math.max(...differences);
  if (!(largest <= 1e-4)) throw new Error(`tests/references/variants.ts is off by ${largest}, allowed 1e-4`);
  return `${Object.keys(VARIANT_LOGITS).length} cases, largest difference ${largest.toExponential(1)}`;
}

const CHECKS: Record<string, (path: string) => Promise<string>> = {
  "saved models in transformers: logits within 1e-3, and generate": async (path) => {
    await script("write_pruned.ts", path);
    return worst(await program("logits.py", "--compare", ...cases(path)));
  },
  "reference logits of all architectures, by this transformers": async (path) => {
    await script("write_variants.ts", path);
    return fromReferences(JSON.parse(await program("logits.py", ...cases(path))));
  },
  "adapters in PEFT: logits within 1e-3": async (path) => {
    await script("write_adapters.ts", path);
    return worst(await program("adapters.py", path));
  },
  "requests of lm-evaluation-harness, character by character": async (path) => {
    await program("lm_eval_requests.py", `${here}../evaluate/tasks/rows.json`, path);
    return (await script("compare_requests.ts", path)).trim();
  },
  "scores of lm-evaluation-harness: log-likelihoods within 2e-3, accuracies alike": async (path) => {
    await script("write_scores.ts", path);
    return worst(await program("lm_eval_scores.py", ...cases(path)));
  },
};

const packages =
  `from importlib.metadata import version; print(*(f"{p} {version(p)}" for p in ("torch", "transformers", "peft", "lm-eval")), sep=", ")`;
let failed = 0;
try {
  console.log((await run(python, "-c", packages)).trim());
  for (const [i, [name, check]] of Object.entries(CHECKS).entries()) {
    if (only && !name.includes(only)) continue;
    const start = performance.now();
    const result = await check(`${folder}/${i}`).catch((error) => (failed++, error as Error));
    const seconds = `${((performance.now() - start) / 1000).toFixed(0)} s`;
    console.log(result instanceof Error ? `FAILED  ${name} (${seconds}): ${result.message}` : `ok      ${name}: ${result} (${seconds})`);
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}
if (failed > 0) Deno.exit(1);
