/** Every operation, on every device, against its definition in float64. */

import { assert, assertEquals } from "@std/assert";
import { type Device, type DType, NO_EXPERT, type Tensor, type TensorSource } from "../../lib/device/device.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";

/** A weight in a stored type, and the numbers that this type really holds. */
function stored(values: Float32Array, shape: number[], dtype: DType): { source: TensorSource; values: Float32Array } {
  const exact = values.slice(), bits = new Uint32Array(exact.buffer);
  let bytes: Uint8Array;
  if (dtype === "BF16") {
    for (let i = 0; i < bits.length; i++) bits[i] &= 0xffff0000;
    bytes = new Uint8Array(Uint16Array.from(bits, (b) => b >>> 16).buffer);
  } else if (dtype === "F16") {
    const halves = Float16Array.from(values);
    exact.set(halves);
    bytes = new Uint8Array(halves.buffer);
  } else bytes = new Uint8Array(exact.slice().buffer);
  return { source: { dtype, shape, read: (into) => Promise.resolve(into.set(bytes)) }, values: exact };
}

const sum = (n: number, term: (i: number) => number) => {
  let total = 0;
  for (let i = 0; i < n; i++) total += term(i);
  return total;
};

const silu = (x: number) => x / (1 + Math.exp(-x));

function product(x: ArrayLike<number>, w: ArrayLike<number>, rows: number, columns: number, out: number): Float64Array {
  return Float64Array.from({ length: rows * out }, (_, at) => {
    const i = Math.floor(at / out), j = at % out;
    return sum(columns, (p) => x[i * columns + p] * w[j * columns + p]);
  });
}

for (const dtype of ["F32", "BF16", "F16"] as const) {
  testOnDevices(`linear() multiplies with ${dtype} weights of odd and even sizes`, async (device) => {
    for (const [rows, columns, out] of [[1, 1, 1], [3, 5, 7], [64, 64, 64], [65, 33, 129], [33, 20, 65], [2, 300, 9], [130, 17, 2]]) {
      const x = noise(rows * columns, rows), w = stored(noise(out * columns, out), [out, columns], dtype);
      using tensor = device.tensor(x, [rows, columns]);
      using weight = await device.load(w.source);
      using y = device.linear(tensor, weight);
      assertEquals(y.shape, [rows, out]);
      assertClose(await device.read(y), product(x, w.values, rows, columns, out), 2e-6, `${rows} x ${columns} x ${out}`);
    }
  });
}

testOnDevices("linear() adds the bias and keeps leading dimensions", async (device) => {
  const x = noise(2 * 3 * 4), w = noise(5 * 4, 2), b = noise(5, 3);
  using tensor = device.tensor(x, [2, 3, 4]);
  using weight = device.tensor(w, [5, 4]);
  using bias = device.tensor(b, [5]);
  using y = device.linear(tensor, weight, bias);
  assertEquals(y.shape, [2, 3, 5]);
  assertClose(await device.read(y), product(x, w, 6, 4, 5).map((v, i) => v + b[i % 5]), 2e-6);
});

testOnDevices("rmsNorm() divides each row by its root mean square", async (device) => {
  for (const [rows, width] of [[1, 3], [70, 128], [3, 1000]]) {
    const x = noise(rows * width), gain = noise(width, 2);
    using tensor = device.tensor(x, [rows, width]);
    using scale = device.tensor(gain, [width]);
    using y = device.rmsNorm(tensor, scale, 1e-5);
    const want = Float64Array.from(x, (value, at) => {
      const row = Math.floor(at / width) * width;
      return value * gain[at % width] / Math.sqrt(sum(width, (i) => x[row + i] ** 2) / width + 1e-5);
    });
    assertClose(await device.read(y), want, 2e-6, `${rows} x ${width}`);
  }
});

