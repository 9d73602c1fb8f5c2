/**
 * Folding adapters into a model's weights.
 *
 * @module
 */

import { heldSource } from "../checkpoint/held_source.ts";
import type { MatrixSource, TensorSource } from "../device/device.ts";
import { expectModel } from "../model/expect_stage.ts";
import type { DecoderLayer, Model } from "../model/model.ts";
import { adapterSites, type Site } from "./adapter_sites.ts";
import { adaptedSource } from "./adapted_source.ts";
import { adapterOf, type Adapters, adapterShapes, expectAdapters, sizeOf } from "./adapters.ts";

/**
 * A model whose weights include the adapters, as {@linkcode AdapterKind} tells, in float32, worked out whenever a weight is read. Nothing is stored twice,
 * and every stage takes it as it takes any other model. Saved, it has the types that the weights had before, unless `saveModel` is told otherwise.
 *
 * With adapters of the kinds `spp` and `masked-lora` a weight is 0 exactly where it was before, bit for bit, also in the type that `saveModel` gives it by
 * default: that which it had, for factors of low-rank matrices that of the embedding. A number that this type would round to 0 becomes its smallest.
 *
 * @param model The model that the adapters were trained on, or one with the same shapes.
 * @throws {TypeError} If these are no adapters.
 * @throws {RangeError} If the model has no place for an adapter, or one of another shape.
 *
 * @example
 * ```ts
 * import type { TensorSource } from "../device/device.ts";
 * import { openModel } from "../model/open_model.ts";
 * import { assertEquals } from "@std/assert";
 * const model = await openModel("notebooks/checkpoints/tiny-mixtral");
 * const values = new Map([["0/attention/q_proj/down", new Float32Array(128)], ["0/attention/q_proj/up", new Float32Array(128)]]);
 * const { attention } = mergeAdapters(model, { rank: 1, alpha: 2, values }).layers[0];
 * assertEquals((attention["q_proj.weight"] as TensorSource).dtype, "F32");
 * ```
 */
export function mergeAdapters(model: Model, adapters: Adapters): Model {
  expectModel(model, "merge adapters");
  expectAdapters(adapters, "merge adapters");
  const used = new Set<string>();
  const layers = model.layers.map((layer) => mergeLayer(model, layer, adapters, used));
  const unused = [...adapters.values.keys()].find((name) => !used.has(name));
  if (unused !== undefined) throw new RangeError(`Cannot merge the adapter "${unused}": the model has no such weight`);
  return { ...model, layers };
}

function mergeLayer(model: Model, layer: DecoderLayer, adapters: Adapters, used: Set<string>): DecoderLayer {
  let merged = layer;
  for (const site of adapterSites(model, layer)) {
    const parts = adapterOf(adapters, layer, site, "merge the adapter"), shapes = adapterShapes(site, adapters);
    if (!parts) continue;
    const saved = /\/(left|right)$/.test(site.key) ? model.embedding.dtype : undefined;
    for (const end of Object.keys(parts)) used.add(`${layer.index}/${site.key}/${end}`);
    merged = replace(merged, site, (source, index) => {
      if (site.kind === "router") return whole(source, parts.weight);
      if (site.kind === "linear") {
        const up = Float32Array.from(site.pieces.flatMap((_, i) => [...parts[site.pieces.length > 1 ? `up.${i}` : "up"]]));
        return adaptedSource(source, { up, down: parts.down }, adapters, saved);
      }
      const slice = (end: string) => {
        const start = sizeOf(shapes[end].slice(0, index));
        return parts[end].subarray(start, start + sizeOf([shapes[end][index]]));
      };
      return adaptedSource(source, { up: slice("up"), down: slice("down") }, adapters, saved);
    });
  }
  return merged;
}

/** The layer with the weights of a site changed; `index` is the expert's position. */
function replace(layer: DecoderLayer, site: Site, change: (source: TensorSource, index: number) => TensorSource): DecoderLayer {
  const { block } = layer, [group, name, role] = site.key.split("/");
  const factor = (source: MatrixSource, index: number): MatrixSource =>
    "left" in source ? { ...source, [role]: change(source[role as "left" | "right"], index) } : change(source, index);
  if (group === "attention") {
    const weight = `${name}.weight`;
    return { ...layer, attention: { ...layer.attention, [weight]: factor(layer.attention[weight], 0) } };
  }
  const kind = name as "gate" | "up" | "down";
  if (block.kind === "dense") return { ...layer, block: { ...block, [kind]: change(block[kind], 0) } };
  if (group === "router") return { ...layer, block: { ...block, router: change(block.router, 0) } };
  if (group === "shared") return { ...layer, block: { ...block, shared: { ...block.shared!, [kind]: change(block.shared![kind], 0) } } };
  const matrix = (source: MatrixSource, index: number) => ("left" in source) === (role !== "dense") ? factor(source, index) : source;
  return { ...layer, block: { ...block, experts: block.experts.map((e, index) => ({ ...e, [kind]: matrix(e[kind], index) })) } };
}

function whole({ dtype, origin = dtype, shape }: TensorSource, values: Float32Array<ArrayBuffer>): TensorSource {
  return { ...heldSource(values, shape), origin };
}
