/** Weights whose elements have factors: against their definition, against the form that never makes them, and backwards against finite differences. */

import { assert, assertEquals, assertThrows } from "@std/assert";
import type { Device, DType, Experts, ExpertSource, Tensor, TensorSource } from "../../lib/device/device.ts";
import { NO_EXPERT } from "../../lib/device/device.ts";
import type { Modulation, SortedExperts } from "../../lib/device/modulated.ts";
import type { MatrixStack } from "../../lib/device/vjp.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { random, testAgainstCpu, testSplit, weight } from "./against_cpu.ts";
import { read, slopes } from "./slopes.ts";

/** Widened elements of a matrix of noise. */
async function elements(device: Device, rows: number, columns: number, dtype: DType, seed: number): Promise<Float32Array> {
  using stored = await device.load(weight(rows, columns, dtype, seed));
  return await read(device, device.widen(stored));
}

/** x (W + scale · R(down) up W)ᵀ, element by element. */
function whole(x: Float32Array, w: Float32Array, a: Float32Array, b: Float32Array, [out, columns, blocks]: number[], scale: number) {
  const y = new Float64Array(x.length / columns * out);
  for (let i = 0; i < y.length; i++) {
    const t = Math.floor(i / out), o = i % out, block = Math.floor(o / (out / blocks));
    for (let j = 0; j < columns; j++) y[i] += x[t * columns + j] * w[o * columns + j] * (1 + scale * a[block * columns + j] * b[o]);
  }
  return y;
}

/** The same without the modulated matrix: x Wᵀ + scale · concat_i((x ⊙ A_i) W_iᵀ) ⊙ bᵀ. */
function blockwise(x: Float32Array, w: Float32Array, a: Float32Array, b: Float32Array, [out, columns, blocks]: number[], scale: number) {
  const rows = x.length / columns, height = out / blocks, y = new Float64Array(rows * out);
  for (let block = 0; block < blocks; block++) {
    const scaled = Float64Array.from(x, (v, i) => v * a[block * columns + i % columns]);
    for (let t = 0; t < rows; t++) {
      for (let o = block * height; o < (block + 1) * height; o++) {
        let plain = 0, low = 0;
        for (let j = 0; j < columns; j++) {
          plain += x[t * columns + j] * w[o * columns + j];
          low += scaled[t * columns + j] * w[o * columns + j];
        }
        y[t * out + o] = plain + scale * low * b[o];
      }
    }
  }
  return y;
}

Deno.test("both forms of a modulated product are the same", () => {
  const sizes = [12, 5, 4], [x, w, a, b] = [noise(35, 1), noise(60, 2), noise(20, 3), noise(12, 4)];
  assertClose(blockwise(x, w, a, b, sizes, 2), whole(x, w, a, b, sizes, 2), 1e-12);
});

for (const dtype of ["F32", "BF16", "F16"] as const) {
  testOnDevices(`modulated() multiplies by a ${dtype} weight and its factors`, async (device) => {
    for (const [rows, out, columns, blocks] of [[9, 12, 5, 4], [70, 130, 67, 13], [1, 3, 1, 1], [5, 64, 128, 16]]) {
      const [x, a, b, offset] = [noise(rows * columns, 1), noise(blocks * columns, 3), noise(out, 4), noise(out, 5)];
      const w = await elements(device, out, columns, dtype, 2), sizes = [out, columns, blocks], name = `${sizes}`;
      using W = await device.load(weight(out, columns, dtype, 2));
      using X = device.tensor(x, [rows, columns]);
      using bias = device.tensor(offset, [out]);
      using A = device.tensor(a, [blocks, columns]);
      using B = device.tensor(b, [out, 1]);
      const factors = { down: stackOf(A, [[blocks, columns]]), up: stackOf(B, [[out, 1]]), scale: 2 },
        want = blockwise(x, w, a, b, sizes, 2);
      assertClose(await read(device, device.modulated(X, W, { ...factors, identity: true })), want, 2e-6, name);
      const biased = await read(device, device.modulated(X, W, { ...factors, identity: true }, bias));
      assertClose(biased, want.map((v, i) => v + offset[i % out]), 2e-6, `${name} with a bias`);
      const plain = await read(device, device.linear(X, W)), rest = want.map((v, i) => v - plain[i]);
      assertClose(await read(device, device.modulated(X, W, { ...factors, identity: false })), rest, 1e-5, `${name} without the weight`);
    }
  });
}