testOnDevices("rotary() turns pairs of each head by position times frequency", async (device) => {
  const heads = 3, stride = 10, row = 32, pairs = 3, offset = 2, factor = 1.25;
  const segments = [{ start: 0, length: 4, position: 7 }, { start: 4, length: 2, position: 5 }], position = [7, 8, 9, 10, 5, 6];
  const frequencies = Float64Array.of(1, 0.3, 0.01);
  for (const interleaved of [true, false]) {
    const x = noise(6 * row), want = Float64Array.from(x);
    for (let token = 0; token < 6; token++) {
      for (let head = 0; head < heads; head++) {
        for (let i = 0; i < pairs; i++) {
          const base = token * row + head * stride + offset;
          const [one, two] = interleaved ? [base + 2 * i, base + 2 * i + 1] : [base + i, base + i + pairs];
          const cos = Math.cos(position[token] * frequencies[i]) * factor, sin = Math.sin(position[token] * frequencies[i]) * factor;
          [want[one], want[two]] = [x[one] * cos - x[two] * sin, x[two] * cos + x[one] * sin];
        }
      }
    }
    using tensor = device.tensor(x, [6, row]);
    device.rotary(tensor, { segments, heads, stride, offset, frequencies, factor, interleaved });
    assertClose(await device.read(tensor), want, 2e-6, interleaved ? "interleaved" : "half-split");
  }
});

testOnDevices("attention() sees a row's prefix and its past, nothing else", async (device) => {
  const heads = 4, keyHeads = 2, width = 6, shared = 3, valueWidth = 5, tokens = 300, scale = 0.7;
  const segments = [
    { start: 0, length: 10, position: 0 },
    { start: 10, length: 1, position: 10, prefix: { start: 0, length: 10 } },
    { start: 11, length: 5, position: 10, prefix: { start: 0, length: 10 } },
    { start: 16, length: tokens - 16, position: 0 },
  ];
  // Queries hold both parts of a head side by side; keys stand beside values; the second part of the key is one for all heads.
  const q = noise(tokens * heads * (width + shared)),
    kv = noise(tokens * keyHeads * (width + valueWidth), 2),
    s = noise(tokens * shared, 3);
  using query = device.tensor(q, [tokens, heads * (width + shared)]);
  using pair = device.tensor(kv, [tokens, keyHeads * (width + valueWidth)]);
  using common = device.tensor(s, [tokens, shared]);
  const queries = { tensor: query, row: heads * (width + shared), stride: width + shared };
  const pairs = { tensor: pair, row: keyHeads * (width + valueWidth), stride: width + valueWidth };
  using y = device.attention(
    [{ ...queries, offset: 0, width }, { ...queries, offset: width, width: shared }],
    [{ ...pairs, offset: 0, width }, { tensor: common, row: shared, stride: 0, offset: 0, width: shared }],
    { ...pairs, offset: width, width: valueWidth },
    { segments, heads, keyHeads, scale },
  );
  assertEquals(y.shape, [tokens, heads * valueWidth]);
  const want = new Float64Array(tokens * heads * valueWidth);
  for (const { start, length, prefix } of segments) {
    for (let i = start; i < start + length; i++) {
      const seen = [...Array(prefix?.length ?? 0).keys()].map((j) => prefix!.start + j);
      for (let j = start; j <= i; j++) seen.push(j);
      for (let h = 0; h < heads; h++) {
        const kh = Math.floor(h * keyHeads / heads), at = i * queries.row + h * queries.stride;
        const scores = seen.map((j) =>
          scale * (sum(width, (d) => q[at + d] * kv[j * pairs.row + kh * pairs.stride + d]) +
            sum(shared, (d) => q[at + width + d] * s[j * shared + d]))
        );
        const peak = Math.max(...scores), total = scores.reduce((t, v) => t + Math.exp(v - peak), 0);
        for (let d = 0; d < valueWidth; d++) {
          want[(i * heads + h) * valueWidth + d] = sum(
            seen.length,
            (n) => Math.exp(scores[n] - peak) / total * kv[seen[n] * pairs.row + kh * pairs.stride + width + d],
          );
        }
      }
    }
  }
  assertClose(await device.read(y), want, 5e-6);
});

