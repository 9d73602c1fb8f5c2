/** A PEER layer against PyTorch, brute force and finite differences. */

import { assert, assertAlmostEquals, assertEquals, assertRejects, assertThrows } from "@std/assert";
import type { Device, Tensor } from "../../lib/device/device.ts";
import type { Recorded } from "../../lib/finetune/recording.ts";
import { Tape } from "../../lib/finetune/tape.ts";
import { peerForward, type PeerLayer } from "../../lib/peer/peer_forward.ts";
import { peerOutput } from "../../lib/peer/peer_output.ts";
import { checkedPeerShape, PEER_PARTS, type PeerPart, peerShapes } from "../../lib/peer/peer_shape.ts";
import { peerUsage } from "../../lib/peer/peer_usage.ts";
import { productKeyTopK } from "../../lib/peer/product_key_top_k.ts";
import { recordingPeer } from "../../lib/peer/recorded_peer.ts";
import { assertClose, noise, testOnDevices } from "../devices.ts";
import { REFERENCES, SEEDS } from "../references/peer.ts";

/** The generator of the reference numbers. */
function generated(length: number, seed: number): Float32Array<ArrayBuffer> {
  let state = seed;
  return Float32Array.from({ length }, () => {
    state = Number((1664525n * BigInt(state) + 1013904223n) % 2n ** 32n);
    return state / 2 ** 31 - 1;
  });
}

const TOKENS = 5, HIDDEN = 16, SIZES = { hidden: HIDDEN, heads: 2, ranks: 4, querySize: 8, keys: 16 };

/** The reference's layer. Its queries `[head, 8, hidden]` are a matrix for each half here. */
function referenceLayer(): PeerLayer {
  const queries = generated(2 * 8 * HIDDEN, SEEDS.queries);
  const half = (from: number) =>
    Float32Array.from({ length: 2 * 4 * HIDDEN }, (_, at) => {
      const row = Math.floor(at / HIDDEN);
      return queries[((Math.floor(row / 4) * 2 + from) * 4 + row % 4) * HIDDEN + at % HIDDEN];
    });
  const weights = {
    ...{ "queries.first": half(0), "queries.second": half(1) },
    ...{ "keys.first": generated(64, SEEDS.first), "keys.second": generated(64, SEEDS.second) },
    ...{ up: generated(256 * HIDDEN, SEEDS.up), down: generated(256 * HIDDEN, SEEDS.down) },
  };
  return { ...SIZES, weights };
}

const X = generated(TOKENS * HIDDEN, SEEDS.x);

/** Gradients of Σ y · dy with respect to the layer's weights and x. */
async function gradients(device: Device, layer: PeerLayer, x: Float32Array<ArrayBuffer>, dy: Float32Array<ArrayBuffer>) {
  const shape = checkedPeerShape(layer, "test"), shapes = peerShapes(shape), tokens = x.length / shape.hidden;
  using tape = new Tape(device);
  const tensor = (values: Float32Array, dimensions: readonly number[]) => tape.keep(device.tensor(values, dimensions));
  const input = tensor(x, [tokens, shape.hidden]);
  const weights = Object.fromEntries(PEER_PARTS.map((part) => [part, tensor(layer.weights[part], shapes[part])])) as Record<
    PeerPart,
    Tensor
  >;
  const leaves: Record<string, Tensor> = { x: input, ...weights };
  for (const leaf of Object.values(leaves)) tape.watch(leaf);
  const { output } = peerOutput(recordingPeer(tape), { kind: "peer", shape, weights }, input);
  tape.backward((output as Recorded).value, device.tensor(dy, [tokens, shape.hidden]));
  const result: Record<string, Float32Array> = {};
  for (const [name, leaf] of Object.entries(leaves)) {
    using gradient = tape.take(leaf)!;
    result[name] = await device.read(gradient);
  }
  return result;
}

/** Slopes at the queries in the place of those behind their norm, in float64. */
function beforeNorm(dq: number[], layer: PeerLayer): number[] {
  const result = new Array(dq.length).fill(0);
  for (let column = 0; column < 16; column++) {
    const [head, i] = [Math.floor(column / 8), column % 8], matrix = layer.weights[i < 4 ? "queries.first" : "queries.second"];
    const row = head * 4 + i % 4,
      q = Array.from({ length: TOKENS }, (_, t) => {
        return Array.from({ length: HIDDEN }, (_, d) => matrix[row * HIDDEN + d] * X[t * HIDDEN + d]).reduce((a, b) => a + b);
      });
    const mean = (values: number[]) => values.reduce((a, b) => a + b) / values.length, centre = mean(q);
    const factor = 1 / Math.sqrt(mean(q.map((v) => (v - centre) ** 2)) + 1e-5), y = q.map((v) => (v - centre) * factor);
    const d = y.map((_, t) => dq[t * 16 + column]), along = mean(d.map((v, t) => v * y[t]));
    d.forEach((v, t) => result[t * 16 + column] = factor * (v - mean(d) - y[t] * along));
  }
  return result;
}

