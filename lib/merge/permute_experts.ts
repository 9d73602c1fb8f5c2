/**
 * Hidden units in another order.
 *
 * @module
 */

import { matrixShape } from "../device/matrix_shape.ts";
import { selectColumns } from "../model/column_selection.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { expectModel } from "../model/expect_stage.ts";
import { type Expert, type Model, moeLayer } from "../model/model.ts";
import { selectRows } from "../model/row_selection.ts";
import type { ExpertAlignment } from "./align_experts.ts";
import { denseMatrices } from "../model/dense_matrices.ts";

/**
 * A model in which hidden units of experts have changed places: rows of gate and up projection, columns of the down projection. It gives what the model gave.
 * Nothing is read or copied: the result is a view.
 *
 * @param alignment What {@linkcode alignExperts} found, or any other orders.
 * @throws {TypeError} If an argument is something else, or an order does not name every unit once.
 * @throws {RangeError} If the model has no such layer or expert.
 * @throws {Error} If an expert with an order has low rank.
 *
 * @example
 * ```ts
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral"), order = Uint32Array.from({ length: 192 }, (_, i) => 191 - i);
 * const turned = permuteExperts(model, { layers: [{ layer: 0, experts: [{ expert: 5, order }] }] });
 * assertEquals(turned.layers[0].block.kind, "moe");
 * ```
 */
export function permuteExperts(model: Model, alignment: ExpertAlignment): Model {
  const purpose = "permute experts";
  expectModel(model, purpose);
  const listed = expectLayers(alignment, 'what alignExperts() gives, which lists "layers"', purpose);
  const orders = new Map(listed.map(({ layer, experts }) => {
    const own = moeLayer(model, layer).block.experts, ids = own.map((e) => e.id);
    expect(Array.isArray(experts), purpose, `a list of experts and their orders for layer ${layer}`, experts);
    return [
      layer,
      new Map(experts.map((entry) => {
        expect(ids.includes(entry?.expert), purpose, `an expert of layer ${layer} with its "order"`, entry);
        const order = Array.from(Object.values(entry.order ?? {}), Number); // JSON makes an object of a typed array
        const [units] = matrixShape(own[ids.indexOf(entry.expert)].gate);
        const areUnits = order.length === units && new Set(order).size === units &&
          order.every((u) => Number.isInteger(u) && u >= 0 && u < units);
        expect(
          areUnits,
          purpose,
          `each of ${units} hidden units once in the order of expert ${entry.expert} of layer ${layer}`,
          entry.order,
        );
        return [entry.expert, order];
      })),
    ];
  }));
  return {
    ...model,
    layers: model.layers.map((layer) => {
      const mine = orders.get(layer.index);
      if (layer.block.kind === "dense" || !mine?.size) return layer;
      const experts = layer.block.experts.map((expert): Expert => {
        const order = mine.get(expert.id);
        if (!order) return expert;
        const { gate, up, down } = denseMatrices(expert, layer.index, purpose);
        return { id: expert.id, gate: selectRows(gate, order), up: selectRows(up, order), down: selectColumns(down, order) };
      });
      return { ...layer, block: { ...layer.block, experts } };
    }),
  };
}