testOnDevices("attention() takes heads as wide as DeepSeek-V2's", async (device) => {
  const heads = 2, width = 128, shared = 64, tokens = 40;
  const q = noise(tokens * heads * (width + shared)), kv = noise(tokens * heads * 2 * width, 2), s = noise(tokens * shared, 3);
  using query = device.tensor(q, [tokens, heads * (width + shared)]);
  using pair = device.tensor(kv, [tokens, heads * 2 * width]);
  using common = device.tensor(s, [tokens, shared]);
  const queries = { tensor: query, row: heads * (width + shared), stride: width + shared };
  const pairs = { tensor: pair, row: heads * 2 * width, stride: 2 * width };
  using y = device.attention(
    [{ ...queries, offset: 0, width }, { ...queries, offset: width, width: shared }],
    [{ ...pairs, offset: 0, width }, { tensor: common, row: shared, stride: 0, offset: 0, width: shared }],
    { ...pairs, offset: width, width },
    { segments: [{ start: 0, length: tokens, position: 0 }], heads, keyHeads: heads, scale: 0.05 },
  );
  const got = await device.read(y), i = tokens - 1, h = 1, at = i * queries.row + h * queries.stride;
  const scores = Array.from(
    { length: tokens },
    (_, j) =>
      0.05 *
      (sum(width, (d) => q[at + d] * kv[j * pairs.row + h * pairs.stride + d]) + sum(shared, (d) => q[at + width + d] * s[j * shared + d])),
  );
  const total = scores.reduce((t, v) => t + Math.exp(v), 0);
  const want = Array.from(
    { length: width },
    (_, d) => sum(tokens, (j) => Math.exp(scores[j]) / total * kv[j * pairs.row + h * pairs.stride + width + d]),
  );
  assertClose(got.subarray((i * heads + h) * width), want, 5e-6);
});

testOnDevices("squares() of few long rows are those of their stretches", async (device) => {
  for (const [rows, width] of [[1, 4096], [1, 100_003], [3, 9001], [2, 1_100_000]]) {
    const a = noise(rows * width), b = noise(rows * width, 2), want = new Float64Array(rows), apart = new Float64Array(rows);
    a.forEach((value, i) => (want[Math.floor(i / width)] += value ** 2, apart[Math.floor(i / width)] += (value - b[i]) ** 2));
    using x = device.tensor(a, [rows, width]);
    using y = device.tensor(b, [rows, width]);
    using squares = device.squares(x);
    using distances = device.squares(x, y);
    assertClose(await device.read(squares), want, 2e-6, `squares of [${rows}, ${width}]`);
    assertClose(await device.read(distances), apart, 2e-6, `squares of differences of [${rows}, ${width}]`);
  }
});

testOnDevices("swiglu(), add(), multiply(), softmax(), transpose(), gather() and squares() follow their definitions", async (device) => {
  const a = noise(35 * 70), b = noise(35 * 70, 2), g = noise(35, 3).map((v) => 4 * v);
  using x = device.tensor(a, [35, 70]);
  using y = device.tensor(b, [35, 70]);
  using gate = device.tensor(g, [35, 1]);
  using opened = device.swiglu(x, y);
  assertClose(await device.read(opened), a.map((v, i) => silu(v) * b[i]), 2e-6, "swiglu");

  using plain = device.tensor(a, [35, 70]);
  device.add(plain, y);
  assertClose(await device.read(plain), a.map((v, i) => v + b[i]), 1e-6, "add");
  using gated = device.tensor(a, [35, 70]);
  device.add(gated, y, gate);
  assertClose(await device.read(gated), a.map((v, i) => v + b[i] / (1 + Math.exp(-g[Math.floor(i / 70)]))), 2e-6, "gated add");

  using scaled = device.tensor(a, [35, 70]);
  device.multiply(scaled, y);
  assertEquals(await device.read(scaled), a.map((v, i) => v * b[i]), "multiply");
  using row = device.tensor(b.slice(0, 70), [70]);
  device.multiply(scaled, row);
  assertClose(await device.read(scaled), a.map((v, i) => v * b[i] * b[i % 70]), 1e-6, "multiply by a row");

  using p = device.softmax(x);
  const total = (i: number) => sum(70, (j) => Math.exp(a[Math.floor(i / 70) * 70 + j]));
  assertClose(await device.read(p), a.map((v, i) => Math.exp(v) / total(i)), 2e-6, "softmax");

  using flipped = device.transpose(x);
  assertEquals(flipped.shape, [70, 35]);
  assertEquals(await device.read(flipped), a.map((_, i) => a[(i % 35) * 70 + Math.floor(i / 35)]));

  using rows = device.tensor(Uint32Array.of(34, 0, 0, 7), [4]);
  using picked = device.gather(x, rows);
  assertEquals(picked.shape, [4, 70]);
  assertEquals([...await device.read(picked)], [34, 0, 0, 7].flatMap((r) => [...a.subarray(r * 70, r * 70 + 70)]));

  using norms = device.squares(x);
  assertClose(await device.read(norms), Float64Array.from({ length: 35 }, (_, r) => sum(70, (i) => a[r * 70 + i] ** 2)), 2e-6, "squares");
  using common = device.overlap(x, y);
  const shared = Float64Array.from({ length: 35 }, (_, r) => sum(70, (i) => Math.min(a[r * 70 + i], b[r * 70 + i])));
  assertClose(await device.read(common), shared, 2e-6, "overlap");
  using distances = device.squares(x, y);
  const want = Float64Array.from({ length: 35 }, (_, r) => sum(70, (i) => (a[r * 70 + i] - b[r * 70 + i]) ** 2));
  assertClose(await device.read(distances), want, 2e-6, "squares of differences");
});