for (const [name, want] of Object.entries(REFERENCES)) {
  testOnDevices(`a PEER layer gives what PyTorch gives, forwards and backwards: ${name}`, async (device) => {
    const activation = name === "relu" ? "relu" as const : "gelu" as const, batchNorm = name.endsWith("norm");
    const layer = { ...referenceLayer(), activation, batchNorm }, got = await peerForward(device, X, layer);
    assertEquals([...got.experts], want.experts);
    assertClose(got.scores, want.scores, 1e-4, "scores");
    assertClose(got.gates, want.gates, 1e-4, "gates");
    assertClose(got.outputs, want.outputs, 1e-4, "outputs");
    const { usage, unevenness } = peerUsage(got, 256);
    assertEquals(usage, want.usage);
    assertAlmostEquals(unevenness, want.unevenness, 1e-5);

    const slopes = await gradients(device, layer, X, generated(TOKENS * HIDDEN, SEEDS.dy));
    const dq = batchNorm ? beforeNorm(want.dq, layer) : want.dq;
    for (const [from, part] of ["queries.first", "queries.second"].entries()) {
      const toMatrix = Float64Array.from({ length: 8 * HIDDEN }, (_, at) => {
        const row = Math.floor(at / HIDDEN), column = Math.floor(row / 4) * 8 + from * 4 + row % 4;
        return Array.from({ length: TOKENS }, (_, t) => dq[t * 16 + column] * X[t * HIDDEN + at % HIDDEN]).reduce((a, b) => a + b);
      });
      assertClose(slopes[part], toMatrix, 1e-3, part);
    }
  });
}

testOnDevices("gradients of all weights and of the input agree with finite differences", async (device) => {
  const sizes = { hidden: 3, heads: 2, ranks: 2, querySize: 4, keys: 3 }, shapes = peerShapes(checkedPeerShape(sizes, "test"));
  const weights = Object.fromEntries(PEER_PARTS.map((part, i) => [part, noise(shapes[part][0] * shapes[part][1], i + 1)]));
  const layer = { ...sizes, weights: weights as PeerLayer["weights"] }, x = noise(4 * 3, 10), dy = noise(4 * 3, 11);
  const got = await gradients(device, layer, x, dy), step = 2 ** -8;
  const at = async (name: string, i: number, change: number) => {
    const moved = (values: Float32Array) => values.map((v, j) => i === j ? v + change : v);
    const changed = name === "x" ? layer : { ...layer, weights: { ...layer.weights, [name]: moved(layer.weights[name as PeerPart]) } };
    const { outputs, experts } = await peerForward(device, name === "x" ? moved(x) : x, changed);
    return { loss: outputs.reduce((sum, v, j) => sum + v * dy[j], 0), experts };
  };
  const before = (await peerForward(device, x, layer)).experts;
  for (const [name, slopes] of Object.entries(got)) {
    const want: number[] = [], same: number[] = [];
    for (let i = 0; i < slopes.length; i += device.kind === "webgpu" ? 5 : 1) {
      const up = await at(name, i, step), down = await at(name, i, -step);
      // Where another expert is chosen there is no slope.
      if (`${up.experts}` === `${before}` && `${down.experts}` === `${before}`) {
        same.push(slopes[i]), want.push((up.loss - down.loss) / (2 * step));
      }
    }
    assert(want.length > 0);
    assertClose(same, want, 1e-2, name);
  }
});

