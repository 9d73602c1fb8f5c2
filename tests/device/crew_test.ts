/** Experts on several threads give the bits that one thread gives. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { type Blas, openBlas } from "../../lib/device/cpu/blas.ts";
import { Crew } from "../../lib/device/cpu/crew.ts";
import { byExpert } from "../../lib/device/cpu/experts.ts";
import { axpy, gemm } from "../../lib/device/cpu/gemm.ts";
import { type Cpu, type CpuMatrix, cpuOf, type StoredMatrix } from "../../lib/device/cpu/linear.ts";
import { Memory } from "../../lib/device/cpu/memory.ts";
import { type CpuExpert, type ExpertWork, runExpert } from "../../lib/device/cpu/run_expert.ts";
import { CpuTensor } from "../../lib/device/cpu/tensor.ts";
import { narrow } from "../../lib/checkpoint/narrow.ts";
import { noise } from "../devices.ts";

const HIDDEN = 512, INNER = 1024, TOKENS = 1500, RANKS = 2, EXPERTS = 7;

/** Of the six experts with tokens, the factors of one matrix among them. */
const PRODUCTS = 6 * 3 + 1;

/** Experts of every form: stored in all types, as factors, with biases. */
function makeWork(memory: Memory, stack: DisposableStack): ExpertWork {
  const matrix = (rows: number, columns: number, seed: number, dtype: "F32" | "BF16" | "F16"): StoredMatrix => {
    const tensor = stack.use(new CpuTensor(memory, dtype, [rows, columns])), values = noise(rows * columns, seed).map((v) => v / 16);
    tensor.raw.set(dtype === "F32" ? new Uint8Array(values.buffer) : narrow(values, dtype));
    return tensor;
  };
  const experts = Array.from({ length: EXPERTS }, (_, e): CpuExpert => {
    const dtype = (["F32", "BF16", "F16"] as const)[e % 3], up = matrix(INNER, HIDDEN, 3 * e + 1, dtype);
    return {
      gate: matrix(INNER, HIDDEN, 3 * e, dtype),
      up: e === 4 ? { left: matrix(INNER, 96, 50, dtype), right: matrix(96, HIDDEN, 51, dtype) } : up,
      down: matrix(HIDDEN, INNER, 3 * e + 2, dtype),
    };
  });
  // Expert 6 has no tokens, expert 0 more than the others.
  const table = Uint32Array.from({ length: TOKENS * RANKS }, (_, slot) => slot % 9 < 1 ? 0 : slot % 6);
  const floats = (values: Float32Array<ArrayBuffer>) => {
    const tensor = stack.use(new CpuTensor(memory, "F32", [values.length]));
    tensor.f32.set(values);
    return tensor.f32;
  };
  return {
    ...{ x: floats(noise(TOKENS * HIDDEN, 99)), outputs: floats(new Float32Array(table.length * HIDDEN)), hidden: HIDDEN, ranks: RANKS },
    ...byExpert(table, EXPERTS),
    ...{ experts, biases: { gate: { values: floats(noise(EXPERTS * INNER, 98)), width: INNER } } },
  };
}

Deno.test({
  name: "Experts on two threads give the bits of one, whoever runs what; threads of BLAS are given back",
  ignore: !openBlas()?.threads,
  fn: () => {
    const blas = openBlas()!, memory = new Memory(), cpu = cpuOf(memory, blas), before = blas.threads!.count(), asked: number[] = [];
    using stack = new DisposableStack();
    const work = makeWork(memory, stack);
    blas.threads!.use(1);
    for (let e = 0; e < EXPERTS; e++) runExpert(cpu, work, e);
    const alone = work.outputs.slice();
    using crew = new Crew({ ...blas, threads: { count: () => 3, use: (count) => void (asked.push(count), blas.threads!.use(1)) } });
    let mine = 0, runs = 0, shared = 0;
    const counting: Cpu = { ...cpu, gemm: (...product) => (mine++, cpu.gemm(...product)) };
    while (shared < 3 && runs++ < 200) { // the other threads come in when they have started
      work.outputs.fill(NaN), mine = 0;
      assert(crew.run(counting, work), "so much work is shared out");
      assertEquals(work.outputs.findIndex((value, i) => value !== alone[i]), -1, `run ${runs}: an element differs`);
      if (mine < PRODUCTS) shared++;
    }
    assertEquals(shared, 3, "runs in which other threads took part");
    assertEquals(asked, Array(runs).fill([1, 3]).flat());
    blas.threads!.use(before);
  },
});