testOnDevices("widen() gives the numbers that the stored type holds", async (device) => {
  for (const dtype of ["F32", "BF16", "F16"] as const) {
    const { source, values } = stored(noise(7 * 9).map((v) => v * 1e-3), [7, 9], dtype);
    using tensor = await device.load(source);
    using wide = device.widen(tensor);
    assertEquals(await device.read(wide), values, dtype);
  }
});

testOnDevices("rank() orders experts by probability, ties by index", async (device) => {
  const p = Float32Array.of(0.1, 0.3, 0.3, 0.2, 0.1, 0, 0.5, 0, 0.25, 0.25, 0, 0);
  using probabilities = device.tensor(p, [2, 6]);
  using all = device.rank(probabilities, 6);
  assertEquals([...await device.readIndices(all.experts)], [1, 2, 3, 0, 4, 5, 0, 2, 3, 1, 4, 5]);
  assertClose(await device.read(all.probabilities), [0.3, 0.3, 0.2, 0.1, 0.1, 0, 0.5, 0.25, 0.25, 0, 0, 0], 1e-7);
  using best = device.rank(probabilities, 2);
  assertEquals([...await device.readIndices(best.experts)], [1, 2, 0, 2]);
  // Groups {0, 1}, {2, 3}, {4, 5}: the first token's best experts 1 and 2 tie, so with one group the lower stays.
  using one = device.rank(probabilities, 2, { of: [0, 0, 1, 1, 2, 2], keep: 1 });
  assertEquals([...await device.readIndices(one.experts)], [1, 0, 0, 1]);
  using short = device.rank(probabilities, 3, { of: [0, 0, 1, 1, 2, 2], keep: 1 });
  assertEquals([...await device.readIndices(short.experts)], [1, 0, NO_EXPERT, 0, 1, NO_EXPERT]);
  assertClose(await device.read(short.probabilities), [0.3, 0.1, 0, 0.5, 0, 0], 1e-7);
});

testOnDevices("rank() agrees with a sort for many experts", async (device) => {
  const p = noise(50 * 160).map(Math.abs), ranks = 40;
  using probabilities = device.tensor(p, [50, 160]);
  using ranking = device.rank(probabilities, ranks);
  const want = Array.from(
    { length: 50 },
    (_, t) => [...Array(160).keys()].sort((a, b) => p[t * 160 + b] - p[t * 160 + a] || a - b).slice(0, ranks),
  ).flat();
  assertEquals([...await device.readIndices(ranking.experts)], want);
});

testOnDevices("gates() renormalises and scales as the rule says", async (device) => {
  using probabilities = device.tensor(Float32Array.of(0.4, 0.1, 0.2, 0.3), [1, 4]);
  using ranking = device.rank(probabilities, 2);
  using plain = device.gates(ranking, { topK: 2, renormalise: false, scale: 2 });
  assertClose(await device.read(plain), [0.8, 0.6], 1e-6);
  using normalised = device.gates(ranking, { topK: 2, renormalise: true, scale: 1 });
  assertClose(await device.read(normalised), [4 / 7, 3 / 7], 1e-6);
});