const stackOf = (tensor: Tensor, shapes: MatrixStack["shapes"]): MatrixStack => ({ tensor, shapes });

testOnDevices("parts of a weight share the blocks of the whole", async (device) => {
  const [out, columns, blocks] = [12, 5, 4], x = noise(15, 1), w = noise(60, 2), a = noise(20, 3), b = noise(12, 4), dy = noise(36, 5);
  using X = device.tensor(x, [3, 5]);
  using A = device.tensor(a, [4, 5]);
  const run = async (first: number, rows: number) => {
    using W = device.tensor(w.slice(first * columns, (first + rows) * columns), [rows, columns]);
    using B = device.tensor(b.slice(first, first + rows), [rows, 1]);
    using Dy = device.tensor(dy.filter((_, i) => i % out >= first && i % out < first + rows), [3, rows]);
    const factors = { down: stackOf(A, [[blocks, columns]]), up: stackOf(B, [[rows, 1]]), scale: 2, identity: true };
    const modulation: Modulation = { ...factors, within: { first, rows: out } }, to = device.vjp.modulation(Dy, X, W, modulation);
    return {
      y: await read(device, device.modulated(X, W, modulation)),
      ...{ down: await read(device, to.down), up: await read(device, to.up) },
    };
  };
  const all = await run(0, 12), upper = await run(0, 7), lower = await run(7, 5); // 7 is within the third block
  const joined = all.y.map((_, i) =>
    i % out < 7 ? upper.y[Math.floor(i / out) * 7 + i % out] : lower.y[Math.floor(i / out) * 5 + i % out - 7]
  );
  assertClose(joined, all.y, 1e-6);
  assertClose(upper.down.map((v, i) => v + lower.down[i]), all.down, 1e-5, "down");
  assertClose([...upper.up, ...lower.up], all.up, 1e-5, "up");
  assertEquals(lower.down.slice(0, 2 * columns), new Float32Array(2 * columns), "blocks of other rows");
});

/** One dense expert, one of two factors, one of both sizes: gates and ups `[6, 4]`, downs `[4, 6]`. */
function experts(dtype: DType, [hidden, inner] = [4, 6]): ExpertSource[] {
  const dense = (seed: number) => {
    const [gate, up, down] = [[inner, hidden], [inner, hidden], [hidden, inner]].map(([r, c], i) => weight(r, c, dtype, seed + i));
    return { gate, up, down };
  };
  const low = (rank: number, seed: number) => {
    const pair = (rows: number, columns: number, seed: number) => {
      return { left: weight(rows, rank, dtype, seed), right: weight(rank, columns, dtype, seed + 1) };
    };
    return { gate: pair(inner, hidden, seed), up: pair(inner, hidden, seed + 2), down: pair(hidden, inner, seed + 4) };
  };
  return [dense(1), low(2, 10), low(3, 20), dense(30)];
}

const TABLE = Uint32Array.of(0, 1, 3, NO_EXPERT, 1, 2, 2, 0, 0, 3), ROLES = ["dense", "right", "left"] as const;

/** Factors for the matrices of a part of experts: as many blocks as divide both their rows and 4. */
function factorsFor(device: Device, experts: Experts, kind: "gate" | "down", role: typeof ROLES[number], stack: DisposableStack) {
  const shapes = experts.shapes.map((s) => s[kind][role] ?? [0, 0] as const);
  const down = shapes.map(([rows, columns]) =>
    [rows % 4 === 0 ? Math.min(rows, 4) : rows % 2 === 0 ? 2 : 1, columns].map((n) => rows && n)
  );
  const up = shapes.map(([rows]) => [rows, rows && 1]), size = (list: number[][]) => list.reduce((n, [r, c]) => n + r * c, 0);
  const make = (list: number[][], seed: number) =>
    stackOf(stack.use(random(device, [size(list)], seed)), list.map(([r, c]) => [r, c] as const));
  return { shapes, modulation: { down: make(down, 41), up: make(up, 42), scale: 1.5, identity: true } satisfies Modulation };
}

