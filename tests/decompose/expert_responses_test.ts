import { assert, assertEquals, assertRejects } from "@std/assert";
import { calibrate } from "../../lib/calibrate/calibrate.ts";
import { decomposeExperts } from "../../lib/decompose/decompose_experts.ts";
import { denseMatrix } from "../../lib/decompose/dense_matrix.ts";
import { expertResponses } from "../../lib/decompose/expert_responses.ts";
import { whitenedSvd } from "../../lib/decompose/whitened_svd.ts";
import type { Device } from "../../lib/device/device.ts";
import { openDevice } from "../../lib/device/open_device.ts";
import { type Model, type MoeLayer, moeLayers } from "../../lib/model/model.ts";
import { logits } from "../../lib/model/logits.ts";
import { pruneExperts } from "../../lib/model/prune_experts.ts";
import { assertClose, testOnDevices } from "../devices.ts";
import { openFixture, references } from "../fixtures.ts";
import { ROUTERS, routingOf, withModel } from "../small_models.ts";

const MATRICES = ["gate", "up", "down"] as const;

/** Σ g² x xᵀ and Σ g² ‖x‖² with g half the routing weight, of each matrix of an expert, in float64 from the definition; a wide matrix's outputs instead of its inputs. */
async function definition(device: Device, model: Model, sequences: Uint32Array[], layer: MoeLayer, position: number) {
  const expert = layer.block.experts[position],
    { inputs, weights } = await routingOf(device, model, sequences, layer.index),
    { scale } = model.config.moe;
  const dense = await Promise.all(MATRICES.map(async (name) => {
    using tensor = await denseMatrix(device, expert[name]);
    return { values: await device.read(tensor), rows: tensor.shape[0], columns: tensor.shape[1] };
  }));
  const apply = ({ values, rows, columns }: typeof dense[0], x: ArrayLike<number>) =>
    Float64Array.from({ length: rows }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < columns; j++) sum += values[i * columns + j] * x[j];
      return sum;
    });
  const sums = dense.map(({ rows, columns }) => ({ gram: new Float64Array(Math.min(rows, columns) ** 2), energy: 0 }));
  inputs.forEach((x, t) => {
    const g = weights[t][position] / scale / 2;
    if (g === 0) return;
    const opened = apply(dense[0], x), raised = apply(dense[1], x), inner = opened.map((v, i) => v / (1 + Math.exp(-v)) * raised[i]);
    dense.forEach((matrix, m) => {
      const input = m === 2 ? inner : x, y = matrix.rows > matrix.columns ? input : apply(matrix, input), { gram } = sums[m];
      for (let i = 0; i < y.length; i++) for (let j = 0; j < y.length; j++) gram[i * y.length + j] += g * g * y[i] * y[j];
      sums[m].energy += g * g * Float64Array.from(input).reduce((sum, v) => sum + v * v, 0);
    });
  });
  return sums;
}

for (const [kind, variant] of Object.entries(ROUTERS)) {
  testOnDevices(
    `expertResponses() sums over the tokens of each expert, ${kind} router`,
    (device) =>
      withModel(variant, async (model, sequences) => {
        using trace = await calibrate(device, model, sequences);
        const layer = moeLayers(model).at(-1)!;
        for (const held of [1, 2 ** 28]) { // one expert at a time, and all together
          let position = 0;
          for await (const { expert, responses } of expertResponses(device, model, layer, trace, layer.block.experts, { held })) {
            const want = await definition(device, model, sequences, layer, position);
            assertEquals(expert.id, layer.block.experts[position++].id);
            for (const [m, name] of MATRICES.entries()) {
              assertClose(await device.read(responses[name].gram), want[m].gram, 2e-3, `${name} of expert ${expert.id}`);
              assert(Math.abs(responses[name].energy - want[m].energy) <= 1e-3 * want[m].energy);
            }
          }
          assertEquals(position, layer.block.experts.length);
        }
        for await (const _ of expertResponses(device, model, layer, trace, layer.block.experts)) break; // gives back what it holds
      }),
  );
}