testOnDevices(
  "a layer that retrieves all of its experts is the sum over all, and one that retrieves one has a gate of 1",
  async (device) => {
    const sizes = { hidden: 6, heads: 1, ranks: 9, querySize: 4, keys: 3, batchNorm: false, activation: "relu" as const };
    const shapes = peerShapes(checkedPeerShape(sizes, "test")), x = noise(6 * 2, 20);
    const weights = Object.fromEntries(PEER_PARTS.map((part, i) => [part, noise(shapes[part][0] * shapes[part][1], i + 1)]));
    const w = weights as PeerLayer["weights"], { outputs, gates, experts } = await peerForward(device, x, { ...sizes, weights: w });
    const dot = (a: Float32Array, from: number, b: ArrayLike<number>, at: number, width: number) => {
      return Array.from({ length: width }, (_, i) => a[from * width + i] * b[at * width + i]).reduce((s, v) => s + v, 0);
    };
    const want = [0, 1].flatMap((t) => {
      const query = (part: "queries.first" | "queries.second") => [0, 1].map((i) => dot(w[part], i, x, t, 6));
      const scores = Array.from({ length: 9 }, (_, e) => {
        const first = dot(w["keys.first"], Math.floor(e / 3), query("queries.first"), 0, 2);
        return first + dot(w["keys.second"], e % 3, query("queries.second"), 0, 2);
      });
      const total = scores.reduce((sum, v) => sum + Math.exp(v), 0);
      return Array.from({ length: 6 }, (_, d) => {
        return scores.reduce((sum, v, e) => sum + Math.exp(v) / total * Math.max(0, dot(w.up, e, x, t, 6)) * w.down[e * 6 + d], 0);
      });
    });
    assertClose(outputs, want, 1e-4);
    assertEquals(experts.toSorted(), Uint32Array.from({ length: 18 }, (_, i) => Math.floor(i / 2)));
    assertClose([gates.reduce((a, b) => a + b)], [2], 1e-5);
    assertEquals([...(await peerForward(device, x, { ...sizes, ranks: 1, weights: w })).gates], [1, 1]);
  },
);

testOnDevices("product keys retrieve what scoring every key finds", async (device) => {
  const [queries, half, n, m, k] = [200, 3, 20, 12, 6], keys = { querySize: 6, first: noise(n * half, 2), second: noise(m * half, 3) };
  const q = noise(queries * 6, 1), { experts, scores } = await productKeyTopK(device, q, keys, k);
  for (let t = 0; t < queries; t++) {
    const all = Array.from({ length: n * m }, (_, key) => {
      let score = 0;
      for (let i = 0; i < half; i++) {
        score += q[t * 6 + i] * keys.first[Math.floor(key / m) * half + i] + q[t * 6 + half + i] * keys.second[key % m * half + i];
      }
      return { key, score };
    }).sort((a, b) => b.score - a.score).slice(0, k);
    assertEquals([...experts.subarray(t * k, (t + 1) * k)], all.map(({ key }) => key));
    assertClose(scores.subarray(t * k, (t + 1) * k), all.map(({ score }) => score), 1e-5);
  }
});

testOnDevices("known moments take the place of a batch's own", async (device) => {
  const layer = referenceLayer(), whole = await peerForward(device, X, layer);
  const moments = { first: new Float32Array(16).fill(0.5), second: new Float32Array(16).fill(0.5) };
  const two = await peerForward(device, X.slice(0, 2 * HIDDEN), { ...layer, moments }),
    one = await peerForward(device, X.slice(0, HIDDEN), { ...layer, moments });
  assertEquals([...one.experts], [...two.experts.subarray(0, 8)], "a token's experts do not depend on others");
  assert(`${two.scores.subarray(0, 8)}` !== `${whole.scores.subarray(0, 8)}`);
});

Deno.test("evenness is 0 for even use and ln N for one expert", () => {
  const gates = new Float32Array(8).fill(0.25);
  assertEquals(peerUsage({ experts: Uint32Array.from({ length: 8 }, (_, i) => i), gates }, 8), { usage: 1, unevenness: 0 });
  assertAlmostEquals(peerUsage({ experts: new Uint32Array(8).fill(3), gates }, 8).unevenness, Math.log(8));
  assertThrows(() => peerUsage({ experts: Uint32Array.of(8), gates: gates.subarray(7) }, 8), RangeError, "expert 8 is none of 8");
});

testOnDevices("sizes that make no sense are refused by name", async (device) => {
  const layer = referenceLayer();
  const cases: [() => Promise<unknown>, string][] = [
    [() => peerForward(device, X, { ...layer, ranks: 0 }), '"ranks" must be a whole number of at least 1, received 0'],
    [() => peerForward(device, X, { ...layer, querySize: 7 }), '"querySize" must be even, for two halves, received 7'],
    [() => peerForward(device, X.slice(1), layer), "79 numbers are no inputs of 16 each"],
    [() => peerForward(device, X, { ...layer, keys: 15 }), '"keys.first" has 64 numbers, expected [15,4]'],
    [() => productKeyTopK(device, X, { querySize: 3, first: X, second: X }, 1), '"querySize" must be a positive even number, received 3'],
    [() => productKeyTopK(device, X, { querySize: 8, first: X, second: X }, 401), "Cannot rank 401 pairs of 20 and 20 keys"],
  ];
  for (const [call, message] of cases) await assertRejects(call, RangeError, message);
});