testOnDevices("modulated() of experts is that of each one's own weight, and so is the way back", async (device) => {
  const sources = experts("BF16");
  using layer = await device.loadExperts(sources);
  using table = device.tensor(TABLE, [5, 2]);
  using order = device.order(table, 4);
  for (const kind of ["gate", "down"] as const) {
    for (const role of ROLES) {
      using stack = new DisposableStack();
      const { shapes, modulation } = factorsFor(device, layer, kind, role, stack), part = { experts: layer, kind, role };
      const [out, width] = [0, 1].map((side) => Math.max(...shapes.map((shape) => shape[side])));
      const slots = device.tensor(noise(10 * width, 50), [5, 2, width]), wide = device.tensor(noise(10 * out, 51), [5, 2, out]);
      using rows = stack.use(device.sortRows(stack.use(slots), order));
      using dy = stack.use(device.sortRows(stack.use(wide), order));
      const weights = { part, order }, y = stack.use(device.modulated(rows, weights, modulation));
      const dx = stack.use(device.vjp.modulated(dy, weights, modulation)), to = device.vjp.modulation(dy, rows, weights, modulation);
      const got = { y: await read(device, device.unsortRows(y, order)), dx: await read(device, device.unsortRows(dx, order)) };
      const factors = { down: await read(device, to.down), up: await read(device, to.up) },
        [x, g] = [noise(10 * width, 50), noise(10 * out, 51)];
      let [atDown, atUp] = [0, 0];
      for (const [e, [height, columns]] of shapes.entries()) {
        const [blocks] = modulation.down.shapes[e], mine = [...TABLE.keys()].filter((slot) => TABLE[slot] === e);
        if (height > 0) {
          using W = await device.load(sourceOf(sources[e][kind], role)!);
          const own = await Promise.all([modulation.down, modulation.up].map(async ({ tensor }) => await device.read(tensor)));
          using A = device.tensor(own[0].slice(atDown, atDown + blocks * columns), [blocks, columns]);
          using B = device.tensor(own[1].slice(atUp, atUp + height), [height, 1]);
          using X = device.tensor(Float32Array.from(mine.flatMap((s) => [...x.slice(s * width, s * width + columns)])), [
            mine.length,
            columns,
          ]);
          using Dy = device.tensor(Float32Array.from(mine.flatMap((s) => [...g.slice(s * out, s * out + height)])), [mine.length, height]);
          const single = { down: stackOf(A, [[blocks, columns]]), up: stackOf(B, [[height, 1]]), scale: 1.5, identity: true };
          const wantY = await read(device, device.modulated(X, W, single)), wantX = await read(device, device.vjp.modulated(Dy, W, single));
          const wanted = device.vjp.modulation(Dy, X, W, single), name = `${kind} ${role} of expert ${e}`;
          const taken = (from: Float32Array, wide: number, count: number) =>
            mine.flatMap((s) => [...from.slice(s * wide, s * wide + count)]);
          assertClose(taken(got.y, out, height), wantY, 2e-6, name), assertClose(taken(got.dx, width, columns), wantX, 2e-6, name);
          const wantDown = await read(device, wanted.down), wantUp = await read(device, wanted.up);
          assertClose(factors.down.slice(atDown, atDown + wantDown.length), wantDown, 1e-5, `down, ${name}`);
          assertClose(factors.up.slice(atUp, atUp + height), wantUp, 1e-5, `up, ${name}`);
        }
        atDown += blocks * columns, atUp += height;
      }
      assert(atUp > 0);
    }
  }
});

function sourceOf(matrix: ExpertSource["gate"], role: typeof ROLES[number]) {
  return "left" in matrix ? role === "dense" ? undefined : matrix[role] : role === "dense" ? matrix : undefined;
}

testOnDevices("vector-Jacobian products of modulated weights agree with finite differences", async (device, test) => {
  const [rows, out, columns, blocks] = [7, 12, 5, 4], x = noise(35, 1), a = noise(20, 3), b = noise(12, 4), dy = noise(84, 5);
  using X = device.tensor(x, [rows, columns]);
  using Dy = device.tensor(dy, [rows, out]);
  using A = device.tensor(a, [blocks, columns]);
  using B = device.tensor(b, [out, 1]);
  for (const [dtype, identity] of [["BF16", true], ["F16", false], ["F32", true]] as const) {
    using W = await device.load(weight(out, columns, dtype, 2));
    const with_ = (down: Tensor, up: Tensor) => {
      return { down: stackOf(down, [[blocks, columns]]), up: stackOf(up, [[out, 1]]), scale: 2, identity };
    };
    const to = device.vjp.modulation(Dy, X, W, with_(A, B)), toX = device.vjp.modulated(Dy, W, with_(A, B));
    const cases = {
      x: [toX, slopes(device, x, dy, (t) => device.modulated(t, W, with_(A, B)), [rows, columns])],
      down: [to.down, slopes(device, a, dy, (t) => device.modulated(X, W, with_(t, B)), [blocks, columns])],
      up: [to.up, slopes(device, b, dy, (t) => device.modulated(X, W, with_(A, t)), [out, 1])],
    } as const;
    for (const [name, [got, want]] of Object.entries(cases)) {
      await test.step(`${name}, ${dtype}`, async () => assertClose(await read(device, got), await want, 5e-3, name));
    }
  }
});

