/** OpenBLAS takes kernels that suit the processor, also where it does not know it. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { betterKernels, processorFlags } from "../../lib/device/cpu/openblas_kernels.ts";
import { runDeno } from "../run_deno.ts";

const BLAS = import.meta.resolve("../../lib/device/cpu/blas.ts");

const AVX512 = "avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl";

Deno.test("Better kernels are asked for where OpenBLAS does not know the processor, and only there", () => {
  assertEquals(betterKernels("Prescott", AVX512), "SkylakeX");
  assertEquals(betterKernels("Prescott", AVX512.replace("avx512vl", "")), "Haswell", "one instruction set is missing");
  assertEquals(betterKernels("Prescott", "sse2 sse4_2 avx avx2"), "Sandybridge", "Haswell's kernels need fma");
  assertEquals(betterKernels("Prescott", "sse2 sse4_2"), "Nehalem");
  assertEquals(betterKernels("Barcelona", "sse2 fma avx avx2"), "Haswell", "a later processor of AMD's");
  assertEquals(betterKernels("Barcelona", "sse2 sse4a"), undefined, "the one that they were made for");
  assertEquals(betterKernels("Prescott", ""), undefined, "nothing is known");
  for (const known of ["Zen", "Haswell", "SkylakeX", "Cooperlake", "armv8"]) assertEquals(betterKernels(known, AVX512), undefined, known);
});

Deno.test({
  name: "What the processor can do is found with the permission for libraries alone",
  permissions: { ffi: true },
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  fn: () => assertStringIncludes(` ${processorFlags()} `, " sse2 ", "as every processor of this architecture"),
});

/** The name of the BLAS that a process of its own opens. */
const nameWith = (coreType: string | undefined) =>
  runDeno(["eval", `import { openBlas } from "${BLAS}"; console.log(openBlas().name);`], { env: { OPENBLAS_CORETYPE: coreType } });

Deno.test({
  name: "OpenBLAS is opened with kernels that suit the processor, or with those that the user asked for",
  ignore: !openBlas()?.name.startsWith("OpenBLAS") || Deno.build.arch !== "x86_64",
  fn: async () => {
    const found = await nameWith(undefined), expected = betterKernels("Prescott", processorFlags());
    assert(!expected || !found.includes("Prescott"), `the processor can run ${expected}, and OpenBLAS is ${found}`);
    assertStringIncludes(await nameWith("Nehalem"), "Nehalem kernels");
  },
});

/** Each of four threads says that it is ready, and opens BLAS when told the time for it. */
const FOUR_AT_ONCE = `
  const thread = \`
    import { openBlas } from "${BLAS}";
    self.onmessage = ({ data: time }) => {
      while (Date.now() < time);
      self.postMessage(openBlas().name);
    };
    self.postMessage("ready");
  \`;
  const script = URL.createObjectURL(new Blob([thread], { type: "text/javascript" }));
  const threads = Array.from({ length: 4 }, () => new Worker(script, { type: "module" }));
  const answers = () => Promise.all(threads.map((thread) => new Promise((resolve) => thread.onmessage = ({ data }) => resolve(data))));
  await answers();
  const time = Date.now() + 50, names = answers();
  threads.forEach((thread) => thread.postMessage(time));
  console.log((await names).join("\\n"));
  Deno.exit();
`;

Deno.test({
  name: "Threads that open OpenBLAS at once have the kernels that one alone would have",
  ignore: !openBlas()?.name.startsWith("OpenBLAS") || Deno.build.arch !== "x86_64",
  fn: async () => {
    const alone = await nameWith(undefined);
    for (let run = 0; run < 3; run++) {
      assertEquals(await runDeno(["eval", FOUR_AT_ONCE], { env: { OPENBLAS_CORETYPE: undefined } }), alone.repeat(4));
    }
  },
});

Deno.test("Opening OpenBLAS leaves the environment as it was", async () => {
  for (const [coreType, timeout] of [[undefined, undefined], ["", ""], ["Haswell", "26"]]) {
    const env = { OPENBLAS_CORETYPE: coreType, OPENBLAS_THREAD_TIMEOUT: timeout };
    const show = `JSON.stringify(${JSON.stringify(Object.keys(env))}.map((name) => Deno.env.get(name)))`;
    const code = `import { openBlas } from "${BLAS}"; const before = ${show}; openBlas(); console.log(before === ${show});`;
    assertEquals(await runDeno(["eval", code], { env }), "true\n", `with variables ${JSON.stringify(env)}`);
  }
});