for (const name of Object.keys(references)) {
  Deno.test(`decomposeExperts({ whiten }) loses less of what the experts of ${name} give, at the same ranks`, async () => {
    using device = await openDevice({ kind: "cpu" });
    const { model: whole, calibration } = await openFixture(name);
    const model = pruneExperts(whole, { layers: moeLayers(whole).map(({ index }) => ({ layer: index, drop: [1, 4] })) });
    const sequences = calibration.slice(0, 6);
    using trace = await calibrate(device, model, sequences);
    const plan = moeLayers(model).map(({ index, block }) => ({
      layer: index,
      experts: block.experts.map(({ id }) => ({ expert: id, rank: 16 + id })),
      sum: 0,
      target: 0,
    }));
    using plain = await decomposeExperts(device, model, { layers: plan });
    using white = await decomposeExperts(device, model, { layers: plan }, { whiten: trace });
    assert(plain.decomposition.every((d) => d.relativeOutputError === null));
    assertEquals(
      white.decomposition.map(({ layer, expert, matrix, rank }) => [layer, expert, matrix, rank]),
      plain.decomposition.map(({ layer, expert, matrix, rank }) => [layer, expert, matrix, rank]),
    );
    const [layer] = moeLayers(model), [firstPlain] = moeLayers(plain), [firstWhite] = moeLayers(white);
    let position = 0;
    for await (const { expert, responses } of expertResponses(device, model, layer, trace, layer.block.experts)) {
      for (const matrix of MATRICES) {
        const { relativeOutputError, relativeError, rank } = white.decomposition.find((d) =>
          d.layer === layer.index && d.expert === expert.id && d.matrix === matrix
        )!;
        const byWeights = plain.decomposition.find((d) => d.layer === layer.index && d.expert === expert.id && d.matrix === matrix)!;
        assert(relativeError >= byWeights.relativeError * (1 - 1e-3), "nobody is nearer to the weights than the plain SVD");
        using dense = await denseMatrix(device, expert[matrix]);
        const again = await whitenedSvd(device, dense, responses[matrix], rank!);
        assertEquals(again.relativeOutputError, relativeOutputError);
        const error = async (source: typeof expert) => await outputError(device, model, sequences, layer, position, source, matrix);
        const measured = await error(firstWhite.block.experts[position]);
        assert(Math.abs(measured - relativeOutputError!) < 2e-3, `${matrix}: reported ${relativeOutputError}, measured ${measured}`);
        assert(measured < await error(firstPlain.block.experts[position]), `${matrix} of expert ${expert.id}`);
      }
      if (++position === 3) break;
    }
  });
}

/** ‖(W - What) X‖ / ‖W X‖ over the tokens of an expert, each times its routing weight, by running both. */
async function outputError(
  device: Device,
  model: Model,
  sequences: Uint32Array[],
  layer: MoeLayer,
  position: number,
  low: MoeLayer["block"]["experts"][0],
  matrix: typeof MATRICES[number],
): Promise<number> {
  const { inputs, weights } = await routingOf(device, model, sequences, layer.index), expert = layer.block.experts[position];
  const tokens = [...inputs.keys()].filter((t) => weights[t][position] > 0);
  using x = device.tensor(Float32Array.from(tokens.flatMap((t) => [...inputs[t]])), [tokens.length, model.config.hidden]);
  using gate = await denseMatrix(device, expert.gate);
  using up = await denseMatrix(device, expert.up);
  using opened = device.linear(x, gate);
  using raised = device.linear(x, up);
  using inner = device.swiglu(opened, raised);
  using dense = await denseMatrix(device, expert[matrix]);
  using small = await denseMatrix(device, low[matrix]);
  const input = matrix === "down" ? inner : x;
  using whole = device.linear(input, dense);
  using other = device.linear(input, small);
  using rest = device.squares(whole, other);
  using all = device.squares(whole);
  const [missing, total] = [await device.read(rest), await device.read(all)];
  const sum = (values: Float32Array) => values.reduce((s, v, i) => s + v * weights[tokens[i]][position] ** 2, 0);
  return Math.sqrt(sum(missing) / sum(total));
}

Deno.test("decomposeExperts({ whiten }) manages with one token, and refuses the trace of another model", async () => {
  using device = await openDevice({ kind: "cpu" });
  const { model, calibration } = await openFixture("tiny-qwen2-moe");
  using trace = await calibrate(device, model, [calibration[0].subarray(0, 1)]);
  const layers = moeLayers(model).map(({ index, block }) => ({
    layer: index,
    experts: block.experts.slice(0, 12).map(({ id }) => ({ expert: id, rank: id === 3 ? 60 : 20 })),
    sum: 0,
    target: 0,
  }));
  using small = await decomposeExperts(device, model, { layers }, { whiten: trace });
  assert(small.decomposition.every((d) => Number.isFinite(d.relativeError) && d.relativeError < 1 && d.relativeOutputError! < 0.5));
  assertEquals(small.decomposition.filter((d) => d.expert === 3).map((d) => d.rank), Array(12).fill(null), "rank 60 would not be smaller");
  assert((await logits(device, small, calibration[0].subarray(0, 9))).every(Number.isFinite));
  const pruned = pruneExperts(model, { layers: [{ layer: 0, drop: [2] }] });
  await assertRejects(
    () => decomposeExperts(device, pruned, { layers: [] }, { whiten: trace }),
    RangeError,
    "the trace is of another model",
  );
  await assertRejects(() => decomposeExperts(device, model, { layers }, { whiten: trace, ridge: -1 }), RangeError, '"ridge"');
});
