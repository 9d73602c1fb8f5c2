/**
 * Runs all cells of a notebook.
 *
 * @module
 */

import { collectOutputs } from "./kernel/outputs.ts";
import { startKernel } from "./kernel/start_kernel.ts";
import { machinePath, withoutMachine } from "./machine.ts";
import { codeCells, type Notebook, type Stamp, stampOf } from "./notebook_file.ts";

/**
 * Runs the cells of a notebook in order, in a fresh kernel.
 *
 * @param options.folder Root of the (working copy of the) program; the kernel runs in `notebooks/` of it.
 * @param options.onCell Is told of each cell that has run.
 * @returns The notebook with outputs, counts, and the name of what they were made of; nothing in it tells of the machine.
 * @throws {Error} At the first cell that fails, that says something on stderr, or whose outputs hold a path.
 */
export async function executeNotebook(
  notebook: Notebook,
  { folder, scale, onCell }: { folder: string; scale: Stamp["scale"]; onCell?: (id: string, seconds: number) => void },
): Promise<Notebook> {
  const result = structuredClone(notebook), begin = collectOutputs();
  await using kernel = await startKernel({ cwd: `${folder}/notebooks`, env: { WINNOW_SCALE: scale } });
  for (const [i, cell] of codeCells(result).entries()) {
    const start = performance.now(), { outputs, take } = begin();
    const reply = await kernel.execute(cell.source, take).catch((cause) => {
      throw new Error(`Cannot run cell "${cell.id}": ${cause.message}`, { cause });
    });
    if (reply.status === "error") {
      const trace = outputs.find(({ output_type }) => output_type === "error")?.traceback?.slice(1) ?? [],
        told = reply.evalue === "Execution failed"
          ? "its syntax is wrong, `deno task test` tells where"
          : `${reply.ename}: ${reply.evalue}`;
      throw new Error(`Cannot run cell "${cell.id}": ${withoutMachine([told, ...trace].join("\n"), folder)}`);
    }
    cell.outputs = outputs;
    cell.execution_count = i + 1;
    onCell?.(cell.id, (performance.now() - start) / 1000);
  }
  for (const cell of codeCells(result)) {
    cell.outputs = withoutMachine(cell.outputs!, folder);
    const told = cell.outputs.find(({ name }) => name === "stderr")?.text?.trim(), path = machinePath(cell.outputs);
    if (told) throw new Error(`Cannot keep the outputs of cell "${cell.id}": expected nothing on stderr, found "${told}"`);
    if (path) throw new Error(`Cannot keep the outputs of cell "${cell.id}": expected none that tells of this machine, found "${path}"`);
  }
  result.metadata = {
    ...result.metadata,
    kernelspec: { display_name: "Deno", language: "typescript", name: "deno" },
    language_info: kernel.language,
    winnow: await stampOf(result, scale),
  };
  return result;
}