testOnDevices("skip() keeps the fewest experts beside which the others hold at most the share, and their sum", async (device) => {
  const tokens = 150, count = 6;
  using logits = device.tensor(noise(tokens * count, 4).map((v) => 3 * v), [tokens, count]);
  using p = device.softmax(logits);
  for (const [ranks, share] of [[2, 0.3], [4, 0.2], [6, 0.5], [6, 0], [4, 1], [1, 0.9], [8, 0.1]]) {
    using ranking = device.rank(p, ranks);
    using skipped = device.skip(ranking, share);
    const [listed, w] = [await device.readIndices(ranking.experts), await device.read(ranking.probabilities)], want: number[] = [];
    const kept = Array.from({ length: tokens }, (_, t) => {
      const own = Array.from(w.subarray(t * ranks, (t + 1) * ranks)), whole = sum(ranks, (r) => own[r]);
      const i = Array.from({ length: ranks }, (_, i) => i + 1).find((i) => sum(ranks - i, (m) => own[i + m]) <= share * whole)!;
      want.push(...own.map((v, r) => r < i ? v * whole / sum(i, (m) => own[m]) : 0));
      return Array.from(listed.subarray(t * ranks, (t + 1) * ranks), (e, r) => r < i ? e : NO_EXPERT);
    });
    assertEquals([...await device.readIndices(skipped.experts)], kept.flat(), `${ranks} ranks, share ${share}`);
    assertClose(await device.read(skipped.probabilities), want, 2e-6, `${ranks} ranks, share ${share}`);
    if (share === 0 && ranks <= count) assertEquals(await device.read(skipped.probabilities), w);
  }
});

/** Dense and low-rank experts of ragged ranks, with their dense matrices; `varied` ones also differ in size, and some have biases. */
function someExperts(count: number, hidden: number, most: number, dtype: DType, varied = false) {
  const dense: Record<"gate" | "up" | "down" | "gateBias" | "upBias" | "downBias", Float32Array>[] = [];
  const sources = Array.from({ length: count }, (_, e) => {
    const intermediate = varied ? most - 3 * (e % 4) : most;
    const matrix = (rows: number, columns: number, seed: number) => {
      if (e % 3 !== 1) {
        const { source, values } = stored(noise(rows * columns, seed), [rows, columns], dtype);
        return { source, values };
      }
      const rank = 2 + e; // differs from expert to expert
      const left = stored(noise(rows * rank, seed), [rows, rank], "F32"),
        right = stored(noise(rank * columns, seed + 1), [rank, columns], "F32");
      const turned = right.values.map((_, i) => right.values[(i % rank) * columns + Math.floor(i / rank)]);
      const values = Float32Array.from(product(left.values, turned, rows, rank, columns));
      return { source: { left: left.source, right: right.source }, values };
    };
    const gate = matrix(intermediate, hidden, 10 * e),
      up = matrix(intermediate, hidden, 10 * e + 3),
      down = matrix(hidden, intermediate, 10 * e + 6);
    const bias = (rows: number, seed: number, there: boolean) =>
      varied && there ? stored(noise(rows, 10 * e + seed), [rows], dtype) : { source: undefined, values: new Float32Array(rows) };
    const opened = bias(intermediate, 1, e !== 2), raised = bias(intermediate, 4, e % 2 === 0), last = bias(hidden, 7, e > 0);
    dense.push({
      ...{ gate: gate.values, up: up.values, down: down.values },
      ...{ gateBias: opened.values, upBias: raised.values, downBias: last.values },
    });
    const biases = varied ? { biases: { gate: opened.source, up: raised.source, down: last.source } } : {};
    return { gate: gate.source, up: up.source, down: down.source, ...biases };
  });
  return { sources, dense };
}

