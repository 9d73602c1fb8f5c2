/** Builds simd.wasm from simd.as: `deno task simd`. */

import { main } from "npm:assemblyscript@0.28.8/asc";

/** @throws {Error} With the compiler's words, if the source has a mistake. */
export async function buildSimd(): Promise<Uint8Array> {
  const source = await Deno.readTextFile(new URL("simd.as", import.meta.url));
  let binary: Uint8Array | undefined;
  const options = ["--enable", "simd", "--runtime", "stub", "--noAssert", "--initialMemory", "1"];
  const { error, stderr } = await main(["simd.ts", "-O3", ...options, "--outFile", "simd.wasm"], {
    readFile: (name) => name === "simd.ts" ? source : null,
    writeFile: (name, contents) => void (name === "simd.wasm" && (binary = contents as Uint8Array)),
    listFiles: () => [],
  });
  if (error || !binary) throw new Error(`Cannot compile simd.as: ${stderr.toString().trim() || error?.message}`);
  return binary;
}

if (import.meta.main) await Deno.writeFile(new URL("simd.wasm", import.meta.url), await buildSimd());
