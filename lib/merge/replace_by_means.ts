/**
 * Constants in the place of experts.
 *
 * @module
 */

import { readWide } from "../checkpoint/read_wide.ts";
import type { TensorSource } from "../device/device.ts";
import type { ExpertStatistics, LayerStatistics } from "../importance/expert_statistics.ts";
import { expect, expectLayers } from "../model/expect.ts";
import { expectModel, expectNoSkipping } from "../model/expect_stage.ts";
import type { Model, MoeBlock } from "../model/model.ts";
import { checkPlan, type PruningPlan } from "../model/prune_experts.ts";
import { selectRows } from "../model/row_selection.ts";

/**
 * A model in which the experts of a plan give the same vector for every token, the mean of what they gave their own tokens in calibration (MoNE, arXiv
 * 2507.00390): zeros where there were none. The router chooses among as many experts as before, its rows of the constants last.
 *
 * @param model The model that the statistics were taken of, or one made from it.
 * @param statistics What `expertStatistics()` gave.
 * @param plan Ids are those of the original model.
 * @throws {TypeError} If an argument is something else.
 * @throws {RangeError} If the plan does not fit the model, replaces all experts of a layer, or an expert is without statistics.
 *
 * @example
 * ```ts
 * import { openDevice } from "../device/open_device.ts";
 * import { expertStatistics } from "../importance/expert_statistics.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * using device = await openDevice();
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const statistics = await expertStatistics(device, model, [model.tokenizer.encode("Sum: 12 + 30 = 42.")]);
 * const { layers: [{ block }] } = replaceByMeans(model, statistics, { layers: [{ layer: 0, drop: [3, 7] }] });
 * if (block.kind === "moe") assertEquals(block.constants!.outputs.shape, [2, 128]);
 * ```
 */
export function replaceByMeans(model: Model, statistics: ExpertStatistics, plan: PruningPlan): Model {
  const purpose = "replace experts by their means";
  expectModel(model, purpose);
  expectNoSkipping(model, purpose);
  const known = expectLayers(statistics, 'what expertStatistics() gives, which lists "layers"', purpose);
  checkPlan(model, plan, purpose);
  return {
    ...model,
    layers: model.layers.map((layer) => {
      const drop = plan.layers.find((p) => p.layer === layer.index)?.drop ?? [];
      if (layer.block.kind === "dense" || drop.length === 0) return layer;
      const found = known.find((l) => l.layer === layer.index);
      if (!found) throw new RangeError(`Cannot ${purpose}: there are no statistics of layer ${layer.index}`);
      return { ...layer, block: replaced(layer.block, drop, new Map(drop.map((id) => [id, meanOutput(found, id, model.config.hidden)]))) };
    }),
  };
}

function replaced(block: MoeBlock, drop: readonly number[], means: ReadonlyMap<number, Float32Array>): MoeBlock {
  const { experts, constants, router } = block, hidden = router.shape[1], before = constants?.ids ?? [];
  const left = experts.filter((e) => !drop.includes(e.id)), ids = [...drop, ...before].sort((a, b) => a - b);
  const rows = [...experts.map((e) => e.id), ...before], order = [...left.map((e) => e.id), ...ids];
  const outputs: TensorSource = {
    dtype: "F32",
    origin: router.origin ?? router.dtype,
    shape: [ids.length, hidden],
    read: async (into) => {
      const old = constants && await readWide(constants.outputs), values = new Float32Array(ids.length * hidden);
      for (const [row, id] of ids.entries()) {
        const at = before.indexOf(id) * hidden;
        values.set(means.get(id) ?? old!.subarray(at, at + hidden), row * hidden);
      }
      into.set(new Uint8Array(values.buffer));
    },
  };
  return { ...block, router: selectRows(router, order.map((id) => rows.indexOf(id))), experts: left, constants: { ids, outputs } };
}

function meanOutput({ layer, experts, counts, outputs }: LayerStatistics, id: number, hidden: number): Float32Array {
  const at = experts?.indexOf(id) ?? -1;
  if (at < 0) throw new RangeError(`Cannot replace expert ${id} of layer ${layer} by its mean: there are no statistics of it`);
  expect(outputs?.length === experts.length * hidden, "replace experts by their means", `sums of ${hidden} numbers an expert`, outputs);
  return Float32Array.from(outputs.subarray(at * hidden, (at + 1) * hidden), (sum) => counts[at] > 0 ? sum / counts[at] : 0);
}
