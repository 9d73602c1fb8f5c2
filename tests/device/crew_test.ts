/** Work on several threads gives the bits that one thread gives. */

import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { attention, rotary } from "../../lib/device/cpu/attention.ts";
import { attentionVjp } from "../../lib/device/cpu/attention_vjp.ts";
import { type Blas, openBlas } from "../../lib/device/cpu/blas.ts";
import { Crew } from "../../lib/device/cpu/crew.ts";
import { byExpert } from "../../lib/device/cpu/experts.ts";
import { expertLinear, expertLinearVjp, order } from "../../lib/device/cpu/expert_rows.ts";
import { axpy, gemm } from "../../lib/device/cpu/gemm.ts";
import { type Cpu, type CpuMatrix, cpuOf, type StoredMatrix } from "../../lib/device/cpu/linear.ts";
import { Memory } from "../../lib/device/cpu/memory.ts";
import { type CpuExpert, expertCosts, type ExpertWork, runExpert } from "../../lib/device/cpu/run_expert.ts";
import * as rows from "../../lib/device/cpu/rows.ts";
import { CpuTensor } from "../../lib/device/cpu/tensor.ts";
import { narrow } from "../../lib/checkpoint/narrow.ts";
import { noise } from "../devices.ts";
import { watchedThreads } from "./watched_threads.ts";

const HIDDEN = 512, INNER = 1024, LARGE = 2 ** 13 + 8, TOKENS = 1500, RANKS = 2, EXPERTS = 7;

/** Of the six experts with tokens, the factors of one matrix among them, and two blocks of rows of three. */
const PRODUCTS = 6 * 3 + 1 + 3;

/** A crew that believes to have so many threads, and what it asked BLAS for. */
function crewOf(count: number, cpu: Cpu, blas: Blas): { crew: Crew; asked: number[] } {
  const { threads, asked } = watchedThreads(count);
  return { crew: new Crew(cpu, { ...blas, threads }), asked };
}

const run = (crew: Crew, work: ExpertWork) => crew.cpu.each(runExpert, work, expertCosts(work));

function sameBits(a: CpuTensor, b: CpuTensor): boolean {
  const [x, y] = [a, b].map(({ block, size }) => new Uint32Array(block, 0, size));
  for (let i = 0; i < x.length; i++) if (x[i] !== y[i]) return false;
  return x.length === y.length;
}

/** Experts of every form: stored in all types, as factors, with biases. */
function makeWork(memory: Memory, stack: DisposableStack): ExpertWork {
  const matrix = (rows: number, columns: number, seed: number, dtype: "F32" | "BF16" | "F16"): StoredMatrix => {
    const tensor = stack.use(new CpuTensor(memory, dtype, [rows, columns])), values = noise(rows * columns, seed).map((v) => v / 16);
    tensor.raw.set(dtype === "F32" ? new Uint8Array(values.buffer) : narrow(values, dtype));
    return tensor;
  };
  const experts = Array.from({ length: EXPERTS }, (_, e): CpuExpert => {
    // Two blocks are widened of each of these matrices, one after the other; the others are small enough to be kept.
    if (e === 5) {
      return { gate: matrix(LARGE, HIDDEN, 15, "BF16"), up: matrix(LARGE, HIDDEN, 16, "BF16"), down: matrix(HIDDEN, LARGE, 17, "BF16") };
    }
    const dtype = (["F32", "BF16", "F16"] as const)[e % 3], up = matrix(INNER, HIDDEN, 3 * e + 1, dtype);
    return {
      gate: matrix(INNER, HIDDEN, 3 * e, dtype),
      up: e === 4 ? { left: matrix(INNER, 96, 50, dtype), right: matrix(96, HIDDEN, 51, dtype) } : up,
      down: matrix(HIDDEN, INNER, 3 * e + 2, dtype),
    };
  });
  // Expert 6 has no tokens, expert 0 more than the others, expert 5 few.
  const table = Uint32Array.from({ length: TOKENS * RANKS }, (_, slot) => slot % 9 < 1 ? 0 : slot % 40 === 7 ? 5 : slot % 5);
  const floats = (values: Float32Array<ArrayBuffer>) => {
    const tensor = stack.use(new CpuTensor(memory, "F32", [values.length]));
    tensor.f32.set(values);
    return tensor.f32;
  };
  return {
    ...{ x: floats(noise(TOKENS * HIDDEN, 99)), outputs: floats(new Float32Array(table.length * HIDDEN)), hidden: HIDDEN, ranks: RANKS },
    ...byExpert(table, EXPERTS),
    ...{ experts, biases: { gate: { values: floats(noise(EXPERTS * LARGE, 98)), width: LARGE } } },
  };
}