Deno.test({
  name: "Without the permission to load a thread's module none is started, and work is not shared out",
  permissions: { ffi: true },
  ignore: !openBlas()?.threads,
  fn: () => {
    const blas = openBlas()!, memory = new Memory(), asked: number[] = [];
    using stack = new DisposableStack();
    const work = makeWork(memory, stack);
    using crew = new Crew({ ...blas, threads: { count: () => 2, use: (count) => void asked.push(count) } });
    assertEquals(crew.run(cpuOf(memory, blas), work), false);
    assertEquals(asked, [], "threads of BLAS stay as they are");
  },
});

Deno.test("Little work is not shared out, nor what would keep few of many threads busy, nor any with one thread of BLAS or without one", () => {
  const memory = new Memory(), blas = openBlas();
  using stack = new DisposableStack();
  const work = makeWork(memory, stack), few = { ...work, starts: work.starts.map(() => 0) }, use = () => {};
  const crewOf = (threads: Blas["threads"]) => new Crew({ name: "", gemm, axpy, threads });
  using crew = crewOf({ count: () => 2, use });
  assertEquals(crew.run(cpuOf(memory, blas), few), false);
  using alone = crewOf({ count: () => 1, use });
  assertEquals(alone.run(cpuOf(memory, blas), work), false);
  using none = crewOf(undefined);
  assertEquals(none.run(cpuOf(memory, blas), work), false);
  using many = crewOf({ count: () => 9, use }); // six experts are too few for them
  assertEquals(many.run(cpuOf(memory, blas), work), false);
});

Deno.test({
  name: "A failure on the main thread gives the threads of BLAS back",
  ignore: !openBlas()?.threads,
  fn: async () => {
    const blas = openBlas()!, memory = new Memory(), asked: number[] = [];
    using stack = new DisposableStack();
    const work = makeWork(memory, stack);
    using crew = new Crew({ ...blas, threads: { count: () => 2, use: (count) => void asked.push(count) } });
    const failing: Cpu = {
      ...cpuOf(memory, blas),
      gemm: () => {
        throw new RangeError("no memory");
      },
    };
    for (let run = 0; run < 4; run++) {
      assertThrows(() => crew.run(failing, work), RangeError, "no memory");
      const then = work.outputs.slice();
      await new Promise((resolve) => setTimeout(resolve, 50));
      assertEquals(work.outputs.findIndex((value, i) => value !== then[i]), -1, "nothing is written after the failure");
    }
    assertEquals(asked, Array(4).fill([1, 2]).flat());
  },
});

Deno.test({
  name: "A failure on another thread is said on the main one, and gives the threads of BLAS back",
  ignore: !openBlas()?.threads,
  fn: () => {
    const blas = openBlas()!, memory = new Memory(), asked: number[] = [];
    using stack = new DisposableStack();
    const work = makeWork(memory, stack);
    // Two bytes of a matrix: the main thread finds the others behind them, another one gets no more.
    const cut = (matrix: CpuMatrix) => {
      const { shape, raw } = matrix as StoredMatrix;
      return { shape, dtype: "F16", raw: raw.subarray(0, 2), f32: new Float32Array() } as const;
    };
    const broken = { ...work, experts: work.experts.map((expert) => ({ ...expert, gate: cut(expert.gate) })) };
    using crew = new Crew({ ...blas, threads: { count: () => 2, use: (count) => void asked.push(count) } });
    let said = "";
    for (let run = 0; run < 200 && said === ""; run++) { // the other thread comes in when it has started
      try {
        crew.run(cpuOf(memory, blas), broken);
      } catch (error) {
        said = (error as Error).message;
      }
    }
    assertStringIncludes(said, "another thread failed");
    assertEquals(asked, Array(asked.length / 2).fill([1, 2]).flat());
  },
});
