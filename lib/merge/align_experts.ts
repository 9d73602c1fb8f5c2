/**
 * Orders of hidden units in which experts are most alike.
 *
 * @module
 */

import { denseMatrix } from "../decompose/dense_matrix.ts";
import type { Device, Tensor } from "../device/device.ts";
import { expectStage } from "../model/expect_stage.ts";
import { type Model, moeLayer } from "../model/model.ts";
import { eachPart, type StageOptions } from "../model/stage_options.ts";
import { checkClusters, expectPairedChannels, type ExpertClusters } from "./expert_clusters.ts";
import { denseMatrices } from "../model/dense_matrices.ts";

/** For experts, ids of the original model, the order that their hidden units should take: unit i is to be what is unit `order[i]` now. */
export interface ExpertAlignment {
  layers: { layer: number; experts: { expert: number; order: Uint32Array }[] }[];
}

/**
 * Brings experts in line with the first of their cluster (the weight matching of MC-SMoE, arXiv 2310.01334, section 3.1): the order of an expert's hidden
 * units that maximises the inner product of its three matrices with the other's, by linear assignment. What an expert gives does not depend on that order, but
 * averages do.
 *
 * An assignment takes time in proportion to the cube of the hidden units: seconds for 1,408, an hour for 14,336.
 *
 * @param clusters Experts that are the first of theirs, or that none lists, get no order.
 * @throws {RangeError} If the clusters do not fit the model or list an expert twice.
 * @throws {Error} If a clustered expert has low rank.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const { layers: [{ experts }] } = await alignExperts(device, model, { layers: [{ layer: 0, clusters: [[4, 1]] }] });
 * assertEquals([experts[0].expert, experts[0].order.length], [1, 192]);
 * ```
 */
export async function alignExperts(
  device: Device,
  model: Model,
  clusters: ExpertClusters,
  options: StageOptions = {},
): Promise<ExpertAlignment> {
  const purpose = "align experts";
  expectStage(device, model, purpose, options);
  checkClusters(model, clusters, purpose), expectPairedChannels(model, clusters, purpose);
  const pairs = clusters.layers.flatMap(({ layer, clusters }) => {
    const { experts } = moeLayer(model, layer).block;
    const matricesOf = (id: number) => denseMatrices(experts.find((e) => e.id === id)!, layer, purpose);
    return clusters.filter((ids) => ids.length > 1).flatMap(([first, ...others]) =>
      others.map((expert) => ({ layer, expert, first: matricesOf(first), other: matricesOf(expert) }))
    );
  });
  const { linearSumAssignment } = await import("npm:linear-sum-assignment@1.0.9");
  const layers: ExpertAlignment["layers"] = clusters.layers.map(({ layer }) => ({ layer, experts: [] }));
  const parts = eachPart(
    { ...options, stage: "align experts", unit: "experts" },
    pairs,
    ({ layer, expert }) => `layer ${layer}, expert ${expert}`,
    async ({ first, other }) => {
      using likeness = await unitProducts(device, first, other);
      const [units] = likeness.shape, values = await device.read(likeness);
      const rows = Array.from({ length: units }, (_, i) => values.subarray(i * units, (i + 1) * units));
      return Uint32Array.from(linearSumAssignment(rows as never, { maximaze: true }).rowAssignments); // the library spells it so
    },
  );
  for await (const { item: { layer, expert }, value: order } of parts) {
    layers.find((l) => l.layer === layer)!.experts.push({ expert, order });
  }
  return { layers };
}

/** Inner products of everything that belongs to unit i of the first and to unit j of the other: their rows of gate and up, their columns of down. */
async function unitProducts(
  device: Device,
  first: ReturnType<typeof denseMatrices>,
  other: ReturnType<typeof denseMatrices>,
): Promise<Tensor> {
  const [units] = first.gate.shape, sum = device.tensor(new Float32Array(units ** 2), [units, units]);
  try {
    for (const matrix of ["gate", "up", "down"] as const) {
      using a = await denseMatrix(device, first[matrix]);
      using b = await denseMatrix(device, other[matrix]);
      using flipped = new DisposableStack();
      const [x, y] = matrix === "down" ? [a, b].map((m) => flipped.use(device.transpose(m))) : [a, b];
      using products = device.linear(x, y);
      device.add(sum, products);
    }
    return sum;
  } catch (error) {
    sum[Symbol.dispose]();
    throw error;
  }
}