Deno.test({
  name: "Experts on two threads give the bits of one, whoever runs what; threads of BLAS are given back",
  ignore: !openBlas()?.threads,
  fn: () => {
    const blas = openBlas()!, memory = new Memory(), cpu = cpuOf(memory, blas);
    using _one = blas.threads!.one();
    using stack = new DisposableStack();
    const work = makeWork(memory, stack);
    for (let e = 0; e < EXPERTS; e++) runExpert(cpu, work, e);
    const alone = work.outputs.slice();
    let mine = 0, runs = 0, shared = 0;
    const counting = { ...cpu, gemm: (...product: Parameters<Cpu["gemm"]>) => (mine++, cpu.gemm(...product)) };
    counting.each = (task, work, costs) => costs.forEach((_, part) => task(counting, work, part));
    const { crew, asked } = crewOf(3, counting, blas);
    stack.use(crew);
    while (shared < 3 && runs++ < 200) { // the other threads come in when they have started
      work.outputs.fill(NaN), mine = 0;
      run(crew, work);
      assertEquals(work.outputs.findIndex((value, i) => value !== alone[i]), -1, `run ${runs}: an element differs`);
      if (mine < PRODUCTS) shared++;
    }
    assertEquals(shared, 3, "runs in which other threads took part");
    assertEquals(asked, Array(runs).fill([1, 3]).flat());
  },
});

Deno.test({
  name: "Without the permission to load a thread's module none is started, and work is not shared out",
  permissions: { ffi: true },
  ignore: !openBlas()?.threads,
  fn: () => {
    const blas = openBlas()!, memory = new Memory();
    using stack = new DisposableStack();
    const work = makeWork(memory, stack), { crew, asked } = crewOf(2, cpuOf(memory, blas), blas);
    stack.use(crew);
    run(crew, work);
    assert(work.outputs.every(Number.isFinite), "all is computed");
    assertEquals(asked, [], "threads of BLAS stay as they are");
  },
});

Deno.test("Little work is not shared out, nor what would keep few of many threads busy, nor any with one thread of BLAS or without one", () => {
  const memory = new Memory(), cpu = { ...cpuOf(memory, undefined), each: () => {} }, blas: Blas = { name: "", gemm, axpy };
  using stack = new DisposableStack();
  const work = makeWork(memory, stack), few = { ...work, starts: work.starts.map(() => 0) };
  const askedOf = (count: number, work: ExpertWork) => {
    const { crew, asked } = crewOf(count, cpu, blas);
    stack.use(crew);
    run(crew, work);
    return asked;
  };
  assertEquals(askedOf(2, few), []);
  assertEquals(askedOf(1, work), []);
  assertEquals(askedOf(9, work), [], "six experts are too few for nine threads");
  using none = new Crew(cpu, blas);
  run(none, work);
  assertEquals(none.cpu.threads(1e15), 1);
});