for (
  const [dtype, varied, what] of [
    ["F32", false, "dense or low-rank"],
    ["BF16", false, "dense or low-rank"],
    ["F32", true, "of several sizes, with biases"],
    ["F16", true, "of several sizes, with biases"],
  ] as const
) {
  testOnDevices(`experts() runs each token through its own ${dtype} experts, ${what}`, async (device) => {
    const count = 5, hidden = 33, tokens = 70, ranks = 3;
    const { sources, dense } = someExperts(count, hidden, 21, dtype, varied), x = noise(tokens * hidden, 99);
    // Expert 3 is never used, expert 0 by nearly everybody, some slots are empty.
    const table = Uint32Array.from(
      { length: tokens * ranks },
      (_, slot) => [0, slot % 7 === 0 ? NO_EXPERT : 1 + slot % 2, 4][slot % ranks],
    );
    using experts = await device.loadExperts(sources);
    assertEquals([experts.count, experts.hidden], [count, hidden]);
    using input = device.tensor(x, [tokens, hidden]);
    using listed = device.tensor(table, [tokens, ranks]);
    using outputs = device.experts(input, listed, experts);
    assertEquals(outputs.shape, [tokens, ranks, hidden]);
    const want = new Float64Array(tokens * ranks * hidden);
    table.forEach((e, slot) => {
      if (e === NO_EXPERT) return;
      const row = x.subarray(Math.floor(slot / ranks) * hidden).subarray(0, hidden), { gate, up, down, ...biases } = dense[e];
      const intermediate = gate.length / hidden, plus = (y: Float64Array, bias: Float32Array) => y.map((v, i) => v + bias[i]);
      const opened = plus(product(row, gate, 1, hidden, intermediate), biases.gateBias),
        raised = plus(product(row, up, 1, hidden, intermediate), biases.upBias);
      const output = product(opened.map((v, i) => silu(v) * raised[i]), down, 1, intermediate, hidden);
      want.set(plus(output, biases.downBias), slot * hidden);
    });
    assertClose(await device.read(outputs), want, 1e-5);

    using gates = device.tensor(noise(tokens * ranks, 5), [tokens, ranks]);
    using mixed = device.combine(outputs, gates);
    const w = noise(tokens * ranks, 5);
    const total = Float64Array.from({ length: tokens * hidden }, (_, at) => {
      const t = Math.floor(at / hidden);
      return sum(ranks, (r) => w[t * ranks + r] * want[(t * ranks + r) * hidden + at % hidden]);
    });
    assertClose(await device.read(mixed), total, 1e-5, "combine");

    using g = device.gram(outputs);
    assertEquals(g.shape, [tokens, ranks, ranks]);
    const inner = Float64Array.from({ length: tokens * ranks * ranks }, (_, at) => {
      const t = Math.floor(at / ranks / ranks), i = t * ranks + Math.floor(at / ranks) % ranks, j = t * ranks + at % ranks;
      return sum(hidden, (d) => want[i * hidden + d] * want[j * hidden + d]);
    });
    assertClose(await device.read(g), inner, 2e-5, "gram");
  });
}

testOnDevices("experts() gives nothing for no tokens and zeros for no experts", async (device) => {
  const { sources } = someExperts(2, 4, 3, "F32");
  using experts = await device.loadExperts(sources);
  using x = device.tensor(noise(8), [2, 4]);
  using table = device.tensor(Uint32Array.of(NO_EXPERT, NO_EXPERT), [2, 1]);
  using y = device.experts(x, table, experts);
  assertEquals(await device.read(y), new Float32Array(8));
});

testOnDevices("crossEntropy() is -log softmax at the target, however large the logits", async (device) => {
  const rows = 9, width = 12, vocabulary = 700;
  for (const size of [1, 60]) {
    const x = noise(rows * width).map((v) => v * size), head = stored(noise(vocabulary * width, 2), [vocabulary, width], "BF16");
    const targets = Uint32Array.from({ length: rows }, (_, i) => (i * 331) % vocabulary);
    using input = device.tensor(x, [rows, width]);
    using weight = await device.load(head.source);
    using wanted = device.tensor(targets, [rows]);
    using losses = device.crossEntropy(input, weight, wanted);
    const logits = product(x, head.values, rows, width, vocabulary);
    const want = Float64Array.from(targets, (target, i) => {
      const row = logits.subarray(i * vocabulary, (i + 1) * vocabulary), peak = Math.max(...row);
      return peak + Math.log(row.reduce((t, v) => t + Math.exp(v - peak), 0)) - row[target];
    });
    assertClose(await device.read(losses), want, 1e-5, `logits up to ${size}`);
  }
});

