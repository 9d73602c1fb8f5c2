/** OpenBLAS takes kernels that suit the processor, also where it does not know it. */

import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { openBlas } from "../../lib/device/cpu/blas.ts";
import { betterKernels, processorFlags } from "../../lib/device/cpu/openblas_kernels.ts";

const AVX512 = "avx2 fma avx512f avx512dq avx512cd avx512bw avx512vl";

Deno.test("Better kernels are asked for where OpenBLAS does not know the processor, and only there", () => {
  assertEquals(betterKernels("Prescott", AVX512), "SkylakeX");
  assertEquals(betterKernels("Prescott", AVX512.replace("avx512vl", "")), "Haswell", "one instruction set is missing");
  assertEquals(betterKernels("Prescott", "sse2 avx2"), undefined, "Haswell's kernels need fma");
  assertEquals(betterKernels("Prescott", ""), undefined, "nothing is known");
  for (const known of ["Zen", "Haswell", "SkylakeX", "Cooperlake", "armv8"]) assertEquals(betterKernels(known, AVX512), undefined, known);
});

Deno.test({
  name: "What the processor can do is found with the permission for libraries alone",
  permissions: { ffi: true },
  ignore: Deno.build.os !== "linux" || Deno.build.arch !== "x86_64",
  fn: () => assertStringIncludes(` ${processorFlags()} `, " sse2 ", "as every processor of this architecture"),
});

Deno.test({
  name: "OpenBLAS is opened with kernels that suit the processor, or with those that the user asked for",
  ignore: !openBlas()?.name.startsWith("OpenBLAS") || Deno.build.arch !== "x86_64",
  fn: async () => {
    const name = async (env: Record<string, string>) => {
      const code = `import { openBlas } from "${import.meta.resolve("../../lib/device/cpu/blas.ts")}"; console.log(openBlas().name);`;
      const { stdout } = await new Deno.Command(Deno.execPath(), { args: ["eval", code], env: { ...Deno.env.toObject(), ...env } })
        .output();
      return new TextDecoder().decode(stdout).trim();
    };
    const found = await name({ OPENBLAS_CORETYPE: "" });
    const expected = betterKernels("Prescott", processorFlags());
    assert(!expected || !found.includes("Prescott"), `the processor can run ${expected}, and OpenBLAS is ${found}`);
    assertStringIncludes(await name({ OPENBLAS_CORETYPE: "Nehalem" }), "Nehalem kernels");
  },
});

Deno.test("Opening OpenBLAS leaves the environment as it was", async () => {
  for (const set of [undefined, "", "26"]) {
    const names = ["OPENBLAS_CORETYPE", "OPENBLAS_THREAD_TIMEOUT"],
      show = `JSON.stringify(${JSON.stringify(names)}.map((name) => Deno.env.get(name)))`;
    const code = `import { openBlas } from "${
      import.meta.resolve("../../lib/device/cpu/blas.ts")
    }"; const before = ${show}; openBlas(); console.log(before === ${show});`;
    const env = Object.fromEntries(Object.entries(Deno.env.toObject()).filter(([name]) => !names.includes(name)));
    const args = ["eval", code],
      own = set === undefined ? {} : Object.fromEntries(names.map((name) => [name, set === "26" && name === names[0] ? "Haswell" : set]));
    const { stdout } = await new Deno.Command(Deno.execPath(), { args, clearEnv: true, env: { ...env, ...own } }).output();
    assertEquals(new TextDecoder().decode(stdout).trim(), "true", `with variables ${set === undefined ? "not set" : `"${set}"`}`);
  }
});