/** Everything over a larger layer and a larger weight. */
async function products(device: Device, [tokens, hidden, inner]: number[]): Promise<Tensor[]> {
  using layer = await device.loadExperts(experts("BF16", [hidden, inner]));
  const listed = Uint32Array.from({ length: 2 * tokens }, (_, i) => i % 11 === 0 ? NO_EXPERT : (7 * i + (i >> 4)) % 3);
  using table = device.tensor(listed, [tokens, 2]);
  using order = device.order(table, 4);
  const results: Tensor[] = [];
  for (const role of ROLES) {
    using stack = new DisposableStack();
    const { shapes, modulation } = factorsFor(device, layer, "gate", role, stack),
      weights = { part: { experts: layer, kind: "gate", role }, order } as const;
    const [out, width] = [0, 1].map((side) => Math.max(...shapes.map((shape) => shape[side])));
    using x = random(device, [2 * tokens, width], 60);
    using dy = random(device, [2 * tokens, out], 61);
    const { down, up } = device.vjp.modulation(dy, x, weights, modulation);
    results.push(device.modulated(x, weights, modulation), device.vjp.modulated(dy, weights, modulation), down, up);
  }
  using matrix = await device.load(weight(inner, hidden, "F16", 62));
  using a = random(device, [2, hidden], 63);
  using b = random(device, [inner, 1], 64);
  using x = random(device, [tokens, hidden], 65);
  using dy = random(device, [tokens, inner], 66);
  const modulation = { down: stackOf(a, [[2, hidden]]), up: stackOf(b, [[inner, 1]]), scale: 2, identity: true };
  const { down, up } = device.vjp.modulation(dy, x, matrix, modulation);
  return [...results, device.modulated(x, matrix, modulation), device.vjp.modulated(dy, matrix, modulation), down, up];
}

testAgainstCpu("modulated products keep their digits", 2e-5, (device) => products(device, [300, 70, 134]));
testAgainstCpu("modulated products over no rows at all", 0, (device) => products(device, [0, 4, 6]));
testSplit("modulated products are cut", 4608, 2e-5, (device) => products(device, [101, 32, 66]));

testOnDevices("weights too large to be modulated at once give what their halves give", async (device) => {
  // The CPU takes 2 ** 22 elements at a time, the GPU 2 ** 24.
  const [out, columns, blocks] = device.kind === "cpu" ? [2100, 2050, 4] : [4104, 4096, 4], half = out / 2, rows = 3;
  const bytes = new Uint8Array(
    new Uint16Array(out * columns).map((_, i) => 0x3c00 + (i * 40503 >>> 7) % 0x180 + (i % 3 === 0 ? 0x8000 : 0)).buffer,
  );
  const held = (first: number, count: number, shape = [count, columns]): TensorSource => ({
    ...{ dtype: "BF16", shape },
    read: (into) => Promise.resolve(into.set(bytes.subarray(2 * first * columns, 2 * (first + count) * columns))),
  });
  using x = device.tensor(noise(rows * columns, 1), [rows, columns]);
  using down = device.tensor(noise(blocks * columns, 2), [blocks, columns]);
  const [b, slopes] = [noise(out, 3), noise(rows * out, 4)];
  const run = async (weights: Tensor | SortedExperts, first: number, count: number) => {
    using up = device.tensor(b.slice(first, first + count), [count, 1]);
    using dy = device.tensor(slopes.filter((_, i) => i % out >= first && i % out < first + count), [rows, count]);
    const within = count < out ? { within: { first, rows: out } } : {};
    const modulation = { down: stackOf(down, [[blocks, columns]]), up: stackOf(up, [[count, 1]]), scale: 2, identity: true, ...within };
    const to = device.vjp.modulation(dy, x, weights, modulation);
    const [y, dx] = [device.modulated(x, weights, modulation), device.vjp.modulated(dy, weights, modulation)];
    return { y: await read(device, y), dx: await read(device, dx), down: await read(device, to.down), up: await read(device, to.up) };
  };
  const part = async (first: number) => {
    using weight = await device.load(held(first, half));
    return await run(weight, first, half);
  };
  const [upper, lower] = [await part(0), await part(half)], sum = (a: Float32Array, b: Float32Array) => a.map((v, i) => v + b[i]);
  const wanted = {
    y: slopes.map((_, i) => (i % out < half ? upper : lower).y[Math.floor(i / out) * half + i % out % half]),
    ...{ dx: sum(upper.dx, lower.dx), down: sum(upper.down, lower.down), up: Float32Array.of(...upper.up, ...lower.up) },
  };
  using whole = await device.load(held(0, out));
  using layer = await device.loadExperts([{ gate: held(0, out), up: held(0, out), down: held(0, out, [columns, out]) }]);
  using table = device.tensor(new Uint32Array(rows), [rows, 1]);
  using order = device.order(table, 1);
  for (
    const [name, weights] of Object.entries({ whole, expert: { part: { experts: layer, kind: "gate", role: "dense" }, order } as const })
  ) {
    const got = await run(weights, 0, out);
    for (const key of ["y", "dx", "down", "up"] as const) assertClose(got[key], wanted[key], 2e-5, `${key} of the ${name}`);
  }
});