/** Weights over all experts with the set masked: softmax, groups, top-k, renormalisation. The definition, straight from logits. */
function routed(
  logits: Float64Array,
  dropped: readonly number[],
  rule: { topK: number; renormalise: boolean; scale: number; groups?: { of: number[]; keep: number } },
) {
  const p = logits.map((v, e) => dropped.includes(e) ? 0 : Math.exp(v)), total = p.reduce((a, b) => a + b, 0);
  let order = [...p.keys()].filter((e) => !dropped.includes(e)).sort((a, b) => p[b] - p[a] || a - b);
  if (rule.groups) {
    const admitted = [...new Set(order.map((e) => rule.groups!.of[e]))].slice(0, rule.groups.keep);
    order = order.filter((e) => admitted.includes(rule.groups!.of[e]));
  }
  const chosen = order.slice(0, rule.topK), share = chosen.reduce((t, e) => t + p[e], 0), weights = new Float64Array(p.length);
  for (const e of chosen) weights[e] = rule.scale * p[e] / (rule.renormalise ? share : total);
  return weights;
}

const RULES = {
  "renormalised": { topK: 2, renormalise: true, scale: 1 },
  "not renormalised": { topK: 3, renormalise: false, scale: 1.5 },
  "group-limited": { topK: 3, renormalise: false, scale: 1, groups: { of: [0, 0, 0, 1, 1, 1, 2, 2, 2], keep: 2 } },
};

for (const [name, rule] of Object.entries(RULES)) {
  testOnDevices(`fitness() equals running the layer again without the set, ${name}`, async (device) => {
    const tokens = 300, count = 9, hidden = 6, drop = 3, groups = "groups" in rule;
    const logits = Float64Array.from(noise(tokens * count, 4), (v) => 3 * v), outputs = noise(tokens * count * hidden, 5);
    const sets = Array.from({ length: 2 ** count }, (_, bits) => [...Array(count).keys()].filter((e) => bits >> e & 1))
      .filter((set) => set.length <= drop); // 130
    const want = Float64Array.from(sets, (set) => {
      let total = 0;
      for (let t = 0; t < tokens; t++) {
        const row = logits.subarray(t * count, (t + 1) * count), before = routed(row, [], rule), after = routed(row, set, rule);
        for (let d = 0; d < hidden; d++) total += sum(count, (e) => (before[e] - after[e]) * outputs[(t * count + e) * hidden + d]) ** 2;
      }
      return total;
    });
    using scores = device.tensor(Float32Array.from(logits), [tokens, count]);
    using probabilities = device.softmax(scores);
    using ranking = device.rank(probabilities, groups ? count : rule.topK + drop);
    const order = await device.readIndices(ranking.experts), ranks = ranking.experts.shape[1];
    const listed = Float32Array.from({ length: tokens * ranks * hidden }, (_, at) => {
      const slot = Math.floor(at / hidden);
      return outputs[(Math.floor(slot / ranks) * count + order[slot]) * hidden + at % hidden];
    });
    using ordered = device.tensor(listed, [tokens, ranks, hidden]);
    using gram = device.gram(ordered);
    const got = await device.fitness({ rule, ranking, probabilities, gram }, sets);
    assertEquals(got[0], 0, "nothing dropped, nothing changed");
    assertClose(got, want, 1e-4);

    // What lacks R = F(y) already: ‖R + F - F(S)‖² - ‖R‖².
    const lack = noise(tokens * hidden, 9),
      onto = Float32Array.from({ length: tokens * ranks }, (_, slot) => {
        return sum(hidden, (d) => lack[Math.floor(slot / ranks) * hidden + d] * listed[slot * hidden + d]);
      });
    using along = device.tensor(onto, [tokens, ranks]);
    const further = Float64Array.from(sets, (set, s) => {
      let cross = 0;
      for (let t = 0; t < tokens; t++) {
        const row = logits.subarray(t * count, (t + 1) * count), before = routed(row, [], rule), after = routed(row, set, rule);
        const change = (d: number) => sum(count, (e) => (before[e] - after[e]) * outputs[(t * count + e) * hidden + d]);
        cross += sum(hidden, (d) => lack[t * hidden + d] * change(d));
      }
      return want[s] + 2 * cross;
    });
    assertClose(await device.fitness({ rule, ranking, probabilities, gram, along }, sets), further, 1e-4, "beside what is lacking");
  });
}