Deno.test({
  name: "A failure on the main thread gives the threads of BLAS back",
  ignore: !openBlas()?.threads,
  fn: async () => {
    const blas = openBlas()!, memory = new Memory();
    using stack = new DisposableStack();
    const work = makeWork(memory, stack);
    const failing: Cpu = {
      ...cpuOf(memory, blas),
      gemm: () => {
        throw new RangeError("no memory");
      },
    };
    const { crew, asked } = crewOf(2, failing, blas);
    stack.use(crew);
    for (let i = 0; i < 4; i++) {
      assertThrows(() => run(crew, work), RangeError, "no memory");
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
    const blas = openBlas()!, memory = new Memory();
    using stack = new DisposableStack();
    const work = makeWork(memory, stack), { crew, asked } = crewOf(2, cpuOf(memory, blas), blas);
    stack.use(crew);
    // Two bytes of a matrix: the main thread finds the others behind them, another one gets no more.
    const cut = (matrix: CpuMatrix) => {
      const { shape, raw } = matrix as StoredMatrix;
      return { shape, dtype: "F16", raw: raw.subarray(0, 2), f32: new Float32Array() } as const;
    };
    const broken = { ...work, experts: work.experts.map((expert) => ({ ...expert, gate: cut(expert.gate) })) };
    let said = "";
    for (let i = 0; i < 200 && said === ""; i++) { // the other thread comes in when it has started
      try {
        run(crew, broken);
      } catch (error) {
        said = (error as Error).message;
      }
    }
    assertStringIncludes(said, "another thread failed");
    assertEquals(asked, Array(asked.length / 2).fill([1, 2]).flat());
  },
});

Deno.test({
  name: "Every operation that is shared out gives the same bits on two threads as alone",
  ignore: !openBlas()?.threads,
  fn: () => {
    const blas = openBlas()!, memory = new Memory(), cpu = cpuOf(memory, blas);
    using _one = blas.threads!.one();
    let mine = 0;
    using stack = new DisposableStack();
    const { crew, asked } = crewOf(2, { ...cpu, gemm: (...product) => (mine++, cpu.gemm(...product)) }, blas);
    stack.use(crew);
    const floats = (shape: number[], seed: number) => {
      const tensor = stack.use(new CpuTensor(memory, "F32", shape));
      const some = noise(65521, seed); // a prime: repeats meet no row's end
      for (let i = 0; i < tensor.size; i++) tensor.f32[i] = some[i % some.length];
      return tensor;
    };
    const heads = 12,
      width = 64,
      tokens = 1600,
      segments = [400, 410, 390, 400].map((length, i) => ({ start: [0, 400, 810, 1200][i], length, position: 0 }));
    const part = (seed: number, count: number) => ({
      tensor: floats([tokens, count * width], seed),
      row: count * width,
      stride: width,
      offset: 0,
      width,
    });
    // Keys that all heads share, as in latent attention, beside their own.
    const shared = { ...part(4, 1), stride: 0 },
      query = [part(1, heads), part(2, heads)],
      key = [part(3, heads), shared],
      value = part(5, heads);
    const options = { segments, heads, keyHeads: heads, scale: 0.1 }, wide = [448, 2 ** 13];
    const [x, y, gain, outputs, gates, dy] = [
      floats(wide, 6),
      floats(wide, 7),
      floats([wide[1]], 8),
      floats([1536, 4, 2048], 9),
      floats([1536, 4], 10),
      floats([tokens, heads * width], 11),
    ];
    const products = floats([1024, 24, 1024], 12),
      isShared = () => {
        mine = 0;
        rows.gram(crew.cpu, products)[Symbol.dispose]();
        return mine < 1024;
      };
    const listed = stack.use(new CpuTensor(memory, "U32", [2000, 2]));
    for (let i = 0; i < listed.size; i++) listed.u32[i] = (i * 7) % 9; // expert 8 is not there
    const sorted = order(listed, 8), sides = [[256, 192], [96, 192]] as const; // every other expert is narrower
    const shapes = Array.from({ length: 8 }, (_, e) => sides[e % 2]), count = shapes.reduce((n, [rows, columns]) => n + rows * columns, 0);
    const matrices = { tensor: floats([count], 13), shapes }, narrow = floats([4000, 192], 14), wideRows = floats([4000, 256], 15);
    const operations: Record<string, (cpu: Cpu) => readonly CpuTensor[]> = {
      attention: (cpu) => [attention(cpu, query, key, value, options)],
      attentionVjp: (cpu) => [...attentionVjp(cpu, dy, query, key, value, options).values()],
      swiglu: (cpu) => [rows.swiglu(cpu, x, y)],
      rmsNorm: (cpu) => [rows.rmsNorm(cpu, x, gain, 1e-6)],
      combine: (cpu) => [rows.combine(cpu, outputs, gates)],
      expertLinear: (cpu) => [expertLinear(cpu, narrow, sorted, matrices)],
      expertLinearVjp: (cpu) => [expertLinearVjp(cpu, wideRows, sorted, matrices)],
      gram: (cpu) => [rows.gram(cpu, products)],
      rotary: (cpu) => {
        const turned = new CpuTensor(memory, "F32", value.tensor.shape),
          frequencies = Float64Array.from({ length: width / 2 }, (_, i) => 0.9 ** i);
        turned.f32.set(value.tensor.f32);
        const apart = segments.map((segment, i) => ({ ...segment, position: 50 + 100 * i })); // a range of positions has some of them
        rotary(cpu, turned, { segments: apart, heads, stride: width, offset: 0, frequencies, factor: 1, interleaved: false });
        return [turned];
      },
    };
    let runs = 0;
    while (!isShared()) assert(runs++ < 500, "another thread takes part when it has started");
    for (const [name, operation] of Object.entries(operations)) {
      const alone = operation(cpu), times = asked.length;
      for (let i = 0; i < 3; i++) {
        operation(crew.cpu).forEach((tensor, t) => {
          assert(sameBits(tensor, alone[t]), `${name}: result ${t} differs`);
          tensor[Symbol.dispose]();
        });
      }
      assertEquals(asked.length - times, 6, `${name} is shared out each time`);
      alone.forEach((tensor) => tensor[Symbol.dispose]());
    }
  },
});