testOnDevices("modulated products refuse what does not fit", async (device) => {
  using layer = await device.loadExperts(experts("F32"));
  using table = device.tensor(TABLE, [5, 2]);
  using order = device.order(table, 4);
  using x = device.tensor(noise(15), [3, 5]);
  using w = device.tensor(noise(20), [4, 5]);
  using a = device.tensor(noise(10), [2, 5]);
  using b = device.tensor(noise(4), [4, 1]);
  using bias = device.tensor(noise(3), [3]);
  using dy = device.tensor(noise(12), [3, 4]);
  using rows = device.tensor(noise(40), [10, 4]);
  const fit = { down: stackOf(a, [[2, 5]]), up: stackOf(b, [[4, 1]]), scale: 2, identity: true },
    weights = { part: { experts: layer, kind: "gate", role: "dense" }, order } as const;
  const cases: [() => unknown, string][] = [
    [() => device.modulated(w, b, fit), "Cannot multiply [4,5] by a modulated weight [4,1]"],
    [() => device.modulated(x, w, { ...fit, scale: NaN }), "a finite scale is expected, found NaN"],
    [() => device.modulated(x, w, { ...fit, down: stackOf(a, [[5, 2]]) }), "[5,2] and [4,1] are no factors for the one at 0"],
    [() => device.modulated(x, w, { ...fit, up: stackOf(b, [[2, 2]]) }), "[2,5] and [2,2] are no factors for the one at 0"],
    [() => device.modulated(x, w, { ...fit, up: stackOf(b, [[5, 1]]) }), "Cannot use [4,1] as matrices of 5 numbers"],
    [() => device.modulated(x, w, { ...fit, within: { first: 3, rows: 6 } }), "they are no rows from 3 on of 6"],
    [() => device.modulated(x, w, { ...fit, within: { first: 1, rows: 5 } }), "are no factors for the one at 0"],
    [() => device.modulated(x, w, fit, bias), "Cannot add a bias [3] to products with a modulated weight [4,5]"],
    [() => device.modulated(rows, weights, fit), "found factors for 1 and 1 of them"],
    [() => device.modulated(rows, weights, fit, bias), "Cannot add a bias to products with experts"],
    [() => device.modulated(x, weights, fit), "Cannot use x [3,5] with slots of 5 tokens and 2 ranks"],
    [() => device.vjp.modulated(x, w, fit), "Cannot multiply [3,5] by a modulated weight [4,5]"],
    [() => device.vjp.modulation(b, x, w, fit), "Cannot multiply [4,1] by a modulated weight [4,5]"],
    [() => device.vjp.modulation(dy, w, w, fit), "Cannot go back through a modulated product: the gradient is [3,4], expected [4,4]"],
  ];
  const { tensors } = device.live;
  for (const [call, message] of cases) assertThrows(call, RangeError, message);
  assertEquals(device.live.tensors, tensors);
});