testOnDevices("fitness() stays right where nearly all probability is dropped", async (device) => {
  const logits = Float64Array.of(30, 1, 0, -1), outputs = noise(4 * 2, 6), rule = { topK: 2, renormalise: false, scale: 1 };
  using scores = device.tensor(Float32Array.from(logits), [1, 4]);
  using probabilities = device.softmax(scores);
  using ranking = device.rank(probabilities, 3);
  using ordered = device.tensor(outputs.slice(0, 6), [1, 3, 2]);
  using gram = device.gram(ordered);
  const got = await device.fitness({ rule, ranking, probabilities, gram }, [[0]]);
  const before = routed(logits, [], rule), after = routed(logits, [0], rule);
  const want = [0, 1].map((d) => sum(4, (e) => (before[e] - after[e]) * outputs[e * 2 + d]) ** 2).reduce((a, b) => a + b);
  assertClose(got, [want], 1e-4);
});

testOnDevices("eigen() reconstructs a symmetric matrix and gives the largest pairs first", async (device) => {
  const n = 40, a = noise(n * n), symmetric = a.map((v, i) => v + a[(i % n) * n + Math.floor(i / n)]);
  using matrix = device.tensor(symmetric, [n, n]);
  const all = await device.eigen(matrix, n);
  using _all = all.vectors;
  const v = await device.read(all.vectors);
  assert(all.values.every((value, i) => i === 0 || value <= all.values[i - 1]), "eigenvalues fall");
  const rebuilt = symmetric.map((_, at) => sum(n, (r) => all.values[r] * v[r * n + Math.floor(at / n)] * v[r * n + at % n]));
  assertClose(rebuilt, symmetric, 2e-5, "rebuilt");
  assertClose(product(v, v, n, n, n), Float64Array.from({ length: n * n }, (_, i) => i % (n + 1) === 0 ? 1 : 0), 2e-5, "orthonormal");

  const few = await device.eigen(matrix, 5);
  using _few = few.vectors;
  assertEquals(few.vectors.shape, [5, n]);
  assertClose(few.values, all.values.subarray(0, 5), 1e-5, "largest values");
  const w = await device.read(few.vectors);
  for (let r = 0; r < 5; r++) {
    assertClose([Math.abs(sum(n, (i) => v[r * n + i] * w[r * n + i]))], [1], 1e-4, `eigenvector ${r} up to its sign`);
  }
  assertEquals(await device.read(matrix), symmetric, "the matrix is left as it was");
});

testOnDevices("a failed read of a weight leaves nothing behind", async (device) => {
  const good: TensorSource = { dtype: "F32", shape: [2, 2], read: (into) => Promise.resolve(into.fill(0)).then(() => {}) };
  const bad: TensorSource = { ...good, read: () => Promise.reject(new Error("the disk is gone")) };
  let caught: unknown[] = [];
  const expert = { gate: good, up: good, down: good }, vector = { ...good, shape: [2] };
  for (
    const attempt of [
      () => device.load(bad),
      () => device.loadExperts([{ ...expert, down: { left: good, right: bad } }]),
      () => device.loadExperts([expert, { ...expert, biases: { gate: vector, down: { ...bad, shape: [2] } } }]),
      () => device.loadExperts([{ ...expert, biases: { gate: vector }, down: bad }]),
    ]
  ) {
    caught = [...caught, await attempt().then(() => undefined, (error) => error.message)];
  }
  assertEquals(caught, caught.map(() => "the disk is gone"));
  assertEquals(device.live.tensors, 0);
});

testOnDevices("the same work gives the same bits", async (device: Device) => {
  const run = async () => {
    const { sources } = someExperts(4, 32, 24, "BF16");
    using experts = await device.loadExperts(sources);
    using x = device.tensor(noise(300 * 32, 7), [300, 32]);
    using table = device.tensor(Uint32Array.from({ length: 600 }, (_, i) => (i * 7) % 4), [300, 2]);
    using outputs = device.experts(x, table, experts);
    using gates: Tensor = device.tensor(noise(600, 8), [300, 2]);
    using y = device.combine(outputs, gates);
    return await device.read(y);
  };
  assertEquals(await run(), await run());
});
