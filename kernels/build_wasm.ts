/** Builds simd.wasm and choices.wasm from their AssemblyScript: `deno task wasm`. */

import { main } from "npm:assemblyscript@0.28.8/asc";

/** Where the memory of each is known beforehand: its pages of 64 KiB, and where its constants lie. */
const MEMORY = { simd: ["--initialMemory", "258", "--memoryBase", "65536"], choices: ["--initialMemory", "1"] };

export const MODULES = ["simd", "choices"] as const;

/** @throws {Error} With the compiler's words, if the source has a mistake. */
export async function buildWasm(name: (typeof MODULES)[number]): Promise<Uint8Array> {
  const source = await Deno.readTextFile(new URL(`${name}.as`, import.meta.url));
  let binary: Uint8Array | undefined;
  const options = ["--enable", "simd", "--runtime", "stub", "--noAssert", ...MEMORY[name], "--outFile", "module.wasm"];
  const { error, stderr } = await main([`${name}.ts`, "-O3", ...options], {
    readFile: (file) => file === `${name}.ts` ? source : null,
    writeFile: (file, contents) => void (file === "module.wasm" && (binary = contents as Uint8Array)),
    listFiles: () => [],
  });
  if (error || !binary) throw new Error(`Cannot compile ${name}.as: ${stderr.toString().trim() || error?.message}`);
  return binary;
}

if (import.meta.main) {
  for (const name of MODULES) await Deno.writeFile(new URL(`${name}.wasm`, import.meta.url), await buildWasm(name));
}
